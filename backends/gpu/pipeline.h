/* Products of bf16 tiles of 128 x 128 whose operands are copied to shared memory beside the work (GPU_ASYNC_COPY).
 *
 * A ring of GPU_RING chunks, 32 deep, is filled ahead: while one is multiplied, the others are on their way. Four warps
 * hold 64 x 64 sums each, so that a number read from shared memory is used 64 times. A chunk lies there in vectors of 8
 * elements without gaps; which place of its row a vector takes depends on the row, so that the eight vectors that the matrix
 * unit reads at once lie in different banks, and those that a copy writes too. */
#ifndef MG_GPU_PIPELINE_H
#define MG_GPU_PIPELINE_H

#include "tiles.h"

#ifdef GPU_ASYNC_COPY

enum { GPU_RING = 3, GPU_RING_SIDE = 128, GPU_RING_DEPTH = 32, GPU_RING_THREADS = 4 * GPU_WARP, GPU_VECTOR = 8 };

/* A chunk of the left or right operand in shared memory; gpu_plain_lines in tiles.h says what `at` gives. */
template <bool DEPTH_LAST> struct gpu_ring_chunk {
  static constexpr bool depth_last = DEPTH_LAST;
  enum {
    ELEMENTS = GPU_RING_SIDE * GPU_RING_DEPTH,
    VECTORS = (DEPTH_LAST ? GPU_RING_DEPTH : GPU_RING_SIDE) / GPU_VECTOR, /* of a row as stored */
    ROWS_APART = GPU_RING_THREADS / VECTORS,                              /* from one copy of a thread to its next */
    PER_THREAD = ELEMENTS / GPU_VECTOR / GPU_RING_THREADS
  };
  const gpu_bf16 *first;

  /* Rows of 64 bytes: two share the banks. Rows of 256 bytes: each has all of them. */
  static GPU_DEVICE int place(int row, int vector) {
    return (row * VECTORS + (vector ^ (DEPTH_LAST ? row / 2 % 4 : row % 8))) * GPU_VECTOR;
  }
  GPU_DEVICE const gpu_bf16 *at(int m, int k) const {
    const int row = DEPTH_LAST ? m : k, column = DEPTH_LAST ? k : m;
    return first + place(row, column / GPU_VECTOR) + column % GPU_VECTOR;
  }
};

/* What a thread copies of an operand: PER_THREAD vectors of every chunk, ROWS_APART rows from each other. Rows of the
 * operand consist of whole vectors; it has at most INT32_MAX rows and columns. */
template <bool DEPTH_LAST> struct gpu_feed {
  typedef gpu_ring_chunk<DEPTH_LAST> chunk;
  const gpu_bf16 *next;
  int64_t apart, advance;      /* elements to the thread's next vector, and to the next chunk */
  int extent_left, depth_left; /* rows or columns from the first vector to the end of the operand */
  int place;

  GPU_DEVICE gpu_feed(const gpu_operand &from, gpu_range extent, gpu_range depth) {
    const int row = gpu_thread() / chunk::VECTORS, vector = gpu_thread() % chunk::VECTORS;
    const gpu_range rows = DEPTH_LAST ? extent : depth, columns = DEPTH_LAST ? depth : extent;
    next = static_cast<const gpu_bf16 *>(from.data) + (rows.first + row) * from.stride + columns.first +
           vector * GPU_VECTOR;
    apart = chunk::ROWS_APART * from.stride;
    advance = DEPTH_LAST ? static_cast<int64_t>(GPU_RING_DEPTH) : GPU_RING_DEPTH * from.stride;
    extent_left = static_cast<int>(extent.end - extent.first) - (DEPTH_LAST ? row : vector * GPU_VECTOR);
    depth_left = static_cast<int>(depth.end - depth.first) - (DEPTH_LAST ? vector * GPU_VECTOR : row);
    place = chunk::place(row, vector);
  }

  /* Starts the copies of a chunk, and goes on to the next; vectors outside the operand become zeros. */
  GPU_DEVICE void copy(gpu_bf16 *to) {
    const int fixed = DEPTH_LAST ? depth_left : extent_left, rows = DEPTH_LAST ? extent_left : depth_left;
#pragma unroll
    for (int i = 0; i < chunk::PER_THREAD; i++) {
      const bool inside = fixed > 0 && i * chunk::ROWS_APART < rows;
      gpu_copy_async(to + place + i * chunk::ROWS_APART * chunk::VECTORS * GPU_VECTOR, next + i * apart, inside);
    }
    next += advance;
    depth_left -= GPU_RING_DEPTH;
  }
};

/* The ring in shared memory: left and right chunks in turn. */
enum { GPU_RING_ELEMENTS = 2 * GPU_RING * GPU_RING_SIDE * GPU_RING_DEPTH };
typedef gpu_tile<gpu_bf16, GPU_RING_SIDE, GPU_RING_SIDE, GPU_RING_THREADS> gpu_ring_tile;

