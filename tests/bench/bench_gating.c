/* Gating 8192 tokens: softmax, top-k and renormalisation of given logits; and the assignment with dispatch and combine.
 * `of_read` is the time of reading the logits once at copy bandwidth as a share of the time taken. */
#include "bench.h"

enum { TOKENS = 8192, WIDTH = 1024 };

typedef struct gating_case {
  const char *name;
  int64_t experts, choices;
} gating_case;

static const gating_case top_k_cases[] = {{"gating/top_k/64/2", 64, 2},
                                          {"gating/top_k/64/8", 64, 8},
                                          {"gating/top_k/256/2", 256, 2},
                                          {"gating/top_k/256/8", 256, 8}};
static const gating_case gate_cases[] = {{"gating/softmax_top_k_renormalise/64/2", 64, 2},
                                         {"gating/softmax_top_k_renormalise/64/8", 64, 8},
                                         {"gating/softmax_top_k_renormalise/256/2", 256, 2},
                                         {"gating/softmax_top_k_renormalise/256/8", 256, 8}};
static const gating_case dispatch_cases[] = {{"gating/assign_dispatch_combine/64/8", 64, 8},
                                             {"gating/assign_dispatch_combine/256/8", 256, 8}};

typedef struct gate_tensors {
  mg_tensor logits, probs, values, ids, sums, weights;
} gate_tensors;

static gate_tensors make_gate(const gating_case *c) {
  const int64_t scores[] = {TOKENS, c->experts}, chosen[] = {TOKENS, c->choices}, one[] = {TOKENS, 1};
  gate_tensors t;
  t.logits = bench_tensor(MG_F32, 2, scores, 1.0);
  t.probs = bench_tensor(MG_F32, 2, scores, 1.0);
  t.values = bench_tensor(MG_F32, 2, chosen, 1.0);
  t.ids = bench_ids(TOKENS, c->choices, c->experts);
  t.sums = bench_tensor(MG_F32, 2, one, 1.0);
  t.weights = bench_tensor(MG_F32, 2, chosen, 1.0);
  return t;
}

static void release_gate(gate_tensors *t) {
  bench_release(&t->logits), bench_release(&t->probs), bench_release(&t->values);
  bench_release(&t->ids), bench_release(&t->sums), bench_release(&t->weights);
}

static void report_reads(gbench_state *state, const gate_tensors *t) {
  const double bytes = (double)mg_tensor_bytes(&t->logits);
  bench_bytes(state, bytes);
  gbench_rate(state, "of_read", bytes / (bench_world_get()->peak.copy_bytes / 2));
}

static void run_top_k(gbench_state *state, const void *argument) {
  gate_tensors t = make_gate(argument);
  const mg_op_call call = {.op = MG_OP_TOP_K, .in = {&t.logits}, .out = {&t.values, &t.ids}};
  while (gbench_keep_running(state))
    if (!bench_run(state, &call)) break;
  report_reads(state, &t);
  release_gate(&t);
}

static void run_gate(gbench_state *state, const void *argument) {
  gate_tensors t = make_gate(argument);
  const mg_op_call softmax = {.op = MG_OP_SOFTMAX, .in = {&t.logits}, .out = {&t.probs}};
  const mg_op_call top_k = {.op = MG_OP_TOP_K, .in = {&t.probs}, .out = {&t.values, &t.ids}};
  mg_op_call sum = {.op = MG_OP_REDUCE, .in = {&t.values}, .out = {&t.sums}};
  mg_op_call divide = {.op = MG_OP_BINARY, .in = {&t.values, &t.sums}, .out = {&t.weights}};
  sum.attributes.reduce.kind = MG_REDUCE_SUM;
  sum.attributes.reduce.axis = MG_OVER_COLUMNS;
  divide.attributes.binary.kind = MG_BINARY_DIV;
  while (gbench_keep_running(state))
    if (!bench_run(state, &softmax) || !bench_run(state, &top_k) || !bench_run(state, &sum) ||
        !bench_run(state, &divide))
      break;
  report_reads(state, &t);
  release_gate(&t);
}

static void run_dispatch(gbench_state *state, const void *argument) {
  const gating_case *c = argument;
  const int64_t rows = TOKENS * c->choices;
  gate_tensors t = make_gate(c);
  mg_tensor x = bench_tensor(MG_BF16, 2, (int64_t[]){TOKENS, WIDTH}, 1.0), out = bench_tensor(MG_BF16, 2, x.shape, 1.0);
  mg_tensor y = bench_tensor(MG_BF16, 2, (int64_t[]){rows, WIDTH}, 1.0);
  mg_tensor offsets = bench_ids(c->experts + 1, 1, 2), slots = bench_ids(rows, 1, 2),
            demand = bench_ids(c->experts, 1, 2);
  mg_tensor position = bench_ids(TOKENS, c->choices, c->experts);
  const mg_op_call assign = {.op = MG_OP_ASSIGN, .in = {&t.ids}, .out = {&offsets, &slots, &position, &demand}};
  mg_op_call dispatch = {.op = MG_OP_DISPATCH, .in = {&x, &slots, &offsets}, .out = {&y}};
  const mg_op_call combine = {.op = MG_OP_COMBINE, .in = {&y, &t.weights, &position}, .out = {&out}};
  dispatch.attributes.dispatch.choices = c->choices;
  while (gbench_keep_running(state))
    if (!bench_run(state, &assign) || !bench_run(state, &dispatch) || !bench_run(state, &combine)) break;
  bench_bytes(state, mg_op_bytes(&assign) + mg_op_bytes(&dispatch) + mg_op_bytes(&combine));
  bench_release(&x), bench_release(&out), bench_release(&y), bench_release(&offsets), bench_release(&slots);
  bench_release(&demand), bench_release(&position);
  release_gate(&t);
}

void bench_register_gating(void) {
  for (size_t i = 0; i < MG_COUNT(top_k_cases); i++) gbench_register(top_k_cases[i].name, run_top_k, &top_k_cases[i]);
  for (size_t i = 0; i < MG_COUNT(gate_cases); i++) gbench_register(gate_cases[i].name, run_gate, &gate_cases[i]);
  for (size_t i = 0; i < MG_COUNT(dispatch_cases); i++)
    gbench_register(dispatch_cases[i].name, run_dispatch, &dispatch_cases[i]);
}
