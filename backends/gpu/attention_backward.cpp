/* attention_backward: tiles of probabilities and of their slopes are computed again from the stored lse, once for dq (a
 * block for each tile of queries), once for dk and dv (a block for each tile of keys), and for dbias where it is wanted.
 * So every sum belongs to one block and has one order. backends/reference/attention.c gives the formulas. */
#include <math.h>

#include "attention.h"

namespace {
constexpr int SIDE = GPU_ATTENTION_SIDE, ROW_BLOCK = 256;

struct backward {
  gpu_attention a;
  gpu_operand out;
  float *delta;
  gpu_result dq, dk, dv, dsinks, dbias;
};

/* ---- delta and dsinks ------------------------------------------------------------------------------------------- */

GPU_DEVICE float read_at(const gpu_operand &x, int64_t i) {
  return x.bf16 ? gpu_read(static_cast<const gpu_bf16 *>(x.data), i) : static_cast<const float *>(x.data)[i];
}

/* delta[h, row] = dout . out; a warp for each. */
GPU_KERNEL(ROW_BLOCK) delta_kernel(backward b) {
  const int64_t rows = b.a.batch * b.a.queries, i = gpu_block() * (ROW_BLOCK / GPU_WARP) + gpu_thread() / GPU_WARP;
  if (i >= rows * b.a.heads) return;
  const int64_t first = (i % rows * b.a.heads + i / rows) * b.a.value_head;
  float sum = 0.0f;
  for (int64_t d = gpu_thread() % GPU_WARP; d < b.a.value_head; d += GPU_WARP)
    sum += read_at(b.a.dout, first + d) * read_at(b.out, first + d);
#pragma unroll
  for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) sum += gpu_shuffle_xor(sum, mask);
  if (gpu_thread() % GPU_WARP == 0) b.delta[i] = sum;
}

/* dsinks[h] = - sum over rows of exp(sink - lse) delta; a block for each. */
GPU_KERNEL(ROW_BLOCK) dsinks_kernel(backward b) {
  GPU_SHARED(float, sums, ROW_BLOCK);
  const int64_t rows = b.a.batch * b.a.queries, h = gpu_block();
  const float sink = b.a.sinks.read(h);
  float sum = 0.0f;
  for (int64_t i = h * rows + gpu_thread(); i < (h + 1) * rows; i += ROW_BLOCK)
    sum -= expf(sink - b.a.lse[i]) * b.delta[i];
  sums[gpu_thread()] = sum;
  for (int half = ROW_BLOCK / 2; half > 0; half /= 2) {
    gpu_barrier();
    if (gpu_thread() < half) sums[gpu_thread()] += sums[gpu_thread() + half];
  }
  if (gpu_thread() == 0) b.dsinks.write(h, sums[0]);
}

/* ---- tiles of probabilities and slopes -------------------------------------------------------------------------- */

/* The head and sequence of a tile, and where its operands begin. */
struct place {
  int64_t h, sequence;
  gpu_operand q, k, v, dout;
};

GPU_DEVICE place place_of(const gpu_attention &a, int64_t h, int64_t sequence) {
  return {h,
          sequence,
          a.of_query(a.q, sequence, h, a.head),
          a.of_key(a.k, sequence, h, a.head),
          a.of_key(a.v, sequence, h, a.value_head),
          a.of_query(a.dout, sequence, h, a.value_head)};
}

/* f(query, key, p, ds) for each place of the tile of SIDE queries from i.first and SIDE keys from j.first on; 0 where the
 * query does not see the key. left and right hold one chunk each. */
template <typename C, typename F>
GPU_DEVICE void each_slope(const backward &b, const place &at, gpu_range i, gpu_range j, C *left, C *right, F f) {
  gpu_tile<C, SIDE, SIDE> scores, slopes;
  scores.clear();
  slopes.clear();
  scores.template add_product<true, true, 1>(at.q, i, at.k, j, {0, b.a.head}, left, right);
  slopes.template add_product<true, true, 1>(at.dout, i, at.v, j, {0, b.a.value_head}, left, right);
  const int64_t first = (at.h * b.a.batch + at.sequence) * b.a.queries + i.first;
  scores.each_with(slopes, [&](int row, int column, float product, float dp) {
    float p = 0.0f, ds = 0.0f;
    if (b.a.sees(i.first + row, j.first + column)) {
      p = expf(b.a.score(product, at.h, i.first + row, j.first + column) - b.a.lse[first + row]);
      ds = p * (dp - b.delta[first + row]);
    }
    f(row, column, p, ds);
  });
}

/* ---- dq --------------------------------------------------------------------------------------------------------- */

