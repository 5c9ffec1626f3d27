/* The parent's side of a sandbox: starts the children and trusts nothing that they send. */
#include "cli/sandboxed.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lab/runner.h"
#include "lab/sandbox.h"

mg_status mg__sandboxed_open(mg_session *session, mg_registry *registry) {
  MG_TRY(mg_sandbox_check(session->cli->context));
  return mg_registry_seal(registry);
}

/* ---- children ----------------------------------------------------------------------------------------------- */

static bool stopped(void *user) {
  return ((const mg_session *)user)->cli->interrupts() > 0;
}

static const int64_t memory_least_bytes = (int64_t)1 << 30; /* the libraries of plugins alone are mapped large */

/* Memory is shared out among the cases that run at the same time; the processor's time is that of all cores. */
static void describe_limits(mg_session *session, double seconds, int64_t jobs) {
  const int64_t whole = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), share = whole / (jobs > 0 ? jobs : 1);
  const int64_t memory = share > memory_least_bytes ? share : memory_least_bytes;
  const double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
  snprintf(session->memory_text, sizeof session->memory_text, "%lld", (long long)memory);
  snprintf(session->cpu_text, sizeof session->cpu_text, "%.0f", ceil(fmin(seconds * cores, 1e15)));
}

static double look_seconds(const mg_session *session) {
  const double limit = session->request.timeout_seconds;
  return limit > 0 ? fmin(limit, MG_SANDBOX_LOOK_SECONDS) : MG_SANDBOX_LOOK_SECONDS;
}

/* Runs a child that plans or reports, as the words `what` and `value` (NULL = none) tell it. */
static mg_status look(mg_session *session, const char *what, const char *value, const char *name, json_t **result) {
  const char *arguments[MG_SESSION_ARGUMENTS_MAX];
  const double seconds = look_seconds(session);
  describe_limits(session, seconds, 1);
  const char *const more[] = {
      "--sandbox", session->folder, "--memory", session->memory_text, "--cpu", session->cpu_text, what, value, NULL};
  MG_TRY(mg_session_command(session, more, arguments));
  return mg_run_child(session->cli->context, arguments, name, seconds, stopped, session, result);
}

/* Packages that were downloaded before are read through a link; what is derived from them stays with this run, so that
 * no case can put something into the cache of others. */
static mg_status link_packages(mg_session *session, const char *cache) {
  char packages[MG_SESSION_PATH_BYTES + 16], name[MG_SESSION_PATH_BYTES + 48];
  snprintf(packages, sizeof packages, "%s/packages", session->cache);
  MG_TRY(mg_folder_make(session->cli->context, packages));
  snprintf(name, sizeof name, "%s/packages", cache);
  char *real = realpath(packages, NULL);
  const bool linked = !real || symlink(real, name) == 0 || errno == EEXIST;
  free(real);
  return linked ? MG_OK : mg_fail(session->cli->context, MG_WRITE, "%s: cannot be made: %s", name, strerror(errno));
}

mg_status mg__sandboxed_cases(mg_session *session, const char *arguments[MG_SESSION_ARGUMENTS_MAX]) {
  char cache[MG_SESSION_PATH_BYTES + 32];
  snprintf(cache, sizeof cache, "%s/sandbox/cache", session->folder);
  MG_TRY(mg_folder_make(session->cli->context, cache));
  MG_TRY(link_packages(session, cache));
  describe_limits(session, session->request.timeout_seconds, session->request.jobs);
  const char *const more[] = {"--sandbox", session->folder,   "--memory", session->memory_text,
                              "--cpu",     session->cpu_text, NULL};
  return mg_session_command(session, more, arguments);
}

/* ---- the plan ----------------------------------------------------------------------------------------------- */

/* Texts reach a terminal, where control characters could do more than print. */
static bool is_plain(const char *text) {
  for (; *text; text++)
    if ((unsigned char)*text < ' ' || *text == 127) return false;
  return true;
}

static bool case_is_good(json_t *one, size_t index) {
  json_int_t number;
  const char *label, *hash;
  json_t *labels, *params;
  return json_unpack(one, "{s:I, s:s, s:s, s:o, s:o}", "number", &number, "label", &label, "hash", &hash, "labels",
                     &labels, "params", &params) == 0 &&
         number == (json_int_t)index + 1 && is_plain(label) && json_is_object(labels) && json_is_object(params) &&
         strlen(hash) == MG_HASH_TEXT_BYTES - 1 && strspn(hash, "0123456789abcdef") == MG_HASH_TEXT_BYTES - 1;
}

static bool texts_are_plain(const json_t *list) {
  size_t index;
  json_t *text;
  json_array_foreach(list, index, text) if (!json_is_string(text) || !is_plain(json_string_value(text))) return false;
  return json_is_array(list);
}

static bool axes_are_good(const json_t *axes) {
  const char *name;
  json_t *values;
  json_object_foreach((json_t *)(uintptr_t)axes, name,
                      values) if (!is_plain(name) || !texts_are_plain(values)) return false;
  return json_is_object(axes);
}

static bool plan_is_good(json_t *plan) {
  const char *title;
  json_t *cases, *axes, *settings, *backends, *one;
  size_t index;
  if (json_unpack(plan, "{s:s, s:o, s:o, s:o, s:o}", "title", &title, "cases", &cases, "axes", &axes, "settings",
                  &settings, "backends", &backends) != 0)
    return false;
  if (!is_plain(title) || !json_is_array(cases) || !axes_are_good(axes) || !json_is_object(settings) ||
      !texts_are_plain(backends))
    return false;
  json_array_foreach(cases, index, one) if (!case_is_good(one, index)) return false;
  return true;
}

mg_status mg__sandboxed_plan(mg_session *session, json_t **plan) {
  MG_TRY(look(session, "--plan", NULL, "the plan", plan));
  if (plan_is_good(*plan)) return MG_OK;
  json_decref(*plan);
  *plan = NULL;
  return mg_fail(session->cli->context, MG_USAGE,
                 "%s: its plan is not one that moegauge makes, or a title or label holds control characters",
                 session->request.experiment);
}

mg_status mg__sandboxed_title(mg_session *session, char *text, size_t bytes) {
  json_t *title;
  MG_TRY(look(session, "--title", NULL, "the title", &title));
  const char *words = json_string_value(title);
  const bool good = words && is_plain(words);
  if (good) snprintf(text, bytes, "%s", words);
  json_decref(title);
  return good ? MG_OK
              : mg_fail(session->cli->context, MG_USAGE, "%s: its title holds control characters",
                        session->request.experiment);
}

/* ---- the report --------------------------------------------------------------------------------------------- */

mg_status mg__sandboxed_report(mg_session *session, const char *format, json_t **rendered) {
  MG_TRY(look(session, "--report", format, "the report", rendered));
  json_t *text = json_object_get(*rendered, "text");
  char *plain = json_is_string(text) ? strdup(json_string_value(text)) : NULL;
  for (char *c = plain; c && *c; c++)
    if (((unsigned char)*c < ' ' && *c != '\n') || *c == 127) *c = '?';
  const bool kept = plain && json_string_set(text, plain) == 0;
  free(plain);
  if (kept) return MG_OK;
  json_decref(*rendered);
  *rendered = NULL;
  return mg_fail(session->cli->context, MG_BUG, "the report that came is none");
}
