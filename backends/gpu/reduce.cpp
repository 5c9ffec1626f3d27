/* Reductions of rows and columns, running sums, softmax, log-sum-exp and cross entropy. Corners (empty rows, NaN, rows of
 * -inf) are those of backends/reference. */
#include "columns.h"

namespace {

/* ---- reduce ----------------------------------------------------------------------------------------------------- */

template <typename T> struct reduction {
  const T *x;
  float *out;
  mg_reduce kind;
  int64_t columns, count; /* count: of the elements that make one result */
  float identity;

  GPU_DEVICE float combine(float a, float b) const {
    return kind == MG_REDUCE_MAX ? gpu_larger(a, b) : a + b;
  }
  GPU_DEVICE float value(int64_t row, int64_t column) const {
    const float v = gpu_read(x, row * columns + column);
    return kind == MG_REDUCE_SUM_SQUARES ? v * v : v;
  }
  GPU_DEVICE void store(int64_t i, float result) const {
    out[i] = kind == MG_REDUCE_MEAN && count > 0 ? result / static_cast<float>(count) : result;
  }
  GPU_DEVICE float operator()(float a, float b) const {
    return combine(a, b);
  }
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    float result = identity;
    for (int64_t c = team.member(); c < columns; c += team.size) result = combine(result, value(row, c));
    result = team.reduce(result, *this);
    if (team.member() == 0) store(row, result);
  }
};

/* ---- cumsum ----------------------------------------------------------------------------------------------------- */

/* Sum of this lane's value and those of all lanes before it. */
GPU_DEVICE float sum_up_to(float value) {
  const int lane = gpu_thread() % GPU_WARP;
  for (int distance = 1; distance < GPU_WARP; distance *= 2) {
    const float before = gpu_shuffle_up(value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

template <typename T> struct cumsum_row {
  const T *x;
  T *out;
  int64_t columns;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    float carried = 0.0f;
    for (int64_t first = 0; first < columns; first += GPU_WARP) {
      const int64_t c = first + team.member();
      const float sum = carried + sum_up_to(c < columns ? gpu_read(x, row * columns + c) : 0.0f);
      if (c < columns) gpu_write(out, row * columns + c, sum);
      carried = gpu_shuffle(sum, GPU_WARP - 1);
    }
  }
};

/* ---- softmax ---------------------------------------------------------------------------------------------------- */

template <typename T, typename Team> GPU_DEVICE float row_max(const T *x, int64_t columns, Team team) {
  float largest = -INFINITY;
  for (int64_t c = team.member(); c < columns; c += team.size) largest = gpu_larger(largest, gpu_read(x, c));
  return team.max(largest);
}

/* The sum of e^(x - largest) over the row. */
template <typename T, typename Team>
GPU_DEVICE float row_exp_sum(const T *x, int64_t columns, float largest, Team team) {
  float sum = 0.0f;
  for (int64_t c = team.member(); c < columns; c += team.size) sum += expf(gpu_read(x, c) - largest);
  return team.sum(sum);
}

template <typename T> struct softmax_row {
  const T *x;
  T *out;
  int64_t columns;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const T *from = x + row * columns;
    const float largest = row_max(from, columns, team);
    const float sum = row_exp_sum(from, columns, largest, team);
    for (int64_t c = team.member(); c < columns; c += team.size)
      gpu_write(out, row * columns + c, largest == -INFINITY ? 0.0f : expf(gpu_read(from, c) - largest) / sum);
  }
};

template <typename T> struct softmax_backward_row {
  const T *out, *dout;
  T *dx;
  int64_t columns;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const int64_t first = row * columns;
    float dot = 0.0f;
    for (int64_t c = team.member(); c < columns; c += team.size)
      dot += gpu_read(out, first + c) * gpu_read(dout, first + c);
    dot = team.sum(dot);
    for (int64_t c = team.member(); c < columns; c += team.size)
      gpu_write(dx, first + c, gpu_read(out, first + c) * (gpu_read(dout, first + c) - dot));
  }
};

