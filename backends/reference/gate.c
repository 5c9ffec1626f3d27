/* gate: scores of each token's logits, the k best of them, and what those weigh.
 *
 *   s = softmax(x), sigmoid(x) or sqrt(softplus(x) + 1e-20), rounded as they are stored
 *   the k largest s (or x, where weights are a softmax over the chosen), as top_k orders them
 *   w = s, or s / (sum of the chosen s + 1e-20), or softmax of the chosen x
 *
 * A weight that is divided is computed from the scores as stored. */
#include "reference.h"

static double scored(mg_gate_score score, double x) {
  if (score == MG_GATE_SIGMOID) return mg__reference_unary_value(MG_UNARY_SIGMOID, x, 0, 0);
  return sqrt(mg__reference_unary_value(MG_UNARY_SOFTPLUS, x, 0, 0) + 1e-20);
}

/* The chosen values of a row become its weights. */
static void weigh(const mg_tensor *weights, int64_t first, int64_t k, mg_gate_weight kind) {
  double max = -INFINITY, sum = 0;
  for (int64_t s = 0; s < k; s++) max = larger(max, at(weights, first + s));
  for (int64_t s = 0; s < k; s++) {
    const double value = at(weights, first + s);
    sum += kind == MG_GATE_SHARES ? value : exp(value - max);
  }
  for (int64_t s = 0; s < k; s++) {
    const double value = at(weights, first + s);
    if (kind == MG_GATE_SHARES) put(weights, first + s, value / (sum + 1e-20));
    if (kind == MG_GATE_SOFTMAX_OF_CHOSEN) put(weights, first + s, max == -INFINITY ? 0 : exp(value - max) / sum);
  }
}

static mg_status fill_scores(mg_backend *backend, mg_gate_score score, const mg_tensor *logits, mg_tensor *scores) {
  const mg_op_call softmax = {.op = MG_OP_SOFTMAX, .in = {logits}, .out = {scores}};
  if (score == MG_GATE_SOFTMAX) return mg__reference_softmax(backend, &softmax);
  for (int64_t i = 0; i < mg_tensor_count(logits); i++) put(scores, i, scored(score, at(logits, i)));
  return MG_OK;
}

mg_status mg__reference_gate(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *logits = call->in[0], *weights = call->out[1];
  const mg_gate_weight weight = call->attributes.gate.weight;
  mg_tensor scores = *logits; /* in scratch memory where nobody wants them */
  scores.data = call->out[0] ? call->out[0]->data : mg__reference_scratch(backend, mg_tensor_count(logits));
  if (!scores.data) return MG_MEMORY;
  MG_TRY(fill_scores(backend, call->attributes.gate.score, logits, &scores));
  const mg_op_call choose = {.op = MG_OP_TOP_K,
                             .in = {weight == MG_GATE_SOFTMAX_OF_CHOSEN ? logits : &scores},
                             .out = {call->out[1], call->out[2]}};
  MG_TRY(mg__reference_top_k(backend, &choose));
  const int64_t k = mg_tensor_columns(weights);
  for (int64_t t = 0; t < mg_tensor_rows(logits); t++) weigh(weights, t * k, k, weight);
  return MG_OK;
}
