/* The neutral names of backends/gpu/README.md for the executor, which runs kernels on the host. The build defines
 * GPU_WARP, 32 or 64, and GPU_BACKEND_NAME. */
#ifndef MG_GPU_VENDOR_H
#define MG_GPU_VENDOR_H

#include "executor.h"

/* ---- the runtime ---------------------------------------------------------------------------------------------- */

#define GPU_BACKEND_SUMMARY "The kernels of the GPU backends, run on the host for tests; slow"
#define GPU_RUNTIME "executor"
#define GPU_BLAS "plain loop"
#define GPU_ARCHITECTURES "the host"
#define GPU_REBUILD "GPU_WARP"

typedef executor_error gpu_error;
typedef struct executor_stream *gpu_stream; /* everything is done when it was asked for: there is nothing in it */
typedef double *gpu_event;
typedef executor_graph *gpu_graph;
typedef executor_graph *gpu_graph_exec;

#define GPU_OK EXECUTOR_OK
#define gpu_error_text executor_error_text
#define gpu_last_error executor_last_error
#define gpu_device_count executor_device_count
#define gpu_device_choose(device) ((void)(device), EXECUTOR_OK)
#define gpu_device_facts_of(device, facts) ((void)(device), executor_device_facts(facts, GPU_WARP))
#define gpu_memory_free executor_memory_free
#define gpu_malloc executor_malloc
#define gpu_free executor_free
#define gpu_host_malloc executor_malloc
#define gpu_host_free executor_free
#define gpu_upload(device, host, bytes, stream) ((void)(stream), executor_copy(device, host, bytes))
#define gpu_download(host, device, bytes, stream) ((void)(stream), executor_copy(host, device, bytes))
#define gpu_copy(to, from, bytes, stream) ((void)(stream), executor_copy(to, from, bytes))
#define gpu_set(pointer, value, bytes, stream) ((void)(stream), executor_set(pointer, value, bytes))
#define gpu_stream_create(stream) (*(stream) = NULL, EXECUTOR_OK)
#define gpu_stream_destroy(stream) ((void)(stream), EXECUTOR_OK)
#define gpu_stream_wait(stream) ((void)(stream), executor_wait())
#define gpu_event_create executor_event_create
#define gpu_event_destroy executor_event_destroy
#define gpu_event_record(event, stream) ((void)(stream), executor_event_record(event))
#define gpu_event_wait(event) ((void)(event), executor_wait())
#define gpu_event_milliseconds executor_event_milliseconds

#define GPU_GRAPHS 1
#define gpu_record_begin(stream) ((void)(stream), executor_record_begin())
#define gpu_record_end(stream, graph) ((void)(stream), executor_record_end(graph))
#define gpu_graph_destroy executor_graph_destroy
#define gpu_graph_prepare executor_graph_prepare
#define gpu_graph_update executor_graph_update
#define gpu_graph_launch(exec, stream) ((void)(stream), executor_graph_launch(exec))
#define gpu_graph_exec_destroy executor_graph_destroy

static inline gpu_problem gpu_problem_of(gpu_error error) {
  switch (error) {
  case EXECUTOR_OK: return GPU_PROBLEM_NONE;
  case EXECUTOR_NO_DEVICE: return GPU_PROBLEM_NO_DEVICE;
  case EXECUTOR_NO_MEMORY: return GPU_PROBLEM_MEMORY;
  case EXECUTOR_NO_CODE: return GPU_PROBLEM_ARCHITECTURE;
  case EXECUTOR_BAD_LAUNCH:
  case EXECUTOR_BAD_GRAPH:
  case EXECUTOR_BAD_KERNEL: return GPU_PROBLEM_CALL;
  case EXECUTOR_LOST: break;
  }
  return GPU_PROBLEM_LOST;
}

static const char *const executor_failures[] = {"nothing", "no_device", "no_code", "lost", NULL};

/* Options of the pretended device, beside those that all vendors have. */
#define GPU_VENDOR_OPTION_FIELDS                                                                                       \
  bool reverse;                                                                                                        \
  int64_t memory_mib;                                                                                                  \
  int64_t fail;                                                                                                        \
  bool meter, blas;
#define GPU_VENDOR_OPTIONS                                                                                             \
  MG_OPTION_BOOL(gpu_options, reverse, false, "run the threads of a block in falling order"),                          \
      MG_OPTION_INT(gpu_options, memory_mib, 4096, 1, 1 << 20, "memory of the pretended device"),                      \
      MG_OPTION_CHOICE(gpu_options, fail, 0, executor_failures, "what goes wrong"),                                    \
      MG_OPTION_BOOL(gpu_options, meter, false, "the device measures its energy: a millijoule for each launch"),       \
      MG_OPTION_BOOL(gpu_options, blas, false, "the device has a library of matrix products: a plain loop"),
