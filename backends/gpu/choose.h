/* The k best of a row that a warp holds in registers, so that one reading of it is enough.
 *
 * The k-th largest of the lanes' largest numbers bounds the k-th best from below, because each of k lanes holds one that is
 * at least as large. The few columns that reach it, the candidates, go into shared memory, a lane takes each, and counts
 * how many come before its own. Where more columns reach the bound than the warp has lanes, many are equal; then the best
 * of what is left is looked for k times. */
#ifndef MG_GPU_CHOOSE_H
#define MG_GPU_CHOOSE_H

#include "rows.h"

/* Ascending keys for rising values; NaN counts as -inf, and -0 equals 0. No value has the key 0. */
GPU_DEVICE uint32_t gpu_rising_key(float value) {
  if (gpu_is_nan(value)) value = -INFINITY;
  const uint32_t bits = gpu_bits_of(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
GPU_DEVICE float gpu_value_of_key(uint32_t key) {
  return gpu_float_of(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* ---- a row in the registers of a warp --------------------------------------------------------------------------- */

/* PER columns of each lane, in packs of neighbouring ones; neighbouring lanes have neighbouring packs. */
template <typename T, int PER> struct gpu_held_row {
  enum { COLUMNS = PER, N = PER < gpu_pack_most<T>() ? PER : gpu_pack_most<T>() };
  typedef gpu_pack<T, N> pack;
  float value[PER];

  static GPU_DEVICE int column(int i) {
    return (i / N * GPU_WARP + gpu_thread() % GPU_WARP) * N + i % N;
  }
  /* `packs`: whether the row consists of whole packs. Columns from the end on are read as -inf. */
  GPU_DEVICE void read(const T *row, int64_t columns, bool packs) {
#pragma unroll
    for (int p = 0; p < PER; p += N) {
      pack some = {};
      const bool whole = packs && column(p) < columns;
      if (whole) some = *reinterpret_cast<const pack *>(row + column(p));
#pragma unroll
      for (int i = 0; i < N; i++) {
        value[p + i] = -INFINITY;
        if (whole) value[p + i] = gpu_read(some.at, i);
        if (!packs && column(p + i) < columns) value[p + i] = gpu_read(row, column(p + i));
      }
    }
  }
  /* Keys of the columns, 0 beyond the end. */
  GPU_DEVICE void keys(int64_t columns, uint32_t (&key)[PER]) const {
#pragma unroll
    for (int i = 0; i < PER; i++) key[i] = column(i) < columns ? gpu_rising_key(value[i]) : 0;
  }
  /* Writes the row where `row` is not NULL, and leaves in `value` what is, or would be, stored. */
  GPU_DEVICE void write(T *row, int64_t columns, bool packs) {
#pragma unroll
    for (int p = 0; p < PER; p += N) {
      pack some;
#pragma unroll
      for (int i = 0; i < N; i++) {
        gpu_write(some.at, i, value[p + i]);
        value[p + i] = gpu_read(some.at, i);
        if (row && !packs && column(p + i) < columns) row[column(p + i)] = some.at[i];
      }
      if (row && packs && column(p) < columns) *reinterpret_cast<pack *>(row + column(p)) = some;
    }
  }
};

/* Calls f with a null pointer to gpu_held_row<T, PER> for the least PER that holds the columns, and whether rows at these
 * addresses consist of whole packs. */
template <typename T, int PER = 1, typename F>
static inline void gpu_with_held_row(int64_t columns, const void *a, const void *b, F f) {
  typedef gpu_held_row<T, PER> held;
  if constexpr (PER < GPU_HELD_PER_LANE) {
    if (columns > PER * GPU_WARP) {
      gpu_with_held_row<T, 2 * PER>(columns, a, b, f);
      return;
    }
  }
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b);
  f(static_cast<held *>(nullptr), columns % held::N == 0 && addresses % 16 == 0);
}

/* ---- choosing --------------------------------------------------------------------------------------------------- */

/* A column with its key; key 0: none. */
struct gpu_candidate {
  uint32_t key;
  int32_t column;
  GPU_DEVICE bool before(gpu_candidate other) const {
    return key > other.key || (key == other.key && column < other.column);
  }
};

GPU_DEVICE gpu_candidate gpu_no_candidate() {
  return {0, INT32_MAX};
}

/* The first of what the lanes give, in every lane. */
GPU_DEVICE gpu_candidate gpu_best_of_warp(gpu_candidate own) {
  for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) {
    const gpu_candidate other = {gpu_shuffle_xor(own.key, mask), gpu_shuffle_xor(own.column, mask)};
    if (other.before(own)) own = other;
  }
  return own;
}

/* What a lane has chosen, if its rank is below k. */
struct gpu_choice {
  gpu_candidate best;
  int rank;
};

/* For each choice in turn the first of those after the one before. */
template <typename Row, int PER> GPU_DEVICE gpu_choice gpu_choose_one_by_one(const uint32_t (&key)[PER], int k) {
  gpu_choice mine = {gpu_no_candidate(), k};
  gpu_candidate last = {UINT32_MAX, -1};
  for (int s = 0; s < k; s++) {
    gpu_candidate best = gpu_no_candidate();
#pragma unroll
    for (int i = 0; i < PER; i++) {
      const gpu_candidate here = {key[i], Row::column(i)};
      if (last.before(here) && here.before(best)) best = here;
    }
    last = gpu_best_of_warp(best);
    if (gpu_thread() % GPU_WARP == s) mine = {last, s};
  }
  return mine;
}

/* At most the k-th largest key: the k-th largest of those that are the largest of a lane. */
template <int PER> GPU_DEVICE uint32_t gpu_bound_of(const uint32_t (&key)[PER], int k) {
  uint32_t own = key[0], bound = 0;
#pragma unroll
  for (int i = 1; i < PER; i++) own = key[i] > own ? key[i] : own;
  for (int s = 0; s < k; s++) {
    bound = gpu_warp_max(own);
    if (own == bound) own = 0;
  }
  return bound > 0 ? bound : 1; /* 0: fewer than k lanes have columns, and all of those are candidates */
}

/* The k largest keys, equal ones by the lowest column, each in one lane with its rank. There are at least k columns; keys
 * beyond the row's end are 0. `candidates` is shared memory of the warp, for GPU_WARP of them. */
template <typename Row, int PER>
GPU_DEVICE gpu_choice gpu_choose(const uint32_t (&key)[PER], int k, gpu_candidate *candidates) {
  const int lane = gpu_thread() % GPU_WARP;
  const uint32_t bound = gpu_bound_of(key, k);
  int place = 0, count = 0;
#pragma unroll
  for (int i = 0; i < PER; i++) {
    const uint64_t votes = gpu_ballot(key[i] >= bound);
    place += gpu_bits_set(votes & ((UINT64_C(1) << lane) - 1));
    count += gpu_bits_set(votes);
  }
  if (count > GPU_WARP) return gpu_choose_one_by_one<Row>(key, k);
#pragma unroll
  for (int i = 0; i < PER; i++)
    if (key[i] >= bound) candidates[place++] = {key[i], Row::column(i)};
  gpu_warp_barrier();
  gpu_choice mine = {gpu_no_candidate(), k};
  if (lane < count) mine = {candidates[lane], 0};
  for (int i = 0; i < count; i++) mine.rank += candidates[i].before(mine.best);
  gpu_warp_barrier(); /* all have read before another row's candidates come */
  return mine;
}

#endif
