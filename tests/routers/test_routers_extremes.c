/* Every router on hidden states that no sane model gives: all zero, so large that logits leave the range of exp, not
 * finite, and with parameters of zero. Choices stay experts, each once, and what is finite stays finite. */
#include "support/moe_world.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { T = 8, D = 4, E = 16, S = E, V = 20, NUMBERS_MAX = 1 << 12 };

static const char *const routers[] = {
    "{'name': 'topk', 'k': 2}",
    "{'name': 'topk', 'k': 16}",
    "{'name': 'topk', 'k': 1, 'renormalise': false}",
    "{'name': 'topk', 'k': 2, 'order': 'after', 'noise': 'learned'}",
    "{'name': 'topk', 'k': 2, 'noise': 'fixed'}",
    "{'name': 'topk', 'k': 2, 'score': 'sigmoid'}",
    "{'name': 'topk', 'k': 2, 'score': 'sqrt_softplus'}",
    "{'name': 'switch'}",
    "{'name': 'gshard'}",
    "{'name': 'gshard', 'groups': 2}",
    "{'name': 'deepseek', 'k': 3}",
    "{'name': 'deepseek', 'k': 3, 'groups': 4, 'groups_kept': 2}",
    "{'name': 'deepseek', 'k': 3, 'score': 'softmax', 'groups': 8, 'groups_kept': 3, 'group_score': 'max'}",
    "{'name': 'base'}",
    "{'name': 'cosine'}",
    "{'name': 'expert_choice'}",
    "{'name': 'expert_choice', 'cap': 2}",
    "{'name': 'expert_choice', 'inference': 'learned', 'renormalise': true}",
    "{'name': 'hash'}",
    "{'name': 'product_key', 'k': 3}",
    "{'name': 'quantile'}",
    "{'name': 'quantile', 'selection': 'threshold', 'renormalise': true}",
    "{'name': 'random'}",
    "{'name': 'relu'}",
    "{'name': 'residual'}",
    "{'name': 'sinkhorn'}",
    "{'name': 'soft'}",
    "{'name': 'sparse_mixer'}",
    "{'name': 'sparse_mixer', 'k': 16}",
    "{'name': 'top_p'}",
    "{'name': 'top_p', 'p': 1, 'most': 3, 'renormalise': true}",
    "{'name': 'tree'}",
    "{'name': 'tree', 'branching': 2, 'k': 3}",
};

typedef struct input {
  const char *name;
  float value;  /* of the first token's every element; other tokens are normal */
  float factor; /* of the others */
  bool finite;  /* the first token is */
} input;

static const input inputs[] = {{"zeros", 0, 0, true},
                               {"negative zeros", -0.0F, 0, true},
                               {"equal tokens", 1, 0, true},
                               {"logits beyond exp", 1e4F, 1e4F, true},
                               {"logits far beyond exp", -1e15F, 1e15F, true},
                               {"tiny", 1e-38F, 1e-38F, true},
                               {"infinite", INFINITY, 1, false},
                               {"not a number", NAN, 1, false}};

static mg_router *open_router(moe_world *world, const char *text) {
  const mg_router_place place = {.width = D, .experts = E, .vocabulary = V, .layer = 1};
  json_t *spec = moe_json(text);
  mg_router *router;
  moe_world_open(world, MG_F32);
  assert_ok(world->context,
            mg_router_create(world->context, world->registry, spec, place, world->params, "router.", 3, &router));
  json_decref(spec);
  return router;
}

static mg_var *hidden_states(moe_world *world, const input *in) {
  double x[T * D];
  moe_normal(3, x, T * D);
  for (int i = 0; i < T * D; i++) x[i] = i < D ? (double)in->value : x[i] * (double)in->factor;
  return moe_upload(world, x, T, D);
}

static void check_ids(moe_world *world, const mg_route_output *out, const char *router, const char *name) {
  int32_t ids[T * S];
  const int64_t choices = mg_var_columns(out->ids);
  moe_read_ids(world, out->ids, ids, T * choices);
  for (int64_t t = 0; t < T; t++)
    for (int64_t s = 0; s < choices; s++) {
      const int32_t id = ids[t * choices + s];
      bool twice = false;
      for (int64_t other = 0; other < s; other++) twice |= id >= 0 && ids[t * choices + other] == id;
      if (twice || id < -1 || id >= E) fail_msg("%s, %s: token %d, expert %d", router, name, (int)t, id);
    }
}

