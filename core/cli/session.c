/* Opens experiments for the commands. */
#include "cli/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/sandboxed.h"

enum { SEEDS_MAX = 10000 };

/* ---- words of the command line ------------------------------------------------------------------------------ */

mg_status mg_session_settings(mg_context *context, const char *const *words, int64_t count, json_t **out) {
  json_t *settings = json_object();
  for (int64_t i = 0; i < count; i++) {
    const char *equals = strchr(words[i], '=');
    if (!equals || equals == words[i]) {
      json_decref(settings);
      return mg_fail(context, MG_USAGE, "--set %s: KEY=VALUE was expected, for example --set tokens=100000", words[i]);
    }
    char key[256];
    snprintf(key, sizeof key, "%.*s", (int)(equals - words[i]), words[i]);
    json_t *value = json_string(equals + 1);
    if (!value || json_object_set_new(settings, key, value) != 0) {
      json_decref(settings);
      return mg_fail(context, MG_USAGE, "--set %s: is not UTF-8 text", words[i]);
    }
  }
  *out = settings;
  return MG_OK;
}

static mg_status refuse_seeds(mg_context *context, const char *text) {
  return mg_fail(context, MG_USAGE, "--seeds %s: a range like 1..5 or a list like 1,2,3 of at most %d was expected",
                 text, SEEDS_MAX);
}

/* One "a" or "a..b" at *cursor; false if it is neither. */
static bool add_seeds(const char **cursor, json_t *list) {
  char *end;
  errno = 0;
  const long long first = strtoll(*cursor, &end, 10);
  if (end == *cursor || errno || first < 0) return false;
  long long last = first;
  if (strncmp(end, "..", 2) == 0) {
    const char *second = end + 2;
    last = strtoll(second, &end, 10);
    if (end == second || errno || last < first) return false;
  }
  if (last - first >= SEEDS_MAX - (long long)json_array_size(list)) return false;
  for (long long seed = first; seed <= last; seed++) json_array_append_new(list, json_integer(seed));
  *cursor = end;
  return true;
}

