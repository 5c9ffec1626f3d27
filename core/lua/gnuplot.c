/* Runs gnuplot: script in, one SVG out, through files in memory, without a shell and with a time limit. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "lua/state.h"

extern char **environ;

static const int64_t limit_ns = 60 * (int64_t)1000000000;

typedef struct files {
  int script, svg, errors; /* in memory; -1 = not open */
} files;

static void close_files(const files *f) {
  const int all[] = {f->script, f->svg, f->errors};
  for (size_t i = 0; i < MG_COUNT(all); i++)
    if (all[i] >= 0) close(all[i]);
}

static bool write_script(int file, const char *text, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t put = write(file, text + done, bytes - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    done += (size_t)put;
  }
  return lseek(file, 0, SEEK_SET) == 0;
}

static int spawn_gnuplot(const files *f, pid_t *process) {
  static const char program[] = "gnuplot", from_input[] = "-";
  char *const arguments[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)from_input, NULL};
  posix_spawn_file_actions_t actions;
  int code = posix_spawn_file_actions_init(&actions);
  if (code != 0) return code;
  posix_spawn_file_actions_adddup2(&actions, f->script, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, f->svg, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, f->errors, STDERR_FILENO);
  code = posix_spawnp(process, program, &actions, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  return code;
}

/* Waits within the limit; returns wait's status, or -1 when the time was up. */
static int wait_for(pid_t process) {
  const int64_t end = mg_clock_ns() + limit_ns;
  const struct timespec pause = {.tv_nsec = 2000000};
  for (;;) {
    int status = 0;
    const pid_t gone = waitpid(process, &status, WNOHANG);
    if (gone == process) return status;
    if (gone < 0 && errno != EINTR) return -1;
    if (mg_clock_ns() > end) {
      kill(process, SIGKILL);
      waitpid(process, &status, 0);
      return -1;
    }
    nanosleep(&pause, NULL);
  }
}

/* The whole content of a file in memory, malloc'd and ended by NUL; NULL if memory ran out. */
static char *content_of(int file, size_t *bytes) {
  struct stat about;
  if (fstat(file, &about) != 0) return NULL;
  *bytes = (size_t)about.st_size;
  char *text = malloc(*bytes + 1);
  if (!text) return NULL;
  const ssize_t got = pread(file, text, *bytes, 0);
  *bytes = got > 0 ? (size_t)got : 0;
  text[*bytes] = '\0';
  return text;
}

static mg_status draw(mg_context *context, const files *f, char **svg, size_t *svg_bytes) {
  pid_t process;
  const int code = spawn_gnuplot(f, &process);
  if (code == ENOENT)
    return mg_fail(context, MG_FILE, "charts need gnuplot, which is not installed; `apt-get install gnuplot-nox`");
  if (code != 0) return mg_fail(context, MG_FILE, "gnuplot cannot be started: %s", strerror(code));
  const int status = wait_for(process);
  if (status == -1) return mg_fail(context, MG_FILE, "gnuplot drew for longer than a minute and was stopped");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    size_t bytes;
    char *words = content_of(f->errors, &bytes);
    mg_fail(context, MG_FILE, "gnuplot failed: %.800s", words ? words : "it did not say why");
    free(words);
    return MG_FILE;
  }
  *svg = content_of(f->svg, svg_bytes);
  if (!*svg) return mg_fail(context, MG_MEMORY, "no memory for a chart");
  if (*svg_bytes > 0) return MG_OK;
  free(*svg);
  *svg = NULL;
  return mg_fail(context, MG_FILE, "gnuplot drew nothing; the script must plot to standard output");
}

mg_status mg__gnuplot(mg_context *context, const char *script, size_t bytes, char **svg, size_t *svg_bytes) {
  *svg = NULL;
  *svg_bytes = 0;
  const files f = {memfd_create("script", MFD_CLOEXEC), memfd_create("svg", MFD_CLOEXEC),
                   memfd_create("errors", MFD_CLOEXEC)};
  mg_status status;
  if (f.script < 0 || f.svg < 0 || f.errors < 0 || !write_script(f.script, script, bytes))
    status = mg_fail(context, MG_MEMORY, "no memory for gnuplot's files: %s", strerror(errno));
  else
    status = draw(context, &f, svg, svg_bytes);
  close_files(&f);
  return status;
}
