/* soft and the layer's slots against their formulas, computed on the host. */
#include "support/router_world.h"

#include <math.h>
#include <string.h>

#include "base/counters.h"
#include "tensor/tape_work.h"

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, N = 3, Q = T / N, E = 4, P = 2, S = E * P, H = 3 };

/* ---- the router -------------------------------------------------------------------------------------------- */

static double length_of(const double *row) {
  double squares = 0;
  for (int d = 0; d < D; d++) squares += row[d] * row[d];
  return sqrt(squares);
}

/* L of every token and slot, with `factor` times the cosine, or times the product when plain. */
static void logits_of(const double *x, const double *phi, bool plain, double factor, double *out) {
  for (int t = 0; t < T; t++)
    for (int s = 0; s < S; s++) {
      double product = 0;
      for (int d = 0; d < D; d++) product += x[t * D + d] * phi[s * D + d];
      out[t * S + s] = factor * product / (plain ? 1 : length_of(x + t * D) * length_of(phi + s * D));
    }
}

static double dispatch_of(const double *logits, int t, int s) {
  double all = 0;
  for (int other = t / N * N; other < (t / N + 1) * N; other++) all += exp(logits[other * S + s]);
  return exp(logits[t * S + s]) / all;
}

static double combine_of(const double *logits, int t, int s) {
  double all = 0;
  for (int other = 0; other < S; other++) all += exp(logits[t * S + other]);
  return exp(logits[t * S + s]) / all;
}

static void check_weights(const char *spec, bool plain, double start) {
  router_world r;
  double phi[S * D], scale[1] = {1}, logits[T * S], dispatch[T * S], combine[T * S], weights[T * E];
  int32_t ids[T * E];
  router_world_open(&r, spec, E, 1);
  r.sequence_tokens = N;
  router_world_route(&r, false, (mg_stream){0});
  router_world_param(&r, "phi", phi, S * D);
  if (!plain) router_world_param(&r, "scale", scale, 1);
  logits_of(r.x, phi, plain, start * scale[0], logits);
  moe_read(&r.world, r.out.dispatch, dispatch, T * S);
  moe_read(&r.world, r.out.combine, combine, T * S);
  moe_read(&r.world, r.out.weights, weights, T * E);
  moe_read_ids(&r.world, r.out.ids, ids, T * E);
  for (int i = 0; i < T * S; i++) {
    assert_close(dispatch[i], dispatch_of(logits, i / S, i % S), 1e-9);
    assert_close(combine[i], combine_of(logits, i / S, i % S), 1e-9);
  }
  for (int i = 0; i < T * E; i++) {
    assert_int_equal(ids[i], i % E);
    assert_close(weights[i], combine[i * P] + combine[i * P + 1], 1e-12);
  }
  router_world_close(&r);
}

static void dispatch_and_combine_are_the_papers_softmaxes(void **state) {
  (void)state;
  check_weights("{'name': 'soft', 'slots': 2, 'scale': 3}", false, 3);
  check_weights("{'name': 'soft', 'slots': 2, 'normalise': false}", true, 1);
}

/* By hand: x = 1, 3 in one sequence, two slots with phi = ln 2, 0 and plain logits. Slot 0 has L = ln 2, 3 ln 2, so
 * D = 1/5, 4/5 and the slot is 13/5; slot 1 is the mean, 2. Token 0 has C = 2/3, 1/3, token 1 has 8/9, 1/9. */
