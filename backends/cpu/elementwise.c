/* Elementwise primitives, chunk by chunk: convert to f32, apply the function, convert back. */
#include "functions.h"
#include "kernels.h"
#include "stored.h"

#define EACH(expression)                                                                                               \
  do {                                                                                                                 \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = (expression);                                         \
  } while (0)

enum { NARROW = 32 }; /* columns up to which several rows are worked on at once */

mg_status CPU_NAME(fill)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *out_tensor = call->out[0];
  const double value = call->attributes.fill.value;
  if (out_tensor->dtype == MG_I32) {
    int32_t *out = out_tensor->data;
    const int64_t count = mg_tensor_count(out_tensor);
    CPU_PARALLEL(backend, count)
    for (int64_t first = 0; first < count; first += CPU_CHUNK) {
      const int64_t n = cpu_min(CPU_CHUNK, count - first);
      for (int64_t i = 0; i < n; i++) out[first + i] = (int32_t)value;
    }
    return MG_OK;
  }
  const int64_t count = mg_tensor_count(out_tensor);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    float buffer[CPU_CHUNK];
    float *out = cpu_write_begin(out_tensor, first, buffer);
    EACH((float)value);
    cpu_write_end(out_tensor, first, n, buffer);
  }
  return MG_OK;
}

/* Real to real goes through f32; i32 is exact in itself and truncated from reals, saturating. */
static int32_t int_from_float(float value) {
  if (isnan(value)) return 0;
  if (value <= -2147483648.0f) return INT32_MIN;
  return value >= 2147483648.0f ? INT32_MAX : (int32_t)value;
}

static void store_chunk(const float *values, const mg_tensor *out, int64_t first, int64_t n) {
  if (out->dtype == MG_I32) {
    int32_t *ids = (int32_t *)out->data + first;
    for (int64_t i = 0; i < n; i++) ids[i] = int_from_float(values[i]);
  } else if (out->dtype == MG_F32) {
    memcpy((float *)out->data + first, values, (size_t)n * sizeof(float));
  } else {
    cpu_write_end(out, first, n, values);
  }
}

static void cast_chunk(const mg_tensor *x, mg_tensor *out, int64_t first, int64_t n) {
  float buffer[CPU_CHUNK];
  if (x->dtype == MG_I32) {
    const int32_t *ids = (const int32_t *)x->data + first;
    for (int64_t i = 0; i < n; i++) cpu_set(out, first + i, (float)ids[i]);
    return;
  }
  store_chunk(cpu_read(x, first, n, buffer), out, first, n);
}

static void cast_stored(mg_backend *backend, const mg_tensor *x, const mg_tensor *out) {
  enum { CHUNK = 4 * MG_STORED_BLOCK_MAX };
  const int64_t count = mg_tensor_count(x);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CHUNK) {
    const int64_t n = cpu_min(CHUNK, count - first);
    float buffer[CHUNK];
    CPU_NAME(decode_stored)(x->dtype, (const char *)x->data + mg_dtype_run_bytes(x->dtype, first), n, buffer, false);
    store_chunk(buffer, out, first, n);
  }
}

mg_status CPU_NAME(cast)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0];
  mg_tensor *out = call->out[0];
  if (mg_dtype_is_stored(x->dtype)) {
    cast_stored(backend, x, out);
    return MG_OK;
  }
  const size_t bytes = mg_dtype_bytes(x->dtype);
  const int64_t count = mg_tensor_count(x);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    if (x->dtype == out->dtype)
      memcpy((char *)out->data + (size_t)first * bytes, (const char *)x->data + (size_t)first * bytes,
             (size_t)n * bytes);
    else
      cast_chunk(x, out, first, n);
  }
  return MG_OK;
}

