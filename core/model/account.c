/* What a model costs by its specification alone: forward FLOPs per token of each part.
 *
 * A matrix product [T,K] x [K,N] is 2 K N FLOPs per token; attention is 2 * heads * (query width + value width) for every
 * (query, key) pair that is visible; elementwise work costs what core/tensor says for one element. Of the gate the
 * products and what is looked at to choose are predicted. Auxiliary losses and capacity policies are counted when they
 * run but not predicted; drops make the routed part smaller. */
#include "model/block.h"

#include <string.h>

/* One stack of blocks at a sequence length. */
typedef struct view {
  const mg_model *model;
  int64_t tokens;
  bool causal;
  int64_t cross_tokens; /* of the encoder; 0 = no cross attention */
} view;

/* FLOPs of one elementwise call per element, by the primitive's own formula. */
static double unary_cost(mg_unary kind) {
  const mg_tensor one = {.shape = {1, 1}, .dims = 2, .dtype = MG_F32};
  mg_op_call call = {.op = MG_OP_UNARY, .in = {&one}};
  call.attributes.unary.kind = kind;
  return mg_op_flops(&call);
}

static double norm_cost(const mg__model_settings *s) {
  const mg_tensor one = {.shape = {1, 1}, .dims = 2, .dtype = MG_F32};
  const bool rms = s->norm == MG__NORM_RMS;
  mg_op_call call = {.op = MG_OP_NORM, .in = {&one, &one, rms || !s->norm_shift ? NULL : &one}};
  call.attributes.norm.kind = rms ? MG_NORM_RMS : MG_NORM_LAYER;
  return mg_op_flops(&call);
}

static double linear_cost(double in, double out, bool bias) {
  return 2.0 * in * out + (bias ? out : 0.0);
}

/* ---- attention ----------------------------------------------------------------------------------------------- */

/* Keys that one query sees, on average over S tokens: position i sees min(i + 1, limit) of them when causal. */
static double visible_keys(int64_t tokens, int64_t limit, bool causal) {
  const double all = (double)tokens, wide = limit > 0 && limit < tokens ? (double)limit : all;
  return causal ? (wide * (wide + 1.0) / 2.0 + (all - wide) * wide) / all : wide;
}

static int64_t narrower(int64_t a, int64_t b) {
  return a > 0 && (b == 0 || a < b) ? a : b;
}

/* The same when every query stays within its own run of `chunk` tokens; the last run may be shorter. */
static double visible_in(const view *v, int64_t limit, int64_t chunk) {
  if (chunk == 0 || chunk >= v->tokens) return visible_keys(v->tokens, limit, v->causal);
  const int64_t whole = v->tokens / chunk * chunk, rest = v->tokens - whole;
  const double inside = (double)whole * visible_keys(chunk, limit, v->causal);
  return (inside + (rest ? (double)rest * visible_keys(rest, limit, v->causal) : 0.0)) / (double)v->tokens;
}

static double grouped_cost(const mg__model_settings *s, const mg__attention_settings *a, bool cross) {
  const double width = (double)s->width, query = (double)(a->heads * a->head_width);
  const double key = (double)(a->kv_heads * a->head_width), value = (double)(a->kv_heads * a->value_width);
  const double mixed = (double)(a->heads * a->value_width);
  const bool bias = a->biases != MG__BIASES_NONE;
  double flops = linear_cost(width, query, bias) + linear_cost(mixed, width, a->biases == MG__BIASES_ALL);
  if (a->gated) flops += linear_cost(width, mixed, bias) + mixed * (unary_cost(MG_UNARY_SIGMOID) + 1.0);
  if (!a->shares_kv) flops += linear_cost(width, key, bias) + linear_cost(width, value, bias);
  if (a->qk_norm != MG__QK_NORM_NONE) flops += norm_cost(s) * (query + key);
  if (a->clip > 0) flops += unary_cost(MG_UNARY_CLAMP) * (query + key + value);
  return flops + (cross ? 0.0 : 3.0 * (double)((a->heads + a->kv_heads) * a->rope.columns));
}

