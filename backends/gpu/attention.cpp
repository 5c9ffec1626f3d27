/* attention: a block of threads takes SIDE queries of one head over all the keys that they see, tile after tile, with the
 * softmax kept running: when a larger score comes, what was summed before is scaled down. attention.h has the rest. */
#include <math.h>

#include "attention.h"

namespace {
constexpr int SIDE = GPU_ATTENTION_SIDE, PER_ROW = GPU_TILE_THREADS / SIDE; /* threads that share a row of scores */

struct forward {
  gpu_attention a;
  gpu_result out;
  float *lse;
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
  const int64_t tiles = (a.queries + SIDE - 1) / SIDE, first = (tiles - 1 - gpu_block() % tiles) * SIDE;
  const int64_t h = gpu_block() / tiles % a.heads, sequence = gpu_block() / tiles / a.heads;
  const int64_t end = first + SIDE < a.queries ? first + SIDE : a.queries;
  const int64_t column = gpu_block_y() * PARTS * SIDE;
  const gpu_operand q = a.of_query(a.q, sequence, h, a.head), k = a.of_key(a.k, sequence, h, a.head);
  const gpu_operand v = a.of_key(a.v, sequence, h, a.value_head);
  const gpu_range seen = a.keys_of(first, end);
  const int row = gpu_thread() / PER_ROW;

  gpu_tile<C, SIDE, SIDE> out[PARTS], tile;
#pragma unroll
  for (int part = 0; part < PARTS; part++) out[part].clear();
  running softmax = {a.sinks.data ? a.sinks.read(h) : -INFINITY, 0.0f};
  if (softmax.max != -INFINITY) softmax.sum = 1.0f;
  for (int64_t key = seen.first; key < seen.end; key += SIDE) {
    tile.clear();
    tile.template add_product<true, true, 1>(q, {first, end}, k, {key, seen.end}, {0, a.head}, left, right);
    tile.each([&](int i, int j, float product) {
      scores[i * (SIDE + 1) + j] = a.sees(first + i, key + j) ? a.score(product, h, first + i, key + j) : -INFINITY;
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
      f.lse[(h * a.batch + sequence) * a.queries + first + row] =
          softmax.sum == 0.0f ? -INFINITY : softmax.max + logf(softmax.sum);
  }
  gpu_barrier();
#pragma unroll
  for (int part = 0; part < PARTS; part++)
    out[part].each([&](int i, int j, float sum) {
      const int64_t d = column + part * SIDE + j;
      if (first + i >= end || d >= a.value_head) return;
      f.out.write(((sequence * a.queries + first + i) * a.heads + h) * a.value_head + d, sum * row_value[i]);
    });
}
} // namespace

mg_status mg__gpu_attention(mg_backend *backend, const mg_op_call *call) {
  const forward f = {gpu_attention_of(call), gpu_result_of(call->out[0]), gpu_data<float>(call->out[1])};
  const int64_t blocks = f.a.batch * f.a.heads * gpu_ceil_div(f.a.queries, SIDE);
  if (blocks == 0) return MG_OK;
  gpu_attention_with(call, f.a.value_head, [&](auto type, auto parts) {
    typedef decltype(type) C;
    constexpr int PARTS = decltype(parts)::COUNT;
    const int64_t columns = f.a.value_head ? gpu_ceil_div(f.a.value_head, PARTS * SIDE) : 1;
    gpu_launch(attention_kernel<C, PARTS>, gpu_grid{static_cast<uint32_t>(blocks), static_cast<uint32_t>(columns)},
               GPU_TILE_THREADS, gpu_state_of(backend)->stream, f);
  });
  return mg__gpu_launched(backend, call);
}