static void unary_chunk(mg_unary kind, float alpha, float beta, const float *x, float *out, int64_t n) {
  switch (kind) {
  case MG_UNARY_AFFINE: EACH(alpha * x[i] + beta); break;
  case MG_UNARY_EXP: EACH(cpu_exp(x[i])); break;
  case MG_UNARY_LOG: EACH(logf(x[i])); break;
  case MG_UNARY_SQRT: EACH(sqrtf(x[i])); break;
  case MG_UNARY_SQUARE: EACH(x[i] * x[i]); break;
  case MG_UNARY_RECIPROCAL: EACH(1.0f / x[i]); break;
  case MG_UNARY_ABS: EACH(fabsf(x[i])); break;
  case MG_UNARY_SIGMOID: EACH(cpu_sigmoid(x[i])); break;
  case MG_UNARY_TANH: EACH(cpu_tanh(x[i])); break;
  case MG_UNARY_RELU: EACH(x[i] < 0.0f ? 0.0f : x[i]); break;
  case MG_UNARY_SILU: EACH(x[i] * cpu_sigmoid(x[i])); break;
  case MG_UNARY_GELU: EACH(x[i] * cpu_normal_cdf(x[i])); break;
  case MG_UNARY_GELU_TANH: EACH(cpu_gelu_tanh(x[i])); break;
  case MG_UNARY_SOFTPLUS: EACH(cpu_softplus(x[i])); break;
  case MG_UNARY_NORMAL_CDF: EACH(cpu_normal_cdf(x[i])); break;
  case MG_UNARY_CLAMP: EACH(x[i] < alpha ? alpha : x[i] > beta ? beta : x[i]); break;
  case MG_UNARY_STEP: EACH(x[i] > 0.0f ? 1.0f : 0.0f); break;
  case MG_UNARY_SIGN: EACH(x[i] > 0.0f ? 1.0f : x[i] < 0.0f ? -1.0f : 0.0f); break;
  case MG_UNARY_COUNT: break;
  }
}

mg_status CPU_NAME(unary)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const mg_unary kind = call->attributes.unary.kind;
  const float alpha = (float)call->attributes.unary.alpha, beta = (float)call->attributes.unary.beta;
  const int64_t count = mg_tensor_count(x);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    float in_buffer[CPU_CHUNK];
    float out_buffer[CPU_CHUNK];
    unary_chunk(kind, alpha, beta, cpu_read(x, first, n, in_buffer), cpu_write_begin(out, first, out_buffer), n);
    cpu_write_end(out, first, n, out_buffer);
  }
  return MG_OK;
}

/* out = f'(x) * g */
static void unary_backward_chunk(mg_unary kind, float alpha, float beta, const float *x, const float *g, float *out,
                                 int64_t n) {
  switch (kind) {
  case MG_UNARY_AFFINE: EACH(alpha * g[i]); break;
  case MG_UNARY_EXP: EACH(cpu_exp(x[i]) * g[i]); break;
  case MG_UNARY_LOG: EACH(g[i] / x[i]); break;
  case MG_UNARY_SQRT: EACH(0.5f * g[i] / sqrtf(x[i])); break;
  case MG_UNARY_SQUARE: EACH(2.0f * x[i] * g[i]); break;
  case MG_UNARY_RECIPROCAL: EACH(-g[i] / (x[i] * x[i])); break;
  case MG_UNARY_ABS: EACH(x[i] > 0.0f ? g[i] : x[i] < 0.0f ? -g[i] : 0.0f); break;
  case MG_UNARY_SIGMOID: EACH(g[i] * cpu_sigmoid(x[i]) * (1.0f - cpu_sigmoid(x[i]))); break;
  case MG_UNARY_TANH: EACH(g[i] * (1.0f - cpu_tanh(x[i]) * cpu_tanh(x[i]))); break;
  case MG_UNARY_RELU: EACH(x[i] > 0.0f ? g[i] : 0.0f); break;
  case MG_UNARY_SILU: EACH(g[i] * cpu_silu_slope(x[i])); break;
  case MG_UNARY_GELU: EACH(g[i] * (cpu_normal_cdf(x[i]) + x[i] * cpu_normal_density(x[i]))); break;
  case MG_UNARY_GELU_TANH: EACH(g[i] * cpu_gelu_tanh_slope(x[i])); break;
  case MG_UNARY_SOFTPLUS: EACH(g[i] * cpu_sigmoid(x[i])); break;
  case MG_UNARY_NORMAL_CDF: EACH(g[i] * cpu_normal_density(x[i])); break;
  case MG_UNARY_CLAMP: EACH(x[i] < alpha || x[i] > beta ? 0.0f : g[i]); break;
  case MG_UNARY_STEP: EACH(0.0f); break;
  case MG_UNARY_SIGN: EACH(0.0f); break;
  case MG_UNARY_COUNT: break;
  }
}

mg_status CPU_NAME(unary_backward)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *dout = call->in[1], *dx = call->out[0];
  const mg_unary kind = call->attributes.unary.kind;
  const float alpha = (float)call->attributes.unary.alpha, beta = (float)call->attributes.unary.beta;
  const int64_t count = mg_tensor_count(x);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    float x_buffer[CPU_CHUNK];
    float g_buffer[CPU_CHUNK];
    float out_buffer[CPU_CHUNK];
    unary_backward_chunk(kind, alpha, beta, cpu_read(x, first, n, x_buffer), cpu_read(dout, first, n, g_buffer),
                         cpu_write_begin(dx, first, out_buffer), n);
    cpu_write_end(dx, first, n, out_buffer);
  }
  return MG_OK;
}

