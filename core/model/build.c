/* Makes a model's parameters: weights are normal with deviation `initial_deviation`, those that write into the residual
 * stream (attention.output, feed_forward.down) with that / sqrt(2 layers) (Radford et al. 2019, GPT-2), norms 1, biases 0. Each
 * parameter draws from the stream of its own name, so that no weight depends on which others exist. In a description
 * the store keeps names and shapes alone. */
#include "model/block.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct builder {
  mg_model *model;
  mg_registry *registry;
  char prefix[MG_PARAM_NAME_BYTES];
  double deviation;
} builder;

static const mg__linear no_linear = {-1, -1};
static const mg__norm no_norm = {-1, -1};

static mg_status add(builder *b, const char *name, mg_param_request request, int64_t *index) {
  char full[2 * MG_PARAM_NAME_BYTES];
  snprintf(full, sizeof full, "%s%s", b->prefix, name);
  request.name = full;
  request.stream = mg_stream_named(b->model->seed, full, 0, 0);
  return mg_params_add(b->model->params, &request, index);
}

static mg_status add_matrix(builder *b, const char *name, int64_t rows, int64_t columns, double scale, int64_t *index) {
  const mg_param_request request = {
      .dims = 2, .shape = {rows, columns}, .init = MG_INIT_NORMAL, .scale = scale, .decay = true};
  return add(b, name, request, index);
}

static mg_status add_vector(builder *b, const char *name, int64_t count, mg_init init, int64_t *index) {
  const mg_param_request request = {.dims = 1, .shape = {count}, .init = init};
  return add(b, name, request, index);
}

/* NAME.weight [out, in] and, if asked, NAME.bias [out]. */
static mg_status add_linear(builder *b, const char *name, int64_t out, int64_t in, double scale, bool bias,
                            mg__linear *linear) {
  char text[MG_PARAM_NAME_BYTES];
  snprintf(text, sizeof text, "%s.weight", name);
  MG_TRY(add_matrix(b, text, out, in, scale, &linear->weight));
  if (!bias) return MG_OK;
  snprintf(text, sizeof text, "%s.bias", name);
  return add_vector(b, text, out, MG_INIT_ZERO, &linear->bias);
}

/* NAME.scale [width] and, for layer norm, NAME.shift [width]. */
static mg_status add_norm(builder *b, const char *name, int64_t width, mg__norm *norm) {
  const mg__model_settings *s = &b->model->spec.settings;
  char text[MG_PARAM_NAME_BYTES];
  snprintf(text, sizeof text, "%s.scale", name);
  MG_TRY(add_vector(b, text, width, MG_INIT_ONE, &norm->scale));
  if (s->norm == MG__NORM_RMS || !s->norm_shift) return MG_OK;
  snprintf(text, sizeof text, "%s.shift", name);
  return add_vector(b, text, width, MG_INIT_ZERO, &norm->shift);
}

static double residual_scale(const mg_model *model) {
  const mg__model_settings *s = &model->spec.settings;
  return s->initial_deviation / sqrt(2.0 * (double)s->layers);
}

/* ---- attention ----------------------------------------------------------------------------------------------- */

static mg_status add_key_and_value(builder *b, const mg__attention_settings *s, mg__attention *a) {
  const int64_t width = b->model->spec.settings.width;
  const bool bias = s->biases != MG__BIASES_NONE;
  if (s->shares_kv) return MG_OK;
  MG_TRY(add_linear(b, "key", s->kv_heads * s->head_width, width, b->deviation, bias, &a->key));
  return add_linear(b, "value", s->kv_heads * s->value_width, width, b->deviation, bias, &a->value);
}

static mg_status add_grouped(builder *b, const mg__attention_settings *s, mg__attention *a) {
  const int64_t width = b->model->spec.settings.width, query = s->heads * s->head_width;
  const bool whole = s->qk_norm == MG__QK_NORM_WHOLE;
  const int64_t projected = s->gated ? query + s->heads * s->value_width : query;
  MG_TRY(add_linear(b, "query", projected, width, b->deviation, s->biases != MG__BIASES_NONE, &a->query));
  MG_TRY(add_key_and_value(b, s, a));
  MG_TRY(add_linear(b, "output", width, s->heads * s->value_width, residual_scale(b->model),
                    s->biases == MG__BIASES_ALL, &a->output));
  if (s->qk_norm == MG__QK_NORM_NONE) return MG_OK;
  MG_TRY(add_norm(b, "query_norm", whole ? query : s->head_width, &a->query_norm));
  return add_norm(b, "key_norm", whole ? s->kv_heads * s->head_width : s->head_width, &a->key_norm);
}

