/* Each check of the router suite can fail: a router with one deliberate fault per check. */
#include "support/moe_world.h"

#include <string.h>

#include "measure/router_suite.h"

/* X(name of the check that must fail, fault) */
#define FAULTS(X)                                                                                                      \
  X(outputs, WIDE_WEIGHTS)                                                                                             \
  X(few_tokens, NEEDS_TWO_TOKENS)                                                                                      \
  X(distinct_experts, ALWAYS_EXPERT_0)                                                                                 \
  X(finite, DIVIDES_BY_ZERO)                                                                                           \
  X(nonnegative_weights, NEGATIVE)                                                                                     \
  X(weights_sum_to_one, SUMS_TO_LESS)                                                                                  \
  X(probabilities, PROBS_DOUBLED)                                                                                      \
  X(gradients, HALF_DETACHED)                                                                                          \
  X(statistics_gradients, PROBS_DETACHED)                                                                              \
  X(parameters_learn, WEIGHTS_CONSTANT)                                                                                \
  X(deterministic, COUNTS_CALLS)                                                                                       \
  X(batch_size, DIVIDES_BY_TOKENS)                                                                                     \
  X(token_order, PREFERS_LATE_TOKENS)                                                                                  \
  X(expert_order, PREFERS_HIGH_EXPERTS)                                                                                \
  X(causal, SUBTRACTS_BATCH_MEAN)                                                                                      \
  X(ties, HIGHEST_ID_FIRST)                                                                                            \
  X(all_experts, SHARPENED)                                                                                            \
  X(capacity, ALWAYS_EXPERT_0_AGAIN)                                                                                   \
  X(gate_flops, NO_COST)                                                                                               \
  X(selection_flops, CHOOSES_TWICE)                                                                                    \
  X(backend, DIFFERS_ON_CPU)

#define NAME_FAULT(check, fault) fault,
enum { NO_FAULT, FAULTS(NAME_FAULT) };
#undef NAME_FAULT

typedef struct faulty_options {
  int64_t k, fault;
} faulty_options;

static const mg_option options[] = {MG_OPTION_INT(faulty_options, k, 2, 1, 64, "experts kept per token"),
                                    MG_OPTION_INT(faulty_options, fault, 0, 0, 64, "what is wrong"), MG_OPTION_END};
static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

static int64_t fault_of(const mg_router *router) {
  return ((const faulty_options *)router->options)->fault;
}

static int64_t choices(const mg_router *router) {
  return ((const faulty_options *)router->options)->k;
}

static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_SUM_TO_ONE | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN |
         MG_ROUTER_EXPERTS_EXCHANGEABLE | MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
}

static double gate_flops(const mg_router *router) {
  return fault_of(router) == NO_COST ? 0 : 2.0 * (double)(router->experts * router->width);
}

/* step, 2 step, ... as [1,count]. */
static mg_var *row_of(mg_tape *tape, mg_dtype dtype, int64_t count, double step) {
  const int64_t shape[] = {1, count};
  return mg_scale(tape, mg_cumsum(tape, mg_fill(tape, dtype, 2, shape, 1)), step);
}

static mg_var *shares(mg_tape *tape, mg_var *x) {
  return mg_div(tape, x, mg_sum_columns(tape, x));
}

static mg_var *faulty_logits(mg_tape *tape, const mg_route_input *in, mg_var *gate, int64_t fault) {
  if (fault == NEEDS_TWO_TOKENS && in->tokens < 2) return mg_tape_fail(tape, MG_USAGE, "two tokens are needed");
  mg_var *x = in->x;
  if (fault == SUBTRACTS_BATCH_MEAN && in->tokens) x = mg_sub(tape, x, mg_mean_rows(tape, x));
  mg_var *logits = mg_linear(tape, x, gate);
  const double step = fault == PREFERS_HIGH_EXPERTS ? 0.5 : fault == HIGHEST_ID_FIRST ? 1e-12 : 0;
  const int64_t experts = mg_var_columns(logits);
  return step > 0
             ? mg_add(tape, logits, mg_reshape(tape, row_of(tape, mg_var_dtype(logits), experts, step), 1, &experts))
             : logits;
}

