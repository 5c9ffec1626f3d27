/* gate: a warp reads the logits of a token once, writes their scores, chooses among them in registers (choose.h) and weighs
 * what it chose. backends/reference/gate.c gives the formulas. */
#include "choose.h"
#include "functions.h"

namespace {
template <typename T, int PER> struct gate_row {
  typedef gpu_held_row<T, PER> held;
  const T *logits;
  T *scores, *weights; /* scores may be NULL */
  int32_t *ids;
  int64_t experts;
  int choices;
  mg_gate_score score;
  mg_gate_weight weight;
  bool packs;

  GPU_DEVICE void softmax(held &x) const {
    float largest = x.value[0];
#pragma unroll
    for (int i = 1; i < PER; i++) largest = gpu_larger(largest, x.value[i]);
    largest = gpu_warp_reduce(largest, gpu_max());
    const float shift = largest == -INFINITY ? 0.0f : largest;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < PER; i++) {
      x.value[i] = expf(x.value[i] - shift);
      sum += x.value[i];
    }
    sum = gpu_warp_reduce(sum, gpu_add());
    const float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
    for (int i = 0; i < PER; i++) x.value[i] *= factor;
  }

  GPU_DEVICE void become_scores(held &x) const {
    if (score == MG_GATE_SOFTMAX) {
      softmax(x);
      return;
    }
#pragma unroll
    for (int i = 0; i < PER; i++)
      x.value[i] = score == MG_GATE_SIGMOID ? gpu_sigmoid(x.value[i]) : sqrtf(gpu_softplus(x.value[i]) + 1e-20f);
  }

  /* Of the lanes with a choice; all lanes of the warp are in it. */
  GPU_DEVICE float weight_of(float value, bool chosen) const {
    if (weight == MG_GATE_SHARES) return value / (gpu_warp_reduce(chosen ? value : 0.0f, gpu_add()) + 1e-20f);
    if (weight == MG_GATE_SCORES) return value;
    const float largest = gpu_warp_reduce(chosen ? value : -INFINITY, gpu_max());
    const float part = chosen && largest != -INFINITY ? expf(value - largest) : 0.0f;
    const float sum = gpu_warp_reduce(part, gpu_add());
    return largest == -INFINITY ? 0.0f : part / sum;
  }

  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team) const {
    GPU_SHARED(gpu_candidate, candidates, GPU_BLOCK);
    const bool by_logits = weight == MG_GATE_SOFTMAX_OF_CHOSEN;
    uint32_t key[PER] = {};
    held x;
    x.read(logits + row * experts, experts, packs);
    if (by_logits) x.keys(experts, key);
    become_scores(x);
    x.write(scores ? scores + row * experts : nullptr, experts, packs);
    if (!by_logits) x.keys(experts, key);
    const gpu_choice mine = gpu_choose<held>(key, choices, candidates + gpu_thread() / GPU_WARP * GPU_WARP);
    const bool chosen = mine.rank < choices;
    const float own = weight_of(gpu_value_of_key(mine.best.key), chosen);
    if (!chosen) return;
    gpu_write(weights, row * choices + mine.rank, own);
    ids[row * choices + mine.rank] = mine.best.column;
  }
};

template <typename T> void gate(const mg_backend *backend, const mg_op_call *call) {
  const T *logits = gpu_data<const T>(call->in[0]);
  T *scores = gpu_data<T>(call->out[0]);
  const int64_t experts = mg_tensor_columns(call->in[0]);
  const auto &set = call->attributes.gate;
  gpu_with_held_row<T>(experts, logits, scores, [&](auto type, bool packs) {
    constexpr int PER = gpu_element<decltype(type)>::COLUMNS;
    gpu_rows_by<false>(backend, mg_tensor_rows(call->in[0]),
                       gate_row<T, PER>{logits, scores, gpu_data<T>(call->out[1]), gpu_data<int32_t>(call->out[2]),
                                        experts, static_cast<int>(mg_tensor_columns(call->out[2])), set.score,
                                        set.weight, packs});
  });
}
} // namespace

mg_status mg__gpu_gate(mg_backend *backend, const mg_op_call *call) {
  if (call->in[0]->dtype == MG_BF16)
    gate<gpu_bf16>(backend, call);
  else
    gate<float>(backend, call);
  return mg__gpu_launched(backend, call);
}
