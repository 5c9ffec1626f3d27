/* Walking folders without following links, reading plain and gzip text, and running a program quietly. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "base/vector.h"
#include "train/data_stage.h"

extern char **environ;

enum { DEPTH_MOST = 64, GZIP_BLOCK = 1 << 17 };
static const size_t file_bytes_most = (size_t)1 << 30;

typedef struct walk {
  mg_context *context;
  mg__visit_function visit;
  void *user;
  size_t root_bytes; /* of the root's path, its slash included */
} walk;

/* By bytes, so that the order is the same in every locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static mg_status walk_folder(const walk *in, const char *folder, int depth);

static mg_status walk_entry(const walk *in, const char *folder, const char *name, int depth) {
  char path[PATH_MAX];
  if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
    return mg_fail(in->context, MG_FILE, "%s/%s: the path is too long", folder, name);
  struct stat about;
  if (lstat(path, &about) != 0) return mg_fail(in->context, MG_FILE, "%s: %s", path, strerror(errno));
  mg__visit visit = {path, path + in->root_bytes, NULL};
  if (name[0] == '.')
    visit.skipped = "hidden";
  else if (S_ISDIR(about.st_mode))
    return walk_folder(in, path, depth + 1);
  else if (S_ISLNK(about.st_mode))
    visit.skipped = "symbolic_link";
  else if (!S_ISREG(about.st_mode))
    visit.skipped = "not_a_file";
  return in->visit(in->user, &visit);
}

static mg_status walk_folder(const walk *in, const char *folder, int depth) {
  if (depth > DEPTH_MOST) return mg_fail(in->context, MG_FILE, "%s: more than %d folders deep", folder, DEPTH_MOST);
  struct dirent **entries;
  const int count = scandir(folder, &entries, NULL, by_bytes);
  if (count < 0) return mg_fail(in->context, MG_FILE, "%s: the folder cannot be read: %s", folder, strerror(errno));
  mg_status status = MG_OK;
  for (int i = 0; i < count; i++) {
    const char *name = entries[i]->d_name;
    if (status == MG_OK && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
      status = walk_entry(in, folder, name, depth);
    free(entries[i]);
  }
  free(entries);
  return status;
}

mg_status mg__folder_walk(mg_context *context, const char *folder, mg__visit_function visit, void *user) {
  const walk in = {context, visit, user, strlen(folder) + 1};
  return walk_folder(&in, folder, 0);
}

mg_status mg__text_append(mg_context *context, mg__text *text, const char *data, size_t bytes) {
  MG_TRY(MG_VECTOR_RESERVE(context, text->data, text->room, text->bytes + bytes + 1));
  memcpy(text->data + text->bytes, data, bytes);
  text->bytes += bytes;
  return MG_OK;
}

static mg_status unpack(mg_context *context, gzFile file, const char *path, mg__text *text) {
  char block[GZIP_BLOCK];
  int got;
  while ((got = gzread(file, block, sizeof block)) > 0) {
    if (text->bytes + (size_t)got > file_bytes_most)
      return mg_fail(context, MG_FILE, "%s: unpacks to more than %zu bytes; cut it into smaller files", path,
                     file_bytes_most);
    MG_TRY(mg__text_append(context, text, block, (size_t)got));
  }
  int code;
  const char *reason = gzerror(file, &code);
  if (got < 0 || code != Z_OK)
    return mg_fail(context, MG_FILE, "%s: damaged gzip file: %s; replace or remove it", path, reason);
  return MG_OK;
}

static mg_status read_gzip(mg_context *context, const char *path, char **out, size_t *bytes) {
  gzFile file = gzopen(path, "rb");
  if (!file) return mg_fail(context, MG_FILE, "%s: cannot be opened: %s", path, strerror(errno));
  mg__text text = {0};
  mg_status status = unpack(context, file, path, &text);
  const int closed = gzclose_r(file);
  if (status == MG_OK && closed != Z_OK)
    status = mg_fail(context, MG_FILE, "%s: the gzip file ends too early; replace or remove it", path);
  if (status == MG_OK) *out = mg_alloc(context, text.bytes + 1);
  if (status == MG_OK && !*out) status = MG_MEMORY;
  if (status == MG_OK && text.bytes) memcpy(*out, text.data, text.bytes);
  *bytes = status == MG_OK ? text.bytes : 0;
  MG_VECTOR_FREE(context, text.data, text.room);
  return status;
}

mg_status mg__text_read(mg_context *context, const char *path, char **out, size_t *bytes) {
  *out = NULL;
  const size_t length = strlen(path);
  const bool packed = length > 3 && strcmp(path + length - 3, ".gz") == 0;
  return packed ? read_gzip(context, path, out, bytes) : mg_file_read(context, path, file_bytes_most, out, bytes);
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where) {
  (void)about;
  (void)kind;
  (void)where;
  remove(path);
  return 0;
}

void mg__folder_remove(const char *folder) {
  nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

mg_status mg__program_run(mg_context *context, const char *const *arguments, const char *folder, const char *output,
                          const char *log, int *code) {
  posix_spawn_file_actions_t actions;
  if (posix_spawn_file_actions_init(&actions) != 0) return mg_fail(context, MG_MEMORY, "no memory to start a program");
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_addchdir_np(&actions, folder);
  pid_t child;
  const int failed = posix_spawnp(&child, arguments[0], &actions, NULL, (char *const *)(uintptr_t)arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) return mg_fail(context, MG_FILE, "%s: cannot be run: %s", arguments[0], strerror(failed));
  int state;
  while (waitpid(child, &state, 0) < 0)
    if (errno != EINTR) return mg_fail(context, MG_FILE, "%s: was lost: %s", arguments[0], strerror(errno));
  *code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  return MG_OK;
}
