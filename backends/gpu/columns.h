/* Reductions over the rows of a matrix, one result for each column, in an order that depends on the shape alone.
 *
 * Rows are cut into chunks; a block reduces one chunk of GPU_WARP columns into scratch memory, and a second kernel
 * combines the chunks in order. */
#ifndef MG_GPU_COLUMNS_H
#define MG_GPU_COLUMNS_H

#include "rows.h"

enum { GPU_CHUNK_ROWS = 64, GPU_CHUNKS_MAX = 64 };

/* F has device functions value(row, column), combine(a, b) and store(column, result), and a member `identity`. */
template <typename F>
GPU_KERNEL(GPU_BLOCK)
gpu_columns_partial(F sum, float *partial, int64_t rows, int64_t columns, int64_t chunk_rows) {
  GPU_SHARED(float, of_lane, GPU_BLOCK);
  const int64_t column = gpu_block() * GPU_WARP + gpu_thread() % GPU_WARP, first = gpu_block_y() * chunk_rows;
  const int64_t end = first + chunk_rows < rows ? first + chunk_rows : rows;
  float result = sum.identity;
  if (column < columns)
    for (int64_t row = first + gpu_thread() / GPU_WARP; row < end; row += GPU_WARPS)
      result = sum.combine(result, sum.value(row, column));
  of_lane[gpu_thread()] = result;
  gpu_barrier();
  if (gpu_thread() >= GPU_WARP || column >= columns) return;
  for (int i = 1; i < GPU_WARPS; i++) result = sum.combine(result, of_lane[i * GPU_WARP + gpu_thread()]);
  partial[gpu_block_y() * columns + column] = result;
}

template <typename F> struct gpu_columns_finish {
  F sum;
  const float *partial;
  int64_t columns, chunks;
  GPU_DEVICE void operator()(int64_t column) const {
    float result = partial[column];
    for (int64_t chunk = 1; chunk < chunks; chunk++) result = sum.combine(result, partial[chunk * columns + column]);
    sum.store(column, result);
  }
};

/* Uses the scratch memory. Fails where that cannot be had. */
template <typename F> static inline mg_status gpu_columns(mg_backend *backend, int64_t rows, int64_t columns, F sum) {
  if (columns <= 0) return MG_OK;
  int64_t chunk_rows = gpu_ceil_div(rows, GPU_CHUNKS_MAX);
  if (chunk_rows < GPU_CHUNK_ROWS) chunk_rows = GPU_CHUNK_ROWS;
  const int64_t chunks = rows > 0 ? gpu_ceil_div(rows, chunk_rows) : 1;
  float *partial =
      static_cast<float *>(mg__gpu_scratch(backend, static_cast<size_t>(chunks * columns) * sizeof(float)));
  if (!partial) return MG_DEVICE;
  const gpu_grid grid = {static_cast<uint32_t>(gpu_ceil_div(columns, GPU_WARP)), static_cast<uint32_t>(chunks)};
  gpu_launch(gpu_columns_partial<F>, grid, GPU_BLOCK, gpu_state_of(backend)->stream, sum, partial, rows, columns,
             chunk_rows);
  gpu_each(backend, columns, gpu_columns_finish<F>{sum, partial, columns, chunks});
  return MG_OK;
}

#endif
