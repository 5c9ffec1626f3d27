/* Products of tiles: what matrix products and attention are made of.
 *
 * A block of GPU_TILE_THREADS threads holds a tile [M, N] of sums, f32, in registers, and adds left [M, K] right [K, N]
 * to it, chunk of K after chunk: operands come from global memory, are rounded to C (the precision that is computed in),
 * stand in shared memory, and are multiplied in units of 16 x 16 by a warp each. The unit is the vendor's matrix unit for
 * bf16 where gpu_vendor.h gives one (GPU_MATRIX_UNIT), and plain multiply-adds otherwise. */
#ifndef MG_GPU_TILES_H
#define MG_GPU_TILES_H

#include "kernels.h"

enum { GPU_TILE_THREADS = 256, GPU_UNIT = 16 };

/* ---- the unit --------------------------------------------------------------------------------------------------- */

/* An operand in shared memory, with its depth (the index that is summed over) last or first: where element k of the depth
 * of row (of right: column) m lies. A unit is loaded from row m on and depth k on. */
template <typename C, bool DEPTH_LAST> struct gpu_plain_lines {
  static constexpr bool depth_last = DEPTH_LAST;
  const C *first;
  int stride; /* elements between lines */
  GPU_DEVICE const C *at(int m, int k) const {
    return first + (DEPTH_LAST ? m * stride + k : k * stride + m);
  }
};

/* 16 x 16 sums by multiply-adds: lanes stand in 8 rows, and each holds 2 rows and 8 or 4 columns of them. */
template <typename C> struct gpu_plain_unit {
  enum { AHEAD = 0, DEPTH = 4, VALUES = 256 / GPU_WARP, ACROSS = GPU_WARP / 8, ROWS = 2, COLUMNS = GPU_UNIT / ACROSS };
  struct left {
    float value[DEPTH][ROWS];
  };
  struct right {
    float value[DEPTH][COLUMNS];
  };
  struct sum {
    float value[VALUES];
  };

  static GPU_DEVICE int row(int i) {
    return gpu_thread() % GPU_WARP / ACROSS + 8 * (i / COLUMNS);
  }
  static GPU_DEVICE int column(int i) {
    return gpu_thread() % ACROSS + ACROSS * (i % COLUMNS);
  }

  template <typename L> static GPU_DEVICE void load(left &to, const L &lines, int m, int k) {
#pragma unroll
    for (int d = 0; d < DEPTH; d++)
#pragma unroll
      for (int i = 0; i < ROWS; i++) to.value[d][i] = gpu_read(lines.at(m + row(i * COLUMNS), k + d), 0);
  }
  template <typename L> static GPU_DEVICE void load(right &to, const L &lines, int n, int k) {
#pragma unroll
    for (int d = 0; d < DEPTH; d++)
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) to.value[d][j] = gpu_read(lines.at(n + column(j), k + d), 0);
  }
  static GPU_DEVICE void multiply(sum &to, const left &a, const right &b) {
#pragma unroll
    for (int k = 0; k < DEPTH; k++)
#pragma unroll
      for (int i = 0; i < VALUES; i++) to.value[i] += a.value[k][i / COLUMNS] * b.value[k][i % COLUMNS];
  }
};

template <typename C> struct gpu_unit : gpu_plain_unit<C> {};
#ifdef GPU_MATRIX_UNIT
template <> struct gpu_unit<gpu_bf16> : gpu_matrix_unit {};
#endif

/* ---- operands in global memory ---------------------------------------------------------------------------------- */

/* A matrix as stored, f32 or bf16; `vectors`: its rows begin at multiples of 16 bytes. */
struct gpu_operand {
  const void *data;
  int64_t stride; /* elements from row to row */
  bool bf16, vectors;
};

static inline gpu_operand gpu_operand_of(const void *data, int64_t stride, bool bf16) {
  const bool vectors = reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % (bf16 ? 8 : 4) == 0;
  return {data, stride, bf16, vectors};
}

/* The same matrix from element `first` on. */
GPU_DEVICE gpu_operand gpu_operand_from(const gpu_operand &whole, int64_t first) {
  const char *data = static_cast<const char *>(whole.data) + first * (whole.bf16 ? 2 : 4);
  return {data, whole.stride, whole.bf16, whole.vectors && first % (whole.bf16 ? 8 : 4) == 0};
}

