/* Elementwise primitives: one thread for each element, computing in f32. */
#include "functions.h"

namespace {
GPU_KERNEL(GPU_WARP) probe_kernel() {}
} // namespace

mg_status mg__gpu_probe(mg_backend *backend) {
  gpu_launch(probe_kernel, gpu_grid{1, 1}, GPU_WARP, gpu_state_of(backend)->stream);
  return mg__gpu_check(backend, gpu_last_error(), "launching a first kernel");
}

/* ---- fill, cast ------------------------------------------------------------------------------------------------- */

namespace {
/* Reads and writes of i32 beside the real dtypes: towards zero, to the nearest end when out of range, NaN to 0. */
GPU_DEVICE int32_t integer_of(float value) {
  if (gpu_is_nan(value)) return 0;
  if (value <= -2147483648.0f) return INT32_MIN;
  return value >= 2147483648.0f ? INT32_MAX : static_cast<int32_t>(value);
}

template <typename T> GPU_DEVICE void convert(T *out, int64_t i, float value) {
  gpu_write(out, i, value);
}
template <typename T> GPU_DEVICE void convert(T *out, int64_t i, int32_t value) {
  gpu_write(out, i, static_cast<float>(value));
}
GPU_DEVICE void convert(int32_t *out, int64_t i, float value) {
  out[i] = integer_of(value);
}
GPU_DEVICE void convert(int32_t *out, int64_t i, int32_t value) {
  out[i] = value;
}
GPU_DEVICE float element(const float *x, int64_t i) {
  return gpu_read(x, i);
}
GPU_DEVICE float element(const gpu_bf16 *x, int64_t i) {
  return gpu_read(x, i);
}
GPU_DEVICE int32_t element(const int32_t *x, int64_t i) {
  return x[i];
}

template <typename X, typename T> struct cast_step {
  const X *x;
  T *out;
  GPU_DEVICE void operator()(int64_t i) const {
    convert(out, i, element(x, i));
  }
};

template <typename T, typename V> struct fill_step {
  T *out;
  V value;
  GPU_DEVICE void operator()(int64_t i) const {
    convert(out, i, value);
  }
};
} // namespace

mg_status mg__gpu_fill(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *out = call->out[0];
  const double value = call->attributes.fill.value;
  const int64_t count = mg_tensor_count(out);
  if (out->dtype == MG_I32)
    gpu_each(backend, count, fill_step<int32_t, int32_t>{gpu_data<int32_t>(out), static_cast<int32_t>(value)});
  else
    gpu_with_real(out->dtype, [&](auto type) {
      typedef gpu_element<decltype(type)> T;
      gpu_each(backend, count, fill_step<T, float>{gpu_data<T>(out), static_cast<float>(value)});
    });
  return mg__gpu_launched(backend, call);
}

template <typename X> static void cast_from(const mg_backend *backend, const mg_tensor *x, const mg_tensor *out) {
  const int64_t count = mg_tensor_count(x);
  const X *from = gpu_data<const X>(x);
  if (out->dtype == MG_I32)
    gpu_each(backend, count, cast_step<X, int32_t>{from, gpu_data<int32_t>(out)});
  else
    gpu_with_real(out->dtype, [&](auto type) {
      typedef gpu_element<decltype(type)> T;
      gpu_each(backend, count, cast_step<X, T>{from, gpu_data<T>(out)});
    });
}

mg_status mg__gpu_cast(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  if (x->dtype == out->dtype) { /* the bits as they are, NaN included */
    if (mg_tensor_count(x) == 0) return MG_OK;
    return mg__gpu_check(backend, gpu_copy(out->data, x->data, mg_tensor_bytes(x), gpu_state_of(backend)->stream),
                         "copying a tensor");
  }
  if (x->dtype == MG_I32)
    cast_from<int32_t>(backend, x, out);
  else
    gpu_with_real(x->dtype, [&](auto type) { cast_from<gpu_element<decltype(type)>>(backend, x, out); });
  return mg__gpu_launched(backend, call);
}

/* ---- functions of one argument ---------------------------------------------------------------------------------- */

namespace {
template <typename T> struct unary_step {
  const T *x;
  T *out;
  mg_unary kind;
  float alpha, beta;
  GPU_DEVICE void operator()(int64_t i) const {
    gpu_write(out, i, gpu_unary_value(kind, gpu_read(x, i), alpha, beta));
  }
};

template <typename T> struct unary_backward_step {
  const T *x, *dout;
  T *dx;
  mg_unary kind;
  float alpha, beta;
  GPU_DEVICE void operator()(int64_t i) const {
    gpu_write(dx, i, gpu_unary_slope(kind, gpu_read(x, i), alpha, beta) * gpu_read(dout, i));
  }
};
} // namespace

