/* attention: a block of threads takes up to SIDE rows over the keys that they see, tile after tile, with the softmax kept
 * running: when a larger score comes, what was summed before is scaled down. attention.h has the rest.
 *
 * Rows are queries of one head or, where fewer queries than heads share a key head, those heads' rows of one query: keys are
 * then read once for all of them. Where rows are too few to fill a device, as in decoding, the keys are split over blocks
 * (Dao et al. 2023, "Flash-Decoding for long-context inference"). Split s gives out_s, lse_s over its keys, and
 *   lse = ln(sum over s of exp(lse_s)),  out = sum over s of exp(lse_s - lse) out_s.
 * How many splits there are follows from the shapes alone, and they are summed in order. */
#include <math.h>

#include "attention.h"

namespace {
constexpr int SIDE = GPU_ATTENTION_SIDE, PER_ROW = GPU_TILE_THREADS / SIDE; /* threads that share a row of scores */

/* Blocks that fill a large device, and tiles of keys that make a block worth its launch. */
constexpr int64_t BLOCKS_WANTED = 512, TILES_LEAST = 4;

struct forward {
  gpu_attention a;
  bool of_group; /* rows are a group's heads, not queries */
  int64_t splits;
  gpu_result out; /* for each split */
  float *lse;

  GPU_DEVICE int64_t rows() const {
    return of_group ? a.group : a.queries;
  }
  /* Elements of one split. */
  GPU_DEVICE int64_t out_count() const {
    return a.batch * a.queries * a.heads * a.value_head;
  }
  GPU_DEVICE int64_t lse_count() const {
    return a.heads * a.batch * a.queries;
  }
};

/* What a block takes: rows [first, end) of one head's queries, or of one query's heads. */
struct part {
  int64_t split, first, end, head, query, sequence; /* head, query: of row 0; one of them counts on with the rows */
  bool of_group;

  static GPU_DEVICE part of_block(const forward &f) {
    const int64_t tiles = (f.rows() + SIDE - 1) / SIDE, units = f.of_group ? f.a.queries * f.a.kv_heads : f.a.heads;
    int64_t block = gpu_block();
    part p = {};
    p.split = block % f.splits;
    block /= f.splits;
    p.first = (tiles - 1 - block % tiles) * SIDE; /* the longest first */
    block /= tiles;
    p.sequence = block / units;
    block %= units;
    p.of_group = f.of_group;
    p.head = f.of_group ? block / f.a.queries * f.a.group : block;
    p.query = f.of_group ? block % f.a.queries : 0;
    p.end = p.first + SIDE < f.rows() ? p.first + SIDE : f.rows();
    return p;
  }
  GPU_DEVICE int64_t head_of(int64_t row) const {
    return of_group ? head + row : head;
  }
  GPU_DEVICE int64_t query_of(int64_t row) const {
    return of_group ? query : row;
  }
  /* Row by row, [end, width]. */
  GPU_DEVICE gpu_operand queries(const gpu_attention &a) const {
    gpu_operand q = gpu_operand_from(a.of_query(a.q, sequence, head, a.head), query * a.q.stride);
    if (!of_group) return q;
    q.stride = a.head;
    q.vectors = q.vectors && a.head % (q.bf16 ? 8 : 4) == 0;
    return q;
  }
  /* The keys of this split, whole tiles but for the last. */
  GPU_DEVICE gpu_range keys(const forward &f) const {
    const gpu_range seen = f.a.keys_of(query_of(first), query_of(end - 1) + 1);
    const int64_t tiles = (seen.end - seen.first + SIDE - 1) / SIDE, each = (tiles + f.splits - 1) / f.splits * SIDE;
    const int64_t begin = seen.first + split * each, last = begin + each;
    return {begin, last < seen.end ? last : seen.end};
  }
};

/* The larger of, and the sum of, what the PER_ROW neighbouring threads give. */
GPU_DEVICE float row_larger(float value) {
#pragma unroll
  for (int mask = 1; mask < PER_ROW; mask *= 2) value = gpu_larger(value, gpu_shuffle_xor(value, mask));
  return value;
}
GPU_DEVICE float row_sum(float value) {
#pragma unroll
  for (int mask = 1; mask < PER_ROW; mask *= 2) value += gpu_shuffle_xor(value, mask);
  return value;
}

/* The running softmax of the row that a thread shares. */
struct running {
  float max, sum;