/* Where a tile lies along one index: from `first`, and zero outside [0, end). */
struct gpu_range {
  int64_t first, end;
};

/* The f32 or bf16 elements of an output. */
struct gpu_result {
  void *data;
  bool bf16;

  GPU_DEVICE float read(int64_t i) const {
    return bf16 ? gpu_read(static_cast<const gpu_bf16 *>(data), i) : static_cast<const float *>(data)[i];
  }
  GPU_DEVICE void write(int64_t i, float value) const {
    if (bf16)
      gpu_write(static_cast<gpu_bf16 *>(data), i, value);
    else
      static_cast<float *>(data)[i] = value;
  }
};

static inline gpu_result gpu_result_of(const mg_tensor *out) {
  return {out->data, out->dtype == MG_BF16};
}

/* ---- from global to shared memory ------------------------------------------------------------------------------- */

/* 16 bytes, moved at once. */
struct __attribute__((may_alias, aligned(16))) gpu_vector {
  uint32_t word[4];
};
struct __attribute__((may_alias, aligned(8))) gpu_half_vector {
  uint32_t word[2];
};

/* As many neighbouring elements as 16 bytes of C hold, as they were stored: on their way from global to shared memory. */
template <typename C> struct gpu_staged {
  enum { COUNT = 16 / sizeof(C) };
  uint32_t word[COUNT];
};

template <typename C> GPU_DEVICE void gpu_take_vectors(gpu_staged<C> &to, const gpu_operand &from, int64_t first) {
  enum { COUNT = gpu_staged<C>::COUNT };
  if (!from.bf16) {
#pragma unroll
    for (int v = 0; v < COUNT / 4; v++) {
      const gpu_vector four = reinterpret_cast<const gpu_vector *>(static_cast<const float *>(from.data) + first)[v];
#pragma unroll
      for (int i = 0; i < 4; i++) to.word[4 * v + i] = four.word[i];
    }
    return;
  }
  const gpu_bf16 *source = static_cast<const gpu_bf16 *>(from.data) + first;
#pragma unroll
  for (int v = 0; v < COUNT / 4; v++) {
    const gpu_half_vector four = reinterpret_cast<const gpu_half_vector *>(source)[v];
    to.word[2 * v] = four.word[0];
    to.word[2 * v + 1] = four.word[1];
  }
}

/* Element `first + i`, or zero where it is outside. */
template <typename C>
GPU_DEVICE void gpu_take_singly(gpu_staged<C> &to, const gpu_operand &from, int64_t first, int64_t begin, int64_t end) {
  enum { COUNT = gpu_staged<C>::COUNT };
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    const bool inside = i >= begin && i < end;
    if (!from.bf16) {
      to.word[i] = inside ? gpu_bits_of(static_cast<const float *>(from.data)[first + i]) : 0;
      continue;
    }
    const uint32_t bits = inside ? static_cast<const gpu_bf16 *>(from.data)[first + i].bits : 0u;
    to.word[i / 2] = i % 2 ? to.word[i / 2] | bits << 16 : bits;
  }
}

/* The elements of `row` from `column` on; the matrix has [0, rows) and [0, columns). */
template <typename C>
GPU_DEVICE void gpu_take(gpu_staged<C> &to, const gpu_operand &from, int64_t row, int64_t rows, int64_t column,
                         int64_t columns) {
  enum { COUNT = gpu_staged<C>::COUNT };
  const int64_t first = row * from.stride + column;
  if (row < 0 || row >= rows)
    gpu_take_singly(to, from, first, 0, 0);
  else if (from.vectors && column % COUNT == 0 && column >= 0 && column + COUNT <= columns)
    gpu_take_vectors(to, from, first);
  else
    gpu_take_singly(to, from, first, -column, columns - column);
}

GPU_DEVICE float gpu_half_of(uint32_t pair, int half) {
  return gpu_float_of(half ? pair & 0xffff0000u : pair << 16);
}

/* Writes 16 bytes; elements that are not C already are rounded, or widened, to it. */
GPU_DEVICE void gpu_put(gpu_bf16 *shared, const gpu_staged<gpu_bf16> &from, bool bf16) {
  uint32_t word[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (bf16) {
      word[i] = from.word[i];
      continue;
    }
    const uint32_t low = gpu_bf16_of(gpu_float_of(from.word[2 * i])).bits;
    const uint32_t high = gpu_bf16_of(gpu_float_of(from.word[2 * i + 1])).bits;
    word[i] = high << 16 | low;
  }
  gpu_write_shared_vector(shared, word);
}
GPU_DEVICE void gpu_put(float *shared, const gpu_staged<float> &from, bool bf16) {
  uint32_t word[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint32_t pair = from.word[i / 2];
    word[i] = !bf16 ? from.word[i] : i % 2 ? pair & 0xffff0000u : pair << 16;
  }
  gpu_write_shared_vector(shared, word);
}

