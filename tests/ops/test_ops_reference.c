/* The reference backend against vectors worked by hand: the definition itself has no other judge. */
#include <math.h>
#include <string.h>

#include "support/world.h"

static int open_world(void **state) {
  static mg_world world;
  mg_world_open(&world, "reference", MG_F64);
  *state = &world;
  return 0;
}

static int close_world(void **state) {
  mg_world_close(*state);
  return 0;
}

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

static mg_tensor f64(double *data, int64_t rows, int64_t columns) {
  return (mg_tensor){data, {rows, columns}, 2, MG_F64};
}

static mg_tensor i32(int32_t *data, int64_t rows, int64_t columns) {
  return (mg_tensor){data, {rows, columns}, 2, MG_I32};
}

static void run(mg_world *world, const mg_op_call *call) {
  assert_ok(world->context, world->backend->plugin->kernels[call->op](world->backend, call));
}

static void assert_values(const double *got, const double *expected, int64_t count, double tolerance) {
  for (int64_t i = 0; i < count; i++)
    if (!(fabs(got[i] - expected[i]) <= tolerance) && !(got[i] == expected[i]))
      fail_msg("element %lld is %.15g, not %.15g", (long long)i, got[i], expected[i]);
}

static void assert_ids(const int32_t *got, const int32_t *expected, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (got[i] != expected[i]) fail_msg("element %lld is %d, not %d", (long long)i, got[i], expected[i]);
}

/* ---- choosing --------------------------------------------------------------------------------------------------- */

static void top_k_gives_equal_values_in_id_order_and_nan_last(void **state) {
  double x[] = {1, 3, 3, 2, /**/ NAN, -INFINITY, 0, NAN, /**/ 5, 5, 5, 5}, values[9];
  int32_t ids[9];
  const mg_tensor in = f64(x, 3, 4);
  mg_tensor out = f64(values, 3, 3), out_ids = i32(ids, 3, 3);
  run(*state, &(mg_op_call){.op = MG_OP_TOP_K, .in = {&in}, .out = {&out, &out_ids}});
  assert_ids(ids, (int32_t[]){1, 2, 3, 2, 0, 1, 0, 1, 2}, 9);
  assert_values(values, (double[]){3, 3, 2, 0, -INFINITY, -INFINITY, 5, 5, 5}, 9, 0);
}

/* 4 tokens, 2 choices each, 2 experts; token 1 asks expert 0 second, the others as written. */
typedef struct assigned {
  int32_t offsets[3], slots[8], position[8], demand[2];
} assigned;

static assigned assign(mg_world *world, int32_t *ids, double *priority, int64_t capacity, mg_capacity_order order) {
  assigned result;
  memset(&result, 0x55, sizeof result);
  const mg_tensor in = i32(ids, 4, 2), by = f64(priority, 4, 2);
  mg_tensor offsets = {result.offsets, {3}, 1, MG_I32}, slots = {result.slots, {8}, 1, MG_I32};
  mg_tensor position = i32(result.position, 4, 2), demand = {result.demand, {2}, 1, MG_I32};
  run(world, &(mg_op_call){.op = MG_OP_ASSIGN,
                           .in = {&in, priority ? &by : NULL},
                           .out = {&offsets, &slots, &position, &demand},
                           .attributes.assign = {capacity, order}});
  return result;
}

static void assign_lists_slots_by_expert_in_token_order(void **state) {
  int32_t ids[] = {0, 1, 1, 0, 0, -1, 0, 1};
  const assigned a = assign(*state, ids, NULL, 0, MG_ORDER_POSITION);
  assert_ids(a.offsets, (int32_t[]){0, 4, 7}, 3);
  assert_ids(a.slots, (int32_t[]){0, 3, 4, 6, 1, 2, 7, -1}, 8);
  assert_ids(a.position, (int32_t[]){0, 4, 5, 1, 2, -1, 3, 6}, 8);
  assert_ids(a.demand, (int32_t[]){4, 3}, 2);
}