  /* Takes a row of scores, writes its probabilities under the new maximum, and gives the factor for what was summed. */
  template <typename C> GPU_DEVICE float take(const float *scores, C *p) {
    const int part = gpu_thread() % PER_ROW;
    float most = max;
    for (int j = part; j < SIDE; j += PER_ROW) most = gpu_larger(most, scores[j]);
    most = row_larger(most);
    float added = 0.0f;
    for (int j = part; j < SIDE; j += PER_ROW) {
      const float value = most == -INFINITY ? 0.0f : expf(scores[j] - most);
      gpu_write(p, j, value);
      added += value;
    }
    const float factor = most == -INFINITY ? 1.0f : expf(max - most);
    sum = sum * factor + row_sum(added);
    max = most;
    return factor;
  }
};

template <typename C, int PARTS> GPU_KERNEL(GPU_TILE_THREADS) attention_kernel(forward f) {
  typedef gpu_chunk<C, SIDE, true> chunk; /* no smaller than one with the depth first */
  constexpr int P_STRIDE = SIDE + 16 / sizeof(C);
  GPU_SHARED(C, left, chunk::ELEMENTS);
  GPU_SHARED(C, right, chunk::ELEMENTS);
  GPU_SHARED(float, scores, SIDE *(SIDE + 1));
  GPU_SHARED(C, p, SIDE * P_STRIDE);
  GPU_SHARED(float, row_value, SIDE);
  const gpu_attention &a = f.a;
  const part here = part::of_block(f);
  const int64_t first = here.first, end = here.end, column = gpu_block_y() * PARTS * SIDE;
  const gpu_operand q = here.queries(a), k = a.of_key(a.k, here.sequence, here.head, a.head);
  const gpu_operand v = a.of_key(a.v, here.sequence, here.head, a.value_head);
  const gpu_range seen = here.keys(f);
  const int row = gpu_thread() / PER_ROW;

  gpu_tile<C, SIDE, SIDE> out[PARTS], tile;
#pragma unroll
  for (int part = 0; part < PARTS; part++) out[part].clear();
  running softmax = {-INFINITY, 0.0f};
  if (a.sinks.data && here.split == 0 && first + row < end) softmax.max = a.sinks.read(here.head_of(first + row));
  if (softmax.max != -INFINITY) softmax.sum = 1.0f;
  for (int64_t key = seen.first; key < seen.end; key += SIDE) {
    tile.clear();
    tile.template add_product<true, true, 1>(q, {first, end}, k, {key, seen.end}, {0, a.head}, left, right);
    tile.each([&](int i, int j, float product) {
      const int64_t query = here.query_of(first + i);
      const bool counts = first + i < end && key + j < seen.end && a.sees(query, key + j);
      scores[i * (SIDE + 1) + j] = counts ? a.score(product, here.head_of(first + i), query, key + j) : -INFINITY;
    });
    gpu_barrier();
    const float factor = softmax.take(scores + row * (SIDE + 1), p + row * P_STRIDE);
    if (gpu_thread() % PER_ROW == 0) row_value[row] = factor;
    gpu_barrier();
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      out[part].each([&](int i, int, float &sum) { sum *= row_value[i]; });
      out[part].template add_product_from<true, SIDE>(p, P_STRIDE, v, {column + part * SIDE, a.value_head},
                                                      {key, seen.end}, right);
    }
  }
  gpu_barrier();
  if (gpu_thread() % PER_ROW == 0) {
    row_value[row] = softmax.sum == 0.0f ? 0.0f : 1.0f / softmax.sum;
    if (gpu_block_y() == 0 && first + row < end)
      f.lse[here.split * f.lse_count() + (here.head_of(first + row) * a.batch + here.sequence) * a.queries +
            here.query_of(first + row)] = softmax.sum == 0.0f ? -INFINITY : softmax.max + logf(softmax.sum);
  }
  gpu_barrier();
#pragma unroll
  for (int part = 0; part < PARTS; part++)
    out[part].each([&](int i, int j, float sum) {
      const int64_t d = column + part * SIDE + j;
      if (first + i >= end || d >= a.value_head) return;
      const int64_t token = here.sequence * a.queries + here.query_of(first + i);
      f.out.write(here.split * f.out_count() + (token * a.heads + here.head_of(first + i)) * a.value_head + d,
                  sum * row_value[i]);
    });
}

