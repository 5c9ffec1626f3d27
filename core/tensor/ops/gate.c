/* The fused gate: scores, the k best of each token, and their weights in one call. moegauge/op.h says what it gives.
 *
 * It is counted as the calls that it stands for, so no figure depends on whether a backend has it. */
#include "tensor/tape_internal.h"

static bool compares_logits(const mg_op_call *call) {
  return call->attributes.gate.weight == MG_GATE_SOFTMAX_OF_CHOSEN;
}

static mg_status gate_shape(const mg_op_check *check) {
  const mg_tensor *logits = check->call->in[0];
  if ((unsigned)check->call->attributes.gate.score > MG_GATE_SQRT_SOFTPLUS)
    return mg__refuse(check, "%d is not the number of a score", (int)check->call->attributes.gate.score);
  if ((unsigned)check->call->attributes.gate.weight > MG_GATE_SOFTMAX_OF_CHOSEN)
    return mg__refuse(check, "%d is not the number of a weight", (int)check->call->attributes.gate.weight);
  MG_TRY(mg__out_given(check, 1));
  const int64_t rows = mg_tensor_rows(logits), experts = mg_tensor_columns(logits);
  const int64_t k = mg_tensor_columns(check->call->out[1]);
  if (k < 1 || k > experts)
    return mg__refuse(check, "the %lld best of %lld experts were asked for; k must be from 1 to that number",
                      (long long)k, (long long)experts);
  MG_TRY(mg__out_like(check, 0, logits));
  MG_TRY(mg__out_matrix(check, 1, rows, k));
  return mg__out_matrix(check, 2, rows, k);
}

/* softmax 5, sigmoid 3, sqrt(softplus + 1e-20) 6; top_k 1; of the chosen, a sum, an addition of 1e-20 and a division,
 * or a softmax. */
static double gate_flops(const mg_op_call *call) {
  static const double scoring[] = {5.0, 3.0, 6.0};
  const double logits = (double)mg_tensor_count(call->in[0]), chosen = (double)mg_tensor_count(call->out[1]);
  const double all = logits * (scoring[call->attributes.gate.score] + 1.0);
  if (call->attributes.gate.weight == MG_GATE_SHARES)
    return all + 2.0 * chosen + 2.0 * (double)mg_tensor_rows(call->in[0]);
  return all + (compares_logits(call) ? 5.0 * chosen : 0.0);
}

/* ---- backward -------------------------------------------------------------------------------------------------- */

/* w = v / (sum v + 1e-20):  dv = (dw - sum dw w) / (sum v + 1e-20). */
static const mg_tensor *shares_backward(mg_backward *b, const mg_tensor *dweights) {
  const mg_tensor *weights = b->call->out[1];
  mg_op_call gather = {.op = MG_OP_GATHER_COLUMNS, .in = {b->call->out[0], b->call->out[2]}};
  const mg_tensor *sum = mg__do_reduce(b, MG_OVER_COLUMNS, mg__compute(b, &gather));
  const mg_tensor *product = mg__do_reduce(b, MG_OVER_COLUMNS, mg__do_binary(b, MG_BINARY_MUL, dweights, weights));
  const mg_tensor *rest = mg__do_binary(b, MG_BINARY_SUB, dweights, mg__do_cast(b, product, weights->dtype));
  const mg_tensor *divisor = mg__do_cast(b, mg__do_unary(b, MG_UNARY_AFFINE, sum, 1.0, 1e-20), weights->dtype);
  return mg__do_binary(b, MG_BINARY_DIV, rest, divisor);
}

static const mg_tensor *softmax_slope(mg_backward *b, const mg_tensor *out, const mg_tensor *dout) {
  mg_op_call call = {.op = MG_OP_SOFTMAX_BACKWARD, .in = {out, dout}};
  return mg__compute(b, &call);
}

