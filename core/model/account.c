/* What a model costs by its specification alone: parameters, and forward FLOPs per token of each part.
 *
 * A matrix product [T,K] x [K,N] is 2 K N FLOPs per token; attention is 4 * heads * head_width for every (query, key)
 * pair that is visible; elementwise work costs what core/tensor says for one element. Of the gate only the products are
 * predicted. Auxiliary losses and capacity policies are counted when they run but not predicted; drops make the routed
 * part smaller. */
#include "model/block.h"

#include <math.h>
#include <string.h>

/* FLOPs of one elementwise call per element, by the primitive's own formula. */
static double glu_cost(mg_glu_kind kind) {
  const mg_tensor one = {.shape = {1, 1}, .dims = 2, .dtype = MG_F32};
  mg_op_call call = {.op = MG_OP_GLU, .in = {&one, &one}};
  call.attributes.glu.kind = kind;
  return mg_op_flops(&call);
}

static double unary_cost(mg_unary kind) {
  const mg_tensor one = {.shape = {1, 1}, .dims = 2, .dtype = MG_F32};
  mg_op_call call = {.op = MG_OP_UNARY, .in = {&one}};
  call.attributes.unary.kind = kind;
  return mg_op_flops(&call);
}

static double norm_cost(const mg__model_settings *s) {
  const mg_tensor one = {.shape = {1, 1}, .dims = 2, .dtype = MG_F32};
  mg_op_call call = {.op = MG_OP_NORM, .in = {&one, &one, s->norm == 0 ? NULL : &one}};
  call.attributes.norm.kind = s->norm == 0 ? MG_NORM_RMS : MG_NORM_LAYER;
  return mg_op_flops(&call);
}

static double linear_cost(double in, double out, bool bias) {
  return 2.0 * in * out + (bias ? out : 0.0);
}

/* Visible keys of one query, on average over a sequence of S: position i sees min(i + 1, window). */
static double visible_keys(int64_t sequence_tokens, int64_t window) {
  const double all = (double)sequence_tokens;
  const double wide = window > 0 && window < sequence_tokens ? (double)window : all;
  return (wide * (wide + 1.0) / 2.0 + (all - wide) * wide) / all;
}

static double attention_cost(const mg_model *model, int64_t layer, int64_t sequence_tokens) {
  const mg__model_settings *s = &model->spec.settings;
  const double width = (double)s->width, query = (double)(s->heads * s->head_width);
  const double key = (double)(s->kv_heads * s->head_width);
  double flops = linear_cost(width, query, s->biases) + 2.0 * linear_cost(width, key, s->biases) +
                 linear_cost(query, width, s->biases);
  if (s->qk_norm) flops += norm_cost(s) * (query + key);
  flops += 3.0 * (double)((s->heads + s->kv_heads) * s->rotary);
  return flops + 4.0 * query * visible_keys(sequence_tokens, model->spec.layers[layer].window);
}

/* A feed-forward without its activation's cost is facts.expert_flops; this is the activation of `hidden` units. */
static double activation_cost(int64_t activation, bool gated, double hidden) {
  return hidden * (gated ? glu_cost(mg__dense_glu(activation)) : unary_cost(mg__dense_unary(activation)));
}

static double dense_cost(const mg_model *model, int64_t layer) {
  const mg__model_settings *s = &model->spec.settings;
  const mg__dense_settings *dense = &model->spec.layers[layer].dense;
  const double width = (double)s->width, hidden = (double)dense->width;
  return (dense->gated ? 2.0 : 1.0) * linear_cost(width, hidden, s->biases) + linear_cost(hidden, width, s->biases) +
         activation_cost(dense->activation, dense->gated, hidden);
}

static int64_t activation_of(const json_t *moe) {
  static const char *const names[] = {"silu", "gelu", "gelu_tanh", "relu", "sigmoid"};
  const char *name = json_string_value(json_object_get(moe, "activation"));
  for (int64_t i = 0; name && i < (int64_t)MG_COUNT(names); i++)
    if (strcmp(names[i], name) == 0) return i;
  return 0;
}

static void add_moe(const mg_model *model, int64_t layer, double flops[MG_PART_COUNT]) {
  const mg_moe_facts facts = mg_moe_describe(model->blocks[layer].moe);
  const json_t *spec = model->spec.layers[layer].feed_forward;
  const int64_t activation = activation_of(spec);
  const bool gated = json_is_true(json_object_get(spec, "gated"));
  const double width = (double)model->spec.settings.width, choices = facts.computed_choices;
  const double shared = (double)(facts.shared_experts * facts.shared_width);
  flops[MG_PART_GATE] += facts.gate_flops_per_token;
  flops[MG_PART_ROUTED] +=
      choices * (facts.expert_flops_per_assignment + activation_cost(activation, gated, (double)facts.expert_width));
  flops[MG_PART_COMBINE] += 2.0 * choices * width + facts.null_flops_per_token;
  if (shared > 0.0)
    flops[MG_PART_SHARED] += facts.shared_flops_per_token + activation_cost(activation, gated, shared) + width;
}

void mg_model_flops_per_token(const mg_model *model, int64_t sequence_tokens, double flops[MG_PART_COUNT]) {
  const mg__model_settings *s = &model->spec.settings;
  const double width = (double)s->width, vocabulary = (double)s->vocabulary;
  for (int part = 0; part < MG_PART_COUNT; part++) flops[part] = 0.0;
  if (s->embedding_scale != 1.0) flops[MG_PART_EMBEDDING] = width * unary_cost(MG_UNARY_AFFINE);
  for (int64_t i = 0; i < s->layers; i++) {
    flops[MG_PART_ATTENTION] += attention_cost(model, i, sequence_tokens);
    flops[MG_PART_OTHER] += 2.0 * width * (norm_cost(s) + 1.0);
    if (model->blocks[i].moe)
      add_moe(model, i, flops);
    else
      flops[MG_PART_DENSE] += dense_cost(model, i);
  }
  if (s->final_norm) flops[MG_PART_OTHER] += width * norm_cost(s);
  flops[MG_PART_HEAD] = linear_cost(width, vocabulary, false);
  flops[MG_PART_LOSS] = 4.0 * vocabulary;
}

/* ---- parameters ------------------------------------------------------------------------------------------------ */

static void count_moe(const mg_moe *moe, mg_model_size *size) {
  const mg_moe_facts facts = mg_moe_describe(moe);
  const int64_t computing = facts.experts - facts.null_experts;
  const int64_t used = (int64_t)fmin(ceil(facts.computed_choices), (double)computing);
  size->router += facts.router_parameters;
  size->routed += computing * facts.expert_parameters + facts.null_parameters;
  size->shared += facts.shared_parameters;
  size->active -= (computing - used) * facts.expert_parameters;
}

mg_model_size mg_model_count(const mg_model *model) {
  mg_model_size size = model->size; /* embedding, head, attention, dense and norm were counted as they were made */
  for (int64_t i = 0; i < model->moe_layers; i++) count_moe(mg_model_moe(model, i), &size);
  size.total =
      size.embedding + size.head + size.attention + size.router + size.routed + size.shared + size.dense + size.norm;
  size.active += size.total;
  return size;
}