/* One element of the output from those of the splits, and with a row's first element its lse. */
struct merge {
  forward f; /* of the splits */
  gpu_result out;
  float *lse;

  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place token = gpu_place_of(i, f.a.heads * f.a.value_head), h = gpu_place_of(token.column, f.a.value_head);
    const int64_t row = h.row * f.a.batch * f.a.queries + token.row;
    float most = -INFINITY, sum = 0.0f, value = 0.0f;
    for (int64_t s = 0; s < f.splits; s++) most = gpu_larger(most, f.lse[s * f.lse_count() + row]);
    for (int64_t s = 0; s < f.splits; s++) {
      const float share = most == -INFINITY ? 0.0f : expf(f.lse[s * f.lse_count() + row] - most);
      value += share * f.out.read(s * f.out_count() + i);
      sum += share;
    }
    out.write(i, sum == 0.0f ? 0.0f : value / sum);
    if (h.column == 0) lse[row] = sum == 0.0f ? -INFINITY : most + logf(sum);
  }
};

/* Keys that the rows of a block may see: so many, and each split takes TILES_LEAST tiles of them or more. */
int64_t splits_of(const forward &f, int64_t blocks) {
  const gpu_attention &a = f.a;
  const int64_t queries = f.of_group ? 1 : a.queries < SIDE ? a.queries : SIDE;
  const int64_t windowed = a.window > 0 && a.causal ? a.window + queries - 1 : a.keys;
  const int64_t seen = windowed < a.keys ? windowed : a.keys;
  const int64_t worth = gpu_ceil_div(seen, TILES_LEAST * SIDE), wanted = BLOCKS_WANTED / blocks;
  const int64_t splits = worth < wanted ? worth : wanted;
  return splits > 1 && a.value_head > 0 ? splits : 1;
}

/* The splits' results go into scratch memory. */
bool give_scratch(mg_backend *backend, forward &f) {
  const int64_t rows = f.a.batch * f.a.queries * f.a.heads, count = f.splits * rows * (f.a.value_head + 1);
  float *scratch = static_cast<float *>(mg__gpu_scratch(backend, static_cast<size_t>(count) * sizeof(float)));
  f.out = {scratch, false};
  f.lse = scratch ? scratch + f.splits * rows * f.a.value_head : nullptr;
  return scratch != nullptr;
}

} // namespace

mg_status mg__gpu_attention(mg_backend *backend, const mg_op_call *call) {
  forward f = {gpu_attention_of(call), false, 1, gpu_result_of(call->out[0]), gpu_data<float>(call->out[1])};
  const gpu_attention &a = f.a;
  f.of_group = a.queries < a.group;
  const int64_t tiles = gpu_ceil_div(f.of_group ? a.group : a.queries, SIDE);
  const int64_t blocks = a.batch * tiles * (f.of_group ? a.queries * a.kv_heads : a.heads);
  if (blocks == 0) return MG_OK;
  const gpu_result out = f.out;
  float *const lse = f.lse;
  f.splits = splits_of(f, blocks);
  if (f.splits > 1 && !give_scratch(backend, f)) return MG_DEVICE;
  gpu_attention_with(call, a.value_head, [&](auto type, auto parts) {
    constexpr int PARTS = decltype(parts)::COUNT;
    const int64_t columns = a.value_head ? gpu_ceil_div(a.value_head, PARTS * SIDE) : 1;
    const gpu_grid grid = {static_cast<uint32_t>(blocks * f.splits), static_cast<uint32_t>(columns)};
    gpu_launch(attention_kernel<decltype(type), PARTS>, grid, GPU_TILE_THREADS, gpu_state_of(backend)->stream, f);
  });
  if (f.splits > 1) gpu_each(backend, a.batch * a.queries * a.heads * a.value_head, merge{f, out, lse});
  return mg__gpu_launched(backend, call);
}
