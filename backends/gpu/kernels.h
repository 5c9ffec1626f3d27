/* For the kernel files, which are C++ for the device: elements, launching over elements and over rows, reporting ids. */
#ifndef MG_GPU_KERNELS_H
#define MG_GPU_KERNELS_H

#include "gpu.h"

/* ---- elements --------------------------------------------------------------------------------------------------- */

struct gpu_bf16 {
  uint16_t bits;
};

GPU_DEVICE float gpu_read(const float *x, int64_t i) {
  return x[i];
}
GPU_DEVICE float gpu_read(const gpu_bf16 *x, int64_t i) {
  return gpu_float_of(static_cast<uint32_t>(x[i].bits) << 16);
}

/* Rounds to nearest even; NaN stays NaN. */
GPU_DEVICE gpu_bf16 gpu_bf16_of(float value) {
  const uint32_t bits = gpu_bits_of(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
GPU_DEVICE void gpu_write(float *out, int64_t i, float value) {
  out[i] = value;
}
GPU_DEVICE void gpu_write(gpu_bf16 *out, int64_t i, float value) {
  out[i] = gpu_bf16_of(value);
}

GPU_DEVICE bool gpu_is_nan(float value) {
  return value != value;
}
/* NaN when either is. */
GPU_DEVICE float gpu_larger(float a, float b) {
  return a >= b || gpu_is_nan(a) ? a : b;
}

/* Row and column of element i. A division of 64 bits takes ten times one of 32, which is enough for most tensors. */
struct gpu_place {
  int64_t row, column;
};
GPU_DEVICE gpu_place gpu_place_of(int64_t i, int64_t columns) {
  if (((i | columns) >> 32) == 0) {
    const uint32_t row = static_cast<uint32_t>(i) / static_cast<uint32_t>(columns);
    return {row, static_cast<uint32_t>(i) - row * static_cast<uint32_t>(columns)};
  }
  return {i / columns, i % columns};
}

/* Tensors of a call as typed pointers; NULL for one that is left out. */
template <typename T> static inline T *gpu_data(const mg_tensor *tensor) {
  return tensor ? static_cast<T *>(tensor->data) : nullptr;
}

/* Calls `f` with a null pointer of the dtype's element type: gpu_with_real(x->dtype, [&](auto type) { ... }) where
 * gpu_element<decltype(type)> is float or gpu_bf16. */
template <typename P> struct gpu_pointee;
template <typename T> struct gpu_pointee<T *> { typedef T type; };
template <typename P> using gpu_element = typename gpu_pointee<P>::type;

template <typename F> static inline void gpu_with_real(mg_dtype dtype, F f) {
  if (dtype == MG_BF16)
    f(static_cast<gpu_bf16 *>(nullptr));
  else
    f(static_cast<float *>(nullptr));
}

/* ---- several elements at once ----------------------------------------------------------------------------------- */

/* Elements that are read and written together: 16 bytes where rows allow it. */
template <typename T, int N> struct alignas(sizeof(T) * N) gpu_pack { T at[N]; };
template <typename T> constexpr int gpu_pack_most() {
  return static_cast<int>(16 / sizeof(T));
}

/* True if rows of so many elements of T, at these addresses, hold whole packs. */
template <typename T> static inline bool gpu_packs_fit(int64_t columns, const void *a, const void *b) {
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b);
  return columns % gpu_pack_most<T>() == 0 && addresses % 16 == 0;
}

/* ---- launching over elements ------------------------------------------------------------------------------------ */

enum { GPU_BLOCK = 256, GPU_PER_THREAD = 4, GPU_BLOCKS_PER_MULTIPROCESSOR = 16 };

static inline int64_t gpu_ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/* Blocks for `wanted` pieces of work that the kernel walks through in strides. */
static inline gpu_grid gpu_grid_of(const mg_backend *backend, int64_t wanted) {
  const int64_t most =
      static_cast<int64_t>(gpu_state_of(backend)->facts.multiprocessors) * GPU_BLOCKS_PER_MULTIPROCESSOR;
  return {static_cast<uint32_t>(wanted < most ? wanted : most), 1};
}

/* step(i) for each i < count. Neighbouring threads take neighbouring elements, and each thread has several in flight. */
template <typename F> GPU_KERNEL(GPU_BLOCK) gpu_each_kernel(int64_t count, F step) {
  const int64_t tile = static_cast<int64_t>(gpu_threads()) * GPU_PER_THREAD;
  for (int64_t first = gpu_block() * tile + gpu_thread(); first < count; first += gpu_blocks() * tile) {
#pragma unroll
    for (int k = 0; k < GPU_PER_THREAD; k++) {
      const int64_t i = first + static_cast<int64_t>(k) * gpu_threads();
      if (i < count) step(i);
    }
  }
}

/* Runs `step`, a struct with a device function operator()(int64_t i), for each i below `count`. */
template <typename F> static inline void gpu_each(const mg_backend *backend, int64_t count, F step) {
  if (count <= 0) return;
  const gpu_grid grid = gpu_grid_of(backend, gpu_ceil_div(count, GPU_BLOCK * GPU_PER_THREAD));
  gpu_launch(gpu_each_kernel<F>, grid, GPU_BLOCK, gpu_state_of(backend)->stream, count, step);
}

/* ---- ids -------------------------------------------------------------------------------------------------------- */

/* Ids as kernels see them: one outside [0, bound) and not -1 is noted, for the next synchronising call to report, and
 * taken as -1, so that nothing outside a tensor is touched. */
struct gpu_ids {
  const int32_t *id;
  int64_t bound;
  gpu_fault *fault;
  int32_t op;

  GPU_DEVICE int32_t operator[](int64_t i) const {
    const int32_t value = id[i];
    if (value >= -1 && value < bound) return value;
    if (gpu_atomic_swap_if(&fault->taken, 0, op + 1) == 0) {
      fault->id = value;
      fault->element = i;
      fault->bound = bound;
    }
    return -1;
  }
};

static inline gpu_ids gpu_ids_of(const mg_backend *backend, const mg_op_call *call, const mg_tensor *ids,
                                 int64_t bound) {
  return {gpu_data<const int32_t>(ids), bound, gpu_state_of(backend)->fault, static_cast<int32_t>(call->op)};
}

#endif