/* How a chunk of an operand, EXTENT of its rows or columns by DEPTH, lies in shared memory: as the matrix is stored, with
 * the depth last or first. Rows are 16 bytes longer than what they hold, so that neighbouring rows begin in other banks. */
template <typename C, int EXTENT, bool DEPTH_LAST> struct gpu_chunk {
  enum {
    DEPTH = 64 / sizeof(C),
    ROWS = DEPTH_LAST ? EXTENT : static_cast<int>(DEPTH),
    COLUMNS = DEPTH_LAST ? static_cast<int>(DEPTH) : EXTENT,
    STRIDE = COLUMNS + static_cast<int>(16 / sizeof(C)),
    ELEMENTS = ROWS * STRIDE,
    VECTOR = gpu_staged<C>::COUNT,
    PER_ROW = COLUMNS / VECTOR,
    PER_THREAD = ROWS * PER_ROW / GPU_TILE_THREADS
  };
  gpu_staged<C> staged[PER_THREAD] = {};

  GPU_DEVICE void take(const gpu_operand &from, gpu_range extent, gpu_range depth) {
    const gpu_range rows = DEPTH_LAST ? extent : depth, columns = DEPTH_LAST ? depth : extent;
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++) {
      const int place = gpu_thread() + i * GPU_TILE_THREADS;
      gpu_take(staged[i], from, rows.first + place / PER_ROW, rows.end, columns.first + place % PER_ROW * VECTOR,
               columns.end);
    }
  }
  GPU_DEVICE void put(C *shared, bool bf16) const {
#pragma unroll
    for (int i = 0; i < PER_THREAD; i++) {
      const int place = gpu_thread() + i * GPU_TILE_THREADS;
      gpu_put(shared + place / PER_ROW * STRIDE + place % PER_ROW * VECTOR, staged[i], bf16);
    }
  }
};

/* ---- tiles of sums ---------------------------------------------------------------------------------------------- */

