/* The neutral names of backends/gpu/README.md in CUDA's runtime and kernel language. */
#ifndef MG_GPU_VENDOR_H
#define MG_GPU_VENDOR_H

#include <stdio.h>

#include <cuda_runtime_api.h>

#include "gpu_types.h"

/* ---- the runtime ---------------------------------------------------------------------------------------------- */

#define GPU_BACKEND_NAME "cuda"
#define GPU_BACKEND_SUMMARY "One NVIDIA GPU through CUDA; f32 and bf16"
#define GPU_RUNTIME "CUDA"
#define GPU_BLAS "cuBLAS"
#define GPU_WARP 32 /* threads in step */
#define GPU_REBUILD "-DMG_CUDA_ARCHITECTURES=..."

typedef cudaError_t gpu_error;
typedef cudaStream_t gpu_stream;
typedef cudaEvent_t gpu_event;
typedef cudaGraph_t gpu_graph;
typedef cudaGraphExec_t gpu_graph_exec;

#define GPU_OK cudaSuccess
#define gpu_error_text cudaGetErrorString
#define gpu_last_error cudaGetLastError
#define gpu_device_count cudaGetDeviceCount
#define gpu_device_choose cudaSetDevice
#define gpu_memory_free cudaMemGetInfo
#define gpu_malloc(pointer, bytes) cudaMalloc(pointer, bytes)
#define gpu_free cudaFree
#define gpu_host_malloc(pointer, bytes) cudaMallocHost(pointer, bytes)
#define gpu_host_free cudaFreeHost
#define gpu_upload(device, host, bytes, stream) cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream)
#define gpu_download(host, device, bytes, stream) cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream)
#define gpu_copy(to, from, bytes, stream) cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream)
#define gpu_set cudaMemsetAsync
#define gpu_stream_create(stream) cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking)
#define gpu_stream_destroy cudaStreamDestroy
#define gpu_stream_wait cudaStreamSynchronize
#define gpu_event_create cudaEventCreate
#define gpu_event_destroy cudaEventDestroy
#define gpu_event_record cudaEventRecord
#define gpu_event_wait cudaEventSynchronize
#define gpu_event_milliseconds cudaEventElapsedTime

/* Graphs of what the stream is told between the begin and the end of a recording. */
#define GPU_GRAPHS 1
#define gpu_record_begin(stream) cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed)
#define gpu_record_end cudaStreamEndCapture
#define gpu_graph_destroy cudaGraphDestroy
#define gpu_graph_prepare(exec, graph) cudaGraphInstantiateWithFlags(exec, graph, 0)
#define gpu_graph_launch cudaGraphLaunch
#define gpu_graph_exec_destroy cudaGraphExecDestroy
static inline gpu_error gpu_graph_update(gpu_graph_exec exec, gpu_graph graph) {
#if CUDART_VERSION >= 12000
  cudaGraphExecUpdateResultInfo result;
  return cudaGraphExecUpdate(exec, graph, &result);
#else
  cudaGraphNode_t node;
  enum cudaGraphExecUpdateResult result;
  return cudaGraphExecUpdate(exec, graph, &node, &result);
#endif
}

static inline gpu_problem gpu_problem_of(gpu_error error) {
  switch (error) {
  case cudaSuccess: return GPU_PROBLEM_NONE;
  case cudaErrorMemoryAllocation: return GPU_PROBLEM_MEMORY;
  case cudaErrorNoDevice:
  case cudaErrorInsufficientDriver:
  case cudaErrorStubLibrary:
  case cudaErrorInitializationError:
  case cudaErrorDevicesUnavailable:
  case cudaErrorSystemNotReady:
  case cudaErrorSystemDriverMismatch:
  case cudaErrorCompatNotSupportedOnDevice:
  case cudaErrorInvalidDevice: return GPU_PROBLEM_NO_DEVICE;
  case cudaErrorNoKernelImageForDevice:
  case cudaErrorInvalidDeviceFunction:
  case cudaErrorUnsupportedPtxVersion: return GPU_PROBLEM_ARCHITECTURE;
  case cudaErrorInvalidValue:
  case cudaErrorInvalidConfiguration:
  case cudaErrorLaunchOutOfResources: return GPU_PROBLEM_CALL;
  default: return GPU_PROBLEM_LOST;
  }
}

static inline gpu_error gpu_device_facts_of(int device, gpu_device_facts *facts) {
  struct cudaDeviceProp properties;
  int driver = 0;
  gpu_error error = cudaGetDeviceProperties(&properties, device);
  if (error == cudaSuccess) error = cudaDriverGetVersion(&driver);
  if (error != cudaSuccess) return error;
  snprintf(facts->name, sizeof facts->name, "%s", properties.name);
  snprintf(facts->architecture, sizeof facts->architecture, "sm_%d%d", properties.major, properties.minor);
  snprintf(facts->driver, sizeof facts->driver, "%d.%d", driver / 1000, driver % 1000 / 10);
  snprintf(facts->bus, sizeof facts->bus, "%08x:%02x:%02x.0", (unsigned)properties.pciDomainID,
           (unsigned)properties.pciBusID, (unsigned)properties.pciDeviceID);
  facts->multiprocessors = properties.multiProcessorCount;
  facts->memory_bytes = (int64_t)properties.totalGlobalMem;
  facts->warp = properties.warpSize;
  return error;
}

