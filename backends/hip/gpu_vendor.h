/* The neutral names of backends/gpu/README.md in HIP's runtime and kernel language. */
#ifndef MG_GPU_VENDOR_H
#define MG_GPU_VENDOR_H

#include <stdio.h>

#include <hip/hip_runtime_api.h>

#include "gpu_types.h"

/* ---- the runtime ---------------------------------------------------------------------------------------------- */

#define GPU_BACKEND_NAME "hip"
#define GPU_BACKEND_SUMMARY "One AMD GPU through HIP; f32 and bf16"
#define GPU_RUNTIME "HIP"
#define GPU_BLAS "rocBLAS"
#define GPU_WARP 64 /* threads in step, of the gfx9 family that this is built for; opening another device fails */
#define GPU_REBUILD "-DMG_HIP_ARCHITECTURES=..."

typedef hipError_t gpu_error;
typedef hipStream_t gpu_stream;
typedef hipEvent_t gpu_event;
typedef hipGraph_t gpu_graph;
typedef hipGraphExec_t gpu_graph_exec;

#define GPU_OK hipSuccess
#define gpu_error_text hipGetErrorString
#define gpu_last_error hipGetLastError
#define gpu_device_count hipGetDeviceCount
#define gpu_device_choose hipSetDevice
#define gpu_memory_free hipMemGetInfo
#define gpu_malloc(pointer, bytes) hipMalloc(pointer, bytes)
#define gpu_free hipFree
#define gpu_host_malloc(pointer, bytes) hipHostMalloc(pointer, bytes, 0)
#define gpu_host_free hipHostFree
#define gpu_upload(device, host, bytes, stream) hipMemcpyAsync(device, host, bytes, hipMemcpyHostToDevice, stream)
#define gpu_download(host, device, bytes, stream) hipMemcpyAsync(host, device, bytes, hipMemcpyDeviceToHost, stream)
#define gpu_copy(to, from, bytes, stream) hipMemcpyAsync(to, from, bytes, hipMemcpyDeviceToDevice, stream)
#define gpu_set hipMemsetAsync
#define gpu_stream_create(stream) hipStreamCreateWithFlags(stream, hipStreamNonBlocking)
#define gpu_stream_destroy hipStreamDestroy
#define gpu_stream_wait hipStreamSynchronize
#define gpu_event_create hipEventCreate
#define gpu_event_destroy hipEventDestroy
#define gpu_event_record hipEventRecord
#define gpu_event_wait hipEventSynchronize
#define gpu_event_milliseconds hipEventElapsedTime

/* Graphs of what the stream is told between the begin and the end of a recording. */
#define GPU_GRAPHS 1
#define gpu_record_begin(stream) hipStreamBeginCapture(stream, hipStreamCaptureModeRelaxed)
#define gpu_record_end hipStreamEndCapture
#define gpu_graph_destroy hipGraphDestroy
#define gpu_graph_prepare(exec, graph) hipGraphInstantiate(exec, graph, NULL, NULL, 0)
#define gpu_graph_launch hipGraphLaunch
#define gpu_graph_exec_destroy hipGraphExecDestroy
static inline gpu_error gpu_graph_update(gpu_graph_exec exec, gpu_graph graph) {
  hipGraphNode_t node;
  hipGraphExecUpdateResult result;
  return hipGraphExecUpdate(exec, graph, &node, &result);
}

static inline gpu_problem gpu_problem_of(gpu_error error) {
  switch (error) {
  case hipSuccess: return GPU_PROBLEM_NONE;
  case hipErrorOutOfMemory: return GPU_PROBLEM_MEMORY;
  case hipErrorNoDevice:
  case hipErrorInsufficientDriver:
  case hipErrorNotInitialized:
  case hipErrorInvalidDevice: return GPU_PROBLEM_NO_DEVICE;
  case hipErrorNoBinaryForGpu:
  case hipErrorInvalidDeviceFunction:
  case hipErrorSharedObjectInitFailed: return GPU_PROBLEM_ARCHITECTURE;
  case hipErrorInvalidValue:
  case hipErrorInvalidConfiguration:
  case hipErrorLaunchOutOfResources: return GPU_PROBLEM_CALL;
  default: return GPU_PROBLEM_LOST;
  }
}

