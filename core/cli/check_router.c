/* moegauge check router: the router suite on a terminal or as JSON, for a router of the registry, a plugin file, or every
 * router that a Lua file defines; in a process of its own, because a router may take its process down. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/check.h"
#include "cli/isolate.h"
#include "cli/sandboxed.h"
#include "lab/sandbox.h"
#include "measure/router_suite.h"

enum { CHECK_COLUMN = 22, NAMES_MAX = 64 };

typedef struct report {
  mg_cli *cli;
  const mg_check_options *set;
  const char *name;
  json_t *rows;
} report;

static const char *const verdict_names[] = {"passed", "failed", "not applicable"};

static bool visit_row(void *user, const mg_router_row *row) {
  const report *to = user;
  if (to->set->json)
    json_array_append_new(to->rows,
                          json_pack("{s:s, s:s, s:s, s:s, s:s}", "router", to->name, "check", row->check, "meaning",
                                    row->meaning, "verdict", verdict_names[row->verdict], "detail", row->detail));
  else
    printf("%-*s %-14s %s\n", CHECK_COLUMN, row->check, verdict_names[row->verdict],
           row->verdict == MG_ROUTER_PASSED ? row->meaning : row->detail);
  fflush(stdout); /* what was checked stays visible if the next check dies */
  return true;
}

/* One router with its options; MG_PLUGIN when a check fails. */
static mg_status check_one(report *to, const json_t *spec) {
  mg_cli *cli = to->cli;
  mg_router_summary all;
  const mg_router_request request = {
      .registry = cli->registry, .spec = spec, .filter = to->set->filter, .backend = to->set->backend, .user = to};
  to->name = json_string_value(json_object_get(spec, "name"));
  if (!to->set->json) {
    char *text = json_dumps(spec, JSON_COMPACT | JSON_SORT_KEYS);
    printf("router %s\n\n", text ? text : to->name);
    free(text);
  }
  MG_TRY(mg_router_suite_check(cli->context, &request, visit_row, &all));
  if (!to->set->json)
    printf("\n%lld passed, %lld failed, %lld not applicable\n", (long long)all.passed, (long long)all.failed,
           (long long)all.not_applicable);
  if (all.failed == 0) return MG_OK;
  return mg_fail(cli->context, MG_PLUGIN, "router %s: %lld of %lld checks failed", to->name, (long long)all.failed,
                 (long long)all.failed + all.passed);
}

static mg_status check_plugin(report *to, const char *name, const mg_cli_words *words) {
  const mg_router_plugin *plugin;
  json_t *spec = NULL;
  char where[128];
  MG_TRY(mg_registry_router(to->cli->registry, name, &plugin));
  snprintf(where, sizeof where, "router %s", plugin->name);
  MG_TRY(mg__check_settings(to->cli, plugin->options, plugin->options_size, words, where, &spec));
  if (!spec) spec = json_object();
  json_object_set_new(spec, "name", json_string(name));
  const mg_status status = check_one(to, spec);
  json_decref(spec);
  return status;
}

/* ---- Lua files --------------------------------------------------------------------------------------------- */

typedef struct names {
  const char *name[NAMES_MAX];
  int64_t count;
} names;

/* Routers that come from no file were defined by the script. */
static bool keep_defined(void *user, const mg_plugin_entry *entry) {
  names *found = user;
  if (!*entry->path && found->count < NAMES_MAX) found->name[found->count++] = entry->name;
  return true;
}

static mg_status check_defined(report *to, const mg_session *session, const char *path, const mg_cli_words *words) {
  names found = {0};
  MG_TRY(mg_engine_run_file(session->engine, path, NULL));
  MG_TRY(mg_registry_each(to->cli->registry, MG_PLUGIN_ROUTER, keep_defined, &found));
  if (found.count == 0)
    return mg_fail(to->cli->context, MG_NOTHING, "%s defines no router; call mg.router.define{...} in it", path);
  mg_status worst = MG_OK;
  for (int64_t i = 0; i < found.count; i++) {
    const mg_status status = check_plugin(to, found.name[i], words);
    if (status != MG_OK && status != MG_PLUGIN) return status;
    if (status != MG_OK) worst = status;
  }
  return worst;
}

static mg_status check_script(report *to, const char *path, const mg_cli_words *words) {
  mg_session session;
  const mg_sandboxed_case inside = {.folder = "",
                                    .script = path,
                                    .looks = true,
                                    .cpu_seconds = MG_SANDBOX_CASE_SECONDS * sysconf(_SC_NPROCESSORS_ONLN)};
  const mg_session_request request = {.inside = to->set->sandbox ? &inside : NULL};
  mg_status status = mg_session_open(to->cli, &request, &session);
  if (status == MG_OK) status = check_defined(to, &session, path, words);
  mg_session_close(&session);
  return status;
}

/* ---- all --------------------------------------------------------------------------------------------------- */

static bool is_script(const char *name) {
  const size_t length = strlen(name);
  return length > 4 && strcmp(name + length - 4, ".lua") == 0;
}

typedef struct work {
  const mg_check_options *set;
  const char *name;
  const mg_cli_words *words;
} work;

static mg_status check(mg_cli *cli, void *user) {
  const work *of = user;
  mg_registry *registry;
  report to = {.cli = cli, .set = of->set};
  MG_TRY(mg_cli_registry(cli, &registry));
  if (of->set->json && !(to.rows = json_array())) return mg_fail(cli->context, MG_MEMORY, "out of host memory");
  const mg_status status =
      is_script(of->name) ? check_script(&to, of->name, of->words) : check_plugin(&to, of->name, of->words);
  if (!of->set->json) return status;
  if (status != MG_OK && status != MG_PLUGIN) {
    json_decref(to.rows);
    return status;
  }
  const mg_status printed = mg_cli_print_json(cli, json_pack("{s:o}", "rows", to.rows));
  return printed == MG_OK ? status : printed;
}

mg_status mg__check_router(mg_cli *cli, const mg_check_options *set, const char *name, const mg_cli_words *words) {
  char where[512];
  work of = {.set = set, .name = name, .words = words};
  if (set->mode != MG_CHECK_CHECK)
    return mg_fail(cli->context, MG_USAGE, "check router: --mode is for backends; leave it out");
  snprintf(where, sizeof where, "router %s", name);
  if (!set->sandbox) return mg_cli_isolated(cli, where, check, &of);
  if (!is_script(name))
    return mg_fail(cli->context, MG_USAGE,
                   "check router: --sandbox is for Lua files; a plugin is code, and '%s' is one", name);
  MG_TRY(mg_sandbox_check(cli->context));
  return mg_cli_isolated_filtered(cli, where, check, &of);
}
