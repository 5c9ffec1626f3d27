/* For kernels that work on rows: a team of threads, a warp or a whole block, takes one row after the other. */
#ifndef MG_GPU_ROWS_H
#define MG_GPU_ROWS_H

#include <math.h>

#include "kernels.h"

enum { GPU_WARPS = GPU_BLOCK / GPU_WARP, GPU_NARROW_MAX = 512 /* columns that one warp is enough for */ };

struct gpu_add {
  GPU_DEVICE float operator()(float a, float b) const {
    return a + b;
  }
};
struct gpu_max {
  GPU_DEVICE float operator()(float a, float b) const {
    return gpu_larger(a, b);
  }
};

/* The same number in every lane. */
template <typename C> GPU_DEVICE float gpu_warp_reduce(float value, C combine) {
  for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) value = combine(value, gpu_shuffle_xor(value, mask));
  return value;
}

/* The same number in every thread of the block. */
template <typename C> GPU_DEVICE float gpu_block_reduce(float value, C combine) {
  GPU_SHARED(float, of_warp, GPU_WARPS);
  value = gpu_warp_reduce(value, combine);
  gpu_barrier(); /* an earlier result has been read */
  if (gpu_thread() % GPU_WARP == 0) of_warp[gpu_thread() / GPU_WARP] = value;
  gpu_barrier();
  value = of_warp[0];
  for (int warp = 1; warp < GPU_WARPS; warp++) value = combine(value, of_warp[warp]);
  return value;
}

/* A warp, or with WIDE a block of GPU_BLOCK threads. */
template <bool WIDE> struct gpu_team {
  static constexpr int size = WIDE ? static_cast<int>(GPU_BLOCK) : GPU_WARP;
  static constexpr int per_block = GPU_BLOCK / size;
  GPU_DEVICE int member() const {
    return gpu_thread() % size;
  }
  GPU_DEVICE int64_t number() const {
    return gpu_block() * per_block + gpu_thread() / size;
  }
  template <typename C> GPU_DEVICE float reduce(float value, C combine) const {
    if constexpr (WIDE)
      return gpu_block_reduce(value, combine);
    else
      return gpu_warp_reduce(value, combine);
  }
  GPU_DEVICE float sum(float value) const {
    return reduce(value, gpu_add());
  }
  GPU_DEVICE float max(float value) const {
    return reduce(value, gpu_max());
  }
};

template <bool WIDE, typename F> GPU_KERNEL(GPU_BLOCK) gpu_rows_kernel(int64_t rows, F step) {
  const gpu_team<WIDE> team;
  for (int64_t row = team.number(); row < rows; row += gpu_blocks() * team.per_block) step(row, team);
}

template <bool WIDE, typename F> static inline void gpu_rows_by(const mg_backend *backend, int64_t rows, F step) {
  if (rows <= 0) return;
  const gpu_grid grid = gpu_grid_of(backend, gpu_ceil_div(rows, gpu_team<WIDE>::per_block));
  gpu_launch(gpu_rows_kernel<WIDE, F>, grid, GPU_BLOCK, gpu_state_of(backend)->stream, rows, step);
}

/* Runs `step`, a struct with a device function operator()(int64_t row, Team team), for each row. All threads of a team
 * are in it together; thread team.member() takes the columns member, member + size, and so on. */
template <typename F> static inline void gpu_rows(const mg_backend *backend, int64_t rows, int64_t columns, F step) {
  if (columns > GPU_NARROW_MAX)
    gpu_rows_by<true>(backend, rows, step);
  else
    gpu_rows_by<false>(backend, rows, step);
}

#endif