static mg_var *faulty_weights(mg_tape *tape, const mg_route_input *in, mg_var *w, int64_t fault) {
  static int calls;
  switch (fault) {
  case DIVIDES_BY_ZERO: return mg_div(tape, w, mg_sub(tape, w, w));
  case NEGATIVE: return mg_scale(tape, w, -1);
  case SUMS_TO_LESS: return mg_scale(tape, w, 0.9);
  case HALF_DETACHED: return shares(tape, mg_mul(tape, w, mg_detach(tape, w)));
  case WEIGHTS_CONSTANT: return mg_scale(tape, mg_div(tape, w, w), 0.5);
  case COUNTS_CALLS: return mg_scale(tape, w, 1 + 1e-3 * ++calls);
  case DIVIDES_BY_TOKENS: return mg_scale(tape, w, 1 / (double)(in->tokens + 1));
  case PREFERS_LATE_TOKENS:
    return in->tokens ? mg_mul(tape, w, mg_reshape2(tape, row_of(tape, mg_var_dtype(w), in->tokens, 1), in->tokens, 1))
                      : w;
  case DIFFERS_ON_CPU:
    return strcmp(mg_tape_backend(tape)->plugin->name, "cpu") == 0 ? shares(tape, mg_square(tape, w)) : w;
  case SHARPENED: return shares(tape, mg_square(tape, w));
  default: return w;
  }
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const int64_t fault = fault_of(router);
  out->logits = faulty_logits(tape, in, mg_router_param(router, tape, "gate"), fault);
  mg_var *probs = mg_softmax(tape, out->logits), *best;
  out->ids = mg_top_k(tape, probs, choices(router), &best);
  if (fault == CHOOSES_TWICE) mg_top_k(tape, probs, 1, NULL);
  if (fault == ALWAYS_EXPERT_0 || fault == ALWAYS_EXPERT_0_AGAIN)
    out->ids = mg_cast(tape, mg_scale(tape, mg_cast(tape, out->ids, MG_F64), 0), MG_I32);
  out->weights = fault == WIDE_WEIGHTS ? probs : faulty_weights(tape, in, shares(tape, best), fault);
  out->probs = fault == PROBS_DETACHED ? mg_detach(tape, probs) : probs;
  if (fault == PROBS_DOUBLED) out->probs = mg_scale(tape, probs, 2);
  return mg_tape_status(tape);
}

static const mg_router_plugin faulty = {.abi = MG_ABI,
                                        .size = sizeof(mg_router_plugin),
                                        .name = "faulty",
                                        .summary = "Breaks one promise at a time.",
                                        .options = options,
                                        .options_size = sizeof(faulty_options),
                                        .params = params,
                                        .choices = choices,
                                        .promises = promises,
                                        .route = route,
                                        .gate_flops = gate_flops};

/* Slots see all tokens of a sequence, so this promise cannot hold, whatever the weights are. */
static int64_t one_slot(const mg_router *router) {
  (void)router;
  return 1;
}

static uint32_t causal_alone(const mg_router *router) {
  (void)router;
  return MG_ROUTER_CAUSAL;
}

static mg_status mix_evenly(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  out->dispatch = out->combine = mg_sigmoid(tape, mg_linear(tape, in->x, mg_router_param(router, tape, "gate")));
  return mg_tape_status(tape);
}

static const mg_router_plugin mixer = {.abi = MG_ABI,
                                       .size = sizeof(mg_router_plugin),
                                       .name = "mixer",
                                       .summary = "Promises to be causal with slots.",
                                       .params = params,
                                       .promises = causal_alone,
                                       .route = mix_evenly,
                                       .slots = one_slot};

typedef struct seen {
  const char *check; /* whose row is wanted */
  mg_router_verdict verdict;
  char detail[MG_ROUTER_DETAIL_BYTES];
} seen;

static bool keep_row(void *user, const mg_router_row *row) {
  seen *s = user;
  if (strcmp(row->check, s->check) != 0) return true;
  s->verdict = row->verdict;
  strcpy(s->detail, row->detail);
  return false;
}

