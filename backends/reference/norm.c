/* norm: out = (x - mean) / deviation * scale + shift for each row, without the scale or shift that is not given.
 *   layer: mean of the row, deviation = sqrt(mean of (x - mean)^2 + epsilon)   (Ba et al. 2016)
 *   rms:   mean 0, deviation = sqrt(mean of x^2 + epsilon)                     (Zhang and Sennrich 2019)
 * statistics[r] = (mean, 1 / deviation).
 *
 * norm_backward, with n = (x - mean) / deviation and g = dout scale:
 *   dx = (g - mean(g) - n mean(g n)) / deviation, where rms has no mean(g)
 *   dscale[c] = sum over r of dout n, dshift[c] = sum over r of dout; each only if asked for. */
#include "reference.h"

mg_status mg__reference_norm(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *scale = call->in[1], *shift = call->in[2];
  const mg_tensor *out = call->out[0], *statistics = call->out[1];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  for (int64_t r = 0; r < rows; r++) {
    const int64_t first = r * columns;
    double mean = 0, square = 0;
    if (call->attributes.norm.kind == MG_NORM_LAYER)
      for (int64_t c = 0; c < columns; c++) mean += at(x, first + c) / (double)columns;
    for (int64_t c = 0; c < columns; c++) square += pow(at(x, first + c) - mean, 2) / (double)columns;
    const double inverse = 1 / sqrt(square + call->attributes.norm.epsilon);
    for (int64_t c = 0; c < columns; c++)
      put(out, first + c,
          (at(x, first + c) - mean) * inverse * (scale ? at(scale, c) : 1) + (shift ? at(shift, c) : 0));
    put(statistics, 2 * r, mean);
    put(statistics, 2 * r + 1, inverse);
  }
  return MG_OK;
}

/* n of one element, from the stored statistics. */
static double normalised(const mg_op_call *call, int64_t r, int64_t c) {
  const mg_tensor *x = call->in[0], *statistics = call->in[2];
  return (at(x, r * mg_tensor_columns(x) + c) - at(statistics, 2 * r)) * at(statistics, 2 * r + 1);
}

static void backward_row(const mg_op_call *call, int64_t r) {
  const mg_tensor *scale = call->in[1], *statistics = call->in[2], *dout = call->in[3], *dx = call->out[0];
  const int64_t columns = mg_tensor_columns(dx), first = r * columns;
  double mean_g = 0, mean_gn = 0;
  for (int64_t c = 0; c < columns; c++) {
    const double g = at(dout, first + c) * (scale ? at(scale, c) : 1);
    if (call->attributes.norm.kind == MG_NORM_LAYER) mean_g += g / (double)columns;
    mean_gn += g * normalised(call, r, c) / (double)columns;
  }
  for (int64_t c = 0; c < columns; c++) {
    const double g = at(dout, first + c) * (scale ? at(scale, c) : 1);
    put(dx, first + c, (g - mean_g - normalised(call, r, c) * mean_gn) * at(statistics, 2 * r + 1));
  }
}

mg_status mg__reference_norm_backward(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *dout = call->in[3], *dscale = call->out[1], *dshift = call->out[2];
  const int64_t rows = mg_tensor_rows(dout), columns = mg_tensor_columns(dout);
  for (int64_t r = 0; r < rows; r++) backward_row(call, r);
  for (int64_t c = 0; c < columns; c++) {
    double scale_sum = 0, shift_sum = 0;
    for (int64_t r = 0; r < rows; r++) {
      scale_sum += at(dout, r * columns + c) * normalised(call, r, c);
      shift_sum += at(dout, r * columns + c);
    }
    if (dscale) put(dscale, c, scale_sum);
    if (dshift) put(dshift, c, shift_sum);
  }
  return MG_OK;
}
