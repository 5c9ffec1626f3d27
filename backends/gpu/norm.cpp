/* norm and its backward, a team for each row; backends/reference/norm.c has the formulas. Sums are of differences from
 * the mean, in a second walk through the row, so that nothing cancels. */
#include "columns.h"

namespace {

template <typename T> struct norm_row {
  const T *x, *scale, *shift;
  T *out;
  float *statistics;
  int64_t columns;
  float epsilon;
  bool centred; /* layer norm */
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const int64_t first = row * columns;
    const float width = static_cast<float>(columns);
    float mean = 0.0f, square = 0.0f;
    if (centred) {
      for (int64_t c = team.member(); c < columns; c += team.size) mean += gpu_read(x, first + c);
      mean = team.sum(mean) / width;
    }
    for (int64_t c = team.member(); c < columns; c += team.size) {
      const float difference = gpu_read(x, first + c) - mean;
      square += difference * difference;
    }
    const float inverse = 1.0f / sqrtf(team.sum(square) / width + epsilon);
    for (int64_t c = team.member(); c < columns; c += team.size) {
      const float n = (gpu_read(x, first + c) - mean) * inverse;
      gpu_write(out, first + c, n * (scale ? gpu_read(scale, c) : 1.0f) + (shift ? gpu_read(shift, c) : 0.0f));
    }
    if (team.member() != 0) return;
    statistics[2 * row] = mean;
    statistics[2 * row + 1] = inverse;
  }
};

template <typename T> struct norm_backward_row {
  const T *x, *scale;
  const float *statistics;
  const T *dout;
  T *dx;
  int64_t columns;
  bool centred;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const int64_t first = row * columns;
    const float mean = statistics[2 * row], inverse = statistics[2 * row + 1], width = static_cast<float>(columns);
    float sum_g = 0.0f, sum_gn = 0.0f;
    for (int64_t c = team.member(); c < columns; c += team.size) {
      const float g = gpu_read(dout, first + c) * (scale ? gpu_read(scale, c) : 1.0f);
      sum_g += g;
      sum_gn += g * (gpu_read(x, first + c) - mean) * inverse;
    }
    const float mean_g = centred ? team.sum(sum_g) / width : 0.0f;
    const float mean_gn = team.sum(sum_gn) / width;
    for (int64_t c = team.member(); c < columns; c += team.size) {
      const float g = gpu_read(dout, first + c) * (scale ? gpu_read(scale, c) : 1.0f);
      const float n = (gpu_read(x, first + c) - mean) * inverse;
      gpu_write(dx, first + c, (g - mean_g - n * mean_gn) * inverse);
    }
  }
};

/* dscale, the sum over rows of dout n, or without x dshift, the sum of dout. */
template <typename T> struct norm_parameter {
  const T *x;
  const float *statistics;
  const T *dout;
  T *gradient;
  int64_t columns;
  float identity;
  GPU_DEVICE float value(int64_t row, int64_t column) const {
    const float d = gpu_read(dout, row * columns + column);
    return x ? d * (gpu_read(x, row * columns + column) - statistics[2 * row]) * statistics[2 * row + 1] : d;
  }
  GPU_DEVICE float combine(float a, float b) const {
    return a + b;
  }
  GPU_DEVICE void store(int64_t column, float sum) const {
    gpu_write(gradient, column, sum);
  }
};

} // namespace

mg_status mg__gpu_norm(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, rows, columns,
             norm_row<T>{gpu_data<const T>(x), gpu_data<const T>(call->in[1]), gpu_data<const T>(call->in[2]),
                         gpu_data<T>(call->out[0]), gpu_data<float>(call->out[1]), columns,
                         static_cast<float>(call->attributes.norm.epsilon),
                         call->attributes.norm.kind == MG_NORM_LAYER});
  });
  return mg__gpu_launched(backend, call);
}

/* The gradients that were asked for, one after the other: both use the scratch memory. */
template <typename T> static mg_status parameter_gradients(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *dscale = call->out[1], *dshift = call->out[2];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  const float *statistics = gpu_data<const float>(call->in[2]);
  const T *dout = gpu_data<const T>(call->in[3]);
  if (dscale)
    MG_TRY(gpu_columns(backend, rows, columns,
                       norm_parameter<T>{gpu_data<const T>(x), statistics, dout, gpu_data<T>(dscale), columns, 0.0f}));
  if (dshift)
    MG_TRY(gpu_columns(backend, rows, columns,
                       norm_parameter<T>{nullptr, statistics, dout, gpu_data<T>(dshift), columns, 0.0f}));
  return MG_OK;
}

mg_status mg__gpu_norm_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  mg_status status = MG_OK;
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, rows, columns,
             norm_backward_row<T>{gpu_data<const T>(x), gpu_data<const T>(call->in[1]),
                                  gpu_data<const float>(call->in[2]), gpu_data<const T>(call->in[3]),
                                  gpu_data<T>(call->out[0]), columns, call->attributes.norm.kind == MG_NORM_LAYER});
    status = parameter_gradients<T>(backend, call);
  });
  return status == MG_OK ? mg__gpu_launched(backend, call) : status;
}
