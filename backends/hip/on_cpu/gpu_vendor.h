/* The neutral names of backends/gpu/README.md for HIP-CPU, a runtime that runs HIP's kernels on the host. README.md says
 * what it does otherwise than a device, and why gpu_launch and gpu_barrier are more than its own launch and barrier. */
#ifndef MG_GPU_VENDOR_H
#define MG_GPU_VENDOR_H

#include <stdio.h>

#include "gpu_types.h"
#include "runtime.h"

/* ---- the runtime ---------------------------------------------------------------------------------------------- */

#define GPU_BACKEND_NAME "hip_on_cpu"
#define GPU_BACKEND_SUMMARY "The kernels of the hip backend on HIP-CPU, a runtime for the host; slow"
#define GPU_RUNTIME "HIP-CPU"
#define GPU_ARCHITECTURES "the host"
#define GPU_BLAS "library of matrix products"
#define GPU_WARP 64 /* HIP-CPU's, whatever the host */
#define GPU_REBUILD "MG_HIP_CPU_RUNTIME"

typedef hip_on_cpu_error gpu_error;
typedef void *gpu_stream;
typedef void *gpu_event;
typedef void *gpu_graph;
typedef void *gpu_graph_exec;

enum { HIP_ON_CPU_OK = 0, HIP_ON_CPU_NO_MEMORY = 2, HIP_ON_CPU_NO_GRAPHS = 801 /* hipErrorNotSupported */ };
#define HIP_ON_CPU_MEMORY_BYTES ((size_t)4 << 30) /* said to be there; what is taken is the host's */

#define GPU_OK HIP_ON_CPU_OK
#define gpu_error_text hip_on_cpu_error_text
#define gpu_last_error hip_on_cpu_last_error
#define gpu_device_count hip_on_cpu_device_count
#define gpu_device_choose(device) ((void)(device), HIP_ON_CPU_OK)
#define gpu_memory_free(free_bytes, total_bytes)                                                                       \
  (*(free_bytes) = *(total_bytes) = HIP_ON_CPU_MEMORY_BYTES, HIP_ON_CPU_OK)
#define gpu_malloc hip_on_cpu_malloc
#define gpu_free hip_on_cpu_free
#define gpu_host_malloc hip_on_cpu_malloc
#define gpu_host_free hip_on_cpu_free
#define gpu_upload hip_on_cpu_copy
#define gpu_download hip_on_cpu_copy
#define gpu_copy hip_on_cpu_copy
#define gpu_set hip_on_cpu_set
#define gpu_stream_create hip_on_cpu_stream_create
#define gpu_stream_destroy hip_on_cpu_stream_destroy
#define gpu_stream_wait hip_on_cpu_stream_wait
#define gpu_event_create hip_on_cpu_event_create
#define gpu_event_destroy hip_on_cpu_event_destroy
#define gpu_event_record hip_on_cpu_event_record
#define gpu_event_wait hip_on_cpu_event_wait
#define gpu_event_milliseconds hip_on_cpu_event_milliseconds

/* It has no graphs; the option for them is refused, so that none of these is called. */
#define GPU_GRAPHS 0
#define gpu_record_begin(stream) ((void)(stream), HIP_ON_CPU_NO_GRAPHS)
#define gpu_record_end(stream, graph) ((void)(stream), *(graph) = NULL, HIP_ON_CPU_NO_GRAPHS)
#define gpu_graph_destroy(graph) ((void)(graph), HIP_ON_CPU_NO_GRAPHS)
#define gpu_graph_prepare(exec, graph) ((void)(graph), *(exec) = NULL, HIP_ON_CPU_NO_GRAPHS)
#define gpu_graph_update(exec, graph) ((void)(exec), (void)(graph), HIP_ON_CPU_NO_GRAPHS)
#define gpu_graph_launch(exec, stream) ((void)(exec), (void)(stream), HIP_ON_CPU_NO_GRAPHS)
#define gpu_graph_exec_destroy(exec) ((void)(exec), HIP_ON_CPU_NO_GRAPHS)

