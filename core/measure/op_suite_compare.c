/* How far a result may lie from the reference. README.md in this folder gives each rule in words and why it is so.
 *
 *   allowed = rounding(output dtype) * |expected| + unit * terms * magnitude
 *
 * rounding is one unit in the last place (2^-23, 2^-7, 2^-52 of the value), for the two sides may round to neighbours;
 * unit is half of one of the dtype in which sums are kept (f32 for f32 and bf16 tensors, f64 for f64). terms grows with
 * the square root of the length of the sum. magnitude is how large the intermediate numbers were. */
#include <stdio.h>

#include "measure/op_suite_internal.h"

typedef struct comparison {
  const suite_data *data;
  const mg_tensor *expected;
  mg_tensor sums[MG_OP_OUTPUTS_MAX]; /* what the call gives on |inputs|; dims 0 where not needed */
  double in_max[MG_OP_INPUTS_MAX];   /* largest finite |x| of each real input */
  double out_max[MG_OP_OUTPUTS_MAX]; /* the same of each expected output */
} comparison;

/* ---- magnitudes ------------------------------------------------------------------------------------------------- */

static double larger(double a, double b) {
  return a > b ? a : b;
}

static double max_abs(const mg_tensor *x, int64_t first, int64_t count) {
  double max = 0;
  for (int64_t i = first; i < first + count; i++) {
    const double value = fabs(mg__suite_at(x, i));
    if (isfinite(value)) max = larger(max, value);
  }
  return max;
}

static double row_max(const mg_tensor *x, int64_t i) {
  const int64_t columns = mg_tensor_columns(x);
  return max_abs(x, i / columns * columns, columns);
}

/* The product over the inputs of max(1, |x|) at the same element. */
static double input_product(const comparison *c, int64_t i) {
  double product = 1;
  for (int n = 0; n < MG_OP_INPUTS_MAX; n++) {
    const mg_tensor *x = &c->data->in[n];
    if (!x->dims) continue;
    const double value = fabs(mg__suite_at(x, i));
    if (isfinite(value)) product *= larger(1, value);
  }
  return product;
}

/* ---- how long the sums are --------------------------------------------------------------------------------------- */

static int64_t matmul_inner(const suite_data *data) {
  const mg_tensor *a = &data->in[0];
  return a->shape[data->attributes.matmul.transpose_a ? a->dims - 2 : a->dims - 1];
}

static int64_t sum_length(const comparison *c, int output) {
  const suite_data *data = c->data;
  const mg_tensor *in = data->in;
  switch (data->op) {
  case MG_OP_REDUCE:
    return data->attributes.reduce.axis == MG_OVER_COLUMNS ? mg_tensor_columns(&in[0]) : mg_tensor_rows(&in[0]);
  case MG_OP_MATMUL: return matmul_inner(data);
  case MG_OP_GROUPED_MATMUL_WEIGHT: return mg_tensor_rows(&in[0]);
  case MG_OP_GATHER_DOT_BACKWARD_X:
  case MG_OP_COMBINE: return mg_tensor_columns(&in[2]);
  case MG_OP_SCATTER_COLUMNS: return mg_tensor_columns(&in[1]);
  case MG_OP_GATHER_DOT_BACKWARD_W: return mg_tensor_count(&in[2]);
  case MG_OP_SCATTER_ADD_ROWS: return mg_tensor_count(&in[1]);
  case MG_OP_NORM_BACKWARD: return output == 0 ? mg_tensor_columns(&in[0]) : mg_tensor_rows(&in[0]);
  case MG_OP_ADD_SCALED: return 1;
  default: return in[0].dims ? mg_tensor_columns(&in[0]) : 1;
  }
}

static double terms(const comparison *c, int output) {
  return 8 + 2 * sqrt((double)sum_length(c, output));
}

/* ---- rules ------------------------------------------------------------------------------------------------------- */

/* Kinds whose result has a small error relative to itself; the others lose digits where terms cancel. */
static bool unary_is_relative(mg_unary kind) {
  switch (kind) {
  case MG_UNARY_EXP:
  case MG_UNARY_SQRT:
  case MG_UNARY_SQUARE:
  case MG_UNARY_RECIPROCAL:
  case MG_UNARY_ABS:
  case MG_UNARY_RELU:
  case MG_UNARY_CLAMP:
  case MG_UNARY_STEP:
  case MG_UNARY_SIGN: return true;
  default: return false;
  }
}