/* Expert 0 is asked by slots 0, 3, 4, 6. First choices are 0, 4, 6; slot 3 is a second choice and comes last. */
static void assign_by_position_keeps_first_choices_of_all_tokens_first(void **state) {
  int32_t ids[] = {0, 1, 1, 0, 0, -1, 0, 1};
  const assigned three = assign(*state, ids, NULL, 3, MG_ORDER_POSITION);
  assert_ids(three.offsets, (int32_t[]){0, 3, 6}, 3);
  assert_ids(three.slots, (int32_t[]){0, 4, 6, 1, 2, 7, -1, -1}, 8);
  assert_ids(three.position, (int32_t[]){0, 3, 4, -1, 1, -1, 2, 5}, 8);
  assert_ids(three.demand, (int32_t[]){4, 3}, 2);
  /* capacity 1: expert 1 keeps slot 2, the only first choice, not slot 1, which stands before it */
  const assigned one = assign(*state, ids, NULL, 1, MG_ORDER_POSITION);
  assert_ids(one.offsets, (int32_t[]){0, 1, 2}, 3);
  assert_ids(one.slots, (int32_t[]){0, 2, -1, -1, -1, -1, -1, -1}, 8);
}

/* Expert 0: slots 0 (0.1), 3 (0.9), 4 (0.5), 6 (0.5); expert 1: 1 (NaN), 2 (0.2), 7 (-1). */
static void assign_by_priority_keeps_the_highest_and_breaks_ties_by_slot(void **state) {
  int32_t ids[] = {0, 1, 1, 0, 0, -1, 0, 1};
  double priority[] = {0.1, NAN, 0.2, 0.9, 0.5, 7, 0.5, -1};
  const assigned a = assign(*state, ids, priority, 2, MG_ORDER_PRIORITY);
  assert_ids(a.offsets, (int32_t[]){0, 2, 4}, 3);
  assert_ids(a.slots, (int32_t[]){3, 4, 2, 7, -1, -1, -1, -1}, 8);
  assert_ids(a.position, (int32_t[]){-1, -1, 2, 0, 1, -1, -1, 3}, 8);
  assert_ids(a.demand, (int32_t[]){4, 3}, 2);
}

static void ids_out_of_range_are_refused_by_name_and_element(void **state) {
  mg_world *world = *state;
  int32_t ids[] = {0, 1, 2, 0}, offsets[3], slots[4], position[4], demand[2];
  const mg_tensor in = i32(ids, 2, 2);
  mg_tensor o = {offsets, {3}, 1, MG_I32}, s = {slots, {4}, 1, MG_I32}, p = i32(position, 2, 2),
            d = {demand, {2}, 1, MG_I32};
  const mg_op_call call = {.op = MG_OP_ASSIGN, .in = {&in}, .out = {&o, &s, &p, &d}};
  const mg_kernel kernel = world->backend->plugin->kernels[MG_OP_ASSIGN];
  assert_refused(world->context, MG_BUG, "assign: id 2 at element 2", kernel(world->backend, &call));
  ids[2] = -2;
  assert_refused(world->context, MG_BUG, "assign: id -2 at element 2", kernel(world->backend, &call));
}

/* ---- moving ------------------------------------------------------------------------------------------------------ */

/* Two tokens with two choices; slot 1 was dropped and row 3 is padding. */
static void dispatch_and_combine_follow_slots_and_positions(void **state) {
  double x[] = {1, 2, 10, 20}, rows[8], y[] = {1, 1, 2, 2, 3, 3, NAN, NAN}, weights[] = {0.5, 9, 0.25, 2}, out[4];
  int32_t slots[] = {2, 0, 3, -1}, offsets[] = {0, 1, 3}, position[] = {1, -1, 0, 2};
  const mg_tensor tx = f64(x, 2, 2), ty = f64(y, 4, 2), tw = f64(weights, 2, 2), tp = i32(position, 2, 2);
  const mg_tensor ts = {slots, {4}, 1, MG_I32}, to = {offsets, {3}, 1, MG_I32};
  mg_tensor trows = f64(rows, 4, 2), tout = f64(out, 2, 2);
  run(*state,
      &(mg_op_call){.op = MG_OP_DISPATCH, .in = {&tx, &ts, &to}, .out = {&trows}, .attributes.dispatch.choices = 2});
  assert_values(rows, (double[]){10, 20, 1, 2, 10, 20, 0, 0}, 8, 0);
  run(*state,
      &(mg_op_call){.op = MG_OP_COMBINE, .in = {&ty, &tw, &tp}, .out = {&tout}, .attributes.dispatch.choices = 2});
  assert_values(out, (double[]){0.5 * 2, 0.5 * 2, 0.25 * 1 + 2 * 3, 0.25 * 1 + 2 * 3}, 4, 0);
  run(*state,
      &(mg_op_call){.op = MG_OP_COMBINE, .in = {&ty, NULL, &tp}, .out = {&tout}, .attributes.dispatch.choices = 2});
  assert_values(out, (double[]){2, 2, 4, 4}, 4, 0);
}