static void check_finite(moe_world *world, const mg_var *x, int64_t first_row, const char *what, const char *router,
                         const char *name) {
  double numbers[NUMBERS_MAX];
  if (!x) return;
  const int64_t columns = mg_var_columns(x), count = mg_var_rows(x) * columns;
  moe_read(world, x, numbers, count);
  for (int64_t i = first_row * columns; i < count; i++)
    if (!isfinite(numbers[i]))
      fail_msg("%s, %s: %s of row %d is %g", router, name, what, (int)(i / columns), numbers[i]);
}

static void route_extreme(const char *text, const input *in, bool training) {
  moe_world world;
  mg_router *router = open_router(&world, text);
  int32_t token_ids[T];
  for (int t = 0; t < T; t++) token_ids[t] = (7 * t) % V;
  const mg_route_input call = {.x = hidden_states(&world, in),
                               .token_ids = moe_upload_ids(&world, token_ids, T, 1),
                               .tokens = T,
                               .sequence_tokens = T / 2,
                               .training = training,
                               .noise = {1, 2}};
  mg_route_output out;
  assert_ok(world.context, mg_router_route(router, world.tape, &call, &out));
  check_ids(&world, &out, text, in->name);
  /* Without a promise that tokens are alone, one that is not finite may spoil the others. */
  const bool alone = mg_router_promises(router) & MG_ROUTER_PER_TOKEN;
  if (in->finite || alone) {
    check_finite(&world, out.weights, !in->finite, "weights", text, in->name);
    check_finite(&world, out.probs, !in->finite, "probs", text, in->name);
    check_finite(&world, out.load, !in->finite, "load", text, in->name);
  }
  mg_router_destroy(router);
  moe_world_close(&world);
}

static void choices_stay_experts_and_numbers_finite(void **state) {
  (void)state;
  for (size_t r = 0; r < MG_COUNT(routers); r++)
    for (size_t i = 0; i < MG_COUNT(inputs); i++)
      for (int training = 0; training < 2; training++) route_extreme(routers[r], &inputs[i], training);
}

/* The layer's own steps with a token whose weights and probabilities are not numbers. */
static void every_policy_copes_with_weights_that_are_not_numbers(void **state) {
  (void)state;
  static const char *const policies[] = {"{'policy': 'none'}",
                                         "{'factor': 0.5}",
                                         "{'factor': 0.5, 'order': 'priority'}",
                                         "{'factor': 0.5, 'order': 'batch_priority'}",
                                         "{'policy': 'pad', 'factor': 0.5}",
                                         "{'policy': 'reroute', 'factor': 0.5}"};
  for (size_t i = 0; i < MG_COUNT(policies); i++) {
    moe_world world;
    mg_moe *moe;
    mg_moe_record record;
    mg_moe_counts counts;
    double kept[4], y[T * D];
    char text[256];
    snprintf(text, sizeof text, "{'experts': 4, 'width': 3, 'router': {'name': 'topk', 'k': 2}, 'capacity': %s}",
             policies[i]);
    moe_world_open(&world, MG_F32);
    json_t *spec = moe_json(text);
    const mg_moe_place place = {.width = D, .prefix = "ffn.", .seed = 7};
    assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
    json_decref(spec);
    const mg_moe_input in = {.x = hidden_states(&world, &inputs[MG_COUNT(inputs) - 1]), .sequence_tokens = T};
    moe_read(&world, mg_moe_forward(moe, world.tape, &in, &record), y, T * D);
    assert_ok(world.context, mg_moe_count(moe, world.tape, &record, NULL, kept, &counts));
    assert_int_equal(counts.demand, 2 * T);
    for (int e = 0; e < 4; e++) assert_true(!record.capacity || kept[e] <= (double)record.capacity);
    for (int d = D; d < T * D; d++) assert_true(isfinite(y[d]));
    mg_moe_destroy(moe);
    moe_world_close(&world);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(choices_stay_experts_and_numbers_finite),
      cmocka_unit_test(every_policy_copes_with_weights_that_are_not_numbers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
