/* Null experts: what they add to the output, what they cost, and how capacity, counts and losses treat them. */
#include "support/moe_world.h"

#include <math.h>
#include <string.h>

enum { T = 24, D = 5, H = 3, F = 3, E = 7, K = 3 }; /* experts 3 zero, 4 copy, 5 and 6 constant */

#define NULL_LAYER(more)                                                                                               \
  "{'experts': 7, 'width': 3, 'gated': false, 'activation': 'relu', 'router': {'name': 'topk', 'k': 3, "               \
  "'renormalise': false}, 'null': {'zero': 1, 'copy': 1, 'constant': 2, 'tau': 0.5}" more "}"

typedef struct null_world {
  moe_world world;
  mg_moe *moe;
  mg_moe_record record;
  double x[T * D], y[T * D], weights[T * K];
  int32_t ids[T * K], position[T * K];
} null_world;

static void open_world(null_world *n, const char *text) {
  double numbers[512];
  moe_world_open(&n->world, MG_F64);
  json_t *spec = moe_json(text);
  const mg_moe_place place = {.width = D, .prefix = "ffn.", .seed = 2};
  assert_ok(n->world.context,
            mg_moe_create(n->world.context, n->world.registry, spec, place, n->world.params, &n->moe));
  json_decref(spec);
  for (int64_t i = 0; i < mg_params_count(n->world.params); i++) {
    const mg_param *param = mg_params_at(n->world.params, i);
    moe_normal((uint64_t)i + 1, numbers, mg_tensor_count(&param->value));
    moe_set_param(&n->world, param->name, numbers, mg_tensor_count(&param->value));
  }
  moe_normal(99, n->x, T * D);
  const mg_moe_input input = {.x = moe_upload(&n->world, n->x, T, D), .sequence_tokens = T};
  moe_read(&n->world, mg_moe_forward(n->moe, n->world.tape, &input, &n->record), n->y, T * D);
  moe_read(&n->world, n->record.weights, n->weights, T * K);
  moe_read_ids(&n->world, n->record.ids, n->ids, T * K);
  moe_read_ids(&n->world, n->record.assignment.position, n->position, T * K);
}

static void close_world(null_world *n) {
  mg_moe_destroy(n->moe);
  moe_world_close(&n->world);
}

static void param(null_world *n, const char *name, double *out, int64_t count) {
  moe_read(&n->world, mg_params_var(n->world.params, n->world.tape, mg_params_find(n->world.params, name)), out, count);
}

static double dot(const double *a, const double *b) {
  double sum = 0;
  for (int d = 0; d < D; d++) sum += a[d] * b[d];
  return sum;
}

/* Adds w E_e(x) to y. */
static void add_expert(null_world *n, int e, const double *x, double w, double *y) {
  double up[F * H * D], down[F * D * H], mix[4 * D], value[2 * D];
  param(n, "ffn.experts.up", up, F * H * D);
  param(n, "ffn.experts.down", down, F * D * H);
  param(n, "ffn.null.mix", mix, 4 * D);
  param(n, "ffn.null.value", value, 2 * D);
  for (int h = 0; e < F && h < H; h++) {
    const double hidden = fmax(dot(up + (e * H + h) * D, x), 0);
    for (int d = 0; d < D; d++) y[d] += w * hidden * down[(e * D + d) * H + h];
  }
  for (int d = 0; e == F + 1 && d < D; d++) y[d] += w * x[d];
  if (e < F + 2) return;
  const int c = e - F - 2;
  const double a1 = 1 / (1 + exp(dot(mix + (2 * c + 1) * D, x) - dot(mix + 2 * c * D, x)));
  for (int d = 0; d < D; d++) y[d] += w * (a1 * x[d] + (1 - a1) * value[c * D + d]);
}

static void every_kind_adds_what_it_says(void **state) {
  (void)state;
  null_world n;
  bool seen[E] = {false};
  open_world(&n, NULL_LAYER(""));
  for (int t = 0; t < T; t++) {
    double want[D] = {0};
    for (int j = 0; j < K; j++) {
      add_expert(&n, n.ids[t * K + j], n.x + t * D, n.weights[t * K + j], want);
      seen[n.ids[t * K + j]] = true;
    }
    for (int d = 0; d < D; d++) assert_close(n.y[t * D + d], want[d], 1e-12);
  }
  for (int e = 0; e < E; e++) assert_true(seen[e]);
  close_world(&n);
}