static double elementwise(const comparison *c, int output, int64_t i) {
  const suite_data *data = c->data;
  const double expected = fabs(mg__suite_at(&c->expected[output], i));
  const bool unary = data->op == MG_OP_UNARY || data->op == MG_OP_UNARY_BACKWARD;
  if (data->op == MG_OP_BINARY || (unary && unary_is_relative(data->attributes.unary.kind))) return 8 * expected;
  return 8 * (expected + input_product(c, i));
}

/* A sum of products: what the same call gives on |inputs|. */
static double sums(const comparison *c, int output, int64_t i) {
  if (c->data->op == MG_OP_REDUCE && c->data->attributes.reduce.kind == MG_REDUCE_MAX) return 0;
  return terms(c, output) * fabs(mg__suite_at(&c->sums[output], i));
}

/* dx of softmax: out (dout - sum out dout), whose terms cancel. */
static double softmax_backward(const comparison *c, int64_t i) {
  return terms(c, 0) * row_max(&c->data->in[0], i) * row_max(&c->data->in[1], i);
}

/* A softmax and shares have errors of the size of their row; other scores have those of their logit. */
static double gate(const comparison *c, int output, int64_t i) {
  if (output > 0 || c->data->attributes.gate.score == MG_GATE_SOFTMAX)
    return terms(c, 0) * row_max(&c->expected[output], i);
  return elementwise(c, 0, i);
}

/* The angle position * frequency is as inexact as it is large. */
static double rope(const comparison *c, int64_t i) {
  return (8 + 2 * c->in_max[1]) * row_max(&c->data->in[0], i) * fabs(c->data->attributes.rope.scale);
}

/* Row r of dx has the size of dout * scale / deviation; dscale and dshift are sums over the rows. */
static double norm_backward(const comparison *c, int output, int64_t i) {
  const mg_tensor *in = c->data->in;
  const int64_t columns = mg_tensor_columns(&in[0]);
  if (output > 0) return terms(c, output) * 4 * (double)mg_tensor_rows(&in[0]) * c->in_max[3];
  const double inverse = fabs(mg__suite_at(&in[2], 2 * (i / columns) + 1));
  return terms(c, 0) * row_max(&in[3], i) * (in[1].dims ? larger(1, c->in_max[1]) : 1) * inverse;
}

/* Scores carry the error of sums of head products, which the exponential makes a relative error. */
static double attention_terms(const comparison *c) {
  const mg_tensor *q = &c->data->in[0];
  const double head = (double)mg_tensor_columns(q) / (double)c->data->attributes.attention.heads;
  return 64 * larger(1, c->data->attributes.attention.scale * head);
}

static double attention(const comparison *c, int output, int64_t i) {
  if (output == 1) return attention_terms(c) * larger(1, fabs(mg__suite_at(&c->expected[1], i)));
  return attention_terms(c) * c->in_max[2];
}

/* The size of ds = p (dout . v - dout . out), before q and k multiply it. */
static double attention_backward(const comparison *c, int output) {
  const suite_data *data = c->data;
  const double value_head = (double)mg_tensor_columns(&data->in[2]) / (double)data->attributes.attention.kv_heads;
  const double ds = c->in_max[7] * c->in_max[2] * sqrt(value_head);
  const double rows = sqrt((double)mg_tensor_rows(&data->in[0]));
  const double sizes[5] = {data->attributes.attention.scale * ds * c->in_max[1],
                           data->attributes.attention.scale * ds * c->in_max[0] * rows, c->in_max[7] * rows, ds * rows,
                           ds * rows};
  return attention_terms(c) * sizes[output];
}

/* exp(logit - lse) is as inexact as the logits are large. */
static double cross_entropy(const comparison *c, int64_t row) {
  const mg_tensor *logits = &c->data->in[0];
  const double size = larger(1, max_abs(logits, row * mg_tensor_columns(logits), mg_tensor_columns(logits)));
  if (c->data->op == MG_OP_CROSS_ENTROPY) return terms(c, 0) * size;
  return terms(c, 0) * size * fabs(mg__suite_at(&c->data->in[3], row));
}

