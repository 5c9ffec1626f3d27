/* A context for each test or group. */
#include "support/testing.h"

int mg_testing_open_context(void **state) {
  return mg_context_create(NULL, (mg_context **)state) == MG_OK ? 0 : -1;
}

int mg_testing_close_context(void **state) {
  const size_t left = mg_context_bytes(*state);
  mg_context_destroy(*state);
  return left == 0 ? 0 : -1; /* a leak fails the test */
}
