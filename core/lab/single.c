/* One child that is no case: its result is wanted here and now, and nothing is stored. */
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "lab/child.h"

enum { TICK_MILLISECONDS = 200 };

static const int64_t kill_grace_ns = 2 * (int64_t)1000000000;

/* A child that calls its failure "ok" has still failed. */
static mg_status status_of(const char *name) {
  for (int i = MG_OK + 1; i < MG_STATUS_COUNT; i++)
    if (name && strcmp(mg_status_name((mg_status)i), name) == 0) return (mg_status)i;
  return MG_CASES_FAILED;
}

/* Told to stop, then killed if it does not. */
static void stop(mg__child *child, int64_t now) {
  mg__child_signal(child, child->kill_at_ns ? SIGKILL : SIGTERM);
  child->kill_at_ns = now + kill_grace_ns;
}

static void await(mg__child *child, double timeout_seconds, bool (*stopped)(void *user), void *user) {
  const int64_t end_ns = child->started_ns + (int64_t)(timeout_seconds * 1e9);
  child->limit_seconds = timeout_seconds;
  while (!mg__child_ended(child)) {
    struct pollfd polled[] = {{.fd = child->lines, .events = POLLIN}, {.fd = child->errors, .events = POLLIN}};
    (void)poll(polled, MG_COUNT(polled), TICK_MILLISECONDS);
    mg__child_read(child);
    const int64_t now = mg_clock_ns();
    if (now > end_ns) child->timed_out = true;
    if ((child->timed_out || stopped(user)) && now > child->kill_at_ns) stop(child, now);
  }
}

/* The child's own error where it told one, else how it ended. */
static mg_status judge(const mg__child *child, const mg__outcome *outcome, const char *what) {
  const char *told = json_string_value(json_object_get(json_object_get(child->last, "error"), "status"));
  if (told && WIFEXITED(child->wait_status) && !child->timed_out)
    return mg_fail(child->context, status_of(told), "%s", outcome->reason);
  return mg_fail(child->context, MG_CASES_FAILED, "%s: %s", what, outcome->reason);
}

mg_status mg_run_child(mg_context *context, const char *const *command, const char *what, double timeout_seconds,
                       bool (*stopped)(void *user), void *user, json_t **result) {
  const mg_case self = {.label = what};
  mg__child child;
  mg__outcome outcome;
  sigset_t mask;
  *result = NULL;
  sigprocmask(SIG_SETMASK, NULL, &mask);
  MG_TRY(mg__child_start(&child, context, command, &self, &mask));
  await(&child, timeout_seconds, stopped, user);
  mg__child_outcome(&child, &outcome);
  mg_status status = MG_OK;
  if (stopped(user))
    status = mg_fail(context, MG_INTERRUPTED, "interrupted");
  else if (strcmp(outcome.status, "ok") == 0)
    *result = json_incref((json_t *)(uintptr_t)outcome.result);
  else
    status = judge(&child, &outcome, what);
  mg__child_close(&child);
  return status;
}