/* ---- the kernel language -------------------------------------------------------------------------------------- */

#ifdef __cplusplus
#include <cuda_runtime.h>

#include "gpu_language.h"

template <typename T> GPU_DEVICE T gpu_shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <typename T> GPU_DEVICE T gpu_shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <typename T> GPU_DEVICE T gpu_shuffle_up(T value, int distance) {
  return __shfl_up_sync(0xffffffffu, value, static_cast<unsigned>(distance));
}
GPU_DEVICE uint64_t gpu_ballot(bool vote) {
  return __ballot_sync(0xffffffffu, vote);
}
GPU_DEVICE uint32_t gpu_warp_max(uint32_t value) {
  return __reduce_max_sync(0xffffffffu, value);
}
GPU_DEVICE void gpu_warp_barrier() {
  __syncwarp();
}
/* In assembly, because the compiler would write the words one by one. */
GPU_DEVICE void gpu_write_shared_vector(void *to, const uint32_t (&word)[4]) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "r"(word[0]), "r"(word[1]), "r"(word[2]), "r"(word[3])
               : "memory");
}

/* ---- copies beside the work: cp.async, PTX ISA -------------------------------------------------------------------- */

#define GPU_ASYNC_COPY 1
GPU_DEVICE void gpu_copy_async(void *shared, const void *global, bool inside) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(global), "r"(inside ? 16 : 0)
      : "memory");
}
GPU_DEVICE void gpu_copies_close() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int LEFT> GPU_DEVICE void gpu_copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

/* ---- the matrix unit: 16 x 16 x 16 products of bf16 by a warp ------------------------------------------------------- */

/* mma.sync m16n8k16 twice; PTX ISA, "Matrix fragments for mma.m16n8k16" and "ldmatrix". */
#define GPU_MATRIX_UNIT 1
struct gpu_matrix_unit {
  enum { AHEAD = 1, DEPTH = 16, VALUES = 8 };
  struct left {
    uint32_t pair[4];
  };
  struct right {
    uint32_t pair[4];
  };
  struct sum {
    float value[VALUES];
  };

  /* Which of the sums value[i] of this lane is. */
  static GPU_DEVICE int row(int i) {
    return gpu_thread() % 32 / 4 + i / 2 % 2 * 8;
  }
  static GPU_DEVICE int column(int i) {
    return gpu_thread() % 4 * 2 + i % 2 + i / 4 * 8;
  }

  /* Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8. */
  template <bool TRANSPOSED> static GPU_DEVICE void load_four(uint32_t (&to)[4], const void *row) {
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    if (TRANSPOSED)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                   : "r"(address));
    else
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                   : "r"(address));
  }
  /* Matrices: rows 0-7, rows 8-15 at depth 0-7; then the same at depth 8-15. */
  template <typename L> static GPU_DEVICE void load(left &to, const L &lines, int m, int k) {
    const int lane = gpu_thread() % 32, first = lane % 8 + lane / 8 % 2 * 8, second = lane / 16 * 8;
    const int across = lane / 8 % 2 * 8, depth = lane % 8 + lane / 16 * 8;
    load_four<!L::depth_last>(to.pair,
                              L::depth_last ? lines.at(m + first, k + second) : lines.at(m + across, k + depth));
  }
  /* Matrices: columns 0-7 at depth 0-7, then 8-15; then columns 8-15. */
  template <typename L> static GPU_DEVICE void load(right &to, const L &lines, int n, int k) {
    const int lane = gpu_thread() % 32, first = lane % 8 + lane / 16 * 8, second = lane / 8 % 2 * 8;
    const int across = lane / 16 * 8, depth = lane % 8 + lane / 8 % 2 * 8;
    load_four<!L::depth_last>(to.pair,
                              L::depth_last ? lines.at(n + first, k + second) : lines.at(n + across, k + depth));
  }

  static GPU_DEVICE void multiply_half(float *to, const left &a, const uint32_t *b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(to[0]), "+f"(to[1]), "+f"(to[2]), "+f"(to[3])
        : "r"(a.pair[0]), "r"(a.pair[1]), "r"(a.pair[2]), "r"(a.pair[3]), "r"(b[0]), "r"(b[1]));
  }
  static GPU_DEVICE void multiply(sum &to, const left &a, const right &b) {
    multiply_half(to.value, a, b.pair);
    multiply_half(to.value + 4, a, b.pair + 2);
  }
};
#endif

#endif