/* The gradient of the logits from that of the scores; s = sqrt(softplus(x) + 1e-20) has the slope sigmoid(x) / (2 s). */
static const mg_tensor *score_backward(mg_backward *b, const mg_tensor *dscores) {
  const mg_tensor *logits = b->call->in[0], *scores = b->call->out[0];
  mg_op_call sigmoid = {.op = MG_OP_UNARY_BACKWARD, .in = {logits, dscores}, .attributes.unary = {MG_UNARY_SIGMOID}};
  switch (b->call->attributes.gate.score) {
  case MG_GATE_SOFTMAX: return softmax_slope(b, scores, dscores);
  case MG_GATE_SIGMOID: return mg__compute(b, &sigmoid);
  case MG_GATE_SQRT_SOFTPLUS: break;
  }
  const mg_tensor *slope = mg__do_unary(b, MG_UNARY_SIGMOID, logits, 0, 0);
  const mg_tensor *twice = mg__do_unary(b, MG_UNARY_AFFINE, scores, 2.0, 0.0);
  return mg__do_binary(b, MG_BINARY_MUL, dscores, mg__do_binary(b, MG_BINARY_DIV, slope, twice));
}

/* What the chosen give to all columns: to logits where those are compared, else to scores. */
static const mg_tensor *scattered(mg_backward *b, const mg_tensor *dweights) {
  const mg_tensor *chosen = dweights;
  if (b->call->attributes.gate.weight == MG_GATE_SHARES) chosen = shares_backward(b, dweights);
  if (compares_logits(b->call)) chosen = softmax_slope(b, b->call->out[1], dweights);
  mg_op_call scatter = {
      .op = MG_OP_SCATTER_COLUMNS, .in = {chosen, b->call->out[2]}, .out = {mg__blank_like(b, b->call->in[0])}};
  return mg__compute(b, &scatter);
}

static void gate_backward(mg_backward *b) {
  const mg_tensor *dscores = b->dout[0], *of_chosen = b->dout[1] ? scattered(b, b->dout[1]) : NULL;
  if (of_chosen && compares_logits(b->call))
    mg__give(b, 0, of_chosen);
  else if (of_chosen)
    dscores = dscores ? mg__do_binary(b, MG_BINARY_ADD, of_chosen, dscores) : of_chosen;
  if (dscores) mg__give(b, 0, score_backward(b, dscores));
}

const mg_op_info mg__op_gate = {
    .in = {{"logits", MG_OPERAND_REAL}},
    .out = {{"scores", MG_OPERAND_REAL, true}, {"weights", MG_OPERAND_REAL}, {"ids", MG_OPERAND_I32}},
    .shape = gate_shape,
    .backward = gate_backward,
    .flops = gate_flops};

/* ---- on the tape ------------------------------------------------------------------------------------------------- */

static mg_var *scores_of(mg_tape *tape, mg_var *logits, mg_gate_score score) {
  if (score == MG_GATE_SOFTMAX) return mg_softmax(tape, logits);
  return score == MG_GATE_SIGMOID ? mg_sigmoid(tape, logits) : mg_sqrt_softplus(tape, logits);
}

static mg_var *composed(mg_tape *tape, mg_var *logits, int64_t k, mg_gate_score score, mg_gate_weight weight,
                        mg_var **scores, mg_var **weights) {
  *scores = scores_of(tape, logits, score);
  mg_var *ids = mg_top_k(tape, weight == MG_GATE_SOFTMAX_OF_CHOSEN ? logits : *scores, k, weights);
  if (weight == MG_GATE_SOFTMAX_OF_CHOSEN) *weights = mg_softmax(tape, *weights);
  if (weight == MG_GATE_SHARES) *weights = mg_shares(tape, *weights);
  return ids;
}

mg_var *mg_gate(mg_tape *tape, mg_var *logits, int64_t k, mg_gate_score score, mg_gate_weight weight, mg_var **scores,
                mg_var **weights) {
  *scores = *weights = NULL;
  if (!mg__usable(tape, logits, "gate: logits")) return NULL;
  const int64_t shape[] = {mg_var_rows(logits), k};
  mg_application gate = {.op = MG_OP_GATE,
                         .in = {logits},
                         .out = {mg__shape_of(logits->tensor.dtype, logits->tensor.dims, logits->tensor.shape),
                                 mg__shape_of(logits->tensor.dtype, 2, shape)},
                         .attributes.gate = {score, weight}};
  if (!mg__has_fused(tape, &gate)) return composed(tape, logits, k, score, weight, scores, weights);
  if (!mg__apply(tape, &gate)) return NULL;
  *scores = gate.result[0];
  *weights = gate.result[1];
  return gate.result[2];
}