static double latent_cost(const mg__model_settings *s, const mg__attention_settings *a) {
  const double width = (double)s->width, query = (double)(a->heads * a->head_width), rank = (double)a->query_rank;
  const double latent = (double)a->kv_rank, mixed = (double)(a->heads * a->value_width);
  const bool bias = a->biases != MG__BIASES_NONE;
  double flops = linear_cost(width, latent + (double)a->rope_width, bias) + norm_cost(s) * latent +
                 linear_cost(latent, (double)(a->heads * (a->nope_width + a->value_width)), false) +
                 linear_cost(mixed, width, a->biases == MG__BIASES_ALL);
  flops += a->query_rank ? linear_cost(width, rank, bias) + norm_cost(s) * rank + linear_cost(rank, query, false)
                         : linear_cost(width, query, false);
  return flops + 3.0 * (double)((a->heads + 1) * a->rope.columns);
}

/* FLOPs for each (query, key) pair: scores and the weighted sum of values. */
static double pair_cost(const mg__attention_settings *a) {
  if (a->kind == MG__ATTENTION_COUNTED || a->kind == MG__ATTENTION_NONE) return 0.0;
  return 2.0 * (double)(a->heads * (a->head_width + a->value_width));
}

static double projection_cost(const mg__model_settings *s, const mg__attention_settings *a, bool cross) {
  if (a->kind == MG__ATTENTION_GROUPED) return grouped_cost(s, a, cross);
  return a->kind == MG__ATTENTION_LATENT ? latent_cost(s, a) : 0.0;
}

/* Cross attention projects the keys and values of as many encoder tokens as there are decoder tokens. */
static double attention_cost(const view *v, const mg__attention_settings *a) {
  const mg__model_settings *s = &v->model->spec.settings;
  const double attended = visible_in(v, narrower(a->window, a->selected), a->chunk);
  const double seen = visible_in(v, a->window, a->chunk);
  const double own =
      projection_cost(s, a, false) + pair_cost(a) * attended + 2.0 * ((double)a->scores * seen + (double)a->work);
  if (!v->cross_tokens) return own;
  return own + projection_cost(s, a, true) + pair_cost(a) * (double)v->cross_tokens;
}

/* ---- feed-forward -------------------------------------------------------------------------------------------- */

static double dense_cost(const mg__model_settings *s, const mg__dense_settings *dense) {
  const double width = (double)s->width, hidden = (double)dense->width;
  return (dense->gated ? 2.0 : 1.0) * linear_cost(width, hidden, dense->biases) +
         linear_cost(hidden, width, dense->biases) + hidden * mg_activation_flops(dense->activation, dense->gated);
}

static void add_moe(const view *v, const mg_moe *moe, double flops[MG_PART_COUNT]) {
  const mg_moe_facts facts = mg_moe_describe(moe);
  /* Of a token: slots that experts compute, their share that has a feed-forward, and columns that mix it. */
  const double slots = (double)(facts.slots * facts.experts) / (double)v->tokens;
  const double computing = slots * (double)(facts.experts - facts.null_experts) / (double)facts.experts;
  const double width = (double)v->model->spec.settings.width;
  const double mixing = 2.0 * (double)(facts.slots * facts.experts) * width;
  const double choices = facts.slots ? computing : facts.computed_choices;
  flops[MG_PART_GATE] += facts.gate_flops_per_token;
  flops[MG_PART_SELECTION] += mg_moe_selection_flops(moe, 1, v->tokens) / (double)v->tokens;
  flops[MG_PART_ROUTED] += choices * (facts.expert_flops_per_assignment + facts.expert_elementwise_flops);
  const double weighed = facts.scale_inputs ? choices * width : 0.0; /* before the experts instead of behind them */
  flops[MG_PART_DISPATCH] += mixing + weighed;
  flops[MG_PART_COMBINE] +=
      2.0 * choices * width - weighed + mixing + (facts.slots ? slots : 1.0) * facts.null_flops_per_token;
  flops[MG_PART_SHARED] += facts.shared_flops_per_token + facts.shared_elementwise_flops;
  if (!facts.parallel_width) return;
  flops[MG_PART_DENSE] += facts.parallel_flops_per_token + width;
  if (facts.parallel_norm) flops[MG_PART_OTHER] += width * norm_cost(&v->model->spec.settings);
}