mg_status mg__gpu_unary(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const auto &set = call->attributes.unary;
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(x),
             unary_step<T>{gpu_data<const T>(x), gpu_data<T>(out), set.kind, static_cast<float>(set.alpha),
                           static_cast<float>(set.beta)});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_unary_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *dout = call->in[1], *dx = call->out[0];
  const auto &set = call->attributes.unary;
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(x),
             unary_backward_step<T>{gpu_data<const T>(x), gpu_data<const T>(dout), gpu_data<T>(dx), set.kind,
                                    static_cast<float>(set.alpha), static_cast<float>(set.beta)});
  });
  return mg__gpu_launched(backend, call);
}

/* ---- functions of two arguments --------------------------------------------------------------------------------- */

namespace {
/* How b lies beside a. */
enum beside { LIKE_A, ONE_ELEMENT, A_COLUMN, A_ROW };

beside beside_of(const mg_tensor *a, const mg_tensor *b) {
  const int64_t count = mg_tensor_count(b);
  if (count == mg_tensor_count(a)) return LIKE_A;
  if (count == 1) return ONE_ELEMENT;
  return mg_tensor_columns(b) == 1 && b->dims > 1 ? A_COLUMN : A_ROW;
}

GPU_DEVICE int64_t element_of_b(beside how, int64_t i, int64_t columns) {
  if (how == LIKE_A) return i;
  if (how == ONE_ELEMENT) return 0;
  const gpu_place at = gpu_place_of(i, columns);
  return how == A_COLUMN ? at.row : at.column;
}

GPU_DEVICE float combined(mg_binary kind, float a, float b) {
  switch (kind) {
  case MG_BINARY_ADD: return a + b;
  case MG_BINARY_SUB: return a - b;
  case MG_BINARY_MUL: return a * b;
  case MG_BINARY_DIV: return a / b;
  case MG_BINARY_MAX: return gpu_larger(a, b);
  case MG_BINARY_MIN: return -gpu_larger(-a, -b);
  case MG_BINARY_GREATER: return a > b ? 1.0f : 0.0f;
  case MG_BINARY_COUNT: break;
  }
  return 0.0f;
}

template <typename T> struct binary_step {
  const T *a, *b;
  T *out;
  mg_binary kind;
  beside how;
  int64_t columns;
  GPU_DEVICE void operator()(int64_t i) const {
    gpu_write(out, i, combined(kind, gpu_read(a, i), gpu_read(b, element_of_b(how, i, columns))));
  }
};
} // namespace

mg_status mg__gpu_binary(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  gpu_with_real(a->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(a),
             binary_step<T>{gpu_data<const T>(a), gpu_data<const T>(b), gpu_data<T>(out), call->attributes.binary.kind,
                            beside_of(a, b), mg_tensor_columns(a)});
  });
  return mg__gpu_launched(backend, call);
}

namespace {
template <typename T> struct where_step {
  const T *mask, *x;
  T *out;
  float value;
  GPU_DEVICE void operator()(int64_t i) const {
    gpu_write(out, i, gpu_read(mask, i) != 0.0f ? gpu_read(x, i) : value);
  }
};
} // namespace

mg_status mg__gpu_where(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *mask = call->in[0], *x = call->in[1], *out = call->out[0];
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(x),
             where_step<T>{gpu_data<const T>(mask), gpu_data<const T>(x), gpu_data<T>(out),
                           static_cast<float>(call->attributes.where.value)});
  });
  return mg__gpu_launched(backend, call);
}

namespace {
template <typename X, typename T> struct add_scaled_step {
  const X *x;
  T *out;
  float factor;
  GPU_DEVICE void operator()(int64_t i) const {
    gpu_write(out, i, gpu_read(out, i) + factor * gpu_read(x, i));
  }
};
} // namespace

mg_status mg__gpu_add_scaled(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const float factor = static_cast<float>(call->attributes.add_scaled.factor);
  gpu_with_real(x->dtype, [&](auto x_type) {
    gpu_with_real(out->dtype, [&](auto out_type) {
      typedef gpu_element<decltype(x_type)> X;
      typedef gpu_element<decltype(out_type)> T;
      gpu_each(backend, mg_tensor_count(x), add_scaled_step<X, T>{gpu_data<const X>(x), gpu_data<T>(out), factor});
    });
  });
  return mg__gpu_launched(backend, call);
}

