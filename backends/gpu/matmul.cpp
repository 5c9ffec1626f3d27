/* matmul, grouped_matmul and grouped_matmul_weight: every block of threads makes one tile of one product.
 *
 * The three differ in where a tile's operands begin and how deep they are, which each block finds out by itself, from the
 * offsets on the device where there are groups. Rows of expert e begin at offsets[e]; its tiles of M rows are those
 * numbered from offsets[e] / M + e on (rounded down): never too few, and at most one a group is empty. No rows are padded
 * and nobody asks the host. */
#include "tiles.h"

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
  const int32_t *offsets;
  bool left_last, right_last; /* is the depth the last index of the operand as stored? */
  bool accumulate;
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

template <typename C, int SIDE, bool LEFT_LAST, bool RIGHT_LAST>
GPU_KERNEL(GPU_TILE_THREADS)
product_kernel(product p) {
  GPU_SHARED(C, left, 2 * (gpu_chunk<C, SIDE, LEFT_LAST>::ELEMENTS));
  GPU_SHARED(C, right, 2 * (gpu_chunk<C, SIDE, RIGHT_LAST>::ELEMENTS));
  const part at = p.kind == PRODUCT_BATCH  ? part_of_batch<SIDE, SIDE>(p, gpu_block())
                  : p.kind == PRODUCT_ROWS ? part_of_rows<SIDE, SIDE>(p, gpu_block())
                                           : part_of_depth<SIDE, SIDE>(p, gpu_block());
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

template <typename C, int SIDE, bool LEFT_LAST, bool RIGHT_LAST>
void launch(const mg_backend *backend, const product &p) {
  const int64_t down = p.kind == PRODUCT_ROWS ? p.M / SIDE + p.count + 1 : gpu_ceil_div(p.M, SIDE) * p.count;
  const int64_t blocks = down * gpu_ceil_div(p.N, SIDE);
  if (blocks == 0) return;
  gpu_launch(product_kernel<C, SIDE, LEFT_LAST, RIGHT_LAST>, gpu_grid{static_cast<uint32_t>(blocks), 1},
             GPU_TILE_THREADS, gpu_state_of(backend)->stream, p);
}

template <typename C, int SIDE> void launch_stored(const mg_backend *backend, const product &p) {
  if (p.left_last && p.right_last) launch<C, SIDE, true, true>(backend, p);
  if (p.left_last && !p.right_last) launch<C, SIDE, true, false>(backend, p);
  if (!p.left_last && p.right_last) launch<C, SIDE, false, true>(backend, p);
  if (!p.left_last && !p.right_last) launch<C, SIDE, false, false>(backend, p);
}

/* Large tiles read each operand less often, but small ones leave fewer multiprocessors and fewer threads idle. */
bool wants_large_tiles(const mg_backend *backend, const product &p) {
  enum { SIDE = 128 };
  const int64_t rows = p.kind == PRODUCT_ROWS ? p.M / (p.count ? p.count : 1) : p.M;
  const int64_t tiles = gpu_ceil_div(p.M, SIDE) * gpu_ceil_div(p.N, SIDE) * (p.kind == PRODUCT_ROWS ? 1 : p.count);
  return rows > SIDE / 2 && p.N > SIDE / 2 && tiles >= gpu_state_of(backend)->facts.multiprocessors;
}

template <typename C> void run_product(const mg_backend *backend, const product &p) {
  if (wants_large_tiles(backend, p))
    launch_stored<C, 128>(backend, p);
  else
    launch_stored<C, 64>(backend, p);
}

/* bf16 numbers are what rounding them to bf16 gives, so two bf16 operands may use the matrix unit for any `compute`. */
mg_status run(mg_backend *backend, const mg_op_call *call, const product &p, mg_dtype compute) {
  if (compute == MG_BF16 || (p.left.bf16 && p.right.bf16))
    run_product<gpu_bf16>(backend, p);
  else
    run_product<float>(backend, p);
  return mg__gpu_launched(backend, call);
}

gpu_operand operand_of(const mg_tensor *x) {
  return gpu_operand_of(x->data, mg_tensor_columns(x), x->dtype == MG_BF16);
}
} // namespace

/* ---- the primitives --------------------------------------------------------------------------------------------- */

mg_status mg__gpu_matmul(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  const auto &set = call->attributes.matmul;
  product p = {};
  p.kind = PRODUCT_BATCH;
  p.left = operand_of(a);
  p.right = operand_of(b);
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
  p.left = operand_of(x);
  p.right = operand_of(w);
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
  p.left = operand_of(x);
  p.right = operand_of(dout);
  p.out = gpu_result_of(call->out[0]);
  p.M = mg_tensor_columns(x);
  p.N = mg_tensor_columns(dout);
  p.K = mg_tensor_rows(x);
  p.count = mg_tensor_count(call->in[2]) - 1;
  p.offsets = gpu_data<const int32_t>(call->in[2]);
  p.accumulate = set.accumulate;
  return run(backend, call, p, set.compute);
}