static inline gpu_problem gpu_problem_of(gpu_error error) {
  if (error == HIP_ON_CPU_OK) return GPU_PROBLEM_NONE;
  return error == HIP_ON_CPU_NO_MEMORY ? GPU_PROBLEM_MEMORY : GPU_PROBLEM_LOST;
}

static inline gpu_error gpu_device_facts_of(int device, gpu_device_facts *facts) {
  (void)device;
  snprintf(facts->name, sizeof facts->name, "HIP-CPU on the host");
  snprintf(facts->architecture, sizeof facts->architecture, "warp%d", GPU_WARP);
  snprintf(facts->driver, sizeof facts->driver, "none");
  snprintf(facts->bus, sizeof facts->bus, "none");
  facts->multiprocessors = 1;
  facts->memory_bytes = (int64_t)HIP_ON_CPU_MEMORY_BYTES;
  facts->warp = GPU_WARP;
  return HIP_ON_CPU_OK;
}

/* ---- the kernel language -------------------------------------------------------------------------------------- */

#ifdef __cplusplus
#include <hip/hip_runtime.h>

#define GPU_KERNEL(threads) static void
#define GPU_DEVICE inline
#define GPU_SHARED(type, name, count) alignas(16) static thread_local type name[count]

/* Of the block that this thread of the host runs: threads at the barrier, barriers passed, threads at their end. */
struct hip_on_cpu_block {
  int arrived, passed, ended;
};
inline thread_local hip_on_cpu_block hip_on_cpu_now;

GPU_DEVICE int gpu_thread() {
  return static_cast<int>(threadIdx.x);
}
GPU_DEVICE int gpu_threads() {
  return static_cast<int>(blockDim.x);
}
GPU_DEVICE int64_t gpu_block() {
  return static_cast<int64_t>(blockIdx.x);
}
GPU_DEVICE int64_t gpu_block_y() {
  return static_cast<int64_t>(blockIdx.y);
}
GPU_DEVICE int64_t gpu_blocks() {
  return static_cast<int64_t>(gridDim.x);
}
/* HIP-CPU's own barrier is one turn of all threads, whatever each of them waits for. */
GPU_DEVICE void gpu_barrier() {
  hip_on_cpu_block &block = hip_on_cpu_now;
  const int passed = block.passed;
  if (++block.arrived == gpu_threads()) {
    block.arrived = 0;
    block.passed++;
  }
  while (block.passed == passed) __syncthreads();
}
#include "../gpu_lanes.h"
#include "gpu_host_language.h"

/* A turn of all threads: by then every lane has done what it did before. */
GPU_DEVICE void gpu_warp_barrier() {
  __syncthreads();
}
GPU_DEVICE int32_t gpu_atomic_add(int32_t *target, int32_t value) {
  return atomicAdd(target, value);
}
GPU_DEVICE int32_t gpu_atomic_swap_if(int32_t *target, int32_t expected, int32_t value) {
  return atomicCAS(target, expected, value);
}
/* HIP-CPU ends a block when its first thread does, and starts a thread again that ended before others: here all wait for
 * the last one. The first thread of a block always runs first. */
template <typename... P> static void gpu_hip_on_cpu_thread(void (*kernel)(P...), P... arguments) {
  hip_on_cpu_block &block = hip_on_cpu_now;
  if (gpu_thread() == 0) block = hip_on_cpu_block{};
  if (block.ended == gpu_threads()) return;
  kernel(arguments...);
  block.ended++;
  while (block.ended < gpu_threads()) __syncthreads();
}

template <typename... P, typename... A>
static inline void gpu_launch(void (*kernel)(P...), gpu_grid grid, int threads, gpu_stream stream, A... arguments) {
  hipLaunchKernelGGL(gpu_hip_on_cpu_thread<P...>, dim3(grid.x, grid.y), dim3(static_cast<unsigned>(threads)), 0,
                     static_cast<hipStream_t>(stream), kernel, static_cast<P>(arguments)...);
}
#endif

#endif