/* NaN when either is. */
static inline float larger(float a, float b) {
  return a >= b || a != a ? a : b;
}
static inline float smaller(float a, float b) {
  return a <= b || a != a ? a : b;
}

/* b is read with `step` 1 (its own elements) or 0 (one element for all). */
static void binary_chunk(mg_binary kind, const float *a, const float *b, int64_t step, float *out, int64_t n) {
  if (step == 0) {
    const float one = b[0];
    switch (kind) {
    case MG_BINARY_ADD: EACH(a[i] + one); break;
    case MG_BINARY_SUB: EACH(a[i] - one); break;
    case MG_BINARY_MUL: EACH(a[i] * one); break;
    case MG_BINARY_DIV: EACH(a[i] / one); break;
    case MG_BINARY_MAX: EACH(larger(a[i], one)); break;
    case MG_BINARY_MIN: EACH(smaller(a[i], one)); break;
    case MG_BINARY_GREATER: EACH(a[i] > one ? 1.0f : 0.0f); break;
    case MG_BINARY_COUNT: break;
    }
    return;
  }
  switch (kind) {
  case MG_BINARY_ADD: EACH(a[i] + b[i]); break;
  case MG_BINARY_SUB: EACH(a[i] - b[i]); break;
  case MG_BINARY_MUL: EACH(a[i] * b[i]); break;
  case MG_BINARY_DIV: EACH(a[i] / b[i]); break;
  case MG_BINARY_MAX: EACH(larger(a[i], b[i])); break;
  case MG_BINARY_MIN: EACH(smaller(a[i], b[i])); break;
  case MG_BINARY_GREATER: EACH(a[i] > b[i] ? 1.0f : 0.0f); break;
  case MG_BINARY_COUNT: break;
  }
}

/* b as often as a needs it: its row repeated for each of n / columns rows, or its elements, one for each row. */
static void spread(const mg_tensor *b, int64_t b_first, bool column, int64_t columns, int64_t n, float *out) {
  for (int64_t row = 0, i = 0; i < n; row++, i += columns)
    for (int64_t c = 0; c < columns; c++) out[i + c] = cpu_at(b, column ? b_first + row : c);
}

/* Rows [row, row + n / columns) of a narrow a, whose matching elements of b are spread first. */
static void binary_rows(const mg_op_call *call, int64_t row, bool column, int64_t columns, int64_t n) {
  float a_buffer[CPU_CHUNK], b[CPU_CHUNK], out_buffer[CPU_CHUNK];
  const float *a = cpu_read(call->in[0], row * columns, n, a_buffer);
  spread(call->in[1], row, column, columns, n, b);
  binary_chunk(call->attributes.binary.kind, a, b, 1, cpu_write_begin(call->out[0], row * columns, out_buffer), n);
  cpu_write_end(call->out[0], row * columns, n, out_buffer);
}

/* Elements [first, first + n) of a, whose matching elements of b begin at `b_first` with `step` 0 or 1. */
static void binary_span(const mg_op_call *call, int64_t first, int64_t b_first, int64_t step, int64_t n) {
  float a_buffer[CPU_CHUNK], b_buffer[CPU_CHUNK], out_buffer[CPU_CHUNK];
  const float *a = cpu_read(call->in[0], first, n, a_buffer);
  const float *b = cpu_read(call->in[1], b_first, step ? n : 1, b_buffer);
  binary_chunk(call->attributes.binary.kind, a, b, step, cpu_write_begin(call->out[0], first, out_buffer), n);
  cpu_write_end(call->out[0], first, n, out_buffer);
}

mg_status CPU_NAME(binary)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *a = call->in[0], *b = call->in[1];
  const int64_t count = mg_tensor_count(a), columns = mg_tensor_columns(a), b_count = mg_tensor_count(b);
  if (count == 0) return MG_OK;
  if (b_count == count || b_count == 1) {
    const int64_t step = b_count == count ? 1 : 0;
    CPU_PARALLEL(backend, count)
    for (int64_t first = 0; first < count; first += CPU_CHUNK) {
      const int64_t n = cpu_min(CPU_CHUNK, count - first);
      binary_span(call, first, step ? first : 0, step, n);
    }
    return MG_OK;
  }
  /* A [R,1] column has one element per row of a; a row [C] is read again for each row. */
  const bool column = mg_tensor_columns(b) == 1 && b->dims > 1;
  const int64_t rows = count / columns;
  if (columns <= NARROW) {
    const int64_t together = CPU_CHUNK / columns;
    CPU_PARALLEL(backend, count)
    for (int64_t row = 0; row < rows; row += together)
      binary_rows(call, row, column, columns, cpu_min(together, rows - row) * columns);
    return MG_OK;
  }
  CPU_PARALLEL(backend, count)
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t c = 0; c < columns; c += CPU_CHUNK)
      binary_span(call, row * columns + c, column ? row : c, column ? 0 : 1, cpu_min(CPU_CHUNK, columns - c));
  }
  return MG_OK;
}

