/* The conformance suite: does a backend compute every primitive as `reference` does, what does it support, how fast?
 *
 * A case is one call of one primitive: shapes, dtypes, attributes, and inputs drawn from Philox. README.md in this
 * folder states what is compared and with which tolerances. */
#ifndef MG_MEASURE_OP_SUITE_H
#define MG_MEASURE_OP_SUITE_H

#include "moegauge/backend.h"

typedef enum mg_suite_verdict {
  MG_SUITE_PASSED,
  MG_SUITE_FAILED,
  MG_SUITE_UNSUPPORTED /* the backend has no kernel for this call, and says so */
} mg_suite_verdict;

enum { MG_SUITE_NAME_BYTES = 192, MG_SUITE_DETAIL_BYTES = 512 };

/* The outcome of one case. */
typedef struct mg_suite_row {
  mg_op op;
  mg_dtype dtype;                 /* of the case's real operands */
  char name[MG_SUITE_NAME_BYTES]; /* "matmul f32 a^T compute=bf16 [17, 3] [17, 33]" */
  mg_suite_verdict verdict;
  double worst;                       /* largest error as a share of what is allowed; 1 is the limit */
  char detail[MG_SUITE_DETAIL_BYTES]; /* what is wrong, or why it did not run; "" when passed */
} mg_suite_row;

typedef struct mg_suite_perf {
  mg_op op;
  mg_dtype dtype;
  char name[MG_SUITE_NAME_BYTES];
  mg_suite_verdict verdict;
  double median_ns; /* of one call */
  double gflops;    /* mg_op_flops per nanosecond */
  double gbytes;    /* mg_op_bytes per nanosecond */
  int64_t calls;    /* that were timed */
} mg_suite_perf;

/* One cell of the matrix: how many of the suite's cases of this primitive and dtype the backend says it runs. */
typedef struct mg_suite_support {
  mg_op op;
  mg_dtype dtype;
  int64_t supported, cases;
} mg_suite_support;

typedef struct mg_suite_summary {
  int64_t passed, failed, unsupported;
} mg_suite_summary;

/* What to run. `filter` is a primitive's name or a part of one; NULL or "" runs all. */
typedef struct mg_suite_request {
  mg_backend *backend;
  mg_backend *reference; /* not needed for support */
  const char *filter;
  void *user; /* for visit */
} mg_suite_request;

/* Checks each case and calls `visit` (may be NULL) with its row, in the order of MG_OP_LIST; stops early, still MG_OK,
 * when visit returns false. A failing case is a row, not a failure of the call. MG_NOTHING when the filter names no
 * primitive. */
mg_status mg_op_suite_check(mg_context *context, const mg_suite_request *request,
                            bool (*visit)(void *user, const mg_suite_row *row), mg_suite_summary *summary);

/* Times larger cases, each for at least `least_ns` after a warm-up. */
mg_status mg_op_suite_perf(mg_context *context, const mg_suite_request *request, int64_t least_ns,
                           bool (*visit)(void *user, const mg_suite_perf *row));

/* Asks, and runs nothing. Cells without a case are left out. */
mg_status mg_op_suite_support(mg_context *context, const mg_suite_request *request,
                              bool (*visit)(void *user, const mg_suite_support *cell));

#endif
