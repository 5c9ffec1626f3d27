/* matmul, grouped_matmul and grouped_matmul_weight: every block of threads makes one tile of one product. Large products
 * of bf16 numbers go through pipeline.h where copies run beside the work, others through tiles.h.
 *
 * The three differ in where a tile's operands begin and how deep they are, which each block finds out by itself, from the
 * offsets on the device where there are groups. Rows of expert e begin at offsets[e]; its tiles of M rows are those
 * numbered from offsets[e] / M + e on (rounded down): never too few, and at most one a group is empty. No rows are padded
 * and nobody asks the host. */
#include "pipeline.h"

namespace {
enum product_kind {
  PRODUCT_BATCH, /* one product for each matrix of a batch */
  PRODUCT_ROWS,  /* left's rows are grouped; each group has its own right operand */
  PRODUCT_DEPTH  /* rows of left and right are grouped, and summed over: one result a group */
};

/* out = left right, [M, N] with K between; of all matrices of a batch, or of all groups. */
struct product {
  product_kind kind;
  gpu_operand left, right;
  int64_t left_step, right_step; /* elements from one matrix of a batch, or group, to the next */
  gpu_result out;
  int64_t M, N, K;
  int64_t count; /* matrices of the batch, or groups */
  int64_t left_elements, right_elements;
  const int32_t *offsets;
  bool left_last, right_last; /* is the depth the last index of the operand as stored? */
  bool accumulate;
  bool out_vectors; /* rows of out consist of whole, aligned vectors */
};

/* The part of a product that one tile belongs to. */
struct part {
  gpu_operand left, right;
  gpu_range m, n, depth;
  int64_t out_first; /* element of out at row 0, column 0 of the part */
};

/* ---- which tile is whose ---------------------------------------------------------------------------------------- */

/* Tiles of one part in bands of BAND rows of tiles, column after column: blocks that run together share operands. */
constexpr int64_t BAND = 8;

GPU_DEVICE void place_in_band(int64_t tile, int64_t down, int64_t across, int64_t *row, int64_t *column) {
  const int64_t first = tile / (BAND * across) * BAND, height = down - first < BAND ? down - first : BAND;
  *row = first + tile % (BAND * across) % height;
  *column = tile % (BAND * across) / height;
}

GPU_DEVICE int64_t offset_of(const product &p, int64_t group, int64_t rows) {
  const int64_t offset = p.offsets[group];
  return offset < 0 ? 0 : offset > rows ? rows : offset;
}

/* The group whose rows tile row `row` belongs to; group `count` has the rows that are nobody's. */
GPU_DEVICE int64_t group_of(const product &p, int64_t row, int64_t height) {
  int64_t low = 0, high = p.count;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (offset_of(p, middle, p.M) / height + middle <= row)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

template <int HEIGHT, int WIDTH> GPU_DEVICE part part_of_batch(const product &p, int64_t tile) {
  const int64_t down = (p.M + HEIGHT - 1) / HEIGHT, across = (p.N + WIDTH - 1) / WIDTH;
  const int64_t matrix = tile / (down * across);
  int64_t row, column;
  place_in_band(tile % (down * across), down, across, &row, &column);
  return {gpu_operand_from(p.left, matrix * p.left_step),
          gpu_operand_from(p.right, matrix * p.right_step),
          {row * HEIGHT, p.M},
          {column * WIDTH, p.N},
          {0, p.K},
          matrix * p.M * p.N};
}

template <int HEIGHT, int WIDTH> GPU_DEVICE part part_of_rows(const product &p, int64_t tile) {
  const int64_t down = p.M / HEIGHT + p.count + 1, across = (p.N + WIDTH - 1) / WIDTH;
  int64_t row, column;
  place_in_band(tile, down, across, &row, &column);
  const int64_t group = group_of(p, row, HEIGHT), begin = offset_of(p, group, p.M);
  const int64_t first = begin + (row - begin / HEIGHT - group) * HEIGHT;
  if (group == p.count) /* these rows become zero, or stay as they are */
    return {p.left, p.right, {first, p.accumulate ? first : p.M}, {column * WIDTH, p.N}, {0, 0}, 0};
  return {p.left,
          gpu_operand_from(p.right, group * p.right_step),
          {first, offset_of(p, group + 1, p.M)},
          {column * WIDTH, p.N},
          {0, p.K},
          0};
}

template <int HEIGHT, int WIDTH> GPU_DEVICE part part_of_depth(const product &p, int64_t tile) {
  part at = part_of_batch<HEIGHT, WIDTH>(p, tile);
  const int64_t group = at.out_first / (p.M * p.N);
  at.left = p.left;
  at.right = p.right;
  at.depth = {offset_of(p, group, p.K), offset_of(p, group + 1, p.K)};
  return at;
}

/* ---- the kernel ------------------------------------------------------------------------------------------------- */

template <int SIDE> GPU_DEVICE part part_of(const product &p, int64_t tile) {
  if (p.kind == PRODUCT_BATCH) return part_of_batch<SIDE, SIDE>(p, tile);
  return p.kind == PRODUCT_ROWS ? part_of_rows<SIDE, SIDE>(p, tile) : part_of_depth<SIDE, SIDE>(p, tile);
}

template <typename C, int SIDE, bool LEFT_LAST, bool RIGHT_LAST>
GPU_KERNEL(GPU_TILE_THREADS)
product_kernel(product p) {
  GPU_SHARED(C, left, 2 * (gpu_chunk<C, SIDE, LEFT_LAST>::ELEMENTS));
  GPU_SHARED(C, right, 2 * (gpu_chunk<C, SIDE, RIGHT_LAST>::ELEMENTS));
  const part at = part_of<SIDE>(p, gpu_block());
  if (at.m.first >= at.m.end) return;
  gpu_tile<C, SIDE, SIDE> tile;
  tile.clear();
  tile.template add_product<LEFT_LAST, RIGHT_LAST, 2>(at.left, at.m, at.right, at.n, at.depth, left, right);
  tile.each([&](int row, int column, float sum) {
    const int64_t m = at.m.first + row, n = at.n.first + column;
    if (m >= at.m.end || n >= at.n.end) return;
    const int64_t i = at.out_first + m * p.N + n;
    p.out.write(i, p.accumulate ? p.out.read(i) + sum : sum);
  });
}

/* The tiles of a product, a block of threads for each. */
template <int SIDE> gpu_grid tiles_of(const product &p) {
  const int64_t down = p.kind == PRODUCT_ROWS ? p.M / SIDE + p.count + 1 : gpu_ceil_div(p.M, SIDE) * p.count;
  return {static_cast<uint32_t>(down * gpu_ceil_div(p.N, SIDE)), 1};
}

template <typename C, int SIDE, bool LEFT_LAST, bool RIGHT_LAST>
void launch(const mg_backend *backend, const product &p) {
  const gpu_grid grid = tiles_of<SIDE>(p);
  if (grid.x == 0) return;
  gpu_launch(product_kernel<C, SIDE, LEFT_LAST, RIGHT_LAST>, grid, GPU_TILE_THREADS, gpu_state_of(backend)->stream, p);
}

template <typename C, int SIDE> void launch_stored(const mg_backend *backend, const product &p) {
  if (p.left_last && p.right_last) launch<C, SIDE, true, true>(backend, p);
  if (p.left_last && !p.right_last) launch<C, SIDE, true, false>(backend, p);
  if (!p.left_last && p.right_last) launch<C, SIDE, false, true>(backend, p);
  if (!p.left_last && !p.right_last) launch<C, SIDE, false, false>(backend, p);
}

/* There is something to multiply, and 32 bits are enough to count it. */
bool are_int32(const product &p) {
  const int64_t sizes[] = {p.M, p.N, p.K, p.count};
  for (const int64_t size : sizes)
    if (size < 1 || size > INT32_MAX) return false;
  return true;
}

/* ---- operands of bf16 ----------------------------------------------------------------------------------------------- */

mg_status round_operand(mg_backend *backend, gpu_operand *operand, int64_t elements, void *to) {
  if (operand->bf16) return MG_OK;
  const mg_tensor from = {const_cast<void *>(operand->data), {elements}, 1, MG_F32};
  mg_tensor rounded = {to, {elements}, 1, MG_BF16};
  mg_op_call cast = {};
  cast.op = MG_OP_CAST;
  cast.in[0] = &from;
  cast.out[0] = &rounded;
  *operand = gpu_operand_of(to, operand->stride, true);
  return mg__gpu_cast(backend, &cast);
}

/* Rounds what is f32 into scratch memory, once for all tiles. */
mg_status round_operands(mg_backend *backend, product *p) {
  const size_t left = p->left.bf16 ? 0 : static_cast<size_t>(gpu_ceil_div(p->left_elements, 128)) * 256;
  const size_t right = p->right.bf16 ? 0 : static_cast<size_t>(p->right_elements) * 2;
  if (left + right == 0) return MG_OK;
  char *memory = static_cast<char *>(mg__gpu_scratch(backend, left + right));
  if (!memory) return MG_DEVICE;
  MG_TRY(round_operand(backend, &p->left, p->left_elements, memory));
  return round_operand(backend, &p->right, p->right_elements, memory + left);
}

/* Large tiles read each operand less often, but small ones leave fewer multiprocessors and fewer threads idle. */
bool wants_large_tiles(const mg_backend *backend, const product &p) {
  enum { SIDE = 128 };
  const int64_t rows = p.kind == PRODUCT_ROWS ? p.M / (p.count ? p.count : 1) : p.M;
  const int64_t tiles = gpu_ceil_div(p.M, SIDE) * gpu_ceil_div(p.N, SIDE) * (p.kind == PRODUCT_ROWS ? 1 : p.count);
  return rows > SIDE / 2 && p.N > SIDE / 2 && tiles >= gpu_state_of(backend)->facts.multiprocessors;
}

/* ---- large products of bf16 numbers ------------------------------------------------------------------------------- */

#ifdef GPU_ASYNC_COPY

template <bool LEFT_LAST, bool RIGHT_LAST> GPU_KERNEL(GPU_RING_THREADS) ring_kernel(product p) {
  GPU_SHARED(gpu_bf16, ring, GPU_RING_ELEMENTS);
  const part at = part_of<GPU_RING_SIDE>(p, gpu_block());
  if (at.m.first >= at.m.end) return;
  gpu_ring_tile tile;
  tile.clear();
  gpu_feed<LEFT_LAST> left(at.left, at.m, at.depth);
  gpu_feed<RIGHT_LAST> right(at.right, at.n, at.depth);
  const int depth = static_cast<int>(at.depth.end - at.depth.first);
  gpu_add_product_of_feeds(tile, left, right, depth / GPU_RING_DEPTH + (depth % GPU_RING_DEPTH != 0), ring);
  gpu_write_tile(tile, {p.out, at.out_first, p.N, at.m, at.n, p.accumulate, p.out_vectors}, ring);
}

template <bool LEFT_LAST, bool RIGHT_LAST> void launch_ring(const mg_backend *backend, const product &p) {
  const gpu_grid grid = tiles_of<GPU_RING_SIDE>(p);
  if (grid.x == 0) return;
  gpu_launch(ring_kernel<LEFT_LAST, RIGHT_LAST>, grid, GPU_RING_THREADS, gpu_state_of(backend)->stream, p);
}

/* Rows of both operands, once they are bf16, consist of whole vectors. */
bool fits_ring(const mg_backend *backend, const product &p) {
  if (!are_int32(p)) return false;
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(p.left.data) | reinterpret_cast<uintptr_t>(p.right.data);
  return wants_large_tiles(backend, p) && p.left.stride % GPU_VECTOR == 0 && p.right.stride % GPU_VECTOR == 0 &&
         addresses % 16 == 0;
}

mg_status run_in_ring(mg_backend *backend, product p) {
  MG_TRY(round_operands(backend, &p));
  p.out_vectors = p.N % GPU_VECTOR == 0 && reinterpret_cast<uintptr_t>(p.out.data) % 16 == 0;
  if (p.left_last && p.right_last) launch_ring<true, true>(backend, p);
  if (p.left_last && !p.right_last) launch_ring<true, false>(backend, p);
  if (!p.left_last && p.right_last) launch_ring<false, true>(backend, p);
  if (!p.left_last && !p.right_last) launch_ring<false, false>(backend, p);
  return MG_OK;
}

#else

bool fits_ring(const mg_backend *, const product &) {
  return false;
}
mg_status run_in_ring(mg_backend *, const product &) {
  return MG_OK;
}

#endif

/* ---- the vendor's library ------------------------------------------------------------------------------------------- */

/* A library takes two operands of one dtype. Rounding one first is worth it where it is read by many tiles. */
bool fits_library(const mg_backend *backend, const product &p, bool bf16) {
  if (!gpu_state_of(backend)->blas.ready || p.kind != PRODUCT_BATCH || !are_int32(p)) return false;
  if (bf16) return (p.left.bf16 && p.right.bf16) || wants_large_tiles(backend, p);
  return !p.left.bf16 && !p.right.bf16 && !p.out.bf16;
}

mg_status run_in_library(mg_backend *backend, product p, bool bf16) {
  const gpu_blas *blas = &gpu_state_of(backend)->blas;
  if (bf16) MG_TRY(round_operands(backend, &p));
  gpu_gemm gemm = {};
  gemm.left = p.left.data;
  gemm.right = p.right.data;
  gemm.out = p.out.data;
  gemm.bf16 = bf16;
  gemm.out_bf16 = p.out.bf16;
  gemm.left_last = p.left_last;
  gemm.right_last = p.right_last;
  gemm.accumulate = p.accumulate;
  gemm.M = p.M;
  gemm.N = p.N;
  gemm.K = p.K;
  gemm.count = p.count;
  if (gpu_vendor_blas.multiply(blas, &gemm)) return MG_OK;
  return mg_fail(backend->context, MG_DEVICE,
                 "%s refused a product of %lld x %lld with %lld between; matmul=own goes without it", blas->name,
                 static_cast<long long>(p.M), static_cast<long long>(p.N), static_cast<long long>(p.K));
}

/* ---- choosing a kernel --------------------------------------------------------------------------------------------- */

template <typename C> void run_product(const mg_backend *backend, const product &p) {
  if (wants_large_tiles(backend, p))
    launch_stored<C, 128>(backend, p);
  else
    launch_stored<C, 64>(backend, p);
}

/* bf16 numbers are what rounding them to bf16 gives, so two bf16 operands may use the matrix unit for any `compute`. */
mg_status run(mg_backend *backend, const mg_op_call *call, const product &p, mg_dtype compute) {
  const bool bf16 = compute == MG_BF16 || (p.left.bf16 && p.right.bf16);
  if (fits_library(backend, p, bf16))
    MG_TRY(run_in_library(backend, p, bf16));
  else if (bf16 && fits_ring(backend, p))
    MG_TRY(run_in_ring(backend, p));
  else if (bf16)
    run_product<gpu_bf16>(backend, p);
  else
    run_product<float>(backend, p);
  return mg__gpu_launched(backend, call);
}

void set_operands(product *p, const mg_tensor *left, const mg_tensor *right) {
  p->left = gpu_operand_of(left->data, mg_tensor_columns(left), left->dtype == MG_BF16);
  p->right = gpu_operand_of(right->data, mg_tensor_columns(right), right->dtype == MG_BF16);
  p->left_elements = mg_tensor_count(left);
  p->right_elements = mg_tensor_count(right);
}
} // namespace

/* ---- the primitives --------------------------------------------------------------------------------------------- */

mg_status mg__gpu_matmul(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  const auto &set = call->attributes.matmul;
  product p = {};
  p.kind = PRODUCT_BATCH;
  set_operands(&p, a, b);
  p.out = gpu_result_of(out);
  p.M = out->shape[out->dims - 2];
  p.N = out->shape[out->dims - 1];
  p.K = a->shape[set.transpose_a ? a->dims - 2 : a->dims - 1];
  p.count = out->dims == 3 ? out->shape[0] : 1;
  p.left_step = p.M * p.K;
  p.right_step = p.K * p.N;
  p.left_last = !set.transpose_a;
  p.right_last = set.transpose_b;
  p.accumulate = set.accumulate;
  return run(backend, call, p, set.compute);
}

mg_status mg__gpu_grouped_matmul(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *w = call->in[1], *offsets = call->in[2], *out = call->out[0];
  const auto &set = call->attributes.grouped;
  product p = {};
  p.kind = PRODUCT_ROWS;
  set_operands(&p, x, w);
  p.out = gpu_result_of(out);
  p.M = mg_tensor_rows(out);
  p.N = mg_tensor_columns(out);
  p.K = mg_tensor_columns(x);
  p.count = mg_tensor_count(offsets) - 1;
  p.right_step = p.K * p.N;
  p.offsets = gpu_data<const int32_t>(offsets);
  p.left_last = true;
  p.right_last = set.transpose_w;
  p.accumulate = set.accumulate;
  return run(backend, call, p, set.compute);
}

/* dw = x^T dout of each group; stored transposed it is dout^T x. */
mg_status mg__gpu_grouped_matmul_weight(mg_backend *backend, const mg_op_call *call) {
  const auto &set = call->attributes.grouped;
  const mg_tensor *x = call->in[set.transpose_w ? 1 : 0], *dout = call->in[set.transpose_w ? 0 : 1];
  product p = {};
  p.kind = PRODUCT_DEPTH;
  set_operands(&p, x, dout);
  p.out = gpu_result_of(call->out[0]);
  p.M = mg_tensor_columns(x);
  p.N = mg_tensor_columns(dout);
  p.K = mg_tensor_rows(x);
  p.count = mg_tensor_count(call->in[2]) - 1;
  p.offsets = gpu_data<const int32_t>(call->in[2]);
  p.accumulate = set.accumulate;
  return run(backend, call, p, set.compute);
}
