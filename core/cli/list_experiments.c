/* moegauge list experiments: the title of each experiment below experiments/, of the current folder or else of this
 * moegauge. A file is loaded, as `run --dry-run` would, with an engine and a registry of its own. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/list.h"
#include "cli/sandboxed.h"
#include "lab/sandbox.h"

enum { FILES_MAX = 1024, FOLDERS_MAX = 8, PATH_COLUMN = 36 };

typedef struct catalogue {
  mg_context *context;
  mg_cli *cli;
  bool sandboxed;
  char *path[FILES_MAX];
  int64_t count;
} catalogue;

static bool is_folder(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

static int by_path(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds the .lua files below a folder. */
static mg_status gather(catalogue *all, const char *folder, int depth) {
  DIR *open = opendir(folder);
  if (!open) return mg_fail(all->context, MG_FILE, "%s: cannot be read: %s", folder, strerror(errno));
  mg_status status = MG_OK;
  for (const struct dirent *entry; status == MG_OK && (entry = readdir(open));) {
    char path[4096];
    const size_t length = strlen(entry->d_name);
    if (entry->d_name[0] == '.') continue;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= sizeof path) continue;
    if (is_folder(path)) {
      if (depth < FOLDERS_MAX) status = gather(all, path, depth + 1);
    } else if (length > 4 && strcmp(entry->d_name + length - 4, ".lua") == 0 && all->count < FILES_MAX) {
      all->path[all->count] = mg_strdup(all->context, path);
      status = all->path[all->count] ? MG_OK : MG_MEMORY;
      all->count += status == MG_OK;
    }
  }
  closedir(open);
  return status;
}

/* The title of one file; false with the reason in `text` if it is no experiment. */
static bool read_title(mg_context *context, const char *path, char *text, size_t bytes) {
  mg_engine_settings settings = {0};
  mg_engine *engine = NULL;
  mg_status status = mg_registry_create(context, &settings.registry);
  if (status == MG_OK) status = mg_engine_create(context, &settings, &engine);
  if (status == MG_OK) status = mg_engine_load(engine, path, NULL, NULL);
  if (status == MG_OK) status = mg_engine_title(engine, text, bytes);
  if (status != MG_OK) snprintf(text, bytes, "%s", mg_context_message(context));
  mg_engine_destroy(engine);
  mg_registry_destroy(settings.registry);
  return status == MG_OK;
}

static bool read_title_shut_in(mg_cli *cli, const char *path, char *text, size_t bytes) {
  const mg_session_request request = {.experiment = path, .sandboxed = true};
  mg_session session;
  mg_status status = mg_session_open(cli, &request, &session);
  if (status == MG_OK) status = mg__sandboxed_title(&session, text, bytes);
  if (status != MG_OK) snprintf(text, bytes, "%s", mg_context_message(cli->context));
  mg_session_close(&session);
  return status == MG_OK;
}

static void show(const catalogue *all, json_t *rows, bool names) {
  for (int64_t i = 0; i < all->count; i++) {
    char text[1024];
    const bool good = names || (all->sandboxed ? read_title_shut_in(all->cli, all->path[i], text, sizeof text)
                                               : read_title(all->context, all->path[i], text, sizeof text));
    if (rows) {
      json_array_append_new(rows, json_pack("{s:s, s:s}", "path", all->path[i], good ? "title" : "problem", text));
    } else if (names) {
      puts(all->path[i]);
    } else {
      printf("%-*s ", PATH_COLUMN - 1, all->path[i]);
      if (strlen(all->path[i]) >= PATH_COLUMN) printf("\n%*s", PATH_COLUMN, "");
      if (!good) fputs("not available: ", stdout);
      mg_cli_print_wrapped(stdout, text, PATH_COLUMN, PATH_COLUMN);
    }
  }
}

/* `experiments` here, else the one beside the library: in an install tree, or in the source tree. */
static mg_status find_folder(mg_cli *cli, char folder[PATH_MAX]) {
  static const char *const beside[] = {"experiments", "../experiments"};
  char scripts[4000];
  mg_engine_settings settings = {0};
  mg_engine *engine;
  snprintf(folder, PATH_MAX, "experiments");
  if (is_folder(folder)) return MG_OK;
  MG_TRY(mg_cli_registry(cli, &settings.registry));
  MG_TRY(mg_engine_create(cli->context, &settings, &engine));
  snprintf(scripts, sizeof scripts, "%s", mg_engine_scripts(engine));
  mg_engine_destroy(engine);
  for (size_t i = 0; i < MG_COUNT(beside); i++) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", scripts, beside[i]);
    if (is_folder(path) && realpath(path, folder)) return MG_OK;
  }
  return mg_fail(cli->context, MG_NOTHING, "there is no folder 'experiments' here or beside %s", scripts);
}

mg_status mg__list_experiments(mg_cli *cli, bool json, bool names_only, bool sandboxed) {
  char folder[PATH_MAX];
  if (sandboxed) MG_TRY(mg_sandbox_check(cli->context));
  MG_TRY(find_folder(cli, folder));
  catalogue all = {.context = cli->context, .cli = cli, .sandboxed = sandboxed};
  json_t *rows = json ? json_array() : NULL;
  mg_status status = gather(&all, folder, 0);
  qsort(all.path, (size_t)all.count, sizeof *all.path, by_path);
  if (status == MG_OK) show(&all, rows, names_only && !json);
  if (status == MG_OK && all.count == 0) status = mg_fail(cli->context, MG_NOTHING, "%s holds no .lua file", folder);
  for (int64_t i = 0; i < all.count; i++) mg_free(cli->context, all.path[i], strlen(all.path[i]) + 1);
  if (status == MG_OK && json) return mg_cli_print_json(cli, rows);
  json_decref(rows);
  return status;
}
