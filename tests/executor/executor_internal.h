/* What the executor's files share. */
#ifndef MG_TESTS_EXECUTOR_INTERNAL_H
#define MG_TESTS_EXECUTOR_INTERNAL_H

#include "executor.h"

extern executor_settings executor__settings;

/* Keeps the first error, for executor_last_error. */
void executor__fail(executor_error error, const char *text);
bool executor__failed(void);
/* Counts a launch; false when the device is set to fail. */
bool executor__begin_launch(void);
executor_counts *executor__counts(void);

/* Keeps a launch, or without a kernel a call, where a recording is under way; false where none is. (graph.c) */
bool executor__record(const executor_launch *launch);
/* Refuses what a recording does not allow; `what` is said in the message. */
executor_error executor__allowed(const char *what);
/* Does now what executor_run and executor_call may keep for later. */
void executor__run_now(const executor_launch *launch);

#endif
