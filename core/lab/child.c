/* Starting, reading and burying the process of one case. */
#include "lab/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { LINE_BYTES_MAX = 1 << 28, ARGUMENTS_MAX = 64, EXIT_NO_PROGRAM = 127 };

/* ---- starting --------------------------------------------------------------------------------------------- */

/* Moves the write ends away from 0..3 first, so that no dup2 overwrites one that is still needed. */
static void place_descriptors(int lines, int errors) {
  const int high_lines = fcntl(lines, F_DUPFD, 10), high_errors = fcntl(errors, F_DUPFD, 10);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(high_errors, STDOUT_FILENO);
  dup2(high_errors, STDERR_FILENO);
  dup2(high_lines, MG_CASE_DESCRIPTOR);
  close(high_lines);
  close(high_errors);
}

/* The child's side of fork: only async-signal-safe calls until the program is replaced. */
static _Noreturn void become(const char *const *arguments, int lines, int errors, pid_t parent, const sigset_t *mask) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(EXIT_NO_PROGRAM); /* the parent died before the line above */
  place_descriptors(lines, errors);
  sigprocmask(SIG_SETMASK, mask, NULL);
  execv(arguments[0], (char *const *)(uintptr_t)arguments);
  static const char words[] = "the program could not be executed\n";
  if (write(STDERR_FILENO, words, sizeof words - 1) < 0) _exit(EXIT_NO_PROGRAM);
  _exit(EXIT_NO_PROGRAM);
}

static bool make_pipes(int lines[2], int errors[2]) {
  if (pipe2(lines, O_CLOEXEC) != 0) return false;
  if (pipe2(errors, O_CLOEXEC) == 0) {
    fcntl(lines[0], F_SETFL, O_NONBLOCK);
    fcntl(errors[0], F_SETFL, O_NONBLOCK);
    return true;
  }
  close(lines[0]);
  close(lines[1]);
  return false;
}

static mg_status refuse_start(mg_context *context, const mg_case *what) {
  return mg_fail(context, MG_MEMORY, "case '%s' could not be started: %s", what->label, strerror(errno));
}

mg_status mg__child_start(mg__child *child, mg_context *context, const char *const *command, const mg_case *what,
                          const sigset_t *mask) {
  const char *arguments[ARGUMENTS_MAX + 2];
  char number[24];
  int count = 0, lines[2], errors[2];
  for (; command[count] && count < ARGUMENTS_MAX; count++) arguments[count] = command[count];
  if (command[count]) return mg_fail(context, MG_USAGE, "a case's command has more than %d words", ARGUMENTS_MAX);
  snprintf(number, sizeof number, "%lld", (long long)what->number);
  arguments[count++] = number;
  arguments[count] = NULL;
  if (!make_pipes(lines, errors)) return refuse_start(context, what);
  const pid_t parent = getpid(), process = fork();
  if (process == 0) become(arguments, lines[1], errors[1], parent, mask);
  close(lines[1]);
  close(errors[1]);
  if (process < 0) {
    close(lines[0]);
    close(errors[0]);
    return refuse_start(context, what);
  }
  setpgid(process, process); /* both sides do it: whoever comes first */
  *child = (mg__child){.what = what, .context = context, .process = process, .lines = lines[0], .errors = errors[0]};
  child->started_ns = mg_clock_ns();
  child->started_unix = mg_clock_unix_seconds();
  return MG_OK;
}