template <typename T> struct log_sum_exp_row {
  const T *x;
  T *out;
  int64_t columns;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const float largest = row_max(x + row * columns, columns, team);
    const float sum = row_exp_sum(x + row * columns, columns, largest, team);
    if (team.member() == 0) gpu_write(out, row, isinf(largest) ? largest : largest + logf(sum));
  }
};

/* ---- cross entropy ---------------------------------------------------------------------------------------------- */

template <typename T> struct cross_entropy_row {
  const T *logits;
  gpu_ids targets;
  float *loss, *lse;
  int64_t columns;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const T *x = logits + row * columns;
    const float largest = row_max(x, columns, team);
    const float sum = row_exp_sum(x, columns, largest, team), result = isinf(largest) ? largest : largest + logf(sum);
    if (team.member() != 0) return;
    const int32_t target = targets[row];
    lse[row] = result;
    loss[row] = target < 0 ? 0.0f : result - gpu_read(x, target);
  }
};

template <typename T> struct cross_entropy_backward_row {
  const T *logits;
  gpu_ids targets;
  const float *lse, *dloss;
  T *dlogits;
  int64_t columns;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const int32_t target = targets[row];
    const float scale = target < 0 ? 0.0f : dloss[row];
    for (int64_t c = team.member(); c < columns; c += team.size) {
      const float p = expf(gpu_read(logits, row * columns + c) - lse[row]);
      gpu_write(dlogits, row * columns + c, target < 0 ? 0.0f : scale * (p - (c == target ? 1.0f : 0.0f)));
    }
  }
};

} // namespace

mg_status mg__gpu_reduce(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  const mg_reduce kind = call->attributes.reduce.kind;
  const bool over_columns = call->attributes.reduce.axis == MG_OVER_COLUMNS;
  mg_status status = MG_OK;
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    const reduction<T> step = {gpu_data<const T>(x),
                               gpu_data<float>(out),
                               kind,
                               columns,
                               over_columns ? columns : rows,
                               kind == MG_REDUCE_MAX ? -INFINITY : 0.0f};
    if (over_columns)
      gpu_rows(backend, rows, columns, step);
    else
      status = gpu_columns(backend, rows, columns, step);
  });
  return status == MG_OK ? mg__gpu_launched(backend, call) : status;
}

mg_status mg__gpu_cumsum(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows_by<false>(backend, mg_tensor_rows(x),
                       cumsum_row<T>{gpu_data<const T>(x), gpu_data<T>(out), mg_tensor_columns(x)});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_softmax(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, rows, columns, softmax_row<T>{gpu_data<const T>(x), gpu_data<T>(out), columns});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_softmax_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *out = call->in[0], *dout = call->in[1], *dx = call->out[0];
  const int64_t rows = mg_tensor_rows(out), columns = mg_tensor_columns(out);
  gpu_with_real(out->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, rows, columns,
             softmax_backward_row<T>{gpu_data<const T>(out), gpu_data<const T>(dout), gpu_data<T>(dx), columns});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_log_sum_exp(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, rows, columns, log_sum_exp_row<T>{gpu_data<const T>(x), gpu_data<T>(out), columns});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_cross_entropy(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *logits = call->in[0], *targets = call->in[1];
  const int64_t rows = mg_tensor_rows(logits), columns = mg_tensor_columns(logits);
  gpu_with_real(logits->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, rows, columns,
             cross_entropy_row<T>{gpu_data<const T>(logits), gpu_ids_of(backend, call, targets, columns),
                                  gpu_data<float>(call->out[0]), gpu_data<float>(call->out[1]), columns});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_cross_entropy_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *logits = call->in[0], *targets = call->in[1];
  const int64_t rows = mg_tensor_rows(logits), columns = mg_tensor_columns(logits);
  gpu_with_real(logits->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, rows, columns,
             cross_entropy_backward_row<T>{gpu_data<const T>(logits), gpu_ids_of(backend, call, targets, columns),
                                           gpu_data<const float>(call->in[2]), gpu_data<const float>(call->in[3]),
                                           gpu_data<T>(call->out[0]), columns});
  });
  return mg__gpu_launched(backend, call);
}