mg_status CPU_NAME(where)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *mask_tensor = call->in[0], *x_tensor = call->in[1], *out_tensor = call->out[0];
  const float value = (float)call->attributes.where.value;
  const int64_t count = mg_tensor_count(x_tensor);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    float mask_buffer[CPU_CHUNK];
    float x_buffer[CPU_CHUNK];
    float out_buffer[CPU_CHUNK];
    const float *mask = cpu_read(mask_tensor, first, n, mask_buffer);
    const float *x = cpu_read(x_tensor, first, n, x_buffer);
    float *out = cpu_write_begin(out_tensor, first, out_buffer);
    EACH(mask[i] != 0.0f ? x[i] : value);
    cpu_write_end(out_tensor, first, n, out_buffer);
  }
  return MG_OK;
}

mg_status CPU_NAME(add_scaled)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x_tensor = call->in[0], *out_tensor = call->out[0];
  const float factor = (float)call->attributes.add_scaled.factor;
  const int64_t count = mg_tensor_count(x_tensor);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    float x_buffer[CPU_CHUNK];
    float out_buffer[CPU_CHUNK];
    const float *x = cpu_read(x_tensor, first, n, x_buffer);
    const float *old = cpu_read(out_tensor, first, n, out_buffer);
    float *out = cpu_write_begin(out_tensor, first, out_buffer);
    EACH(old[i] + factor * x[i]);
    cpu_write_end(out_tensor, first, n, out_buffer);
  }
  return MG_OK;
}

static void glu_chunk(mg_glu_kind kind, const float *gate, const float *up, float *out, int64_t n) {
  switch (kind) {
  case MG_GLU_SILU: EACH(gate[i] * cpu_sigmoid(gate[i]) * up[i]); break;
  case MG_GLU_GELU: EACH(gate[i] * cpu_normal_cdf(gate[i]) * up[i]); break;
  case MG_GLU_GELU_TANH: EACH(cpu_gelu_tanh(gate[i]) * up[i]); break;
  case MG_GLU_RELU: EACH((gate[i] < 0.0f ? 0.0f : gate[i]) * up[i]); break;
  case MG_GLU_SIGMOID: EACH(cpu_sigmoid(gate[i]) * up[i]); break;
  }
}

mg_status CPU_NAME(glu)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *gate = call->in[0], *up = call->in[1], *out = call->out[0];
  const int64_t count = mg_tensor_count(gate);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    float gate_buffer[CPU_CHUNK];
    float up_buffer[CPU_CHUNK];
    float out_buffer[CPU_CHUNK];
    glu_chunk(call->attributes.glu.kind, cpu_read(gate, first, n, gate_buffer), cpu_read(up, first, n, up_buffer),
              cpu_write_begin(out, first, out_buffer), n);
    cpu_write_end(out, first, n, out_buffer);
  }
  return MG_OK;
}

static inline void glu_backward_silu(float g, float u, float d, float *dg, float *du) {
  const float s = cpu_sigmoid(g);
  *dg = d * u * s * (1.0f + g * (1.0f - s));
  *du = d * g * s;
}
static inline void glu_backward_gelu(float g, float u, float d, float *dg, float *du) {
  const float cdf = cpu_normal_cdf(g);
  *dg = d * u * (cdf + g * cpu_normal_density(g));
  *du = d * g * cdf;
}
static inline void glu_backward_gelu_tanh(float g, float u, float d, float *dg, float *du) {
  *dg = d * u * cpu_gelu_tanh_slope(g);
  *du = d * cpu_gelu_tanh(g);
}
static inline void glu_backward_relu(float g, float u, float d, float *dg, float *du) {
  *dg = g > 0.0f ? d * u : 0.0f;
  *du = g < 0.0f ? 0.0f : d * g;
}
static inline void glu_backward_sigmoid(float g, float u, float d, float *dg, float *du) {
  const float s = cpu_sigmoid(g);
  *dg = d * u * s * (1.0f - s);
  *du = d * s;
}

