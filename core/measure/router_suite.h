/* The router suite: does a router keep the contract of moegauge/router.h and the promises it makes under its options?
 *
 * Every check but that of another backend runs in f64 on the reference backend, on layers of several sizes that the router accepts, with hidden
 * states, token ids and parameters drawn from Philox. README.md in this folder states what each check compares. */
#ifndef MG_MEASURE_ROUTER_SUITE_H
#define MG_MEASURE_ROUTER_SUITE_H

#include <jansson.h>

#include "host/registry.h"

typedef enum mg_router_verdict {
  MG_ROUTER_PASSED,
  MG_ROUTER_FAILED,
  MG_ROUTER_NOT_APPLICABLE /* the router does not promise it, or has no such part */
} mg_router_verdict;

enum { MG_ROUTER_DETAIL_BYTES = 512 };

typedef struct mg_router_row {
  const char *check;   /* "distinct_experts" */
  const char *meaning; /* one clause */
  mg_router_verdict verdict;
  char detail[MG_ROUTER_DETAIL_BYTES]; /* what is wrong and where, or why it does not apply; "" when passed */
} mg_router_row;

typedef struct mg_router_summary {
  int64_t passed, failed, not_applicable;
} mg_router_summary;

/* What to check: a router of the registry with options, {"name": "topk", "k": 2}. */
typedef struct mg_router_request {
  mg_registry *registry;
  const json_t *spec;
  const char *filter;  /* a part of a check's name; NULL or "" runs all */
  const char *backend; /* that must route like the reference in f32; NULL = none */
  void *user;          /* for visit */
} mg_router_request;

/* Runs each check and calls `visit` (may be NULL) with its row; stops early, still MG_OK, when visit returns false. A
 * failing check is a row, not a failure of the call. MG_USAGE when the router accepts no layer of the suite's sizes,
 * with its reason; MG_NOTHING when the filter names no check; what opening the backend says. */
mg_status mg_router_suite_check(mg_context *context, const mg_router_request *request,
                                bool (*visit)(void *user, const mg_router_row *row), mg_router_summary *summary);

#endif