static void combine_backward_gives_rows_and_weights_their_share(void **state) {
  double dout[] = {1, 2, 10, 20}, y[] = {1, 1, 2, 2, 3, 3, NAN, NAN}, weights[] = {0.5, 9, 0.25, 2}, dy[8], dweights[4];
  int32_t slots[] = {2, 0, 3, -1}, offsets[] = {0, 1, 3};
  const mg_tensor td = f64(dout, 2, 2), ty = f64(y, 4, 2), tw = f64(weights, 2, 2);
  const mg_tensor ts = {slots, {4}, 1, MG_I32}, to = {offsets, {3}, 1, MG_I32};
  mg_tensor tdy = f64(dy, 4, 2), tdw = f64(dweights, 2, 2);
  run(*state, &(mg_op_call){.op = MG_OP_COMBINE_BACKWARD,
                            .in = {&td, &ty, &tw, &ts, &to},
                            .out = {&tdy, &tdw},
                            .attributes.dispatch.choices = 2});
  assert_values(dy, (double[]){2.5, 5, 0.5, 1, 20, 40, 0, 0}, 8, 0);
  assert_values(dweights, (double[]){3 * 2, 0, 30 * 1, 30 * 3}, 4, 0);
}

static void grouped_matmul_uses_each_row_s_expert_and_clears_the_rest(void **state) {
  double x[] = {1, 2, 3, 4, 5, 6}, w[] = {1, 10, 100, 1000}, out[3], dw[4]; /* two experts [2,1] */
  int32_t offsets[] = {0, 0, 2};
  const mg_tensor tx = f64(x, 3, 2), tw = {w, {2, 2, 1}, 3, MG_F64}, to = {offsets, {3}, 1, MG_I32};
  mg_tensor tout = f64(out, 3, 1), tdw = {dw, {2, 2, 1}, 3, MG_F64};
  run(*state,
      &(mg_op_call){
          .op = MG_OP_GROUPED_MATMUL, .in = {&tx, &tw, &to}, .out = {&tout}, .attributes.grouped.compute = MG_F64});
  assert_values(out, (double[]){100 + 2000, 300 + 4000, 0}, 3, 0);
  double dout[] = {1, 10, NAN};
  const mg_tensor td = f64(dout, 3, 1);
  run(*state, &(mg_op_call){.op = MG_OP_GROUPED_MATMUL_WEIGHT,
                            .in = {&tx, &td, &to},
                            .out = {&tdw},
                            .attributes.grouped.compute = MG_F64});
  assert_values(dw, (double[]){0, 0, 1 + 30, 2 + 40}, 4, 0);
}

static void matmul_rounds_operands_to_bf16_when_asked(void **state) {
  float a[] = {1.00390625f}, b[] = {3.0f}, out[] = {7.0f}; /* 1 + 2^-8 lies between two bf16 and goes to the even 1 */
  const mg_tensor ta = {a, {1, 1}, 2, MG_F32}, tb = {b, {1, 1}, 2, MG_F32};
  mg_tensor to = {out, {1, 1}, 2, MG_F32};
  mg_op_call call = {.op = MG_OP_MATMUL, .in = {&ta, &tb}, .out = {&to}, .attributes.matmul.compute = MG_BF16};
  run(*state, &call);
  assert_true(out[0] == 3.0f);
  call.attributes.matmul.compute = MG_F32;
  call.attributes.matmul.accumulate = true;
  run(*state, &call);
  assert_true(out[0] == 3.0f + 3.01171875f);
}

/* ---- reductions ------------------------------------------------------------------------------------------------- */

