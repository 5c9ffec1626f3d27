/* Primitives that move elements: slice, concat, transpose. Elements are moved as bits, whatever they stand for. */
#include "kernels.h"

namespace {

/* Calls `f` with a null pointer of an unsigned type of the dtype's size. */
template <typename F> void with_bits(mg_dtype dtype, F f) {
  if (mg_dtype_bytes(dtype) == 2)
    f(static_cast<uint16_t *>(nullptr));
  else
    f(static_cast<uint32_t *>(nullptr));
}

/* ---- slice and concat ------------------------------------------------------------------------------------------- */

template <typename T> struct slice_step {
  const T *x;
  T *out;
  int64_t columns, count, first;
  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place at = gpu_place_of(i, count);
    out[i] = x[at.row * columns + first + at.column];
  }
};

template <typename T> struct slice_backward_step {
  const T *dout;
  T *dx;
  int64_t columns, count, first;
  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place at = gpu_place_of(i, columns);
    const int64_t from = at.column - first;
    dx[i] = from >= 0 && from < count ? dout[at.row * count + from] : T(0);
  }
};

template <typename T> struct concat_step {
  const T *a, *b;
  T *out;
  int64_t a_columns, b_columns;
  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place at = gpu_place_of(i, a_columns + b_columns);
    out[i] = at.column < a_columns ? a[at.row * a_columns + at.column] : b[at.row * b_columns + at.column - a_columns];
  }
};

/* ---- transpose -------------------------------------------------------------------------------------------------- */

enum { TILE = 32, TILE_ROWS = GPU_BLOCK / TILE };

/* A block exchanges one tile through shared memory, so that both sides are read and written along rows. */
template <typename T>
GPU_KERNEL(GPU_BLOCK)
transpose_kernel(const T *x, T *out, int64_t rows, int64_t columns, int64_t tiles) {
  GPU_SHARED(T, tile, TILE * (TILE + 1)); /* one more column: neighbours of a column lie in different banks */
  const int64_t across = (columns + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
  const int along = gpu_thread() % TILE, beside = gpu_thread() / TILE;
  for (int64_t t = gpu_block(); t < tiles; t += gpu_blocks()) {
    const int64_t batch = t / (across * down) * rows * columns;
    const int64_t r0 = t / across % down * TILE, c0 = t % across * TILE;
    for (int i = beside; i < TILE; i += TILE_ROWS)
      if (r0 + i < rows && c0 + along < columns)
        tile[i * (TILE + 1) + along] = x[batch + (r0 + i) * columns + c0 + along];
    gpu_barrier();
    for (int i = beside; i < TILE; i += TILE_ROWS)
      if (c0 + i < columns && r0 + along < rows)
        out[batch + (c0 + i) * rows + r0 + along] = tile[along * (TILE + 1) + i];
    gpu_barrier();
  }
}

} // namespace

mg_status mg__gpu_slice(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  with_bits(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(out),
             slice_step<T>{gpu_data<const T>(x), gpu_data<T>(out), mg_tensor_columns(x), mg_tensor_columns(out),
                           call->attributes.slice.first});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_slice_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *dx = call->out[0];
  with_bits(dx->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(dx),
             slice_backward_step<T>{gpu_data<const T>(dout), gpu_data<T>(dx), mg_tensor_columns(dx),
                                    mg_tensor_columns(dout), call->attributes.slice.first});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_concat(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  with_bits(out->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(out),
             concat_step<T>{gpu_data<const T>(a), gpu_data<const T>(b), gpu_data<T>(out), mg_tensor_columns(a),
                            mg_tensor_columns(b)});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_transpose(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = x->shape[x->dims - 2], columns = x->shape[x->dims - 1];
  if (mg_tensor_count(x) == 0) return MG_OK;
  const int64_t batches = mg_tensor_count(x) / (rows * columns);
  const int64_t tiles = batches * gpu_ceil_div(rows, TILE) * gpu_ceil_div(columns, TILE);
  with_bits(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_launch(transpose_kernel<T>, gpu_grid_of(backend, tiles), GPU_BLOCK, gpu_state_of(backend)->stream,
               gpu_data<const T>(x), gpu_data<T>(out), rows, columns, tiles);
  });
  return mg__gpu_launched(backend, call);
}