#define gpu_vendor_configure(set)                                                                                      \
  executor_configure(&(executor_settings){.reverse = (set)->reverse,                                                   \
                                          .memory_bytes = (set)->memory_mib << 20,                                     \
                                          .fail = (executor_failure)(set)->fail,                                       \
                                          .meter = (set)->meter,                                                       \
                                          .blas = (set)->blas})

/* ---- the kernel language -------------------------------------------------------------------------------------- */

#ifdef __cplusplus
#include <string.h>

#include <type_traits>

#define GPU_KERNEL(threads) static void
#define GPU_DEVICE inline
#define GPU_SHARED(type, name, count)                                                                                  \
  static const char name##_key = 0;                                                                                    \
  type *const name = static_cast<type *>(executor_shared(&name##_key, sizeof(type) * (count)))

GPU_DEVICE int gpu_thread() {
  return executor_now.thread;
}
GPU_DEVICE int gpu_threads() {
  return executor_now.threads;
}
GPU_DEVICE int64_t gpu_block() {
  return executor_now.block[0];
}
GPU_DEVICE int64_t gpu_block_y() {
  return executor_now.block[1];
}
GPU_DEVICE int64_t gpu_blocks() {
  return executor_now.blocks;
}
GPU_DEVICE void gpu_barrier() {
  executor_barrier();
}

enum { EXECUTOR_SHUFFLE, EXECUTOR_SHUFFLE_XOR, EXECUTOR_SHUFFLE_UP, EXECUTOR_WARP_BARRIER };

template <typename T> GPU_DEVICE T gpu_executor_exchange(T value, int from, int kind) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a lane gives at most 8 bytes");
  uint64_t bytes = 0;
  memcpy(&bytes, &value, sizeof value);
  bytes = executor_exchange(bytes, from, kind);
  memcpy(&value, &bytes, sizeof value);
  return value;
}
GPU_DEVICE int gpu_executor_lane() {
  return executor_now.thread % GPU_WARP;
}
template <typename T> GPU_DEVICE T gpu_shuffle(T value, int lane) {
  return gpu_executor_exchange(value, lane, EXECUTOR_SHUFFLE);
}
template <typename T> GPU_DEVICE T gpu_shuffle_xor(T value, int mask) {
  return gpu_executor_exchange(value, gpu_executor_lane() ^ mask, EXECUTOR_SHUFFLE_XOR);
}
template <typename T> GPU_DEVICE T gpu_shuffle_up(T value, int distance) {
  const int lane = gpu_executor_lane();
  return gpu_executor_exchange(value, lane >= distance ? lane - distance : lane, EXECUTOR_SHUFFLE_UP);
}
GPU_DEVICE uint64_t gpu_ballot(bool vote) {
  return executor_ballot(vote);
}
#include "gpu_host_language.h"

GPU_DEVICE void gpu_warp_barrier() {
  (void)gpu_executor_exchange(0, 0, EXECUTOR_WARP_BARRIER);
}
GPU_DEVICE int32_t gpu_atomic_add(int32_t *target, int32_t value) {
  const int32_t before = *target;
  *target = before + value;
  return before;
}
GPU_DEVICE int32_t gpu_atomic_swap_if(int32_t *target, int32_t expected, int32_t value) {
  const int32_t before = *target;
  if (before == expected) *target = value;
  return before;
}
#define GPU_ASYNC_COPY 1
GPU_DEVICE void gpu_copy_async(void *shared, const void *global, bool inside) {
  executor_copy_async(shared, global, inside);
}
GPU_DEVICE void gpu_copies_close() {
  executor_copies_close();
}
template <int LEFT> GPU_DEVICE void gpu_copies_wait() {
  executor_copies_wait(LEFT);
}
template <typename F> static void gpu_executor_call(const void *body) {
  (*static_cast<const F *>(body))();
}
template <typename... P, typename... A>
static inline void gpu_launch(void (*kernel)(P...), gpu_grid grid, int threads, gpu_stream, A... arguments) {
  const auto body = [=]() { kernel(arguments...); };
  static_assert(std::is_trivially_copyable<decltype(body)>::value, "a kernel's arguments are copied as bytes");
  const executor_launch launch = {gpu_executor_call<decltype(body)>,
                                  &body,
                                  sizeof body,
                                  reinterpret_cast<void (*)()>(kernel),
                                  grid,
                                  threads,
                                  GPU_WARP};
  executor_run(&launch);
}
#endif

#endif