static void rows_without_a_finite_value_give_zeros_and_minus_infinity(void **state) {
  double x[] = {-INFINITY, -INFINITY, 0, 0}, out[4], lse[2];
  const mg_tensor in = f64(x, 2, 2);
  mg_tensor tout = f64(out, 2, 2), tlse = f64(lse, 2, 1);
  run(*state, &(mg_op_call){.op = MG_OP_SOFTMAX, .in = {&in}, .out = {&tout}});
  assert_values(out, (double[]){0, 0, 0.5, 0.5}, 4, 0);
  run(*state, &(mg_op_call){.op = MG_OP_LOG_SUM_EXP, .in = {&in}, .out = {&tlse}});
  assert_values(lse, (double[]){-INFINITY, log(2.0)}, 2, 1e-15);
}

static void reductions_over_nothing_have_a_value(void **state) {
  double out[2];
  const mg_tensor in = {NULL, {0, 2}, 2, MG_F64};
  mg_tensor tout = {out, {2}, 1, MG_F64};
  mg_op_call call = {
      .op = MG_OP_REDUCE, .in = {&in}, .out = {&tout}, .attributes.reduce = {MG_REDUCE_MEAN, MG_OVER_ROWS}};
  run(*state, &call);
  assert_values(out, (double[]){0, 0}, 2, 0);
  call.attributes.reduce.kind = MG_REDUCE_MAX;
  run(*state, &call);
  assert_values(out, (double[]){-INFINITY, -INFINITY}, 2, 0);
}

static void cumsum_includes_the_element_and_starts_anew_in_each_row(void **state) {
  double x[] = {1, 2, 3, -1, 0, 5}, out[6];
  const mg_tensor in = f64(x, 2, 3);
  mg_tensor tout = f64(out, 2, 3);
  run(*state, &(mg_op_call){.op = MG_OP_CUMSUM, .in = {&in}, .out = {&tout}});
  assert_values(out, (double[]){1, 3, 6, -1, -1, 4}, 6, 0);
}

static void histogram_counts_each_segment_and_skips_minus_one(void **state) {
  int32_t ids[] = {0, 1, 1, -1, /**/ 2, 2, 2, 0};
  float out[6];
  const mg_tensor in = i32(ids, 4, 2);
  mg_tensor tout = {out, {2, 3}, 2, MG_F32};
  run(*state, &(mg_op_call){.op = MG_OP_HISTOGRAM, .in = {&in}, .out = {&tout}, .attributes.histogram.segments = 2});
  const float expected[] = {1, 2, 0, 1, 0, 3};
  assert_memory_equal(out, expected, sizeof expected);
}

static void binary_broadcasts_a_row_a_column_and_one_element(void **state) {
  double a[] = {1, 2, 3, 4}, b[] = {10, 20}, out[4];
  const mg_tensor ta = f64(a, 2, 2), row = {b, {2}, 1, MG_F64}, column = f64(b, 2, 1), one = {b, {1}, 1, MG_F64};
  mg_tensor tout = f64(out, 2, 2);
  mg_op_call call = {.op = MG_OP_BINARY, .in = {&ta, &row}, .out = {&tout}, .attributes.binary.kind = MG_BINARY_ADD};
  run(*state, &call);
  assert_values(out, (double[]){11, 22, 13, 24}, 4, 0);
  call.in[1] = &column;
  run(*state, &call);
  assert_values(out, (double[]){11, 12, 23, 24}, 4, 0);
  call.in[1] = &one;
  run(*state, &call);
  assert_values(out, (double[]){11, 12, 13, 14}, 4, 0);
}

/* ---- transformer ------------------------------------------------------------------------------------------------ */

/* Row (3, 4): mean square 12.5; mean 3.5, variance 0.25. */
static void norm_matches_both_formulas(void **state) {
  double x[] = {3, 4}, scale[] = {2, 10}, shift[] = {1, -1}, out[2], statistics[2];
  const mg_tensor in = f64(x, 1, 2), ts = {scale, {2}, 1, MG_F64}, th = {shift, {2}, 1, MG_F64};
  mg_tensor tout = f64(out, 1, 2), tst = f64(statistics, 1, 2);
  mg_op_call call = {.op = MG_OP_NORM, .in = {&in}, .out = {&tout, &tst}, .attributes.norm = {MG_NORM_RMS, 0}};
  run(*state, &call);
  assert_values(out, (double[]){3 / sqrt(12.5), 4 / sqrt(12.5)}, 2, 1e-15);
  assert_values(statistics, (double[]){0, 1 / sqrt(12.5)}, 2, 1e-15);
  call.in[1] = &ts, call.in[2] = &th;
  call.attributes.norm.kind = MG_NORM_LAYER;
  run(*state, &call);
  assert_values(out, (double[]){-2 + 1, 10 - 1}, 2, 1e-14);
  assert_values(statistics, (double[]){3.5, 2}, 2, 1e-14);
}