/* ---- glu -------------------------------------------------------------------------------------------------------- */

namespace {
mg_unary activation_of(mg_glu_kind kind) {
  switch (kind) {
  case MG_GLU_SILU: return MG_UNARY_SILU;
  case MG_GLU_GELU: return MG_UNARY_GELU;
  case MG_GLU_GELU_TANH: return MG_UNARY_GELU_TANH;
  case MG_GLU_RELU: return MG_UNARY_RELU;
  case MG_GLU_SIGMOID: return MG_UNARY_SIGMOID;
  }
  return MG_UNARY_COUNT;
}

template <typename T> struct glu_step {
  const T *gate, *up;
  T *out;
  mg_unary activation;
  GPU_DEVICE void operator()(int64_t i) const {
    gpu_write(out, i, gpu_unary_value(activation, gpu_read(gate, i), 0.0f, 0.0f) * gpu_read(up, i));
  }
};

template <typename T> struct glu_backward_step {
  const T *gate, *up, *dout;
  T *dgate, *dup;
  mg_unary activation;
  GPU_DEVICE void operator()(int64_t i) const {
    const float g = gpu_read(gate, i), u = gpu_read(up, i), d = gpu_read(dout, i);
    gpu_write(dgate, i, gpu_unary_slope(activation, g, 0.0f, 0.0f) * u * d);
    gpu_write(dup, i, gpu_unary_value(activation, g, 0.0f, 0.0f) * d);
  }
};
} // namespace

mg_status mg__gpu_glu(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *gate = call->in[0], *up = call->in[1], *out = call->out[0];
  const mg_unary activation = activation_of(call->attributes.glu.kind);
  gpu_with_real(gate->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(gate),
             glu_step<T>{gpu_data<const T>(gate), gpu_data<const T>(up), gpu_data<T>(out), activation});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_glu_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *gate = call->in[0], *up = call->in[1], *dout = call->in[2];
  const mg_unary activation = activation_of(call->attributes.glu.kind);
  gpu_with_real(gate->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(gate),
             glu_backward_step<T>{gpu_data<const T>(gate), gpu_data<const T>(up), gpu_data<const T>(dout),
                                  gpu_data<T>(call->out[0]), gpu_data<T>(call->out[1]), activation});
  });
  return mg__gpu_launched(backend, call);
}

/* ---- adamw ------------------------------------------------------------------------------------------------------ */

namespace {
/* The constants are computed in f64 on the host: 1 - beta^n loses digits in f32. */
struct adamw_step {
  const float *gradient;
  float *parameter, *first, *second;
  float gradient_scale, beta1, beta2, rest1, rest2; /* rest = 1 - beta */
  float step_size, second_scale, epsilon, shrink;   /* rate / (1 - beta1^n), 1 / (1 - beta2^n), rate * decay */
  GPU_DEVICE void operator()(int64_t i) const {
    const float g = gradient_scale * gradient[i];
    const float m = beta1 * first[i] + rest1 * g;
    const float v = beta2 * second[i] + rest2 * g * g;
    const float p = parameter[i];
    first[i] = m;
    second[i] = v;
    parameter[i] = p - (step_size * m / (sqrtf(v * second_scale) + epsilon) + shrink * p);
  }
};
} // namespace

mg_status mg__gpu_adamw(mg_backend *backend, const mg_op_call *call) {
  const auto &set = call->attributes.adamw;
  const double n = static_cast<double>(set.step);
  adamw_step step = {};
  step.gradient = gpu_data<const float>(call->in[0]);
  step.parameter = gpu_data<float>(call->out[0]);
  step.first = gpu_data<float>(call->out[1]);
  step.second = gpu_data<float>(call->out[2]);
  step.gradient_scale = static_cast<float>(set.gradient_scale);
  step.beta1 = static_cast<float>(set.beta1);
  step.beta2 = static_cast<float>(set.beta2);
  step.rest1 = static_cast<float>(1 - set.beta1);
  step.rest2 = static_cast<float>(1 - set.beta2);
  step.step_size = static_cast<float>(set.rate / (1 - pow(set.beta1, n)));
  step.second_scale = static_cast<float>(1 / (1 - pow(set.beta2, n)));
  step.epsilon = static_cast<float>(set.epsilon);
  step.shrink = static_cast<float>(set.rate * set.decay);
  gpu_each(backend, mg_tensor_count(call->in[0]), step);
  return mg__gpu_launched(backend, call);
}
