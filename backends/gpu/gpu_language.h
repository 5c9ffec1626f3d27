/* The neutral names of README.md in the kernel language that the vendors share. gpu_vendor.h includes this for kernels,
 * after its runtime's header, and adds what the vendors do not share. */
#ifndef MG_GPU_LANGUAGE_H
#define MG_GPU_LANGUAGE_H

#define GPU_KERNEL(threads) __global__ void __launch_bounds__(threads)
#define GPU_DEVICE __device__ __forceinline__
#define GPU_SHARED(type, name, count) __shared__ __align__(16) type name[count]

GPU_DEVICE int gpu_thread() {
  return static_cast<int>(threadIdx.x);
}
GPU_DEVICE int gpu_threads() {
  return static_cast<int>(blockDim.x);
}
GPU_DEVICE int64_t gpu_block() {
  return blockIdx.x;
}
GPU_DEVICE int64_t gpu_block_y() {
  return blockIdx.y;
}
GPU_DEVICE int64_t gpu_blocks() {
  return gridDim.x;
}
GPU_DEVICE void gpu_barrier() {
  __syncthreads();
}
GPU_DEVICE int gpu_bits_set(uint64_t bits) {
  return __popcll(bits);
}
GPU_DEVICE int32_t gpu_atomic_add(int32_t *target, int32_t value) {
  return atomicAdd(target, value);
}
GPU_DEVICE int32_t gpu_atomic_swap_if(int32_t *target, int32_t expected, int32_t value) {
  return atomicCAS(target, expected, value);
}
GPU_DEVICE uint32_t gpu_bits_of(float value) {
  return __float_as_uint(value);
}
GPU_DEVICE float gpu_float_of(uint32_t bits) {
  return __uint_as_float(bits);
}

template <typename... P, typename... A>
static inline void gpu_launch(void (*kernel)(P...), gpu_grid grid, int threads, gpu_stream stream, A... arguments) {
  const dim3 blocks(grid.x, grid.y);
  kernel<<<blocks, static_cast<unsigned>(threads), 0, stream>>>(arguments...);
}

#endif
