/* A forked child that sends its status and message through a pipe. */
#include "cli/isolate.h"

#include <errno.h>
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

mg_status mg_cli_isolated(mg_cli *cli, const char *where, mg_status (*work)(mg_cli *cli, void *user), void *user) {
  int ends[2], ended = 0;
  verdict answer;
  if (pipe(ends) != 0) return mg_fail(cli->context, MG_BUG, "no pipe could be made: %s", strerror(errno));
  fflush(stdout); /* the child must not print what we still hold */
  const pid_t child = fork();
  if (child == 0) run_child(cli, ends[1], work, user);
  close(ends[1]);
  ssize_t got = -1;
  if (child > 0) {
    do got = read(ends[0], &answer, sizeof answer);
    while (got < 0 && errno == EINTR);
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR) continue;
  }
  close(ends[0]);
  if (child < 0) return mg_fail(cli->context, MG_BUG, "no process could be started: %s", strerror(errno));
  return judge(cli, where, ended, &answer, got);
}
