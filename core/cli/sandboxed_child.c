/* The child's side of a sandbox: which files a script may use, and what a refusal means. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/vector.h"
#include "cli/sandboxed.h"
#include "lab/sandbox.h"

enum { MODULES_MAX = 1000, DEPTH_MAX = 2 };

typedef struct paths {
  mg_context *context;
  char **list;
  size_t count, room;
} paths;

static mg_status add(paths *to, const char *path) {
  MG_TRY(MG_VECTOR_RESERVE(to->context, to->list, to->room, to->count + 1));
  to->list[to->count] = mg_strdup(to->context, path);
  return to->list[to->count++] ? MG_OK : MG_MEMORY;
}

static void release(paths *of) {
  for (size_t i = 0; i < of->count; i++)
    if (of->list[i]) mg_free(of->context, of->list[i], strlen(of->list[i]) + 1);
  MG_VECTOR_FREE(of->context, of->list, of->room);
}

/* The modules that `require` may find in the script's folder and one below: Lua files, each by itself, as the folder may
 * be the user's home. A link could lead to any file and is left out. */
static mg_status add_modules(paths *to, const char *folder, int depth) {
  DIR *opened = depth > 0 ? opendir(folder) : NULL;
  mg_status status = MG_OK;
  for (const struct dirent *entry; opened && status == MG_OK && to->count < MODULES_MAX && (entry = readdir(opened));) {
    char path[PATH_MAX];
    struct stat about;
    const size_t length = strlen(entry->d_name);
    if (entry->d_name[0] == '.' || (size_t)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= sizeof path ||
        lstat(path, &about) != 0)
      continue;
    if (S_ISDIR(about.st_mode)) status = add_modules(to, path, depth - 1);
    if (S_ISREG(about.st_mode) && length > 4 && strcmp(path + strlen(path) - 4, ".lua") == 0) status = add(to, path);
  }
  if (opened) closedir(opened);
  return status;
}

/* Values of --set, or entries of a list there, that name what is there: the user wants them read. */
static mg_status add_settings(paths *to, const mg_session_request *request) {
  for (int64_t i = 0; i < request->settings_count; i++) {
    const char *equals = strchr(request->settings[i], '=');
    for (const char *at = equals; at; at = strchr(at + 1, ',')) {
      char path[PATH_MAX];
      const int length = (int)strcspn(at + 1, ",");
      if (snprintf(path, sizeof path, "%.*s", length, at + 1) < PATH_MAX && access(path, F_OK) == 0)
        MG_TRY(add(to, path));
    }
  }
  return MG_OK;
}

static mg_status add_readable(paths *to, const mg_session *session) {
  const mg_sandboxed_case *inside = session->request.inside;
  const char *experiment = inside->script ? inside->script : session->request.experiment;
  char folder[PATH_MAX];
  MG_TRY(add(to, mg_engine_scripts(session->engine)));
  snprintf(folder, sizeof folder, "%.4000s/results.sqlite", inside->folder);
  if (inside->draws) MG_TRY(add(to, folder));
  snprintf(folder, sizeof folder, "%.4000s/packages", session->cache);
  MG_TRY(add(to, folder));
  MG_TRY(add_settings(to, &session->request));
  if (!experiment) return MG_OK;
  MG_TRY(add(to, experiment));
  snprintf(folder, sizeof folder, "%s", experiment);
  char *slash = strrchr(folder, '/');
  if (slash) *slash = '\0';
  return add_modules(to, slash ? (slash == folder ? "/" : folder) : ".", DEPTH_MAX);
}

/* The program "gnuplot" of the search path, without links; its bare name if there is none, which then fails to start. */
static void find_gnuplot(char program[PATH_MAX]) {
  const char *cursor = getenv("PATH");
  while (cursor && *cursor) {
    char path[PATH_MAX];
    const size_t length = strcspn(cursor, ":");
    snprintf(path, sizeof path, "%.*s/gnuplot", (int)length, cursor);
    if (access(path, X_OK) == 0 && realpath(path, program)) return;
    cursor += length + (cursor[length] == ':');
  }
  snprintf(program, PATH_MAX, "gnuplot");
}

static mg_status enter(const mg_session *session, const paths *readable) {
  const mg_sandboxed_case *inside = session->request.inside;
  char writable[MG_SESSION_PATH_BYTES + 16], program[PATH_MAX];
  snprintf(writable, sizeof writable, "%s/sandbox", inside->folder);
  if (inside->draws) find_gnuplot(program);
  const mg_sandbox sandbox = {.readable = (const char *const *)readable->list,
                              .readable_count = (int64_t)readable->count,
                              .writable = inside->looks ? NULL : writable,
                              .program = inside->draws ? program : NULL,
                              .memory_bytes = inside->memory_bytes,
                              .cpu_seconds = inside->cpu_seconds};
  return mg_sandbox_enter(session->cli->context, &sandbox);
}

mg_status mg__sandboxed_enter(mg_session *session, mg_registry *registry) {
  paths readable = {.context = session->cli->context};
  snprintf(session->cache, sizeof session->cache, "%.4000s/sandbox/cache", session->request.inside->folder);
  mg_status status = mg_registry_seal(registry);
  if (status == MG_OK) status = add_readable(&readable, session);
  if (status == MG_OK) status = enter(session, &readable);
  release(&readable);
  return status;
}

mg_status mg__sandboxed_explain(const mg_session *session, mg_status status) {
  mg_context *context = session->cli->context;
  char message[4096];
  if (!session->request.inside || (status != MG_FILE && status != MG_WRITE)) return status;
  snprintf(message, sizeof message, "%s", mg_context_message(context));
  return mg_fail(
      context, status,
      "%s (in the sandbox a script reads its own Lua files and what --set names, and writes below %s/sandbox)", message,
      session->request.inside->folder);
}