/* At position 1 a quarter turn takes (x, y) to (-y, x); the third column is not rotated and keeps its size. */
static void rope_turns_pairs_and_leaves_the_rest(void **state) {
  double x[] = {1, 2, 3, 4, 7}, out[5];
  float quarter[] = {1.57079632679489661923f, 0};
  int32_t positions[] = {1};
  const mg_tensor in = f64(x, 1, 5), tp = {positions, {1}, 1, MG_I32}, tf = {quarter, {2}, 1, MG_F32};
  mg_tensor tout = f64(out, 1, 5);
  mg_op_call call = {
      .op = MG_OP_ROPE, .in = {&in, &tp, &tf}, .out = {&tout}, .attributes.rope = {5, 4, false, false, 2}};
  run(*state, &call);
  assert_values(out, (double[]){-6, 4, 2, 8, 7}, 5, 1e-6);
  call.attributes.rope.interleaved = true;
  run(*state, &call);
  assert_values(out, (double[]){-4, 2, 6, 8, 7}, 5, 1e-6);
  call.attributes.rope.inverse = true;
  run(*state, &call);
  assert_values(out, (double[]){4, -2, 6, 8, 7}, 5, 1e-6);
}

static void concat_puts_columns_side_by_side(void **state) {
  double a[] = {1, 2, 5, 6}, b[] = {3, 7}, out[6];
  const mg_tensor ta = f64(a, 2, 2), tb = f64(b, 2, 1);
  mg_tensor tout = f64(out, 2, 3);
  run(*state, &(mg_op_call){.op = MG_OP_CONCAT, .in = {&ta, &tb}, .out = {&tout}});
  assert_values(out, (double[]){1, 2, 3, 5, 6, 7}, 6, 0);
}

/* Scores of query 1 are ln 1 and ln 3, so its weights are 1/4 and 3/4; with a sink of ln 4 they are 1/8 and 3/8. */
static void attention_matches_two_by_two_by_hand(void **state) {
  double q[] = {5, 1}, k[] = {0, log(3.0)}, v[] = {8, 16}, sink[] = {log(4.0)}, out[2], lse[2];
  const mg_tensor tq = f64(q, 2, 1), tk = f64(k, 2, 1), tv = f64(v, 2, 1), ts = {sink, {1}, 1, MG_F64};
  mg_tensor tout = f64(out, 2, 1), tlse = f64(lse, 1, 2);
  mg_op_call call = {.op = MG_OP_ATTENTION,
                     .in = {&tq, &tk, &tv},
                     .out = {&tout, &tlse},
                     .attributes.attention = {1, 1, 1, 0, true, 1.0, MG_F64}};
  run(*state, &call);
  assert_values(out, (double[]){8, 0.25 * 8 + 0.75 * 16}, 2, 1e-14);
  assert_values(lse, (double[]){0, log(4.0)}, 2, 1e-15);
  call.in[3] = &ts;
  run(*state, &call);
  assert_values(out, (double[]){8.0 / 5, 8.0 / 8 + 16 * 3.0 / 8}, 2, 1e-14);
  assert_values(lse, (double[]){log(5.0), log(8.0)}, 2, 1e-15);
}

/* A window of 1 lets a query see itself alone; of two queries over three keys, query 0 stands at key 1. */
static void attention_places_queries_at_the_end_and_counts_the_window_back(void **state) {
  double q[] = {0, 0}, k[] = {0, 0, 0}, v[] = {1, 2, 4}, out[2], lse[2];
  const mg_tensor tq = f64(q, 2, 1), tk = f64(k, 3, 1), tv = f64(v, 3, 1);
  mg_tensor tout = f64(out, 2, 1), tlse = f64(lse, 1, 2);
  mg_op_call call = {.op = MG_OP_ATTENTION,
                     .in = {&tq, &tk, &tv},
                     .out = {&tout, &tlse},
                     .attributes.attention = {1, 1, 1, 0, true, 1.0, MG_F64}};
  run(*state, &call);
  assert_values(out, (double[]){1.5, 7.0 / 3}, 2, 1e-15);
  call.attributes.attention.window = 1;
  run(*state, &call);
  assert_values(out, (double[]){2, 4}, 2, 1e-15);
  call.attributes.attention.window = 2;
  run(*state, &call);
  assert_values(out, (double[]){1.5, 3}, 2, 1e-15);
}

