/* One MoE block: 512 tokens of width 1024, 64 SwiGLU experts of width 512, 8 per token; gate, dispatch, experts and
 * combine, forward and with its backward, as the list of primitives that the tape would run. Parameters, activations
 * and gradients have the named dtype. FLOPs counted: the three expert matrices, forward, and twice that backward. */
#include <assert.h>
#include <stdio.h>

#include "bench.h"

enum { T = 512, D = 1024, E = 64, K = 8, H = 512, A = T * K, TENSORS = 48, CALLS = 40 };

typedef struct moe_case {
  const char *name;
  mg_dtype dtype;
  bool backward;
} moe_case;

static const moe_case cases[] = {
    {"expert_mlp/forward/bf16", MG_BF16, false},
    {"expert_mlp/forward_backward/bf16", MG_BF16, true},
    {"expert_mlp/forward/f32", MG_F32, false},
    {"expert_mlp/forward_backward/f32", MG_F32, true},
};

typedef struct moe_block {
  mg_dtype dtype;
  mg_tensor tensor[TENSORS];
  int32_t tensors;
  mg_op_call call[CALLS];
  int32_t calls;
} moe_block;

static mg_tensor *add_tensor(moe_block *b, mg_dtype dtype, int64_t rows, int64_t columns, double deviation) {
  assert(b->tensors < TENSORS);
  b->tensor[b->tensors] = bench_tensor(dtype, 2, (int64_t[]){rows, columns}, deviation);
  return &b->tensor[b->tensors++];
}

static mg_tensor *add_weight(moe_block *b, int64_t rows, int64_t columns) {
  assert(b->tensors < TENSORS);
  b->tensor[b->tensors] = bench_tensor(b->dtype, 3, (int64_t[]){E, rows, columns}, 0.02);
  return &b->tensor[b->tensors++];
}

static mg_op_call *add_call(moe_block *b, mg_op op, const mg_tensor *x, const mg_tensor *y, const mg_tensor *z,
                            mg_tensor *out) {
  assert(b->calls < CALLS);
  mg_op_call *call = &b->call[b->calls++];
  *call = (mg_op_call){.op = op, .in = {x, y, z}, .out = {out}};
  return call;
}

static void add_product(moe_block *b, mg_op op, const mg_tensor *x, const mg_tensor *w, const mg_tensor *offsets,
                        bool transpose, bool accumulate, mg_tensor *out) {
  mg_op_call *call = add_call(b, op, x, w, offsets, out);
  call->attributes.grouped.transpose_w = transpose;
  call->attributes.grouped.accumulate = accumulate;
  call->attributes.grouped.compute = b->dtype;
}

static void add_matmul(moe_block *b, const mg_tensor *x, const mg_tensor *y, bool transpose_a, bool transpose_b,
                       bool accumulate, mg_tensor *out) {
  mg_op_call *call = add_call(b, MG_OP_MATMUL, x, y, NULL, out);
  call->attributes.matmul.transpose_a = transpose_a;
  call->attributes.matmul.transpose_b = transpose_b;
  call->attributes.matmul.accumulate = accumulate;
  call->attributes.matmul.compute = b->dtype;
}

static void add_sum(moe_block *b, const mg_tensor *x, mg_tensor *out) {
  mg_op_call *call = add_call(b, MG_OP_REDUCE, x, NULL, NULL, out);
  call->attributes.reduce.kind = MG_REDUCE_SUM;
  call->attributes.reduce.axis = MG_OVER_COLUMNS;
}

static void add_binary(moe_block *b, mg_binary kind, const mg_tensor *x, const mg_tensor *y, mg_tensor *out) {
  add_call(b, MG_OP_BINARY, x, y, NULL, out)->attributes.binary.kind = kind;
}