void mg__child_signal(const mg__child *child, int number) {
  if (!child->ended) kill(-child->process, number);
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

static void note_malformed(mg__child *child, const char *line) {
  if (!child->malformed[0]) snprintf(child->malformed, sizeof child->malformed, "%.100s", line[0] ? line : "(empty)");
}

static void take_line(mg__child *child, const char *line) {
  json_t *message = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
  json_t *progress = json_object_get(message, "progress");
  if (progress) {
    json_decref(child->progress);
    child->progress = json_incref(progress);
  } else if ((json_object_get(message, "result") || json_object_get(message, "error")) && !child->last) {
    child->last = json_incref(message);
  } else {
    note_malformed(child, line);
  }
  json_decref(message);
}

static void take_lines(mg__child *child) {
  char *start = child->line, *end = child->line + child->line_used;
  for (char *newline; (newline = memchr(start, '\n', (size_t)(end - start))); start = newline + 1) {
    *newline = '\0';
    take_line(child, start);
  }
  child->line_used = (size_t)(end - start);
  memmove(child->line, start, child->line_used);
}

/* Room for one more block; false when the line is too long or memory ran out: the line is then dropped. */
static bool grow_line(mg__child *child, size_t block) {
  if (child->line_size - child->line_used >= block) return true;
  const size_t size = child->line_size ? child->line_size * 2 : 4 * block;
  char *line = size <= LINE_BYTES_MAX ? mg_resize(child->context, child->line, child->line_size, size) : NULL;
  if (!line) {
    note_malformed(child, "a line too long to hold");
    child->line_used = 0;
    return child->line_size >= block;
  }
  child->line = line;
  child->line_size = size;
  return true;
}

static void read_lines(mg__child *child) {
  enum { BLOCK = 1 << 14 };
  while (child->lines >= 0) {
    if (!grow_line(child, BLOCK)) return;
    const ssize_t got = read(child->lines, child->line + child->line_used, BLOCK);
    if (got < 0) return; /* EAGAIN, EINTR: later */
    if (got == 0) {
      close(child->lines);
      child->lines = -1;
      return;
    }
    child->line_used += (size_t)got;
    take_lines(child);
  }
}

static void keep_tail(mg__child *child, const char *text, size_t bytes) {
  if (bytes > MG_CHILD_TAIL_BYTES / 2) {
    text += bytes - MG_CHILD_TAIL_BYTES / 2;
    bytes = MG_CHILD_TAIL_BYTES / 2;
  }
  if (child->tail_used + bytes > MG_CHILD_TAIL_BYTES) {
    const size_t dropped = child->tail_used + bytes - MG_CHILD_TAIL_BYTES;
    child->tail_used -= dropped;
    memmove(child->tail, child->tail + dropped, child->tail_used);
  }
  memcpy(child->tail + child->tail_used, text, bytes);
  child->tail_used += bytes;
}

static void read_errors(mg__child *child) {
  char block[4096];
  while (child->errors >= 0) {
    const ssize_t got = read(child->errors, block, sizeof block);
    if (got < 0) return;
    if (got == 0) {
      close(child->errors);
      child->errors = -1;
      return;
    }
    keep_tail(child, block, (size_t)got);
  }
}

void mg__child_read(mg__child *child) {
  read_lines(child);
  read_errors(child);
}

bool mg__child_ended(mg__child *child) {
  struct rusage used;
  if (child->ended) return true;
  const pid_t gone = wait4(child->process, &child->wait_status, WNOHANG, &used);
  if (gone == 0 || (gone < 0 && errno != ECHILD)) return false;
  if (gone > 0) child->peak_bytes = (int64_t)used.ru_maxrss * 1024;
  kill(-child->process, SIGKILL); /* whatever the case left running */
  child->ended = true;
  mg__child_read(child);
  return true;
}

json_t *mg__child_take_progress(mg__child *child) {
  json_t *progress = child->progress;
  child->progress = NULL;
  return progress;
}

/* ---- the outcome ------------------------------------------------------------------------------------------ */

/* Adds the last lines of standard error, if there were any. */
static void add_tail(const mg__child *child, char *reason, size_t bytes) {
  enum { SHOWN = 1200 };
  size_t length = child->tail_used;
  while (length > 0 && (child->tail[length - 1] == '\n' || child->tail[length - 1] == ' ')) length--;
  const size_t first = length > SHOWN ? length - SHOWN : 0, used = strlen(reason);
  if (length > 0) snprintf(reason + used, bytes - used, "; it wrote: %.*s", (int)(length - first), child->tail + first);
}

static void describe_end(const mg__child *child, char *reason, size_t bytes) {
  const int status = child->wait_status;
  if (child->timed_out) {
    snprintf(reason, bytes, "took longer than the limit of %g seconds", child->limit_seconds);
  } else if (WIFSIGNALED(status)) {
    const char *name = sigabbrev_np(WTERMSIG(status)), *words = sigdescr_np(WTERMSIG(status));
    snprintf(reason, bytes, "the case died of SIG%s (%s)%s", name ? name : "?", words ? words : "unknown",
             WTERMSIG(status) == SIGKILL ? "; often the system's out-of-memory killer" : "");
  } else if (child->malformed[0]) {
    snprintf(reason, bytes, "the case sent a line that is not a result: '%s'", child->malformed);
  } else {
    snprintf(reason, bytes, "the case ended with exit code %d and no result", WEXITSTATUS(status));
  }
  add_tail(child, reason, bytes);
}

static void describe_error(const json_t *error, mg__outcome *outcome) {
  const char *status = json_string_value(json_object_get(error, "status"));
  const char *message = json_string_value(json_object_get(error, "message"));
  snprintf(outcome->reason, sizeof outcome->reason, "%s", message ? message : "no message came");
  if (status && strcmp(status, "skipped") == 0) outcome->status = "skipped";
  if (status && strcmp(status, mg_status_name(MG_INTERRUPTED)) == 0) outcome->status = "interrupted";
}

/* Replaces control characters, which could do more to a terminal than print, and what is not UTF-8, so that the reason can
 * be stored as JSON. */
static void make_text(char *text) {
  for (char *c = text; *c; c++)
    if (((unsigned char)*c < 32 && *c != '\n') || *c == 127) *c = ' ';
  json_t *good = json_string(text);
  if (!good)
    for (char *c = text; *c; c++)
      if ((unsigned char)*c > 126) *c = '?';
  json_decref(good);
}

void mg__child_outcome(const mg__child *child, mg__outcome *outcome) {
  *outcome = (mg__outcome){.status = "failed", .peak_bytes = child->peak_bytes};
  const json_t *error = json_object_get(child->last, "error");
  const bool clean = WIFEXITED(child->wait_status) && !child->timed_out;
  outcome->provenance = json_object_get(child->last, "provenance");
  outcome->result = json_object_get(child->last, "result");
  if (clean && error) {
    describe_error(error, outcome);
  } else if (clean && child->last && !child->malformed[0] && WEXITSTATUS(child->wait_status) == 0) {
    outcome->status = "ok";
  } else {
    outcome->result = NULL;
    describe_end(child, outcome->reason, sizeof outcome->reason);
  }
  make_text(outcome->reason);
}

void mg__child_close(mg__child *child) {
  if (child->lines >= 0) close(child->lines);
  if (child->errors >= 0) close(child->errors);
  mg_free(child->context, child->line, child->line_size);
  json_decref(child->progress);
  json_decref(child->last);
  *child = (mg__child){0};
}