static mg_part flops_part(int64_t part) {
  static const mg_part parts[MG_MODEL_PART_COUNT] = {
      [MG_MODEL_EMBEDDING] = MG_PART_EMBEDDING, [MG_MODEL_HEAD] = MG_PART_HEAD,
      [MG_MODEL_ATTENTION] = MG_PART_ATTENTION, [MG_MODEL_ROUTER] = MG_PART_GATE,
      [MG_MODEL_ROUTER_BIAS] = MG_PART_GATE,    [MG_MODEL_ROUTED] = MG_PART_ROUTED,
      [MG_MODEL_SHARED] = MG_PART_SHARED,       [MG_MODEL_DENSE] = MG_PART_DENSE,
      [MG_MODEL_NORM] = MG_PART_OTHER,          [MG_MODEL_OTHER] = MG_PART_OTHER,
      [MG_MODEL_PREDICTION] = MG_PART_OTHER};
  return parts[part];
}

/* ---- blocks -------------------------------------------------------------------------------------------------- */

/* A branch: its norm or norms, its factor, and the sum with the stream. */
static double branch_cost(const mg__model_settings *s, bool post_norm) {
  const double scaled = s->residual_scale != 1.0 ? unary_cost(MG_UNARY_AFFINE) : 0.0;
  return (double)s->width * (norm_cost(s) * (post_norm ? 2.0 : 1.0) + scaled + 1.0);
}

static void add_block(const view *v, const mg__layer_spec *layer, const mg__block *block, double flops[MG_PART_COUNT]) {
  const mg__model_settings *s = &v->model->spec.settings;
  flops[MG_PART_ATTENTION] += attention_cost(v, &layer->attention);
  for (int64_t i = 0; i < layer->counted_count; i++)
    if (layer->counted[i].products) flops[flops_part(layer->counted[i].part)] += 2.0 * (double)layer->counted[i].active;
  if (layer->attention.kind != MG__ATTENTION_NONE) flops[MG_PART_OTHER] += branch_cost(s, s->post_norms);
  if (v->cross_tokens) flops[MG_PART_OTHER] += branch_cost(s, false);
  if (layer->feed != MG__FEED_NONE) flops[MG_PART_OTHER] += branch_cost(s, s->post_norms);
  if (block->moe)
    add_moe(v, block->moe, flops);
  else if (layer->feed == MG__FEED_DENSE)
    flops[MG_PART_DENSE] += dense_cost(s, &layer->dense);
}

static void add_stack(const view *v, const mg__stack_spec *stack, const mg__block *blocks,
                      double flops[MG_PART_COUNT]) {
  for (int64_t i = 0; i < stack->count; i++) add_block(v, &stack->layers[i], &blocks[i], flops);
}

static void count(const mg_model *model, int64_t tokens, bool causal, double flops[MG_PART_COUNT]) {
  const mg__model_spec *spec = &model->spec;
  const mg__model_settings *s = &spec->settings;
  const double width = (double)s->width, vocabulary = (double)s->vocabulary;
  const double ends = (spec->encoder.count ? 2.0 : 1.0) * width;
  for (int part = 0; part < MG_PART_COUNT; part++) flops[part] = 0.0;
  if (s->embedding_scale != 1.0) flops[MG_PART_EMBEDDING] = ends * unary_cost(MG_UNARY_AFFINE);
  if (s->positions != MG__POSITIONS_NONE) flops[MG_PART_EMBEDDING] += ends;
  add_stack(&(view){model, tokens, false, 0}, &spec->encoder, model->encoder, flops);
  add_stack(&(view){model, tokens, causal, spec->encoder.count ? tokens : 0}, &spec->decoder, model->blocks, flops);
  if (s->final_norm) flops[MG_PART_OTHER] += ends * norm_cost(s);
  flops[MG_PART_HEAD] = linear_cost(width, vocabulary, s->head_bias);
  if (s->logit_scale != 1.0) flops[MG_PART_HEAD] += vocabulary * unary_cost(MG_UNARY_AFFINE);
  flops[MG_PART_LOSS] = 4.0 * vocabulary;
}

void mg_model_flops_per_token(const mg_model *model, int64_t sequence_tokens, double flops[MG_PART_COUNT]) {
  count(model, sequence_tokens, true, flops);
}

void mg_model_flops_per_token_full(const mg_model *model, int64_t sequence_tokens, double flops[MG_PART_COUNT]) {
  count(model, sequence_tokens, false, flops);
}
