/* Single primitives at the sizes of a training step: 4096 tokens of width 1024 unless the name says otherwise. */
#include <stdio.h>

#include "bench.h"

enum { ROWS = 4096, COLUMNS = 1024 };

typedef struct op_case {
  const char *name;
  mg_op op;
  mg_dtype dtype;
} op_case;

static const op_case elementwise_cases[] = {
    {"ops/glu_silu/f32", MG_OP_GLU, MG_F32},      {"ops/glu_silu/bf16", MG_OP_GLU, MG_BF16},
    {"ops/softmax/f32", MG_OP_SOFTMAX, MG_F32},   {"ops/softmax/bf16", MG_OP_SOFTMAX, MG_BF16},
    {"ops/binary_add/f32", MG_OP_BINARY, MG_F32}, {"ops/norm_rms/f32", MG_OP_NORM, MG_F32},
    {"ops/norm_rms/bf16", MG_OP_NORM, MG_BF16},   {"ops/add_scaled/f32", MG_OP_ADD_SCALED, MG_F32},
};

/* Operands of the kinds of call above: what each op does not read is left out. */
static void run_elementwise(gbench_state *state, const void *argument) {
  const op_case *c = argument;
  mg_tensor x = bench_tensor(c->dtype, 2, (int64_t[]){ROWS, COLUMNS}, 1.0);
  mg_tensor y = bench_tensor(c->dtype, 2, (int64_t[]){ROWS, COLUMNS}, 1.0);
  mg_tensor out = bench_tensor(c->dtype, 2, (int64_t[]){ROWS, COLUMNS}, 1.0);
  mg_tensor statistics = bench_tensor(MG_F32, 2, (int64_t[]){ROWS, 2}, 1.0);
  mg_op_call call = {.op = c->op, .in = {&x}, .out = {&out}};
  if (c->op == MG_OP_GLU || c->op == MG_OP_BINARY) call.in[1] = &y;
  if (c->op == MG_OP_NORM) call.out[1] = &statistics;
  if (c->op == MG_OP_NORM) call.attributes.norm.epsilon = 1e-5;
  if (c->op == MG_OP_ADD_SCALED) call.attributes.add_scaled.factor = 0.5;
  while (gbench_keep_running(state))
    if (!bench_run(state, &call)) break;
  bench_bytes(state, mg_op_bytes(&call));
  bench_release(&x), bench_release(&y), bench_release(&out), bench_release(&statistics);
}

typedef struct attention_case {
  const char *name;
  bool backward;
  mg_dtype compute;
} attention_case;

static const attention_case attention_cases[] = {
    {"ops/attention/f32", false, MG_F32},
    {"ops/attention/bf16", false, MG_BF16},
    {"ops/attention_backward/f32", true, MG_F32},
    {"ops/attention_backward/bf16", true, MG_BF16},
};

/* Eight sequences of 512 tokens, 8 heads of 64, causal. */
static void run_attention(gbench_state *state, const void *argument) {
  enum { BATCH = 8, LENGTH = 512, HEADS = 8, HEAD = 64, TENSORS = 8 };
  const attention_case *c = argument;
  mg_tensor tensor[TENSORS]; /* q k v out dout dq dk dv */
  for (int32_t i = 0; i < TENSORS; i++)
    tensor[i] = bench_tensor(MG_F32, 2, (int64_t[]){BATCH * LENGTH, HEADS * HEAD}, 1.0);
  mg_tensor lse = bench_tensor(MG_F32, 2, (int64_t[]){HEADS, BATCH * LENGTH}, 1.0);
  mg_op_call forward = {.op = MG_OP_ATTENTION, .in = {&tensor[0], &tensor[1], &tensor[2]}, .out = {&tensor[3], &lse}};
  forward.attributes.attention.batch = BATCH;
  forward.attributes.attention.heads = forward.attributes.attention.kv_heads = HEADS;
  forward.attributes.attention.causal = true;
  forward.attributes.attention.scale = 0.125;
  forward.attributes.attention.compute = c->compute;
  mg_op_call call = forward;
  if (c->backward) {
    call = (mg_op_call){.op = MG_OP_ATTENTION_BACKWARD,
                        .in = {&tensor[0], &tensor[1], &tensor[2], NULL, &tensor[3], &lse, &tensor[4]},
                        .out = {&tensor[5], &tensor[6], &tensor[7]},
                        .attributes = forward.attributes};
    bench_run(state, &forward);
  }
  while (gbench_keep_running(state))
    if (!bench_run(state, &call)) break;
  bench_flops(state, c->compute, mg_op_flops(&call));
  for (int32_t i = 0; i < TENSORS; i++) bench_release(&tensor[i]);
  bench_release(&lse);
}

typedef struct matmul_case {
  const char *name;
  int64_t rows, columns, depth;
  mg_dtype dtype;
} matmul_case;

static const matmul_case matmul_cases[] = {
    {"ops/matmul/f32/2048x2048x2048", 2048, 2048, 2048, MG_F32},
    {"ops/matmul/bf16/2048x2048x2048", 2048, 2048, 2048, MG_BF16},
    {"ops/matmul/f32/4096x512x128", 4096, 512, 128, MG_F32},
    {"ops/matmul/bf16/4096x512x128", 4096, 512, 128, MG_BF16},
    {"ops/matmul/f32/8192x64x1024", 8192, 64, 1024, MG_F32},
    {"ops/matmul/bf16/1x4096x1024", 1, 4096, 1024, MG_BF16},
};

static void run_matmul(gbench_state *state, const void *argument) {
  const matmul_case *c = argument;
  mg_tensor a = bench_tensor(c->dtype, 2, (int64_t[]){c->rows, c->depth}, 1.0);
  mg_tensor b = bench_tensor(c->dtype, 2, (int64_t[]){c->columns, c->depth}, 1.0);
  mg_tensor out = bench_tensor(c->dtype, 2, (int64_t[]){c->rows, c->columns}, 1.0);
  mg_op_call call = {.op = MG_OP_MATMUL, .in = {&a, &b}, .out = {&out}};
  call.attributes.matmul.transpose_b = true;
  call.attributes.matmul.compute = c->dtype;
  while (gbench_keep_running(state))
    if (!bench_run(state, &call)) break;
  bench_flops(state, c->dtype, mg_op_flops(&call));
  bench_release(&a), bench_release(&b), bench_release(&out);
}

void bench_register_ops(void) {
  for (size_t i = 0; i < MG_COUNT(elementwise_cases); i++)
    gbench_register(elementwise_cases[i].name, run_elementwise, &elementwise_cases[i]);
  for (size_t i = 0; i < MG_COUNT(attention_cases); i++)
    gbench_register(attention_cases[i].name, run_attention, &attention_cases[i]);
  for (size_t i = 0; i < MG_COUNT(matmul_cases); i++)
    gbench_register(matmul_cases[i].name, run_matmul, &matmul_cases[i]);
}
