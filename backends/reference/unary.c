/* unary: out[i] = f(x[i]), and its backward dx[i] = f'(x[i]) dout[i].
 *
 * gelu and its tanh approximation: Hendrycks and Gimpel 2016, "Gaussian error linear units". A NaN stays NaN except in
 * step and sign, which are 0 there. Where a slope does not exist: 0 for abs and relu at 0, 1 for clamp at its ends. */
#include "reference.h"

static const double sqrt_half = 0.70710678118654752440;    /* sqrt(1/2) */
static const double density_at_0 = 0.39894228040143267794; /* 1 / sqrt(2 pi) */
static const double gelu_factor = 0.79788456080286535588;  /* sqrt(2 / pi) */
static const double gelu_cubic = 0.044715;

static double sigmoid(double x) {
  return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double normal_cdf(double x) {
  return 0.5 * erfc(-x * sqrt_half);
}

static double normal_density(double x) {
  return density_at_0 * exp(-0.5 * x * x);
}

static double gelu_tanh(double x) {
  return 0.5 * x * (1 + tanh(gelu_factor * (x + gelu_cubic * x * x * x)));
}

static double gelu_tanh_slope(double x) {
  const double t = tanh(gelu_factor * (x + gelu_cubic * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * gelu_factor * (1 + 3 * gelu_cubic * x * x);
}

static double sign(double x) {
  return x > 0 ? 1 : x < 0 ? -1 : 0;
}

double mg__reference_unary_value(mg_unary kind, double x, double alpha, double beta) {
  switch (kind) {
  case MG_UNARY_AFFINE: return alpha * x + beta;
  case MG_UNARY_EXP: return exp(x);
  case MG_UNARY_LOG: return log(x);
  case MG_UNARY_SQRT: return sqrt(x);
  case MG_UNARY_SQUARE: return x * x;
  case MG_UNARY_RECIPROCAL: return 1 / x;
  case MG_UNARY_ABS: return fabs(x);
  case MG_UNARY_SIGMOID: return sigmoid(x);
  case MG_UNARY_TANH: return tanh(x);
  case MG_UNARY_RELU: return x < 0 ? 0 : x;
  case MG_UNARY_SILU: return x * sigmoid(x);
  case MG_UNARY_GELU: return x * normal_cdf(x);
  case MG_UNARY_GELU_TANH: return gelu_tanh(x);
  case MG_UNARY_SOFTPLUS: return fmax(x, 0) + log1p(exp(-fabs(x)));
  case MG_UNARY_NORMAL_CDF: return normal_cdf(x);
  case MG_UNARY_CLAMP: return x < alpha ? alpha : x > beta ? beta : x;
  case MG_UNARY_STEP: return x > 0 ? 1 : 0;
  case MG_UNARY_SIGN: return sign(x);
  case MG_UNARY_COUNT: break;
  }
  return NAN;
}

double mg__reference_unary_slope(mg_unary kind, double x, double alpha, double beta) {
  switch (kind) {
  case MG_UNARY_AFFINE: return alpha;
  case MG_UNARY_EXP: return exp(x);
  case MG_UNARY_LOG: return 1 / x;
  case MG_UNARY_SQRT: return 0.5 / sqrt(x);
  case MG_UNARY_SQUARE: return 2 * x;
  case MG_UNARY_RECIPROCAL: return -1 / (x * x);
  case MG_UNARY_ABS: return sign(x);
  case MG_UNARY_SIGMOID: return sigmoid(x) * sigmoid(-x);
  case MG_UNARY_TANH: return 1 - tanh(x) * tanh(x);
  case MG_UNARY_RELU: return x > 0 ? 1 : 0;
  case MG_UNARY_SILU: return sigmoid(x) + x * sigmoid(x) * sigmoid(-x);
  case MG_UNARY_GELU: return normal_cdf(x) + x * normal_density(x);
  case MG_UNARY_GELU_TANH: return gelu_tanh_slope(x);
  case MG_UNARY_SOFTPLUS: return sigmoid(x);
  case MG_UNARY_NORMAL_CDF: return normal_density(x);
  case MG_UNARY_CLAMP: return x < alpha || x > beta ? 0 : 1;
  case MG_UNARY_STEP:
  case MG_UNARY_SIGN: return 0;
  case MG_UNARY_COUNT: break;
  }
  return NAN;
}

mg_status mg__reference_unary(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const mg_unary kind = call->attributes.unary.kind;
  const double alpha = call->attributes.unary.alpha, beta = call->attributes.unary.beta;
  for (int64_t i = 0; i < mg_tensor_count(out); i++)
    put(out, i, mg__reference_unary_value(kind, at(x, i), alpha, beta));
  return MG_OK;
}

mg_status mg__reference_unary_backward(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *dout = call->in[1], *dx = call->out[0];
  const mg_unary kind = call->attributes.unary.kind;
  const double alpha = call->attributes.unary.alpha, beta = call->attributes.unary.beta;
  for (int64_t i = 0; i < mg_tensor_count(dx); i++)
    put(dx, i, mg__reference_unary_slope(kind, at(x, i), alpha, beta) * at(dout, i));
  return MG_OK;
}