/* The biases of distances -1, 0 and 1 are 0, ln 3 and ln 12: query 0 weighs the keys 3 : 12, query 1 1 : 3. Key 2 is room that does not count. */
static void attention_adds_a_bias_by_distance_to_the_keys_that_count(void **state) {
  double q[] = {0, 0}, k[] = {0, 0, NAN}, v[] = {8, 16, NAN}, bias[] = {0, log(3.0), log(12.0)}, out[2], lse[2];
  const mg_tensor tq = f64(q, 2, 1), tk = f64(k, 3, 1), tv = f64(v, 3, 1), tb = f64(bias, 1, 3);
  mg_tensor tout = f64(out, 2, 1), tlse = f64(lse, 1, 2);
  mg_op_call call = {.op = MG_OP_ATTENTION,
                     .in = {&tq, &tk, &tv, NULL, &tb},
                     .out = {&tout, &tlse},
                     .attributes.attention = {1, 1, 1, 0, false, 1.0, MG_F64, 2}};
  run(*state, &call);
  assert_values(out, (double[]){8.0 / 5 + 16 * 4.0 / 5, 8.0 / 4 + 16 * 3.0 / 4}, 2, 1e-14);
  assert_values(lse, (double[]){log(15.0), log(4.0)}, 2, 1e-14);
}

static void attention_of_a_query_that_sees_nothing_is_zero(void **state) {
  double q[] = {1, 1}, k[] = {1}, v[] = {3}, out[2], lse[2];
  const mg_tensor tq = f64(q, 2, 1), tk = f64(k, 1, 1), tv = f64(v, 1, 1);
  mg_tensor tout = f64(out, 2, 1), tlse = f64(lse, 1, 2);
  run(*state, &(mg_op_call){.op = MG_OP_ATTENTION,
                            .in = {&tq, &tk, &tv},
                            .out = {&tout, &tlse},
                            .attributes.attention = {1, 1, 1, 0, true, 1.0, MG_F64}});
  assert_values(out, (double[]){0, 3}, 2, 0);
  assert_values(lse, (double[]){-INFINITY, 1}, 2, 0);
}

static void cross_entropy_is_zero_without_a_target(void **state) {
  double logits[] = {0, log(3.0), 0, log(3.0)}, loss[2], lse[2], dloss[] = {2, 2}, dlogits[4];
  int32_t targets[] = {1, -1};
  const mg_tensor tl = f64(logits, 2, 2), tt = {targets, {2}, 1, MG_I32}, td = f64(dloss, 2, 1);
  mg_tensor tloss = f64(loss, 2, 1), tlse = f64(lse, 2, 1), tdl = f64(dlogits, 2, 2);
  run(*state, &(mg_op_call){.op = MG_OP_CROSS_ENTROPY, .in = {&tl, &tt}, .out = {&tloss, &tlse}});
  assert_values(loss, (double[]){log(4.0 / 3), 0}, 2, 1e-15);
  assert_values(lse, (double[]){log(4.0), log(4.0)}, 2, 1e-15);
  run(*state, &(mg_op_call){.op = MG_OP_CROSS_ENTROPY_BACKWARD, .in = {&tl, &tt, &tlse, &td}, .out = {&tdl}});
  assert_values(dlogits, (double[]){0.5, -0.5, 0, 0}, 4, 1e-15);
}

/* ---- optimiser --------------------------------------------------------------------------------------------------- */

/* beta1 1/2, beta2 3/4, rate 0.1, decay 0.5, gradient scale 2: g = 2 then 4 from parameter 1.
 * Step 1: m = 1, v = 1, corrected 2 and 4: update 2/2 = 1; p = 1 - 0.1 (1 + 0.5) = 0.85.
 * Step 2: m = 2.5, v = 4.75, corrected 2.5/0.75 and 4.75/0.4375. */