template <typename C, int PARTS> GPU_KERNEL(GPU_TILE_THREADS) dq_kernel(backward b) {
  typedef gpu_chunk<C, SIDE, true> chunk;
  constexpr int STRIDE = SIDE + 16 / sizeof(C);
  GPU_SHARED(C, left, chunk::ELEMENTS);
  GPU_SHARED(C, right, chunk::ELEMENTS);
  GPU_SHARED(C, ds, SIDE * STRIDE);
  const gpu_attention &a = b.a;
  const int64_t tiles = (a.queries + SIDE - 1) / SIDE, first = (tiles - 1 - gpu_block() % tiles) * SIDE;
  const place at = place_of(a, gpu_block() / tiles % a.heads, gpu_block() / tiles / a.heads);
  const int64_t end = first + SIDE < a.queries ? first + SIDE : a.queries, columns = gpu_block_y() * PARTS * SIDE;
  const gpu_range seen = a.keys_of(first, end);

  gpu_tile<C, SIDE, SIDE> out[PARTS];
#pragma unroll
  for (int part = 0; part < PARTS; part++) out[part].clear();
  for (int64_t key = seen.first; key < seen.end; key += SIDE) {
    each_slope<C>(b, at, {first, end}, {key, seen.end}, left, right,
                  [&](int row, int column, float, float slope) { gpu_write(ds, row * STRIDE + column, slope); });
#pragma unroll
    for (int part = 0; part < PARTS; part++)
      out[part].template add_product_from<true, SIDE>(ds, STRIDE, at.k, {columns + part * SIDE, a.head},
                                                      {key, seen.end}, right);
  }
#pragma unroll
  for (int part = 0; part < PARTS; part++)
    out[part].each([&](int row, int column, float sum) {
      const int64_t d = columns + part * SIDE + column;
      if (first + row >= end || d >= a.head) return;
      b.dq.write(((at.sequence * a.queries + first + row) * a.heads + at.h) * a.head + d, a.scale * sum);
    });
}

/* ---- dk and dv -------------------------------------------------------------------------------------------------- */

template <typename C, int PARTS> GPU_KERNEL(GPU_TILE_THREADS) dkv_kernel(backward b) {
  typedef gpu_chunk<C, SIDE, true> chunk;
  constexpr int STRIDE = SIDE + 16 / sizeof(C);
  GPU_SHARED(C, left, chunk::ELEMENTS);
  GPU_SHARED(C, right, chunk::ELEMENTS);
  GPU_SHARED(C, p, SIDE * STRIDE);
  GPU_SHARED(C, ds, SIDE * STRIDE);
  const gpu_attention &a = b.a;
  const int64_t tiles = (a.key_rows + SIDE - 1) / SIDE, first = gpu_block() % tiles * SIDE;
  const int64_t kv_head = gpu_block() / tiles % a.kv_heads, sequence = gpu_block() / tiles / a.kv_heads;
  const int64_t end = first + SIDE < a.keys ? first + SIDE : a.keys, columns = gpu_block_y() * PARTS * SIDE;
  const gpu_range seeing = first < end ? a.queries_of(first, end) : gpu_range{0, 0};

  gpu_tile<C, SIDE, SIDE> dk[PARTS], dv[PARTS];
#pragma unroll
  for (int part = 0; part < PARTS; part++) {
    dk[part].clear();
    dv[part].clear();
  }
  for (int64_t h = kv_head * a.group; h < (kv_head + 1) * a.group; h++) {
    const place at = place_of(a, h, sequence);
    for (int64_t query = seeing.first; query < seeing.end; query += SIDE) {
      each_slope<C>(b, at, {query, seeing.end}, {first, end}, left, right,
                    [&](int row, int column, float probability, float slope) {
                      gpu_write(p, row * STRIDE + column, probability);
                      gpu_write(ds, row * STRIDE + column, slope);
                    });
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
        const int64_t column = columns + part * SIDE;
        dv[part].template add_product_from<false, SIDE>(p, STRIDE, at.dout, {column, a.value_head}, {query, seeing.end},
                                                        right);
        dk[part].template add_product_from<false, SIDE>(ds, STRIDE, at.q, {column, a.head}, {query, seeing.end}, right);
      }
    }
  }
#pragma unroll
  for (int part = 0; part < PARTS; part++)
    dk[part].each_with(dv[part], [&](int row, int column, float k_sum, float v_sum) {
      const int64_t d = columns + part * SIDE + column,
                    at = (sequence * a.key_rows + first + row) * a.kv_heads + kv_head;
      if (first + row >= a.key_rows) return;
      if (d < a.head) b.dk.write(at * a.head + d, a.scale * k_sum);
      if (d < a.value_head) b.dv.write(at * a.value_head + d, v_sum);
    });
}

/* ---- dbias ------------------------------------------------------------------------------------------------------ */