static seen run_spec(moe_world *world, const char *check, json_t *spec) {
  seen s = {.check = check, .verdict = MG_ROUTER_NOT_APPLICABLE};
  mg_router_summary summary;
  const mg_router_request request = {
      .registry = world->registry, .spec = spec, .filter = check, .backend = "cpu", .user = &s};
  assert_ok(world->context, mg_router_suite_check(world->context, &request, keep_row, &summary));
  json_decref(spec);
  return s;
}

static seen run(moe_world *world, const char *check, int64_t fault) {
  return run_spec(world, check, json_pack("{s:s, s:I}", "name", "faulty", "fault", (json_int_t)fault));
}

static void every_check_fails_on_its_fault_and_passes_without(void **state) {
  (void)state;
  static const struct {
    const char *check;
    int64_t fault;
  } faults[] = {
#define LIST_FAULT(check, fault) {#check, fault},
      FAULTS(LIST_FAULT)
#undef LIST_FAULT
  };
  moe_world world;
  moe_world_open(&world, MG_F64);
  assert_ok(world.context, mg_registry_add_router(world.registry, &faulty));
  for (size_t i = 0; i < MG_COUNT(faults); i++) {
    const seen sound = run(&world, faults[i].check, NO_FAULT), broken = run(&world, faults[i].check, faults[i].fault);
    if (sound.verdict != MG_ROUTER_PASSED) fail_msg("%s without a fault: %s", faults[i].check, sound.detail);
    if (broken.verdict != MG_ROUTER_FAILED) fail_msg("%s let its fault pass: %s", faults[i].check, broken.detail);
    assert_true(strstr(broken.detail, "experts:"));
  }
  moe_world_close(&world);
}

static void slots_cannot_be_causal(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F64);
  assert_ok(world.context, mg_registry_add_router(world.registry, &mixer));
  const seen row = run_spec(&world, "causal", moe_json("{'name': 'mixer'}"));
  assert_int_equal(row.verdict, MG_ROUTER_FAILED);
  assert_true(strstr(row.detail, "its slots mix all tokens of a sequence"));
  moe_world_close(&world);
}

/* A check that is added must come with a fault. */
static bool count_rows(void *user, const mg_router_row *row) {
  (void)row;
  ++*(int64_t *)user;
  return true;
}

static void every_check_has_a_fault(void **state) {
  (void)state;
#define COUNT_FAULT(check, fault) +1
  const int64_t faults = FAULTS(COUNT_FAULT);
#undef COUNT_FAULT
  moe_world world;
  moe_world_open(&world, MG_F64);
  json_t *spec = moe_json("{'name': 'switch'}");
  int64_t rows = 0;
  mg_router_summary summary;
  const mg_router_request request = {.registry = world.registry, .spec = spec, .user = &rows};
  assert_ok(world.context, mg_router_suite_check(world.context, &request, count_rows, &summary));
  assert_int_equal(rows, faults);
  assert_int_equal(summary.passed + summary.failed + summary.not_applicable, rows);
  json_decref(spec);
  moe_world_close(&world);
}

static void requests_that_cannot_run_say_why(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F64);
  mg_router_summary summary;
  json_t *spec = moe_json("{'name': 'topk', 'k': 500}");
  mg_router_request request = {.registry = world.registry, .spec = spec};
  assert_refused(world.context, MG_USAGE, "k = 500", mg_router_suite_check(world.context, &request, NULL, &summary));
  json_decref(spec);
  spec = moe_json("{'name': 'topk'}");
  request.spec = spec;
  request.filter = "nothing";
  assert_refused(world.context, MG_NOTHING, "'nothing'",
                 mg_router_suite_check(world.context, &request, NULL, &summary));
  json_decref(spec);
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_check_fails_on_its_fault_and_passes_without),
      cmocka_unit_test(slots_cannot_be_causal),
      cmocka_unit_test(every_check_has_a_fault),
      cmocka_unit_test(requests_that_cannot_run_say_why),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