mg_status mg_session_seeds(mg_context *context, const char *text, json_t **out) {
  json_t *list = json_array();
  const char *cursor = text;
  bool good = add_seeds(&cursor, list);
  while (good && *cursor == ',') {
    cursor++;
    good = add_seeds(&cursor, list);
  }
  if (good && !*cursor) {
    *out = list;
    return MG_OK;
  }
  json_decref(list);
  return refuse_seeds(context, text);
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static bool stopped(void *user) {
  return ((mg_session *)user)->cli->interrupts() > 0;
}

static void pass_progress(void *user, const json_t *progress) {
  const mg_session *session = user;
  if (session->request.progress) session->request.progress(session->request.user, progress);
}

static void pass_show(void *user, const char *text) {
  const mg_session *session = user;
  if (session->request.show) session->request.show(session->request.user, text);
}

/* A script's print goes to standard error, so that standard output stays what the command promises. */
static void log_line(void *user, mg_log_level level, const char *line) {
  (void)user;
  static const char *const before[] = {"error: ", "warning: ", "", "debug: "};
  fprintf(stderr, "%s%s\n", before[level], line);
}

static void find_cache(char cache[MG_SESSION_PATH_BYTES]) {
  const char *own = getenv("MOEGAUGE_CACHE"), *standard = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (own && *own)
    snprintf(cache, MG_SESSION_PATH_BYTES, "%s", own);
  else if (standard && *standard)
    snprintf(cache, MG_SESSION_PATH_BYTES, "%s/moegauge", standard);
  else
    snprintf(cache, MG_SESSION_PATH_BYTES, "%s/.cache/moegauge", home && *home ? home : ".");
}

static void take_name(mg_session *session, const char *path) {
  const char *slash = strrchr(path, '/');
  snprintf(session->name, sizeof session->name, "%s", slash ? slash + 1 : path);
  char *dot = strrchr(session->name, '.');
  if (dot && dot != session->name) *dot = '\0';
}

void mg_session_place(mg_session *session, const mg_session_request *request) {
  if (request->experiment) take_name(session, request->experiment);
  if (request->out && *request->out)
    snprintf(session->folder, sizeof session->folder, "%s", request->out);
  else
    snprintf(session->folder, sizeof session->folder, "results/%s%s", session->name, request->smoke ? "-smoke" : "");
}

static mg_status load(mg_session *session) {
  const mg_session_request *request = &session->request;
  mg_context *context = session->cli->context;
  json_t *settings = NULL, *seeds = NULL;
  MG_TRY(mg_session_settings(context, request->settings, request->settings_count, &settings));
  mg_status status = MG_OK;
  if (request->seeds && *request->seeds) status = mg_session_seeds(context, request->seeds, &seeds);
  if (status == MG_OK) status = mg_engine_load(session->engine, request->experiment, settings, seeds);
  json_decref(settings);
  json_decref(seeds);
  return status;
}

mg_status mg_session_open(mg_cli *cli, const mg_session_request *request, mg_session *session) {
  *session = (mg_session){.cli = cli, .request = *request};
  mg_engine_settings settings = {.cache = session->cache,
                                 .allow_files = request->allow_files,
                                 .smoke = request->smoke,
                                 .stopped = stopped,
                                 .progress = pass_progress,
                                 .show = pass_show,
                                 .user = session};
  mg_session_place(session, request);
  find_cache(session->cache);
  mg_context_set_log(cli->context, log_line, NULL, MG_LOG_INFO);
  MG_TRY(mg_cli_registry(cli, &settings.registry));
  if (request->sandboxed) return mg__sandboxed_open(session, settings.registry);
  MG_TRY(mg_engine_create(cli->context, &settings, &session->engine));
  if (request->inside) MG_TRY(mg__sandboxed_enter(session, settings.registry));
  return request->experiment ? load(session) : MG_OK;
}

void mg_session_close(mg_session *session) {
  mg_engine_destroy(session->engine);
  session->engine = NULL;
}

/* ---- cases ------------------------------------------------------------------------------------------------- */

mg_status mg_session_command(const mg_session *session, const char *const *more,
                             const char *arguments[MG_SESSION_ARGUMENTS_MAX]) {
  const mg_session_request *request = &session->request;
  int count = 0;
  arguments[count++] = session->cli->program;
  arguments[count++] = "case";
  if (request->smoke) arguments[count++] = "--smoke";
  if (request->allow_files) arguments[count++] = "--allow-fs";
  for (; more && *more; more++) arguments[count++] = *more;
  if (request->seeds && *request->seeds) {
    arguments[count++] = "--seeds";
    arguments[count++] = request->seeds;
  }
  for (int64_t i = 0; i < request->settings_count; i++) {
    if (count + 5 > MG_SESSION_ARGUMENTS_MAX)
      return mg_fail(session->cli->context, MG_USAGE, "--set: too many settings");
    arguments[count++] = "--set";
    arguments[count++] = request->settings[i];
  }
  arguments[count++] = "--";
  arguments[count++] = request->experiment;
  arguments[count] = NULL;
  return MG_OK;
}

mg_status mg_session_plan(mg_session *session, json_t **plan) {
  return session->request.sandboxed ? mg__sandboxed_plan(session, plan) : mg_engine_plan(session->engine, plan);
}

/* ---- results ------------------------------------------------------------------------------------------------ */

mg_status mg_session_store(mg_cli *cli, const char *folder, bool read_only, mg_store **out) {
  char path[MG_SESSION_PATH_BYTES + 32];
  snprintf(path, sizeof path, "%s/results.sqlite", folder);
  return mg_store_open(cli->context, path, read_only, out);
}

mg_status mg_session_report(mg_session *session, const json_t *stored, const char *format) {
  json_t *rendered;
  MG_TRY(session->request.sandboxed ? mg__sandboxed_report(session, format, &rendered)
                                    : mg_engine_render(session->engine, stored, format, &rendered));
  const mg_status status = mg_report_write(session->cli->context, rendered, session->folder);
  const char *text = json_string_value(json_object_get(rendered, "text"));
  if (status == MG_OK && text) fputs(text, stdout);
  json_decref(rendered);
  return status;
}
