/* For the kernel files, which are compiled once per level: names, dtype conversion, and loops over chunks. */
#ifndef MG_CPU_KERNELS_H
#define MG_CPU_KERNELS_H

#include <math.h>
#include <omp.h>
#include <string.h>

#include "cpu.h"

#ifndef CPU_LEVEL
#define CPU_LEVEL portable
#endif
#define CPU_JOIN_(a, b) a##_##b
#define CPU_JOIN(a, b) CPU_JOIN_(a, b)
#define CPU_NAME(name) CPU_JOIN(mg__cpu_##name, CPU_LEVEL)

/* Every primitive of this level. */
#define CPU_DECLARE(NAME, name, inputs, outputs, what)                                                                 \
  mg_status CPU_NAME(name)(mg_backend * backend, const mg_op_call *call);
MG_OP_LIST(CPU_DECLARE)
#undef CPU_DECLARE

/* Runs all products in parallel. Each element is one chain of additions in order of depth, so the result depends
 * neither on the thread count nor on the schedule. `products` may lie in
 * state->products, not in the scratch memory. */
mg_status CPU_NAME(multiply)(mg_backend *backend, const cpu_product *products, int64_t count,
                             cpu_product_settings settings);

#ifndef CPU_ALWAYS_PARALLEL /* 1 for the thread sanitizer, which then sees every loop run in threads on small cases */
#define CPU_ALWAYS_PARALLEL 0
#endif

enum {
  CPU_CHUNK = CPU_ALWAYS_PARALLEL ? 32 : 1024, /* elements of an elementwise step: two f32 buffers fit the L1 cache */
  CPU_PARALLEL_MIN = 1 << 14 /* elements below which waking the other threads costs more than it gains */
};
#define CPU_WORTH_THREADS(work, least) ((work) >= (CPU_ALWAYS_PARALLEL ? 0 : (least)))

static inline float cpu_bf16_to_f32(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t cpu_bf16_from_f32(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

/* Elements [first, first + count) as f32: the tensor's own memory, or a converted copy in `buffer`. */
static inline const float *cpu_read(const mg_tensor *tensor, int64_t first, int64_t count, float *buffer) {
  if (tensor->dtype == MG_F32) return (const float *)tensor->data + first;
  const uint16_t *source = (const uint16_t *)tensor->data + first;
#pragma omp simd
  for (int64_t i = 0; i < count; i++) buffer[i] = cpu_bf16_to_f32(source[i]);
  return buffer;
}

/* Where to write elements from `first` on as f32; cpu_write_end stores them if that was `buffer`. */
static inline float *cpu_write_begin(const mg_tensor *tensor, int64_t first, float *buffer) {
  return tensor->dtype == MG_F32 ? (float *)tensor->data + first : buffer;
}

static inline void cpu_write_end(const mg_tensor *tensor, int64_t first, int64_t count, const float *buffer) {
  if (tensor->dtype == MG_F32) return;
  uint16_t *target = (uint16_t *)tensor->data + first;
#pragma omp simd
  for (int64_t i = 0; i < count; i++) target[i] = cpu_bf16_from_f32(buffer[i]);
}

static inline float cpu_at(const mg_tensor *tensor, int64_t index) {
  return tensor->dtype == MG_F32 ? ((const float *)tensor->data)[index]
                                 : cpu_bf16_to_f32(((const uint16_t *)tensor->data)[index]);
}

static inline void cpu_set(const mg_tensor *tensor, int64_t index, float value) {
  if (tensor->dtype == MG_F32)
    ((float *)tensor->data)[index] = value;
  else
    ((uint16_t *)tensor->data)[index] = cpu_bf16_from_f32(value);
}

static inline int64_t cpu_min(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t cpu_max(int64_t a, int64_t b) {
  return a > b ? a : b;
}
static inline int64_t cpu_ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/* The following loop runs in parallel when `work` elements are worth it. The iterations are split evenly and in order, so
 * which thread does what is fixed. */
#define CPU_PRAGMA(text) _Pragma(#text)
#define CPU_PARALLEL(backend, work)                                                                                    \
  CPU_PRAGMA(omp parallel for schedule(static) num_threads(cpu_state_of(backend)->threads) if (CPU_WORTH_THREADS(work, CPU_PARALLEL_MIN)))

/* Buffers for whole rows: `floats` f32 for each thread, in the scratch memory. NULL after a failure. */
static inline float *cpu_row_buffers(mg_backend *backend, int64_t floats) {
  return mg__cpu_scratch(backend, (size_t)cpu_state_of(backend)->threads * (size_t)(floats + 16) * sizeof(float));
}
static inline float *cpu_row_buffer(float *buffers, int64_t floats) {
  return buffers + (int64_t)omp_get_thread_num() * (floats + 16);
}

/* MG_BUG unless every id is in [0, bound) or -1. */
static inline mg_status cpu_check_ids(mg_backend *backend, mg_op op, const mg_tensor *ids, int64_t bound) {
  const int32_t *id = ids->data;
  const int64_t count = mg_tensor_count(ids);
  int32_t least = 0, most = -1;
#pragma omp simd reduction(min : least) reduction(max : most)
  for (int64_t i = 0; i < count; i++) {
    least = id[i] < least ? id[i] : least;
    most = id[i] > most ? id[i] : most;
  }
  if (least >= -1 && most < bound) return MG_OK;
  int64_t i = 0;
  while (id[i] >= -1 && id[i] < bound) i++;
  return mg_fail(backend->context, MG_BUG,
                 "%s: id %d at element %lld is outside [0, %lld); only -1 may stand for none, so check the ids before "
                 "the call",
                 mg_op_name(op), id[i], (long long)i, (long long)bound);
}

#endif