static void a_worked_vector(void **state) {
  (void)state;
  moe_world world;
  const double x[] = {1, 3}, phi[] = {0.69314718055994531, 0}, up[] = {1, 1}, down[] = {10, 100};
  double y[2];
  moe_world_open(&world, MG_F64);
  json_t *spec = moe_json("{'experts': 2, 'width': 1, 'gated': false, 'activation': 'relu', "
                          "'router': {'name': 'soft', 'normalise': false}}");
  const mg_moe_place place = {.width = 1, .prefix = "ffn."};
  mg_moe *moe;
  mg_moe_record record;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
  moe_set_param(&world, "ffn.router.phi", phi, 2);
  moe_set_param(&world, "ffn.experts.up", up, 2);
  moe_set_param(&world, "ffn.experts.down", down, 2);
  const mg_moe_input input = {.x = moe_upload(&world, x, 2, 1), .sequence_tokens = 2};
  moe_read(&world, mg_moe_forward(moe, world.tape, &input, &record), y, 2);
  assert_close(y[0], 2.0 / 3 * 26 + 1.0 / 3 * 200, 1e-12);
  assert_close(y[1], 8.0 / 9 * 26 + 1.0 / 9 * 200, 1e-12);
  json_decref(spec);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

/* ---- the layer --------------------------------------------------------------------------------------------- */

#define LAYER(more)                                                                                                    \
  "{'experts': 4, 'width': 3, 'gated': false, 'activation': 'relu', 'router': {'name': 'soft', 'slots': 2}" more "}"

typedef struct layer_world {
  moe_world world;
  mg_moe *moe;
  mg_moe_record record;
  double x[T * D], y[T * D];
} layer_world;

static void open_layer(layer_world *l, const char *text, mg_dtype dtype) {
  double numbers[512];
  moe_world_open(&l->world, dtype);
  json_t *spec = moe_json(text);
  const mg_moe_place place = {.width = D, .prefix = "ffn.", .seed = 2};
  assert_ok(l->world.context,
            mg_moe_create(l->world.context, l->world.registry, spec, place, l->world.params, &l->moe));
  json_decref(spec);
  for (int64_t i = 0; i < mg_params_count(l->world.params); i++) {
    const mg_param *param = mg_params_at(l->world.params, i);
    moe_normal((uint64_t)i + 1, numbers, mg_tensor_count(&param->value));
    moe_set_param(&l->world, param->name, numbers, mg_tensor_count(&param->value));
  }
  moe_normal(99, l->x, T * D);
  const mg_moe_input input = {.x = moe_upload(&l->world, l->x, T, D), .sequence_tokens = N};
  moe_read(&l->world, mg_moe_forward(l->moe, l->world.tape, &input, &l->record), l->y, T * D);
}

static void close_layer(layer_world *l) {
  mg_moe_destroy(l->moe);
  moe_world_close(&l->world);
}

static void param(layer_world *l, const char *name, double *out, int64_t count) {
  moe_read(&l->world, mg_params_var(l->world.params, l->world.tape, mg_params_find(l->world.params, name)), out, count);
}

/* Adds `weight` times what the expert of a slot makes of its mixture; experts from `computing` on copy. */
static void add_slot(const double *mixture, int expert, int computing, const double *up, const double *down,
                     double weight, double *y) {
  for (int d = 0; expert >= computing && d < D; d++) y[d] += weight * mixture[d];
  for (int h = 0; expert < computing && h < H; h++) {
    double hidden = 0;
    for (int d = 0; d < D; d++) hidden += up[(expert * H + h) * D + d] * mixture[d];
    for (int d = 0; d < D; d++) y[d] += weight * fmax(hidden, 0) * down[(expert * D + d) * H + h];
  }
}

static void check_output(layer_world *l, int computing) {
  double dispatch[T * S], combine[T * S], up[E * H * D], down[E * D * H];
  moe_read(&l->world, l->record.route.dispatch, dispatch, T * S);
  moe_read(&l->world, l->record.route.combine, combine, T * S);
  param(l, "ffn.experts.up", up, computing * H * D);
  param(l, "ffn.experts.down", down, computing * D * H);
  for (int t = 0; t < T; t++) {
    double y[D] = {0};
    for (int s = 0; s < S; s++) {
      double mixture[D] = {0};
      for (int other = t / N * N; other < (t / N + 1) * N; other++)
        for (int d = 0; d < D; d++) mixture[d] += dispatch[other * S + s] * l->x[other * D + d];
      add_slot(mixture, s / P, computing, up, down, combine[t * S + s], y);
    }
    for (int d = 0; d < D; d++) assert_close(l->y[t * D + d], y[d], 1e-9);
  }
}

static void experts_compute_the_mixtures_of_each_sequence(void **state) {
  (void)state;
  layer_world l;
  open_layer(&l, LAYER(""), MG_F64);
  check_output(&l, E);
  close_layer(&l);
}

static void copying_experts_take_slots_too(void **state) {
  (void)state;
  layer_world l;
  mg_moe_counts counts;
  open_layer(&l, LAYER(", 'null': {'zero': 0, 'copy': 1, 'constant': 0}"), MG_F64);
  check_output(&l, E - 1);
  assert_ok(l.world.context, mg_moe_count(l.moe, l.world.tape, &l.record, NULL, NULL, &counts));
  assert_int_equal(counts.null, Q * P);
  assert_close(counts.useful_flops, Q * P * (E - 1) * 2.0 * 2 * D * H, 0);
  close_layer(&l);
}

static void every_expert_computes_as_many_slots_and_nothing_is_dropped(void **state) {
  (void)state;
  layer_world l;
  mg_moe_counts counts;
  double demand[E], kept[E], asked[E];
  open_layer(&l, LAYER(""), MG_F64);
  assert_ok(l.world.context, mg_moe_count(l.moe, l.world.tape, &l.record, demand, kept, &counts));
  moe_read(&l.world, l.record.demand, asked, E);
  for (int e = 0; e < E; e++) {
    assert_close(demand[e], Q * P, 0);
    assert_close(kept[e], Q * P, 0);
    assert_close(asked[e], Q * P, 0);
  }
  assert_int_equal(counts.demand, Q * S);
  assert_int_equal(counts.dropped + counts.dropped_tokens + counts.unrouted_tokens + counts.padded_rows, 0);
  close_layer(&l);
}

/* Gate: 2 S D and 3 D for each token. Mixing and spreading: 2 S D each; a slot's row is scaled by its weight of 1. */
static void counted_flops_are_the_papers(void **state) {
  (void)state;
  layer_world l;
  open_layer(&l, LAYER(""), MG_F64);
  const double *flops = mg_tape_counters(l.world.tape)->flops;
  assert_close(flops[MG_PART_DISPATCH], T * 2 * S * D, 0);
  assert_close(flops[MG_PART_COMBINE], T * 2 * S * D + Q * S * 2 * D, 0);
  assert_close(flops[MG_PART_ROUTED], Q * S * (4 * D * H + H), 0);
  assert_close(mg_moe_describe(l.moe).gate_flops_per_token, 2 * S * D + 3 * D, 0);
  assert_int_equal(mg_moe_describe(l.moe).slots, P);
  close_layer(&l);
}

static void no_tokens_give_no_output(void **state) {
  (void)state;
  layer_world l;
  double nothing[1];
  open_layer(&l, LAYER(""), MG_F64);
  mg_tape_reset(l.world.tape);
  const mg_moe_input input = {.x = moe_upload(&l.world, nothing, 0, D), .sequence_tokens = N};
  mg_var *y = mg_moe_forward(l.moe, l.world.tape, &input, &l.record);
  assert_ok(l.world.context, mg_tape_status(l.world.tape));
  assert_int_equal(mg_var_rows(y), 0);
  close_layer(&l);
}

static void refuse(const char *text, const char *words) {
  moe_world world;
  moe_world_open(&world, MG_F64);
  json_t *spec = moe_json(text);
  assert_refused(world.context, MG_USAGE, words, mg_moe_check_spec(world.context, world.registry, spec, D, 0));
  json_decref(spec);
  moe_world_close(&world);
}

static void capacity_and_losses_without_meaning_are_refused_by_name(void **state) {
  (void)state;
  refuse(LAYER(", 'capacity': 1.25"), "capacity policy 'drop' decides which choices an expert keeps");
  refuse(LAYER(", 'capacity': {'policy': 'pad'}"), "2 slots of each sequence; remove 'capacity'");
  refuse(LAYER(", 'losses': [{'kind': 'balance'}]"), "loss 'balance' needs probabilities");
  refuse(LAYER(", 'losses': [{'kind': 'z'}]"), "loss 'z' needs logits");
  assert_router_refused("{'name': 'soft', 'slots': 0}", E, "slots");
  assert_router_refused("{'name': 'soft', 'scale': 0}", E, "scale");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dispatch_and_combine_are_the_papers_softmaxes),
      cmocka_unit_test(a_worked_vector),
      cmocka_unit_test(experts_compute_the_mixtures_of_each_sequence),
      cmocka_unit_test(copying_experts_take_slots_too),
      cmocka_unit_test(every_expert_computes_as_many_slots_and_nothing_is_dropped),
      cmocka_unit_test(counted_flops_are_the_papers),
      cmocka_unit_test(no_tokens_give_no_output),
      cmocka_unit_test(capacity_and_losses_without_meaning_are_refused_by_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