static void they_hold_no_rows_and_no_matrices(void **state) {
  (void)state;
  null_world n;
  mg_moe_counts counts;
  double demand[E], kept[E];
  int64_t null = 0;
  open_world(&n, NULL_LAYER(""));
  for (int i = 0; i < T * K; i++) {
    assert_int_equal(n.position[i] < 0, n.ids[i] >= F);
    null += n.ids[i] >= F;
  }
  assert_ok(n.world.context, mg_moe_count(n.moe, n.world.tape, &n.record, demand, kept, &counts));
  assert_int_equal(counts.demand, T * K);
  assert_int_equal(counts.kept, T * K);
  assert_int_equal(counts.null, null);
  assert_int_equal(counts.dropped_tokens, 0);
  for (int e = 0; e < E; e++) assert_close(demand[e], kept[e], 0);
  const mg_moe_facts facts = mg_moe_describe(n.moe);
  assert_close(counts.useful_flops, facts.expert_flops_per_assignment * (double)(T * K - null), 0);
  assert_int_equal(facts.null_experts, E - F);
  assert_close(facts.computed_choices, K * 0.5 * F / (0.5 * F + E - F), 1e-12);
  int64_t elements = facts.router_parameters + F * facts.expert_parameters + facts.null_parameters;
  assert_int_equal(mg_params_elements(n.world.params), elements);
  close_world(&n);
}

/* C = floor(factor T K tau / (tau F + N)) for those that compute; the others take every choice. */
static void capacity_limits_those_that_compute(void **state) {
  (void)state;
  static const char *const layers[] = {NULL_LAYER(", 'capacity': {'policy': 'drop', 'factor': 0.5}"),
                                       NULL_LAYER(", 'capacity': {'policy': 'pad', 'factor': 0.5}"),
                                       NULL_LAYER(", 'capacity': {'policy': 'reroute', 'factor': 0.5}")};
  for (size_t i = 0; i < MG_COUNT(layers); i++) {
    null_world n;
    mg_moe_counts counts;
    double demand[E], kept[E];
    open_world(&n, layers[i]);
    assert_int_equal(n.record.capacity, (int)(0.5 * T * K * 0.5 / (0.5 * F + E - F)));
    assert_ok(n.world.context, mg_moe_count(n.moe, n.world.tape, &n.record, demand, kept, &counts));
    for (int e = 0; e < E; e++) assert_true(e < F ? kept[e] <= (double)n.record.capacity : kept[e] >= demand[e]);
    assert_int_equal(counts.demand, counts.kept + counts.dropped);
    if (i == 1) assert_int_equal(counts.padded_rows, F * n.record.capacity - (counts.kept - counts.null));
    if (i == 2) assert_true(counts.rerouted > 0);
    if (i < 2) assert_true(counts.dropped > 0);
    close_world(&n);
  }
}

static void the_balance_loss_charges_them_tau(void **state) {
  (void)state;
  null_world n;
  double probs[T * E], value, want = 0;
  open_world(&n, NULL_LAYER(", 'losses': [{}]"));
  moe_read(&n.world, n.record.route.probs, probs, T * E);
  moe_read(&n.world, n.record.losses[0], &value, 1);
  for (int e = 0; e < E; e++) {
    double f = 0, p = 0;
    for (int i = 0; i < T * K; i++) f += (double)(n.ids[i] == e) * E / (T * K);
    for (int t = 0; t < T; t++) p += probs[t * E + e] / T;
    want += (e < F ? 1 : 0.5) * f * p;
  }
  assert_close(value, want, 1e-12);
  close_world(&n);
}

static void specifications_are_checked_and_resolved(void **state) {
  (void)state;
  moe_world world;
  json_t *resolved, *again, *spec = moe_json("{'experts': 4, 'width': 3, 'router': {'name': 'topk'}, 'null': {}}");
  moe_world_open(&world, MG_F32);
  assert_refused(world.context, MG_USAGE, "4 null experts of 4 experts leave none that computes",
                 mg_moe_check_spec(world.context, world.registry, spec, D, 0));
  json_object_set_new(spec, "experts", json_integer(12));
  assert_ok(world.context, mg_moe_resolve_spec(world.context, world.registry, spec, D, 0, &resolved));
  assert_ok(world.context, mg_moe_resolve_spec(world.context, world.registry, resolved, D, 0, &again));
  assert_true(json_equal(resolved, again));
  assert_int_equal(json_integer_value(json_object_get(json_object_get(resolved, "null"), "constant")), 2);
  json_object_set_new(spec, "null", json_pack("{s:i}", "zeros", 1));
  assert_refused(world.context, MG_USAGE, "did you mean 'zero'",
                 mg_moe_check_spec(world.context, world.registry, spec, D, 0));
  json_decref(spec);
  json_decref(resolved);
  json_decref(again);
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_kind_adds_what_it_says),
      cmocka_unit_test(they_hold_no_rows_and_no_matrices),
      cmocka_unit_test(capacity_limits_those_that_compute),
      cmocka_unit_test(the_balance_loss_charges_them_tau),
      cmocka_unit_test(specifications_are_checked_and_resolved),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