/* The calls of the whole block; the backward ones come last. One long function because it is one list. */
static void build(moe_block *b, bool backward) {
  const mg_dtype dtype = b->dtype;
  mg_tensor *x = add_tensor(b, dtype, T, D, 1.0), *router = add_tensor(b, dtype, E, D, 0.03);
  mg_tensor *gate = add_weight(b, H, D), *up = add_weight(b, H, D), *down = add_weight(b, D, H);
  mg_tensor *logits = add_tensor(b, MG_F32, T, E, 1.0), *probs = add_tensor(b, MG_F32, T, E, 1.0);
  mg_tensor *values = add_tensor(b, MG_F32, T, K, 1.0), *ids = add_tensor(b, MG_I32, T, K, 0.0);
  mg_tensor *sums = add_tensor(b, MG_F32, T, 1, 1.0), *exact = add_tensor(b, MG_F32, T, K, 1.0);
  mg_tensor *weights = add_tensor(b, dtype, T, K, 1.0);
  mg_tensor *offsets = add_tensor(b, MG_I32, 1, E + 1, 0.0), *slots = add_tensor(b, MG_I32, 1, A, 0.0);
  mg_tensor *position = add_tensor(b, MG_I32, T, K, 0.0), *demand = add_tensor(b, MG_I32, 1, E, 0.0);
  mg_tensor *rows = add_tensor(b, dtype, A, D, 1.0), *g = add_tensor(b, dtype, A, H, 1.0);
  mg_tensor *u = add_tensor(b, dtype, A, H, 1.0), *h = add_tensor(b, dtype, A, H, 1.0);
  mg_tensor *y = add_tensor(b, dtype, A, D, 1.0), *out = add_tensor(b, dtype, T, D, 1.0);

  add_matmul(b, x, router, false, true, false, logits);
  add_call(b, MG_OP_SOFTMAX, logits, NULL, NULL, probs);
  add_call(b, MG_OP_TOP_K, probs, NULL, NULL, values)->out[1] = ids;
  add_sum(b, values, sums);
  add_binary(b, MG_BINARY_DIV, values, sums, exact);
  add_call(b, MG_OP_CAST, exact, NULL, NULL, weights);
  mg_op_call *assign = add_call(b, MG_OP_ASSIGN, ids, NULL, NULL, offsets);
  assign->out[1] = slots, assign->out[2] = position, assign->out[3] = demand;
  add_call(b, MG_OP_DISPATCH, x, slots, offsets, rows)->attributes.dispatch.choices = K;
  add_product(b, MG_OP_GROUPED_MATMUL, rows, gate, offsets, true, false, g);
  add_product(b, MG_OP_GROUPED_MATMUL, rows, up, offsets, true, false, u);
  add_call(b, MG_OP_GLU, g, u, NULL, h)->attributes.glu.kind = MG_GLU_SILU;
  add_product(b, MG_OP_GROUPED_MATMUL, h, down, offsets, true, false, y);
  add_call(b, MG_OP_COMBINE, y, weights, position, out);
  if (!backward) return;

  mg_tensor *dout = add_tensor(b, dtype, T, D, 1.0), *dy = add_tensor(b, dtype, A, D, 1.0);
  mg_tensor *dweights = add_tensor(b, dtype, T, K, 1.0), *dexact = add_tensor(b, MG_F32, T, K, 1.0);
  mg_tensor *dh = add_tensor(b, dtype, A, H, 1.0), *dg = add_tensor(b, dtype, A, H, 1.0);
  mg_tensor *du = add_tensor(b, dtype, A, H, 1.0), *drows = add_tensor(b, dtype, A, D, 1.0);
  mg_tensor *dgate = add_weight(b, H, D), *dup = add_weight(b, H, D), *ddown = add_weight(b, D, H);
  mg_tensor *dx = add_tensor(b, dtype, T, D, 1.0), *drouter = add_tensor(b, dtype, E, D, 1.0);
  mg_tensor *product = add_tensor(b, MG_F32, T, K, 1.0), *dots = add_tensor(b, MG_F32, T, 1, 1.0);
  mg_tensor *dvalues = add_tensor(b, MG_F32, T, K, 1.0), *dprobs = add_tensor(b, MG_F32, T, E, 1.0);
  mg_tensor *dlogits = add_tensor(b, MG_F32, T, E, 1.0);

  mg_op_call *combined = add_call(b, MG_OP_COMBINE_BACKWARD, dout, y, weights, dy);
  combined->in[3] = slots, combined->in[4] = offsets, combined->out[1] = dweights;
  add_product(b, MG_OP_GROUPED_MATMUL_WEIGHT, h, dy, offsets, true, false, ddown);
  add_product(b, MG_OP_GROUPED_MATMUL, dy, down, offsets, false, false, dh);
  mg_op_call *glu = add_call(b, MG_OP_GLU_BACKWARD, g, u, dh, dg);
  glu->attributes.glu.kind = MG_GLU_SILU;
  glu->out[1] = du;
  add_product(b, MG_OP_GROUPED_MATMUL_WEIGHT, rows, dg, offsets, true, false, dgate);
  add_product(b, MG_OP_GROUPED_MATMUL_WEIGHT, rows, du, offsets, true, false, dup);
  add_product(b, MG_OP_GROUPED_MATMUL, dg, gate, offsets, false, false, drows);
  add_product(b, MG_OP_GROUPED_MATMUL, du, up, offsets, false, true, drows);
  add_call(b, MG_OP_COMBINE, drows, NULL, position, dx);
  add_call(b, MG_OP_CAST, dweights, NULL, NULL, dexact);
  add_binary(b, MG_BINARY_MUL, dexact, exact, product);
  add_sum(b, product, dots);
  add_binary(b, MG_BINARY_SUB, dexact, dots, product);
  add_binary(b, MG_BINARY_DIV, product, sums, dvalues);
  add_call(b, MG_OP_SCATTER_COLUMNS, dvalues, ids, NULL, dprobs);
  add_call(b, MG_OP_SOFTMAX_BACKWARD, probs, dprobs, NULL, dlogits);
  add_matmul(b, dlogits, router, false, false, true, dx);
  add_matmul(b, dlogits, x, true, false, false, drouter);
}

static void run_block(gbench_state *state, const void *argument) {
  const moe_case *c = argument;
  moe_block block = {.dtype = c->dtype};
  build(&block, c->backward);
  bool going = true;
  while (going && gbench_keep_running(state))
    for (int32_t i = 0; going && i < block.calls; i++) going = bench_run(state, &block.call[i]);
  const double forward = 3.0 * 2.0 * A * D * H;
  bench_flops(state, c->dtype, c->backward ? 3.0 * forward : forward);
  gbench_rate(state, "tokens/s", T);
  for (int32_t i = 0; i < block.tensors; i++) bench_release(&block.tensor[i]);
}

void bench_register_moe(void) {
  for (size_t i = 0; i < MG_COUNT(cases); i++) gbench_register(cases[i].name, run_block, &cases[i]);
}
