/* rope: rotates pairs of columns by the angle position * frequency (Su et al. 2021); backends/reference/rope.c has the
 * formula. A thread computes the sine and cosine of one pair once, for all heads of its token. */
#include <math.h>

#include "kernels.h"

namespace {

template <typename T> struct rope_pair {
  const T *x;
  const int32_t *positions;
  const float *frequencies;
  T *out;
  int64_t columns, head, pairs; /* of a row, of a head, of a head's rotary part */
  bool interleaved, inverse;
  float scale;
  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place at = gpu_place_of(i, pairs);
    const int64_t token = at.row, pair = at.column;
    const float angle = static_cast<float>(positions[token]) * frequencies[pair];
    float sine, cosine;
    sincosf(angle, &sine, &cosine);
    cosine *= scale;
    sine *= inverse ? -scale : scale;
    const int64_t first = interleaved ? 2 * pair : pair, step = interleaved ? 1 : pairs;
    for (int64_t a = token * columns + first; a < (token + 1) * columns; a += head) {
      const float x_a = gpu_read(x, a), x_b = gpu_read(x, a + step);
      gpu_write(out, a, x_a * cosine - x_b * sine);
      gpu_write(out, a + step, x_a * sine + x_b * cosine);
    }
  }
};

/* The columns of each head that are not rotated. */
template <typename T> struct rope_rest {
  const T *x;
  T *out;
  int64_t head, rotary;
  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place at = gpu_place_of(i, head - rotary);
    const int64_t c = at.row * head + rotary + at.column;
    out[c] = x[c];
  }
};

} // namespace

mg_status mg__gpu_rope(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const auto &set = call->attributes.rope;
  const int64_t tokens = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    const T *from = gpu_data<const T>(x);
    T *to = gpu_data<T>(out);
    gpu_each(backend, tokens * (set.rotary / 2),
             rope_pair<T>{from, gpu_data<const int32_t>(call->in[1]), gpu_data<const float>(call->in[2]), to, columns,
                          set.head, set.rotary / 2, set.interleaved, set.inverse, static_cast<float>(set.scale)});
    gpu_each(backend, tokens * (columns / set.head) * (set.head - set.rotary),
             rope_rest<T>{from, to, set.head, set.rotary});
  });
  return mg__gpu_launched(backend, call);
}
