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

#endif
