/* What attention's forward and backward share: where heads lie, which keys a query sees, and tiles of scores.
 *
 * backends/reference/attention.c gives the formulas. Tiles of SIDE queries by SIDE keys stand on the chip only, so memory
 * is linear in the length (Dao et al. 2022, arXiv 2205.14135). */
#ifndef MG_GPU_ATTENTION_H
#define MG_GPU_ATTENTION_H

#include "tiles.h"

struct gpu_attention {
  gpu_operand q, k, v, dout;
  gpu_result sinks, bias;                /* data NULL where there are none */
  const float *lse;                      /* of the forward, for the backward: [heads, batch * queries] */
  int64_t batch, heads, kv_heads, group; /* group: heads that share a key head */
  int64_t queries, keys, key_rows;       /* of a sequence; key_rows of which `keys` count */
  int64_t head, value_head, window;
  bool causal;
  float scale;

  /* The rows of one sequence and the columns of one head. */
  GPU_DEVICE gpu_operand of_query(const gpu_operand &x, int64_t sequence, int64_t h, int64_t width) const {
    return gpu_operand_from(x, sequence * queries * x.stride + h * width);
  }
  GPU_DEVICE gpu_operand of_key(const gpu_operand &x, int64_t sequence, int64_t h, int64_t width) const {
    return gpu_operand_from(x, sequence * key_rows * x.stride + h / group * width);
  }

  GPU_DEVICE bool sees(int64_t i, int64_t j) const {
    const int64_t place = keys - queries + i;
    return i < queries && j >= 0 && j < keys && (!causal || j <= place) && (window <= 0 || j > place - window);
  }
  /* The keys that any query in [first, end) sees lie in this range. */
  GPU_DEVICE gpu_range keys_of(int64_t first, int64_t end) const {
    const int64_t oldest = window > 0 ? keys - queries + first - window + 1 : 0;
    const int64_t newest = causal ? keys - queries + end : keys;
    return {oldest > 0 ? oldest : 0, newest < keys ? newest : keys};
  }
  /* The queries that see any key in [first, end) lie in this range. */
  GPU_DEVICE gpu_range queries_of(int64_t first, int64_t end) const {
    const int64_t earliest = causal ? first - (keys - queries) : 0;
    const int64_t latest = window > 0 ? end - 1 - (keys - queries) + window : queries;
    return {earliest > 0 ? earliest : 0, latest < queries ? latest : queries};
  }
  GPU_DEVICE float score(float product, int64_t h, int64_t i, int64_t j) const {
    const float added = bias.data ? bias.read(h * (queries + keys - 1) + j - i + queries - 1) : 0.0f;
    return scale * product + added;
  }
};

/* Queries and keys of a tile; columns of an output that a block makes are one or two of these. */
enum { GPU_ATTENTION_SIDE = 64 };

static inline gpu_attention gpu_attention_of(const mg_op_call *call) {
  const mg_tensor *q = call->in[0], *k = call->in[1], *v = call->in[2];
  const auto &set = call->attributes.attention;
  const auto operand = [](const mg_tensor *x) {
    return gpu_operand_of(x->data, mg_tensor_columns(x), x->dtype == MG_BF16);
  };
  gpu_attention a = {};
  a.q = operand(q);
  a.k = operand(k);
  a.v = operand(v);
  if (call->in[3]) a.sinks = gpu_result_of(call->in[3]);
  if (call->in[4]) a.bias = gpu_result_of(call->in[4]);
  a.batch = set.batch;
  a.heads = set.heads;
  a.kv_heads = set.kv_heads;
  a.group = set.heads / set.kv_heads;
  a.queries = mg_tensor_rows(q) / set.batch;
  a.key_rows = mg_tensor_rows(k) / set.batch;
  a.keys = set.keys ? set.keys : a.key_rows;
  a.head = mg_tensor_columns(q) / set.heads;
  a.value_head = mg_tensor_columns(v) / set.kv_heads;
  a.window = set.window;
  a.causal = set.causal;
  a.scale = static_cast<float>(set.scale);
  return a;
}

/* Calls f(C{}, PARTS) for the precision of the call and an output of `columns` columns a head: PARTS tiles of
 * GPU_ATTENTION_SIDE columns for each block. */
template <int PARTS> struct gpu_parts {
  enum { COUNT = PARTS };
};
template <typename F> static inline void gpu_attention_with(const mg_op_call *call, int64_t columns, F f) {
  const bool bf16 = call->attributes.attention.compute == MG_BF16;
  const bool narrow = columns <= GPU_ATTENTION_SIDE;
  if (bf16 && narrow) f(gpu_bf16{}, gpu_parts<1>{});
  if (bf16 && !narrow) f(gpu_bf16{}, gpu_parts<2>{});
  if (!bf16 && narrow) f(0.0f, gpu_parts<1>{});
  if (!bf16 && !narrow) f(0.0f, gpu_parts<2>{});
}

#endif
