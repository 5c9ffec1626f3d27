/* A forked child that sends its status and message through a pipe. */
#include "cli/isolate.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct verdict {
  int32_t status;
  char text[2048]; /* together below PIPE_BUF, so that the write is whole */
} verdict;

_Noreturn static void run_child(mg_cli *cli, int pipe_end, mg_status (*work)(mg_cli *cli, void *user), void *user) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
  verdict answer = {0};
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  for (size_t i = 0; i < MG_COUNT(signals); i++) signal(signals[i], SIG_DFL);
  answer.status = (int32_t)work(cli, user);
  if (fflush(stdout) != 0 && answer.status == MG_OK)
    answer.status = (int32_t)mg_fail(cli->context, MG_WRITE, "standard output could not be written");
  snprintf(answer.text, sizeof answer.text, "%s", mg_context_message(cli->context));
  const ssize_t put = write(pipe_end, &answer, sizeof answer);
  _exit(put == (ssize_t)sizeof answer ? EXIT_SUCCESS : EXIT_FAILURE);
}

static mg_status judge(mg_cli *cli, const char *where, int ended, const verdict *answer, ssize_t got) {
  if (got == (ssize_t)sizeof *answer) {
    if (answer->status == MG_OK) return MG_OK;
    return mg_fail(cli->context, (mg_status)answer->status, "%.*s", (int)sizeof answer->text - 1, answer->text);
  }
  if (WIFSIGNALED(ended))
    return mg_fail(cli->context, MG_PLUGIN, "%s: died of signal %d (%s); run it under a debugger", where,
                   WTERMSIG(ended), strsignal(WTERMSIG(ended)));
  return mg_fail(cli->context, MG_PLUGIN, "%s: ended the process with exit code %d; a plugin must not call exit", where,
                 WEXITSTATUS(ended));
}

static void make_plain(char *text, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (((unsigned char)text[i] < ' ' && text[i] != '\n') || text[i] == 127) text[i] = '?';
}

/* Copies what the child prints on `from[0]` and `from[1]` to our own two outputs, made plain, until it closes both. */
static void copy_output(const int from[2]) {
  static const int to[] = {STDOUT_FILENO, STDERR_FILENO};
  struct pollfd polled[] = {{.fd = from[0], .events = POLLIN}, {.fd = from[1], .events = POLLIN}};
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    if (poll(polled, MG_COUNT(polled), -1) < 0 && errno != EINTR) return;
    for (size_t i = 0; i < MG_COUNT(polled); i++) {
      char block[4096];
      if (polled[i].fd < 0 || !polled[i].revents) continue;
      const ssize_t got = read(polled[i].fd, block, sizeof block);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) polled[i].fd = -1;
      if (got <= 0) continue;
      make_plain(block, (size_t)got);
      fwrite(block, 1, (size_t)got, to[i] == STDOUT_FILENO ? stdout : stderr);
    }
  }
}

/* Where a child's outputs go: pipes of ours, or nowhere else than to our own. */
typedef struct outlet {
  int read[2], write[2];
  bool filtered;
} outlet;

static bool open_outlet(outlet *out) {
  for (int i = 0; out->filtered && i < 2; i++) {
    int ends[2];
    if (pipe(ends) != 0) return false;
    out->read[i] = ends[0];
    out->write[i] = ends[1];
  }
  return true;
}

/* In the child. The ends for reading are closed, so that a write fails once the parent is gone. */
static void enter_outlet(const outlet *out) {
  for (int i = 0; out->filtered && i < 2; i++) {
    dup2(out->write[i], i == 0 ? STDOUT_FILENO : STDERR_FILENO);
    close(out->write[i]);
    close(out->read[i]);
  }
}

static void follow_outlet(const outlet *out) {
  for (int i = 0; out->filtered && i < 2; i++) close(out->write[i]);
  if (out->filtered) copy_output(out->read);
  for (int i = 0; out->filtered && i < 2; i++) close(out->read[i]);
}

static mg_status isolated(mg_cli *cli, const char *where, mg_status (*work)(mg_cli *cli, void *user), void *user,
                          bool filtered) {
  int ends[2], ended = 0;
  verdict answer;
  outlet out = {.filtered = filtered};
  if (!open_outlet(&out) || pipe(ends) != 0)
    return mg_fail(cli->context, MG_BUG, "no pipe could be made: %s", strerror(errno));
  fflush(stdout); /* the child must not print what we still hold */
  const pid_t child = fork();
  if (child == 0) {
    enter_outlet(&out);
    run_child(cli, ends[1], work, user);
  }
  close(ends[1]);
  follow_outlet(&out);
  ssize_t got = -1;
  if (child > 0) {
    do got = read(ends[0], &answer, sizeof answer);
    while (got < 0 && errno == EINTR);
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR) continue;
  }
  close(ends[0]);
  if (child < 0) return mg_fail(cli->context, MG_BUG, "no process could be started: %s", strerror(errno));
  if (filtered && got == (ssize_t)sizeof answer) make_plain(answer.text, strnlen(answer.text, sizeof answer.text));
  return judge(cli, where, ended, &answer, got);
}

mg_status mg_cli_isolated(mg_cli *cli, const char *where, mg_status (*work)(mg_cli *cli, void *user), void *user) {
  return isolated(cli, where, work, user, false);
}

mg_status mg_cli_isolated_filtered(mg_cli *cli, const char *where, mg_status (*work)(mg_cli *cli, void *user),
                                   void *user) {
  return isolated(cli, where, work, user, true);
}