/* DeepSeek-V2 (arXiv 2405.04434): biases, where there are any, are those of the projections from the stream and to it. */
static mg_status add_latent(builder *b, const mg__attention_settings *s, mg__attention *a) {
  const int64_t width = b->model->spec.settings.width, query = s->heads * s->head_width;
  const bool bias = s->biases != MG__BIASES_NONE;
  if (s->query_rank) {
    MG_TRY(add_linear(b, "query_down", s->query_rank, width, b->deviation, bias, &a->query_down));
    MG_TRY(add_norm(b, "query_norm", s->query_rank, &a->query_norm));
    MG_TRY(add_linear(b, "query_up", query, s->query_rank, b->deviation, false, &a->query_up));
  } else {
    MG_TRY(add_linear(b, "query", query, width, b->deviation, false, &a->query));
  }
  MG_TRY(add_linear(b, "kv_down", s->kv_rank + s->rope_width, width, b->deviation, bias, &a->kv_down));
  MG_TRY(add_norm(b, "kv_norm", s->kv_rank, &a->key_norm));
  MG_TRY(
      add_linear(b, "kv_up", s->heads * (s->nope_width + s->value_width), s->kv_rank, b->deviation, false, &a->kv_up));
  return add_linear(b, "output", width, s->heads * s->value_width, residual_scale(b->model),
                    s->biases == MG__BIASES_ALL, &a->output);
}

/* Parameters below PREFIX + `name`. */
static mg_status add_attention(builder *b, const char *name, const mg__attention_settings *s, mg__attention *a) {
  const size_t length = strlen(b->prefix);
  *a = (mg__attention){.query = no_linear,
                       .key = no_linear,
                       .value = no_linear,
                       .output = no_linear,
                       .query_down = no_linear,
                       .query_up = no_linear,
                       .kv_down = no_linear,
                       .kv_up = no_linear,
                       .query_norm = no_norm,
                       .key_norm = no_norm,
                       .sinks = -1};
  snprintf(b->prefix + length, sizeof b->prefix - length, "%s.", name);
  mg_status status = MG_OK;
  if (s->kind == MG__ATTENTION_GROUPED) status = add_grouped(b, s, a);
  if (s->kind == MG__ATTENTION_LATENT) status = add_latent(b, s, a);
  if (status == MG_OK && s->sinks) status = add_vector(b, "sinks", s->heads, MG_INIT_ZERO, &a->sinks);
  b->prefix[length] = '\0';
  return status;
}

/* ---- blocks -------------------------------------------------------------------------------------------------- */

static mg_status add_dense(builder *b, const mg__dense_settings *dense, mg__block *block) {
  const int64_t width = b->model->spec.settings.width;
  const bool bias = dense->biases;
  if (dense->gated) MG_TRY(add_linear(b, "feed_forward.gate", dense->width, width, b->deviation, bias, &block->gate));
  MG_TRY(add_linear(b, "feed_forward.up", dense->width, width, b->deviation, bias, &block->up));
  return add_linear(b, "feed_forward.down", width, dense->width, residual_scale(b->model), bias, &block->down);
}

static mg_status add_moe(builder *b, const mg__layer_spec *layer, int64_t index, mg__block *block) {
  mg_model *model = b->model;
  char prefix[2 * MG_PARAM_NAME_BYTES];
  snprintf(prefix, sizeof prefix, "%sfeed_forward.", b->prefix);
  const mg_moe_place place = {.width = model->spec.settings.width,
                              .vocabulary = model->spec.settings.vocabulary,
                              .layer = (int32_t)index,
                              .prefix = prefix,
                              .seed = model->seed,
                              .deviation = b->deviation,
                              .output_deviation = residual_scale(model)};
  return mg_moe_create(model->context, b->registry, layer->feed_forward, place, model->params, &block->moe);
}

/* counted.PART.I [parameters]. */
static mg_status add_counted(builder *b, const mg__layer_spec *layer) {
  for (int64_t i = 0; i < layer->counted_count; i++) {
    const mg__counted *c = &layer->counted[i];
    char name[MG_PARAM_NAME_BYTES];
    int64_t index;
    snprintf(name, sizeof name, "counted.%s.%lld", mg_model_part_names[c->part], (long long)i);
    MG_TRY(add_vector(b, name, c->parameters, MG_INIT_ZERO, &index));
  }
  return MG_OK;
}

/* What a decoder's block of an encoder-decoder model looks at the encoder with: its own attention, as the positions and
 * the window are the encoder's. */
static mg__attention_settings cross_settings(const mg__layer_spec *layer) {
  mg__attention_settings cross = layer->attention;
  cross.sinks = false;
  return cross;
}