#define EACH_PAIR(function)                                                                                            \
  do {                                                                                                                 \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                              \
      float a, b;                                                                                                      \
      function(gate[i], up[i], dout[i], &a, &b);                                                                       \
      dgate[i] = a;                                                                                                    \
      dup[i] = b;                                                                                                      \
    }                                                                                                                  \
  } while (0)

static void glu_backward_chunk(mg_glu_kind kind, const float *gate, const float *up, const float *dout, float *dgate,
                               float *dup, int64_t n) {
  switch (kind) {
  case MG_GLU_SILU: EACH_PAIR(glu_backward_silu); break;
  case MG_GLU_GELU: EACH_PAIR(glu_backward_gelu); break;
  case MG_GLU_GELU_TANH: EACH_PAIR(glu_backward_gelu_tanh); break;
  case MG_GLU_RELU: EACH_PAIR(glu_backward_relu); break;
  case MG_GLU_SIGMOID: EACH_PAIR(glu_backward_sigmoid); break;
  }
}

mg_status CPU_NAME(glu_backward)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *gate = call->in[0], *up = call->in[1], *dout = call->in[2];
  const mg_tensor *dgate = call->out[0], *dup = call->out[1];
  const int64_t count = mg_tensor_count(gate);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    float in_buffers[3][CPU_CHUNK];
    float out_buffers[2][CPU_CHUNK];
    glu_backward_chunk(call->attributes.glu.kind, cpu_read(gate, first, n, in_buffers[0]),
                       cpu_read(up, first, n, in_buffers[1]), cpu_read(dout, first, n, in_buffers[2]),
                       cpu_write_begin(dgate, first, out_buffers[0]), cpu_write_begin(dup, first, out_buffers[1]), n);
    cpu_write_end(dgate, first, n, out_buffers[0]);
    cpu_write_end(dup, first, n, out_buffers[1]);
  }
  return MG_OK;
}

mg_status CPU_NAME(random)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *out_tensor = call->out[0];
  const mg_stream stream = call->attributes.random.stream;
  const uint64_t start = call->attributes.random.first;
  const double low = call->attributes.random.low, high = call->attributes.random.high;
  const bool normal = call->attributes.random.kind == MG_RANDOM_NORMAL;
  const int64_t count = mg_tensor_count(out_tensor);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    float buffer[CPU_CHUNK];
    float *out = cpu_write_begin(out_tensor, first, buffer);
    for (int64_t i = 0; i < n; i++) {
      const uint64_t index = start + (uint64_t)(first + i);
      out[i] = (float)(normal ? low + high * mg_random_normal(stream, index)
                              : low + (high - low) * mg_random_uniform(stream, index));
    }
    cpu_write_end(out_tensor, first, n, buffer);
  }
  return MG_OK;
}

/* Decoupled weight decay (Loshchilov and Hutter 2019, "Decoupled weight decay regularization"). */
mg_status CPU_NAME(adamw)(mg_backend *backend, const mg_op_call *call) {
  const float *gradient = call->in[0]->data;
  float *parameter = call->out[0]->data, *first_moment = call->out[1]->data, *second_moment = call->out[2]->data;
  const double beta1 = call->attributes.adamw.beta1, beta2 = call->attributes.adamw.beta2;
  const double rate = call->attributes.adamw.rate;
  const double step = (double)call->attributes.adamw.step;
  const float keep1 = (float)beta1, add1 = (float)(1.0 - beta1), keep2 = (float)beta2, add2 = (float)(1.0 - beta2);
  const float correction1 = (float)(rate / (1.0 - pow(beta1, step)));
  const float correction2 = (float)(1.0 / (1.0 - pow(beta2, step)));
  const float shrink = (float)(rate * call->attributes.adamw.decay);
  const float epsilon = (float)call->attributes.adamw.epsilon, scale = (float)call->attributes.adamw.gradient_scale;
  const int64_t count = mg_tensor_count(call->in[0]);
  CPU_PARALLEL(backend, count)
  for (int64_t first = 0; first < count; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, count - first);
    const float *g_in = gradient + first;
    float *p = parameter + first;
    float *m = first_moment + first;
    float *v = second_moment + first;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      const float g = g_in[i] * scale;
      m[i] = keep1 * m[i] + add1 * g;
      v[i] = keep2 * v[i] + add2 * g * g;
      p[i] -= shrink * p[i] + correction1 * m[i] / (sqrtf(v[i] * correction2) + epsilon);
    }
  }
  return MG_OK;
}