/* SIDE distances of one head, whose keys lie in two tiles beside each tile of queries; a thread sums along one diagonal. */
template <typename C> GPU_KERNEL(GPU_TILE_THREADS) dbias_kernel(backward b) {
  typedef gpu_chunk<C, SIDE, true> chunk;
  GPU_SHARED(C, left, chunk::ELEMENTS);
  GPU_SHARED(C, right, chunk::ELEMENTS);
  GPU_SHARED(float, ds, SIDE *(SIDE + 1));
  const gpu_attention &a = b.a;
  const int64_t h = gpu_block_y(), distances = a.queries + a.keys - 1, lowest = gpu_block() * SIDE - (a.queries - 1);
  const int64_t distance = lowest + gpu_thread();
  float sum = 0.0f;
  for (int64_t sequence = 0; sequence < a.batch; sequence++) {
    const place at = place_of(a, h, sequence);
    for (int64_t query = 0; query < a.queries; query += SIDE)
      for (int64_t key = query + lowest; key < query + lowest + 2 * SIDE; key += SIDE) {
        if (key + SIDE <= 0 || key >= a.keys) continue;
        each_slope<C>(b, at, {query, a.queries}, {key, a.keys}, left, right,
                      [&](int row, int column, float, float slope) { ds[row * (SIDE + 1) + column] = slope; });
        gpu_barrier();
        for (int row = 0; row < SIDE && gpu_thread() < SIDE; row++) {
          const int64_t column = query + row + distance - key;
          if (column >= 0 && column < SIDE) sum += ds[row * (SIDE + 1) + column];
        }
        gpu_barrier();
      }
  }
  if (gpu_thread() < SIDE && distance + a.queries - 1 < distances)
    b.dbias.write(h * distances + distance + a.queries - 1, sum);
}

/* ---- launching -------------------------------------------------------------------------------------------------- */

template <typename C, int PARTS> void launch_products(const backward &b, gpu_stream stream) {
  const gpu_attention &a = b.a;
  const int64_t wide = a.head > a.value_head ? a.head : a.value_head;
  const int64_t dq_blocks = a.batch * a.heads * gpu_ceil_div(a.queries, SIDE);
  const int64_t dkv_blocks = a.batch * a.kv_heads * gpu_ceil_div(a.key_rows, SIDE);
  const auto grid = [](int64_t blocks, int64_t columns) {
    return gpu_grid{static_cast<uint32_t>(blocks), static_cast<uint32_t>(gpu_ceil_div(columns, PARTS * SIDE))};
  };
  if (dq_blocks > 0 && a.head > 0)
    gpu_launch(dq_kernel<C, PARTS>, grid(dq_blocks, a.head), GPU_TILE_THREADS, stream, b);
  if (dkv_blocks > 0 && wide > 0) gpu_launch(dkv_kernel<C, PARTS>, grid(dkv_blocks, wide), GPU_TILE_THREADS, stream, b);
  const int64_t distances = a.queries + a.keys > 0 ? a.queries + a.keys - 1 : 0;
  if (b.dbias.data && distances > 0)
    gpu_launch(dbias_kernel<C>,
               gpu_grid{static_cast<uint32_t>(gpu_ceil_div(distances, SIDE)), static_cast<uint32_t>(a.heads)},
               GPU_TILE_THREADS, stream, b);
}
} // namespace

mg_status mg__gpu_attention_backward(mg_backend *backend, const mg_op_call *call) {
  const gpu_stream stream = gpu_state_of(backend)->stream;
  const mg_tensor *dout = call->in[7], *out = call->in[5];
  backward b = {};
  b.a = gpu_attention_of(call);
  b.a.lse = gpu_data<const float>(call->in[6]);
  b.a.dout = gpu_operand_of(dout->data, mg_tensor_columns(dout), dout->dtype == MG_BF16);
  b.out = gpu_operand_of(out->data, mg_tensor_columns(out), out->dtype == MG_BF16);
  b.dq = gpu_result_of(call->out[0]);
  b.dk = gpu_result_of(call->out[1]);
  b.dv = gpu_result_of(call->out[2]);
  if (call->out[3]) b.dsinks = gpu_result_of(call->out[3]);
  if (call->out[4]) b.dbias = gpu_result_of(call->out[4]);
  const int64_t rows = b.a.heads * b.a.batch * b.a.queries;
  b.delta = static_cast<float *>(mg__gpu_scratch(backend, static_cast<size_t>(rows) * sizeof(float)));
  if (!b.delta) return MG_DEVICE;
  if (rows > 0) {
    const int64_t blocks = gpu_ceil_div(rows, ROW_BLOCK / GPU_WARP);
    gpu_launch(delta_kernel, gpu_grid{static_cast<uint32_t>(blocks), 1}, ROW_BLOCK, stream, b);
  }
  if (b.dsinks.data) gpu_launch(dsinks_kernel, gpu_grid{static_cast<uint32_t>(b.a.heads), 1}, ROW_BLOCK, stream, b);
  gpu_attention_with(call, b.a.head > b.a.value_head ? b.a.head : b.a.value_head, [&](auto type, auto parts) {
    launch_products<decltype(type), decltype(parts)::COUNT>(b, stream);
  });
  return mg__gpu_launched(backend, call);
}
