/* What the files of the router suite share: a router in a layer's place, one run of it, and the list of checks. */
#ifndef MG_MEASURE_ROUTER_SUITE_INTERNAL_H
#define MG_MEASURE_ROUTER_SUITE_INTERNAL_H

#include "base/arena.h"
#include "measure/router_suite.h"
#include "moe/layer.h"

enum { SUITE_WIDTH = 6, SUITE_TOKENS = 10, SUITE_VOCABULARY = 50, SUITE_SHAPES_MAX = 3 };

/* The suite's room: one reference backend in f64. Its memory can be read and written by the host. */
typedef struct suite_room {
  mg_context *context;
  mg_registry *registry;
  mg_backend *backend;
  mg_backend *other; /* to compare with, in f32; NULL = none */
  mg_tape *tape;
  mg_arena *arena;         /* forgotten after each check */
  mg_tensor x, x_gradient; /* of the run on the tape, which borrows them */
  const json_t *spec;
} suite_room;

/* A router for a layer of `experts`, with random parameters. */
typedef struct suite_subject {
  suite_room *room;
  mg_params *params;
  mg_router *router;
  int64_t experts, width;
  uint32_t promises;
} suite_subject;

/* What goes in; x is [tokens, width]. */
typedef struct suite_input {
  int64_t tokens;
  double *x;
  int32_t *token_ids;
  bool training;
  double *x_gradient; /* receives the gradient of the scalar; NULL = not wanted */
} suite_input;

/* What came out, on the host. Optional outputs are NULL. */
typedef struct suite_outcome {
  int64_t tokens, choices, experts;
  int32_t *ids;
  double *weights;
  double *probs, *logits, *load;
  int64_t slots; /* columns of these two, for a router that mixes tokens */
  double *dispatch, *combine;
} suite_outcome;

/* ---- running (router_suite_run.c) -------------------------------------------------------------------------- */

mg_status mg__router_suite_open_subject(suite_room *room, const json_t *spec, int64_t experts, int64_t width,
                                        suite_subject *out);
void mg__router_suite_close_subject(suite_subject *subject);
/* Tells the router of a training's text; resets the tape. */
mg_status mg__router_suite_prepare(mg_router *router, mg_tape *tape);
/* Random hidden states and token ids; NULL members after a failure. */
suite_input mg__router_suite_input(suite_subject *subject, int64_t tokens);
mg_status mg__router_suite_run(suite_subject *subject, const suite_input *input, suite_outcome *out);

/* The sum of the weights, dispatch, combine and the router's own loss, or of probs, logits, load and loss, each times a fixed random number; gradients go to the
 * parameters and to input->x_gradient when `backward`. `ids` (may be NULL) receives what was chosen. */
typedef enum suite_scalar { SUITE_WEIGHTS, SUITE_STATISTICS } suite_scalar;
mg_status mg__router_suite_scalar(suite_subject *subject, const suite_input *input, suite_scalar of, bool backward,
                                  double *value, int32_t **ids);

/* ---- checks (router_suite_checks.c, router_suite_gradients.c) ---------------------------------------------- */

typedef struct suite_check {
  const char *name, *meaning;
  uint32_t promise; /* applies only to routers that promise all of these */
  mg_status (*run)(suite_subject *subject, mg_router_row *row);
} suite_check;

extern const suite_check mg__router_checks[];
extern const size_t mg__router_checks_count;

/* Both return MG_OK. */
mg_status mg__router_suite_failed(mg_router_row *row, const char *format, ...) MG_PRINTF(2, 3);
mg_status mg__router_suite_not_applicable(mg_router_row *row, const char *why);

mg_status mg__check_gradients(suite_subject *subject, mg_router_row *row);
mg_status mg__check_statistics_gradients(suite_subject *subject, mg_router_row *row);
mg_status mg__check_learns(suite_subject *subject, mg_router_row *row);
mg_status mg__check_capacity(suite_subject *subject, mg_router_row *row);
mg_status mg__check_flops(suite_subject *subject, mg_router_row *row);
mg_status mg__check_selection_flops(suite_subject *subject, mg_router_row *row);
mg_status mg__check_backend_agrees(suite_subject *subject, mg_router_row *row);

#endif
