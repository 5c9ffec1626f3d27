/* gate: softmax, top_k and the weights of the chosen, by the kernels of this level one after the other. */
#include "functions.h"
#include "kernels.h"

static void run_sqrt_softplus(mg_backend *backend, const mg_tensor *logits, const mg_tensor *scores) {
  const int64_t count = mg_tensor_count(logits);
  CPU_PARALLEL(backend, count)
  for (int64_t i = 0; i < count; i++) cpu_set(scores, i, sqrtf(cpu_softplus(cpu_at(logits, i)) + 1e-20f));
}

static mg_status run_scores(mg_backend *backend, mg_gate_score score, const mg_tensor *logits, mg_tensor *scores) {
  const mg_op_call softmax = {.op = MG_OP_SOFTMAX, .in = {logits}, .out = {scores}};
  const mg_op_call sigmoid = {
      .op = MG_OP_UNARY, .in = {logits}, .out = {scores}, .attributes.unary.kind = MG_UNARY_SIGMOID};
  if (score == MG_GATE_SOFTMAX) return CPU_NAME(softmax)(backend, &softmax);
  if (score == MG_GATE_SIGMOID) return CPU_NAME(unary)(backend, &sigmoid);
  run_sqrt_softplus(backend, logits, scores);
  return MG_OK;
}

/* Divides the k chosen scores of a row by their sum. */
static void share_row(const mg_tensor *weights, int64_t first, int64_t k) {
  float sum = 0;
  for (int64_t s = 0; s < k; s++) sum += cpu_at(weights, first + s);
  for (int64_t s = 0; s < k; s++) cpu_set(weights, first + s, cpu_at(weights, first + s) / (sum + 1e-20f));
}

static mg_status run_weights(mg_backend *backend, mg_gate_weight weight, mg_tensor *weights) {
  const int64_t rows = mg_tensor_rows(weights), k = mg_tensor_columns(weights);
  const mg_op_call softmax = {.op = MG_OP_SOFTMAX, .in = {weights}, .out = {weights}};
  if (weight == MG_GATE_SOFTMAX_OF_CHOSEN) return CPU_NAME(softmax)(backend, &softmax);
  if (weight == MG_GATE_SCORES) return MG_OK;
  CPU_PARALLEL(backend, rows * k)
  for (int64_t row = 0; row < rows; row++) share_row(weights, row * k, k);
  return MG_OK;
}

mg_status CPU_NAME(gate)(mg_backend *backend, const mg_op_call *call) {
  const mg_gate_weight weight = call->attributes.gate.weight;
  MG_TRY(run_scores(backend, call->attributes.gate.score, call->in[0], call->out[0]));
  const mg_op_call top_k = {.op = MG_OP_TOP_K,
                            .in = {weight == MG_GATE_SOFTMAX_OF_CHOSEN ? call->in[0] : call->out[0]},
                            .out = {call->out[1], call->out[2]}};
  MG_TRY(CPU_NAME(top_k)(backend, &top_k));
  return run_weights(backend, weight, call->out[1]);
}
