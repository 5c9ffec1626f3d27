/* What every cmocka program shares: the includes that cmocka needs in their order, and a world of context, registry,
 * backend and tape. */
#ifndef MG_TESTS_SUPPORT_TESTING_H
#define MG_TESTS_SUPPORT_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host/registry.h"
#include "moegauge/tape.h"

/* Adds all plugins that were linked in. Generated. */
mg_status mg_testing_register(mg_registry *registry);

/* cmocka setup and teardown: *state is a context; the teardown fails on a leak. */
int mg_testing_open_context(void **state);
int mg_testing_close_context(void **state);

/* Fails the test with the context's message unless the call returned MG_OK. */
#define assert_ok(context, call)                                                                                       \
  do {                                                                                                                 \
    const mg_status status_ = (call);                                                                                  \
    if (status_ != MG_OK) fail_msg("%s: %s: %s", #call, mg_status_name(status_), mg_context_message(context));         \
  } while (0)

/* Fails the test unless the call returned `expected` and the message holds `words`. */
#define assert_refused(context, expected, words, call)                                                                 \
  do {                                                                                                                 \
    const mg_status status_ = (call);                                                                                  \
    if (status_ != (expected) || !strstr(mg_context_message(context), (words)))                                        \
      fail_msg("%s: %s: %s", #call, mg_status_name(status_), mg_context_message(context));                             \
  } while (0)

/* Fails the test unless |actual - expected| <= tolerance, in double (cmocka's own comparison is in float). */
#define assert_near(actual, expected, tolerance)                                                                       \
  do {                                                                                                                 \
    const double actual_ = (actual), expected_ = (expected), tolerance_ = (tolerance);                                 \
    if (!(fabs(actual_ - expected_) <= tolerance_))                                                                    \
      fail_msg("%s is %.17g, not %.17g +- %g", #actual, actual_, expected_, tolerance_);                               \
  } while (0)

#endif