static inline gpu_error gpu_device_facts_of(int device, gpu_device_facts *facts) {
  hipDeviceProp_t properties;
  int driver = 0;
  gpu_error error = hipGetDeviceProperties(&properties, device);
  if (error == hipSuccess) error = hipDriverGetVersion(&driver);
  if (error != hipSuccess) return error;
  snprintf(facts->name, sizeof facts->name, "%s", properties.name);
  snprintf(facts->architecture, sizeof facts->architecture, "%s", properties.gcnArchName);
  snprintf(facts->driver, sizeof facts->driver, "%d.%d", driver / 10000000, driver / 100000 % 100);
  snprintf(facts->bus, sizeof facts->bus, "%08x:%02x:%02x.0", (unsigned)properties.pciDomainID,
           (unsigned)properties.pciBusID, (unsigned)properties.pciDeviceID);
  facts->multiprocessors = properties.multiProcessorCount;
  facts->memory_bytes = (int64_t)properties.totalGlobalMem;
  facts->warp = properties.warpSize;
  return error;
}

/* ---- the kernel language -------------------------------------------------------------------------------------- */

#ifdef __cplusplus
#include <hip/hip_runtime.h>

#include "gpu_language.h"

#include "gpu_lanes.h"

GPU_DEVICE uint32_t gpu_warp_max(uint32_t value) {
#pragma unroll
  for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) value = max(value, gpu_shuffle_xor(value, mask));
  return value;
}
/* Threads of a warp are in step; what they wrote must be, too. */
GPU_DEVICE void gpu_warp_barrier() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}
GPU_DEVICE void gpu_write_shared_vector(void *to, const uint32_t (&word)[4]) {
  *static_cast<uint4 *>(to) = make_uint4(word[0], word[1], word[2], word[3]);
}

/* ---- the matrix unit: 16 x 16 x 16 products of bf16 by a warp ------------------------------------------------------- */

/* v_mfma_f32_16x16x16_bf16_1k of gfx90a and later; AMD CDNA2 ISA guide, "Dense matrix operations". Lane l holds row (of
 * right: column) l % 16 at depths 4 (l / 16) to 4 (l / 16) + 3, and of the sums column l % 16 at such rows. */
#define GPU_MATRIX_UNIT 1
struct gpu_matrix_unit {
  enum { AHEAD = 1, DEPTH = 16, VALUES = 4 };
  typedef short four_shorts __attribute__((ext_vector_type(4)));
  typedef float four_floats __attribute__((ext_vector_type(4)));
  struct operand {
    uint16_t value[4];
  };
  struct left : operand {};
  struct right : operand {};
  struct sum {
    float value[VALUES];
  };

  /* Which of the sums value[i] of this lane is. */
  static GPU_DEVICE int row(int i) {
    return gpu_thread() % 64 / 16 * 4 + i;
  }
  static GPU_DEVICE int column(int) {
    return gpu_thread() % 16;
  }

  template <typename L> static GPU_DEVICE void load(operand &to, const L &lines, int m, int k) {
    const int across = gpu_thread() % 16, depth = gpu_thread() % 64 / 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) to.value[i] = lines.at(m + across, k + depth + i)->bits;
  }

  static GPU_DEVICE four_shorts packed(const operand &x) {
    return {static_cast<short>(x.value[0]), static_cast<short>(x.value[1]), static_cast<short>(x.value[2]),
            static_cast<short>(x.value[3])};
  }
  static GPU_DEVICE void multiply(sum &to, const left &a, const right &b) {
    four_floats sums = {to.value[0], to.value[1], to.value[2], to.value[3]};
    sums = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(packed(a), packed(b), sums, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < 4; i++) to.value[i] = sums[i];
  }
};
#endif

#endif
