/* What a fallible call returns, and the exit code of a program that ends with it. */
#ifndef MOEGAUGE_STATUS_H
#define MOEGAUGE_STATUS_H

#include "moegauge/api.h"

/* X(NAME, exit code, one-word name, what it means) */
// clang-format off
#define MG_STATUS_LIST(X)                                                                          \
  X(OK, 0, "ok", "the call did what was asked")                                                    \
  X(CASES_FAILED, 1, "cases-failed", "some cases of the experiment failed")                        \
  X(USAGE, 2, "usage", "a wrong option, key, value or shape")                                      \
  X(FILE, 3, "file", "a model, corpus or other input file is missing or malformed")                \
  X(NOTHING, 4, "nothing", "there was nothing to run")                                             \
  X(PLUGIN, 5, "plugin", "a plugin could not be loaded or broke its contract")                     \
  X(DEVICE, 6, "device", "a device is missing, lost or out of memory")                             \
  X(REGRESSION, 7, "regression", "a comparison found a regression")                                \
  X(WRITE, 8, "write", "results could not be written")                                             \
  X(MEMORY, 70, "memory", "host memory ran out")                                                   \
  X(UNSUPPORTED, 6, "unsupported", "the backend or the kernel lacks what was asked for")             \
  X(NUMERIC, 1, "numeric", "a NaN or an infinity appeared where a number was due")                 \
  X(BUG, 70, "bug", "an internal rule of moegauge was broken")                                     \
  X(INTERRUPTED, 130, "interrupted", "the user stopped the run; finished cases are kept")
// clang-format on

typedef enum mg_status {
#define MG_STATUS_ENUM(name, exit_code, word, meaning) MG_##name,
  MG_STATUS_LIST(MG_STATUS_ENUM)
#undef MG_STATUS_ENUM
      MG_STATUS_COUNT
} mg_status;

/* The one-word name of a status ("usage"); never NULL. */
MG_API const char *mg_status_name(mg_status status);

/* What the status means, as a clause without a full stop; never NULL. */
MG_API const char *mg_status_meaning(mg_status status);

/* The documented process exit code for a status. */
MG_API int mg_status_exit_code(mg_status status);

/* Returns from the calling function when `expression` fails, handing the status upwards. */
#define MG_TRY(expression)                                                                                             \
  do {                                                                                                                 \
    mg_status mg_try_status_ = (expression);                                                                           \
    if (mg_try_status_ != MG_OK) return mg_try_status_;                                                                \
  } while (0)

#endif