static double magnitude(const comparison *c, int output, int64_t i) {
  const mg_tensor *out = &c->expected[output];
  switch (c->data->op) {
  case MG_OP_UNARY:
  case MG_OP_UNARY_BACKWARD:
  case MG_OP_BINARY:
  case MG_OP_GLU:
  case MG_OP_GLU_BACKWARD:
  case MG_OP_ADAMW: return elementwise(c, output, i);
  case MG_OP_RANDOM: return 64;
  case MG_OP_ADD_SCALED:
  case MG_OP_REDUCE:
  case MG_OP_CUMSUM:
  case MG_OP_MATMUL:
  case MG_OP_GROUPED_MATMUL:
  case MG_OP_GROUPED_MATMUL_WEIGHT:
  case MG_OP_GATHER_DOT:
  case MG_OP_GATHER_DOT_BACKWARD_X:
  case MG_OP_GATHER_DOT_BACKWARD_W:
  case MG_OP_SCATTER_ADD_ROWS:
  case MG_OP_SCATTER_COLUMNS:
  case MG_OP_COMBINE:
  case MG_OP_COMBINE_BACKWARD: return sums(c, output, i);
  case MG_OP_SOFTMAX: return terms(c, 0) * row_max(out, i);
  case MG_OP_SOFTMAX_BACKWARD: return softmax_backward(c, i);
  case MG_OP_GATE: return gate(c, output, i);
  case MG_OP_LOG_SUM_EXP:
    return terms(c, 0) * larger(1, row_max(&c->data->in[0], i * mg_tensor_columns(&c->data->in[0])));
  case MG_OP_NORM: return terms(c, 0) * larger(1, row_max(out, i));
  case MG_OP_NORM_BACKWARD: return norm_backward(c, output, i);
  case MG_OP_ROPE: return rope(c, i);
  case MG_OP_ATTENTION: return attention(c, output, i);
  case MG_OP_ATTENTION_BACKWARD: return attention_backward(c, output);
  case MG_OP_CROSS_ENTROPY: return cross_entropy(c, i);
  case MG_OP_CROSS_ENTROPY_BACKWARD: return cross_entropy(c, i / mg_tensor_columns(out));
  default: return 0;
  }
}

/* Primitives that move, choose, count or compare: they must agree to the bit. */
static bool is_exact(mg_op op) {
  switch (op) {
  case MG_OP_FILL:
  case MG_OP_CAST:
  case MG_OP_WHERE:
  case MG_OP_SLICE:
  case MG_OP_SLICE_BACKWARD:
  case MG_OP_CONCAT:
  case MG_OP_TRANSPOSE:
  case MG_OP_GATHER_ROWS:
  case MG_OP_GATHER_COLUMNS:
  case MG_OP_TOP_K:
  case MG_OP_HISTOGRAM:
  case MG_OP_ASSIGN:
  case MG_OP_DISPATCH: return true;
  default: return false;
  }
}

static double allowed(const comparison *c, int output, int64_t i) {
  static const double rounding[MG_DTYPE_COUNT] = {[MG_F32] = 0x1p-23, [MG_BF16] = 0x1p-7, [MG_F64] = 0x1p-52};
  const mg_tensor *out = &c->expected[output];
  if (is_exact(c->data->op) || out->dtype == MG_I32) return 0;
  const bool f64 = c->data->dtype == MG_F64;
  const double unit = f64 ? 0x1p-53 : 0x1p-24;
  const double least = f64 ? 0x1p-1000 : 0x1p-120; /* smaller numbers may be flushed to 0 */
  double result = rounding[out->dtype] * fabs(mg__suite_at(out, i)) + unit * magnitude(c, output, i) + least;
  /* p and ds are rounded to bf16 before they are multiplied, perhaps under another scale than the reference's */
  const bool attention = c->data->op == MG_OP_ATTENTION || c->data->op == MG_OP_ATTENTION_BACKWARD;
  if (attention && c->data->attributes.attention.compute == MG_BF16 && !(c->data->op == MG_OP_ATTENTION && output == 1))
    result += 0x1p-6 * c->out_max[output];
  return result;
}

