/* Loads a plugin in a forked child first, because its constructors and its entry run before anything can be checked.
 *
 * The child sends its verdict through one pipe and its standard output through another, which must stay empty: a
 * plugin that prints would break `--json`. A child that gives no verdict crashed, exited, or hung. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "host/plugin.h"

enum { PROBE_SECONDS = 5, VERDICT_TEXT_BYTES = 2048 };

typedef struct verdict {
  int32_t status;
  char text[VERDICT_TEXT_BYTES]; /* together below PIPE_BUF, so that the write is whole */
} verdict;

typedef struct probe {
  int verdict_pipe[2], output_pipe[2];
  pid_t child;
} probe;

/* Handlers of a sanitizer or a program would turn a crash into an exit; here it must show as the signal that it is. */
static void restore_signals(void) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGINT, SIGTERM};
  for (size_t i = 0; i < MG_COUNT(signals); i++) signal(signals[i], SIG_DFL);
}

_Noreturn static void run_child(mg_context *context, mg_plugin_kind kind, const char *path, const probe *p) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  restore_signals();
  const int null = open("/dev/null", O_RDWR);
  dup2(null, STDIN_FILENO);
  dup2(null, STDERR_FILENO);
  dup2(p->output_pipe[1], STDOUT_FILENO);
  const void *table;
  verdict answer = {0};
  answer.status = (int32_t)mg__plugin_map(context, kind, path, &table);
  if (answer.status != MG_OK) snprintf(answer.text, sizeof answer.text, "%s", mg_context_message(context));
  fflush(stdout);
  const ssize_t put = write(p->verdict_pipe[1], &answer, sizeof answer);
  _exit(put == (ssize_t)sizeof answer ? 0 : 1);
}

static void close_pair(int pair[2]) {
  close(pair[0]);
  close(pair[1]);
}

static mg_status start(mg_context *context, mg_plugin_kind kind, const char *path, probe *p) {
  if (pipe2(p->verdict_pipe, O_CLOEXEC) != 0)
    return mg_fail(context, MG_PLUGIN, "%s: cannot be probed: %s", path, strerror(errno));
  if (pipe2(p->output_pipe, O_CLOEXEC) != 0) {
    close_pair(p->verdict_pipe);
    return mg_fail(context, MG_PLUGIN, "%s: cannot be probed: %s", path, strerror(errno));
  }
  fflush(stdout); /* the child must not inherit text that is still to be written */
  p->child = fork();
  if (p->child == 0) run_child(context, kind, path, p);
  close(p->verdict_pipe[1]);
  close(p->output_pipe[1]);
  if (p->child > 0) return MG_OK;
  close(p->verdict_pipe[0]);
  close(p->output_pipe[0]);
  return mg_fail(context, MG_PLUGIN, "%s: cannot be probed: %s", path, strerror(errno));
}

typedef enum outcome { ANSWERED, ENDED, HUNG } outcome;

/* Waits for the verdict, the end of the child, or the time limit, whichever is first. */
static outcome await(int descriptor, verdict *answer) {
  const int64_t deadline = mg_clock_ns() + (int64_t)PROBE_SECONDS * 1000000000;
  for (;;) {
    const int64_t left_ms = (deadline - mg_clock_ns()) / 1000000;
    if (left_ms <= 0) return HUNG;
    struct pollfd wait = {.fd = descriptor, .events = POLLIN};
    const int ready = poll(&wait, 1, (int)left_ms);
    if (ready < 0 && errno != EINTR) return ENDED;
    if (ready <= 0) continue;
    const ssize_t got = read(descriptor, answer, sizeof *answer);
    if (got == (ssize_t)sizeof *answer) return ANSWERED;
    if (got >= 0 || errno != EINTR) return ENDED;
  }
}

/* Ends the child with all that it started, and returns its wait status. A child that is already ending keeps its own.
 */
static int reap(pid_t child) {
  int status = 0;
  kill(-child, SIGKILL);
  kill(child, SIGKILL);
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return status;
}

/* Reads what the child printed, up to a line's length; control characters become spaces. */
static size_t read_output(int descriptor, char *text, size_t bytes) {
  fcntl(descriptor, F_SETFL, O_NONBLOCK);
  const ssize_t got = read(descriptor, text, bytes - 1);
  const size_t count = got > 0 ? (size_t)got : 0;
  text[count] = '\0';
  for (size_t i = 0; i < count; i++)
    if ((unsigned char)text[i] < ' ') text[i] = ' ';
  return count;
}

static mg_status judge_end(mg_context *context, const char *path, int status) {
  if (WIFSIGNALED(status))
    return mg_fail(context, MG_PLUGIN,
                   "%s: crashes while it is loaded (%s); run its constructors and entry under a debugger", path,
                   strsignal(WTERMSIG(status)));
  return mg_fail(context, MG_PLUGIN,
                 "%s: ends the program while it is loaded (exit code %d); a plugin must not call exit", path,
                 WEXITSTATUS(status));
}

mg_status mg__plugin_probe(mg_context *context, mg_plugin_kind kind, const char *path) {
  probe p;
  verdict answer;
  char printed[80];
  MG_TRY(start(context, kind, path, &p));
  const outcome what = await(p.verdict_pipe[0], &answer);
  const int status = reap(p.child);
  const size_t output = read_output(p.output_pipe[0], printed, sizeof printed);
  close(p.verdict_pipe[0]);
  close(p.output_pipe[0]);
  if (what == HUNG)
    return mg_fail(context, MG_PLUGIN, "%s: was still loading after %d seconds; a constructor must not wait", path,
                   PROBE_SECONDS);
  if (what == ENDED) return judge_end(context, path, status);
  answer.text[sizeof answer.text - 1] = '\0';
  if (answer.status != MG_OK) return mg_fail(context, MG_PLUGIN, "%s", answer.text);
  if (output > 0)
    return mg_fail(context, MG_PLUGIN,
                   "%s: prints to standard output while it is loaded (\"%s\"); a plugin must not print", path, printed);
  return MG_OK;
}