/* [M, N] sums in the registers of the block: its warps stand in two rows, and each holds M / 2 rows of them. */
template <typename C, int M, int N, int THREADS = GPU_TILE_THREADS> struct gpu_tile {
  enum {
    WARPS_ACROSS = THREADS / GPU_WARP / 2,
    WARP_ROWS = M / 2,
    WARP_COLUMNS = N / WARPS_ACROSS,
    DOWN = WARP_ROWS / GPU_UNIT,
    ACROSS = WARP_COLUMNS / GPU_UNIT
  };
  typedef gpu_unit<C> unit;
  typename unit::sum sums[DOWN][ACROSS];

  static GPU_DEVICE int first_row() {
    return gpu_thread() / GPU_WARP / WARPS_ACROSS * WARP_ROWS;
  }
  static GPU_DEVICE int first_column() {
    return gpu_thread() / GPU_WARP % WARPS_ACROSS * WARP_COLUMNS;
  }

  /* f(row, column, sum) for each sum that the thread holds. */
  template <typename F> GPU_DEVICE void each(F f) {
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
      for (int j = 0; j < ACROSS; j++)
#pragma unroll
        for (int v = 0; v < unit::VALUES; v++)
          f(first_row() + i * GPU_UNIT + unit::row(v), first_column() + j * GPU_UNIT + unit::column(v),
            sums[i][j].value[v]);
  }

  /* f(row, column, sum, sum of the other tile). */
  template <typename F> GPU_DEVICE void each_with(gpu_tile &other, F f) {
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
      for (int j = 0; j < ACROSS; j++)
#pragma unroll
        for (int v = 0; v < unit::VALUES; v++)
          f(first_row() + i * GPU_UNIT + unit::row(v), first_column() + j * GPU_UNIT + unit::column(v),
            sums[i][j].value[v], other.sums[i][j].value[v]);
  }

  GPU_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
      for (int j = 0; j < ACROSS; j++)
#pragma unroll
        for (int v = 0; v < unit::VALUES; v++) sums[i][j].value[v] = 0.0f;
  }

  /* Adds the product of two operands in shared memory, `DEPTH` deep. With a unit that looks AHEAD, the next operands come
   * while these are multiplied. */
  template <int DEPTH, typename L, typename R> GPU_DEVICE void multiply(const L &left, const R &right) {
    constexpr int HELD = 1 + unit::AHEAD;
    typename unit::left a[HELD][DOWN];
    typename unit::right b[HELD][ACROSS];
    if (unit::AHEAD) load(a[0], b[0], left, right, 0);
#pragma unroll
    for (int k = 0; k < DEPTH; k += unit::DEPTH) {
      const int now = k / unit::DEPTH % HELD, next = (now + 1) % HELD, loaded = k + unit::AHEAD * unit::DEPTH;
      if (loaded < DEPTH) load(a[next], b[next], left, right, loaded);
#pragma unroll
      for (int i = 0; i < DOWN; i++)
#pragma unroll
        for (int j = 0; j < ACROSS; j++) unit::multiply(sums[i][j], a[now][i], b[now][j]);
    }
  }
  template <typename L, typename R>
  static GPU_DEVICE void load(typename unit::left (&a)[DOWN], typename unit::right (&b)[ACROSS], const L &left,
                              const R &right, int k) {
#pragma unroll
    for (int i = 0; i < DOWN; i++) unit::load(a[i], left, first_row() + i * GPU_UNIT, k);
#pragma unroll
    for (int j = 0; j < ACROSS; j++) unit::load(b[j], right, first_column() + j * GPU_UNIT, k);
  }

  /* Adds left right, summed over `depth`; left has the rows `m` of the tile and right the columns `n`. Chunks stand in
   * `left_shared` and `right_shared`, `BUFFERS` of them: with two, one is filled while the other is read. All reads of
   * the buffers by calls before this one must have been followed by a barrier when there are two. */
  template <bool LEFT_LAST, bool RIGHT_LAST, int BUFFERS>
  GPU_DEVICE void add_product(const gpu_operand &left, gpu_range m, const gpu_operand &right, gpu_range n,
                              gpu_range depth, C *left_shared, C *right_shared) {
    typedef gpu_chunk<C, M, LEFT_LAST> left_chunk;
    typedef gpu_chunk<C, N, RIGHT_LAST> right_chunk;
    left_chunk a;
    right_chunk b;
    int buffer = 0;
    a.take(left, m, depth);
    b.take(right, n, depth);
    while (depth.first < depth.end) {
      C *left_now = left_shared + buffer * left_chunk::ELEMENTS,
        *right_now = right_shared + buffer * right_chunk::ELEMENTS;
      if (BUFFERS == 1) gpu_barrier();
      a.put(left_now, left.bf16);
      b.put(right_now, right.bf16);
      gpu_barrier();
      depth.first += left_chunk::DEPTH;
      if (depth.first < depth.end) {
        a.take(left, m, depth);
        b.take(right, n, depth);
      }
      multiply<left_chunk::DEPTH>(gpu_plain_lines<C, LEFT_LAST>{left_now, left_chunk::STRIDE},
                                  gpu_plain_lines<C, RIGHT_LAST>{right_now, right_chunk::STRIDE});
      if (BUFFERS == 2) buffer = !buffer;
    }
  }

  /* Adds left right, where left [M, DEPTH] stands in shared memory already and right's rows (its depth) come from
   * global memory. */
  template <bool LEFT_LAST, int DEPTH>
  GPU_DEVICE void add_product_from(const C *left, int left_stride, const gpu_operand &right, gpu_range n,
                                   gpu_range depth, C *right_shared) {
    typedef gpu_chunk<C, N, false> right_chunk;
    right_chunk b;
    b.take(right, n, depth);
    for (int k = 0; k < DEPTH; k += right_chunk::DEPTH) {
      gpu_barrier();
      b.put(right_shared, right.bf16);
      gpu_barrier();
      depth.first += right_chunk::DEPTH;
      if (k + right_chunk::DEPTH < DEPTH) b.take(right, n, depth);
      multiply<right_chunk::DEPTH>(gpu_plain_lines<C, LEFT_LAST>{left + (LEFT_LAST ? k : k * left_stride), left_stride},
                                   gpu_plain_lines<C, false>{right_shared, right_chunk::STRIDE});
    }
  }
};

#endif