static void adamw_matches_two_steps_by_hand(void **state) {
  double g[] = {1}, p[] = {1}, m[] = {0}, v[] = {0};
  const mg_tensor tg = {g, {1}, 1, MG_F64};
  mg_tensor tp = {p, {1}, 1, MG_F64}, tm = {m, {1}, 1, MG_F64}, tv = {v, {1}, 1, MG_F64};
  mg_op_call call = {
      .op = MG_OP_ADAMW, .in = {&tg}, .out = {&tp, &tm, &tv}, .attributes.adamw = {0.1, 0.5, 0.75, 0, 0.5, 2, 1}};
  run(*state, &call);
  assert_values((double[]){p[0], m[0], v[0]}, (double[]){0.85, 1, 1}, 3, 1e-15);
  g[0] = 2;
  call.attributes.adamw.step = 2;
  run(*state, &call);
  const double update = (2.5 / 0.75) / sqrt(4.75 / 0.4375);
  assert_values((double[]){p[0], m[0], v[0]}, (double[]){0.85 - 0.1 * (update + 0.5 * 0.85), 2.5, 4.75}, 3, 1e-15);
  call.attributes.adamw.rate = 0;
  const double before = p[0];
  run(*state, &call);
  assert_true(p[0] == before);
}

/* ---- dtypes ------------------------------------------------------------------------------------------------------ */

static void cast_cuts_fractions_and_stays_in_range(void **state) {
  double x[] = {1.9, -1.9, 1e20, -INFINITY, NAN};
  int32_t out[5];
  const mg_tensor in = f64(x, 1, 5);
  mg_tensor tout = i32(out, 1, 5);
  run(*state, &(mg_op_call){.op = MG_OP_CAST, .in = {&in}, .out = {&tout}});
  assert_ids(out, (int32_t[]){1, -1, INT32_MAX, INT32_MIN, 0}, 5);
}

static void random_draws_follow_the_stream_from_first(void **state) {
  double out[3];
  const mg_stream stream = {7, 9};
  mg_tensor tout = {out, {3}, 1, MG_F64};
  run(*state,
      &(mg_op_call){.op = MG_OP_RANDOM, .out = {&tout}, .attributes.random = {MG_RANDOM_UNIFORM, stream, 5, 2, 6}});
  for (uint64_t i = 0; i < 3; i++) assert_true(out[i] == 2 + 4 * mg_random_uniform(stream, 5 + i));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(top_k_gives_equal_values_in_id_order_and_nan_last),
      cmocka_unit_test(assign_lists_slots_by_expert_in_token_order),
      cmocka_unit_test(assign_by_position_keeps_first_choices_of_all_tokens_first),
      cmocka_unit_test(assign_by_priority_keeps_the_highest_and_breaks_ties_by_slot),
      cmocka_unit_test(ids_out_of_range_are_refused_by_name_and_element),
      cmocka_unit_test(dispatch_and_combine_follow_slots_and_positions),
      cmocka_unit_test(combine_backward_gives_rows_and_weights_their_share),
      cmocka_unit_test(grouped_matmul_uses_each_row_s_expert_and_clears_the_rest),
      cmocka_unit_test(matmul_rounds_operands_to_bf16_when_asked),
      cmocka_unit_test(rows_without_a_finite_value_give_zeros_and_minus_infinity),
      cmocka_unit_test(reductions_over_nothing_have_a_value),
      cmocka_unit_test(cumsum_includes_the_element_and_starts_anew_in_each_row),
      cmocka_unit_test(histogram_counts_each_segment_and_skips_minus_one),
      cmocka_unit_test(binary_broadcasts_a_row_a_column_and_one_element),
      cmocka_unit_test(norm_matches_both_formulas),
      cmocka_unit_test(rope_turns_pairs_and_leaves_the_rest),
      cmocka_unit_test(concat_puts_columns_side_by_side),
      cmocka_unit_test(attention_matches_two_by_two_by_hand),
      cmocka_unit_test(attention_places_queries_at_the_end_and_counts_the_window_back),
      cmocka_unit_test(attention_adds_a_bias_by_distance_to_the_keys_that_count),
      cmocka_unit_test(attention_of_a_query_that_sees_nothing_is_zero),
      cmocka_unit_test(cross_entropy_is_zero_without_a_target),
      cmocka_unit_test(adamw_matches_two_steps_by_hand),
      cmocka_unit_test(cast_cuts_fractions_and_stays_in_range),
      cmocka_unit_test(random_draws_follow_the_stream_from_first),
  };
  return cmocka_run_group_tests(tests, open_world, close_world);
}