/* Names go below b->prefix. */
static mg_status add_block(builder *b, const mg__layer_spec *layer, int64_t index, bool cross, mg__block *block) {
  const mg__model_settings *s = &b->model->spec.settings;
  block->attention_norm = block->cross_norm = block->feed_norm = no_norm;
  block->attention_post_norm = block->feed_post_norm = no_norm;
  block->gate = block->up = block->down = no_linear;
  if (layer->attention.kind != MG__ATTENTION_NONE) {
    MG_TRY(add_norm(b, "attention_norm", s->width, &block->attention_norm));
    if (s->post_norms) MG_TRY(add_norm(b, "attention_post_norm", s->width, &block->attention_post_norm));
  }
  MG_TRY(add_attention(b, "attention", &layer->attention, &block->attention));
  MG_TRY(add_counted(b, layer));
  if (cross) {
    const mg__attention_settings settings = cross_settings(layer);
    MG_TRY(add_norm(b, "cross_norm", s->width, &block->cross_norm));
    MG_TRY(add_attention(b, "cross_attention", &settings, &block->cross));
  }
  if (layer->feed == MG__FEED_NONE) return MG_OK;
  MG_TRY(add_norm(b, "feed_norm", s->width, &block->feed_norm));
  if (s->post_norms) MG_TRY(add_norm(b, "feed_post_norm", s->width, &block->feed_post_norm));
  if (layer->feed == MG__FEED_MOE) return add_moe(b, layer, index, block);
  return add_dense(b, &layer->dense, block);
}

static mg_status add_stack(builder *b, const char *name, const mg__stack_spec *stack, bool cross, mg__block *blocks) {
  const mg__model_settings *s = &b->model->spec.settings;
  for (int64_t i = 0; i < stack->count; i++) {
    snprintf(b->prefix, sizeof b->prefix, "%slayers.%lld.", name, (long long)i);
    MG_TRY(add_block(b, &stack->layers[i], i, cross, &blocks[i]));
  }
  snprintf(b->prefix, sizeof b->prefix, "%s", name);
  if (!s->relative_buckets || stack->count == 0) return MG_OK;
  int64_t *index = *name ? &b->model->encoder_relative : &b->model->relative;
  return add_matrix(b, "relative_bias.weight", s->relative_buckets, stack->layers[0].attention.heads, b->deviation,
                    index);
}

static mg_status add_module(builder *b, int64_t index, mg__module *module) {
  const mg__model_spec *spec = &b->model->spec;
  const int64_t width = spec->settings.width;
  module->embedding_norm = module->hidden_norm = module->final_norm = no_norm;
  snprintf(b->prefix, sizeof b->prefix, "prediction.%lld.", (long long)index);
  MG_TRY(add_norm(b, "embedding_norm", width, &module->embedding_norm));
  MG_TRY(add_norm(b, "hidden_norm", width, &module->hidden_norm));
  MG_TRY(add_matrix(b, "projection.weight", width, 2 * width, b->deviation, &module->projection));
  MG_TRY(add_block(b, spec->prediction.layers, spec->decoder.count + index, false, &module->block));
  return add_norm(b, "final_norm", width, &module->final_norm);
}

static mg_status add_ends(builder *b) {
  mg_model *model = b->model;
  const mg__model_settings *s = &model->spec.settings;
  model->final_norm = model->encoder_norm = no_norm;
  if (s->final_norm) MG_TRY(add_norm(b, "final_norm", s->width, &model->final_norm));
  if (s->final_norm && model->spec.encoder.count)
    MG_TRY(add_norm(b, "encoder.final_norm", s->width, &model->encoder_norm));
  model->head = model->embedding;
  if (!s->tie_embeddings) MG_TRY(add_matrix(b, "head.weight", s->vocabulary, s->width, b->deviation, &model->head));
  return s->head_bias ? add_vector(b, "head.bias", s->vocabulary, MG_INIT_ZERO, &model->head_bias) : MG_OK;
}

mg_status mg__model_build(mg_model *model, mg_registry *registry) {
  const mg__model_spec *spec = &model->spec;
  const mg__model_settings *s = &spec->settings;
  builder b = {.model = model, .registry = registry, .deviation = s->initial_deviation};
  model->head_bias = model->positions = model->relative = model->encoder_relative = -1;
  MG_TRY(add_matrix(&b, "embedding.weight", s->vocabulary, s->width, b.deviation, &model->embedding));
  if (s->positions == MG__POSITIONS_LEARNED)
    MG_TRY(add_matrix(&b, "positions.weight", s->positions_max, s->width, b.deviation, &model->positions));
  MG_TRY(add_stack(&b, "encoder.", &spec->encoder, false, model->encoder));
  MG_TRY(add_stack(&b, "", &spec->decoder, spec->encoder.count > 0, model->blocks));
  for (int64_t i = 0; i < spec->prediction_modules && model->modules; i++)
    MG_TRY(add_module(&b, i, &model->modules[i]));
  b.prefix[0] = '\0';
  return add_ends(&b);
}