/* Adds the product of `chunks` chunks. Afterwards nothing is on its way, but threads may still read the ring. */
template <bool LEFT_LAST, bool RIGHT_LAST>
GPU_DEVICE void gpu_add_product_of_feeds(gpu_ring_tile &tile, gpu_feed<LEFT_LAST> &left, gpu_feed<RIGHT_LAST> &right,
                                         int chunks, gpu_bf16 *ring) {
  constexpr int HALF = gpu_ring_chunk<LEFT_LAST>::ELEMENTS, SLOT = 2 * HALF;
  int started = 0, to = 0, from = 0;
  const auto start = [&]() {
    if (started++ < chunks) {
      left.copy(ring + to);
      right.copy(ring + to + HALF);
    }
    gpu_copies_close();
    to = to + SLOT < GPU_RING * SLOT ? to + SLOT : 0;
  };
  for (int i = 0; i < GPU_RING - 1; i++) start();
  for (int chunk = 0; chunk < chunks; chunk++) {
    gpu_copies_wait<GPU_RING - 2>(); /* for this chunk */
    gpu_barrier();                   /* all have it, and nobody reads the one that comes next into its place */
    start();
    tile.template multiply<GPU_RING_DEPTH>(gpu_ring_chunk<LEFT_LAST>{ring + from},
                                           gpu_ring_chunk<RIGHT_LAST>{ring + from + HALF});
    from = from + SLOT < GPU_RING * SLOT ? from + SLOT : 0;
  }
  gpu_copies_wait<0>();
}

/* ---- the way out ------------------------------------------------------------------------------------------------- */

/* A line of sums is longer than its tile, so that what the matrix unit's lanes write at once goes to different banks. */
enum { GPU_SUMS_ROWS = GPU_RING_SIDE / 2, GPU_SUMS_STRIDE = GPU_RING_SIDE + 8 };
static_assert(GPU_SUMS_ROWS * GPU_SUMS_STRIDE * sizeof(float) <= GPU_RING_ELEMENTS * sizeof(gpu_bf16),
              "half of the sums stand where the ring was");

/* Neighbouring elements of an output, as one vector where it is aligned. */
GPU_DEVICE void gpu_add_or_write(const gpu_result &out, int64_t i, const float (&sum)[GPU_VECTOR], bool accumulate) {
  typedef gpu_pack<gpu_bf16, GPU_VECTOR> narrow;
  typedef gpu_pack<float, GPU_VECTOR / 2> wide;
  if (out.bf16) {
    narrow *to = reinterpret_cast<narrow *>(static_cast<gpu_bf16 *>(out.data) + i);
    narrow all = {};
    if (accumulate) all = *to;
#pragma unroll
    for (int e = 0; e < GPU_VECTOR; e++) gpu_write(all.at, e, accumulate ? gpu_read(all.at, e) + sum[e] : sum[e]);
    *to = all;
    return;
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    wide *to = reinterpret_cast<wide *>(static_cast<float *>(out.data) + i) + half;
    wide all = {};
    if (accumulate) all = *to;
#pragma unroll
    for (int e = 0; e < GPU_VECTOR / 2; e++) all.at[e] += sum[half * (GPU_VECTOR / 2) + e];
    *to = all;
  }
}

/* Where a tile's sums go: rows [m.first, m.end) and columns [n.first, n.end) of a matrix of `columns` columns that begins
 * at element `first`. `vectors`: its rows consist of whole, aligned vectors. */
struct gpu_destination {
  gpu_result out;
  int64_t first, columns;
  gpu_range m, n;
  bool accumulate, vectors;

  GPU_DEVICE void write(int64_t row, int64_t column, const float (&sum)[GPU_VECTOR]) const {
    if (row >= m.end || column >= n.end) return;
    const int64_t i = first + row * columns + column;
    if (vectors) {
      gpu_add_or_write(out, i, sum, accumulate);
      return;
    }
#pragma unroll
    for (int e = 0; e < GPU_VECTOR; e++)
      if (column + e < n.end) out.write(i + e, accumulate ? out.read(i + e) + sum[e] : sum[e]);
  }
};

/* Writes the tile, half of its rows after the other, through shared memory: so that rows leave in whole vectors. */
GPU_DEVICE void gpu_write_tile(gpu_ring_tile &tile, const gpu_destination &to, gpu_bf16 *ring) {
  float *sums = reinterpret_cast<float *>(ring);
  constexpr int ACROSS = GPU_RING_SIDE / GPU_VECTOR;
  for (int half = 0; half < 2; half++) {
    const int top = half * GPU_SUMS_ROWS;
    gpu_barrier();
    if (gpu_ring_tile::first_row() == top)
      tile.each([&](int row, int column, float sum) { sums[(row - top) * GPU_SUMS_STRIDE + column] = sum; });
    gpu_barrier();
    for (int place = gpu_thread(); place < GPU_SUMS_ROWS * ACROSS; place += GPU_RING_THREADS) {
      const int row = place / ACROSS, column = place % ACROSS * GPU_VECTOR;
      float sum[GPU_VECTOR];
#pragma unroll
      for (int e = 0; e < GPU_VECTOR; e++) sum[e] = sums[row * GPU_SUMS_STRIDE + column + e];
      to.write(to.m.first + top + row, to.n.first + column, sum);
    }
  }
}

#endif
#endif