/* ---- comparison ----------------------------------------------------------------------------------------------------
 */

static bool same(double a, double b) {
  return a == b || (isnan(a) && isnan(b));
}

/* 0 when equal, infinite when nothing finite is allowed. */
static double share(const comparison *c, int output, int64_t i, double got, double *limit) {
  const double expected = mg__suite_at(&c->expected[output], i);
  *limit = 0;
  if (same(got, expected)) return 0;
  if (!isfinite(got) || !isfinite(expected)) return INFINITY;
  *limit = allowed(c, output, i);
  return *limit > 0 ? fabs(got - expected) / *limit : INFINITY;
}

static void compare_output(const comparison *c, int output, const mg_tensor *result, double *worst, char *detail,
                           size_t bytes) {
  for (int64_t i = 0; i < mg_tensor_count(result); i++) {
    const double got = mg__suite_at(result, i);
    double limit;
    const double error = share(c, output, i, got, &limit);
    if (error <= *worst) continue;
    *worst = error;
    if (error > 1)
      snprintf(detail, bytes, "output %d row %lld column %lld is %.9g, not %.9g (allowed difference %.3g)", output,
               (long long)(i / mg_tensor_columns(result)), (long long)(i % mg_tensor_columns(result)), got,
               mg__suite_at(&c->expected[output], i), limit);
  }
}

/* True if the tolerance of the primitive needs the call on |inputs|. */
static bool needs_sums(const suite_data *data) {
  switch (data->op) {
  case MG_OP_ADD_SCALED:
  case MG_OP_CUMSUM:
  case MG_OP_MATMUL:
  case MG_OP_GROUPED_MATMUL:
  case MG_OP_GROUPED_MATMUL_WEIGHT:
  case MG_OP_GATHER_DOT:
  case MG_OP_GATHER_DOT_BACKWARD_X:
  case MG_OP_GATHER_DOT_BACKWARD_W:
  case MG_OP_SCATTER_ADD_ROWS:
  case MG_OP_SCATTER_COLUMNS:
  case MG_OP_COMBINE:
  case MG_OP_COMBINE_BACKWARD:
  case MG_OP_REDUCE: return true;
  default: return false;
  }
}

static mg_status flip_to_positive(mg_context *context, mg_tensor *x) {
  if (!x->dims || x->dtype == MG_I32) return MG_OK;
  if (mg_dtype_is_stored(x->dtype)) MG_TRY(mg__suite_decode(context, x));
  for (int64_t i = 0; i < mg_tensor_count(x); i++) mg__suite_put(x, i, fabs(mg__suite_at(x, i)));
  return MG_OK;
}

/* Runs the call with every real operand made positive. The case's numbers are lost: this is its last use. */
static mg_status run_on_positive(mg_backend *reference, suite_data *data, mg_tensor *sums_out) {
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++) MG_TRY(flip_to_positive(data->context, &data->in[i]));
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) MG_TRY(flip_to_positive(data->context, &data->out[i]));
  if (data->op == MG_OP_ADD_SCALED) data->attributes.add_scaled.factor = fabs(data->attributes.add_scaled.factor);
  MG_TRY(mg__suite_results_create(data, sums_out));
  const mg_status status = mg__suite_run(reference, data, sums_out);
  if (status != MG_OK) mg__suite_results_destroy(data, sums_out);
  return status;
}

mg_status mg__suite_compare(mg_backend *reference, suite_data *data, const mg_tensor *expected,
                            const mg_tensor *results, double *worst, char *detail, size_t bytes) {
  comparison c = {.data = data, .expected = expected};
  *worst = 0;
  detail[0] = '\0';
  if (needs_sums(data)) MG_TRY(run_on_positive(reference, data, c.sums));
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (data->in[i].dims) c.in_max[i] = max_abs(&data->in[i], 0, mg_tensor_count(&data->in[i]));
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++)
    if (expected[i].dims) c.out_max[i] = max_abs(&expected[i], 0, mg_tensor_count(&expected[i]));
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++)
    if (expected[i].dims) compare_output(&c, i, &results[i], worst, detail, bytes);
  mg__suite_results_destroy(data, c.sums);
  return MG_OK;
}
