/* Makes a model's parameters: weights are normal with deviation 0.02, those that write into the residual stream
 * (attention.output, feed_forward.down) 0.02 / sqrt(2 layers) (Radford et al. 2019, GPT-2), norms 1, biases 0. Each
 * parameter draws from the stream of its own name, so that no weight depends on which others exist. */
#include "model/block.h"

#include <math.h>
#include <stdio.h>

static const double deviation = 0.02;

/* Where the next parameters are counted: a field of mg_model_size. */
typedef struct builder {
  mg_model *model;
  char prefix[MG_PARAM_NAME_BYTES];
} builder;

static mg_status add(builder *b, const char *name, mg_param_request request, int64_t *count, int64_t *index) {
  char full[2 * MG_PARAM_NAME_BYTES];
  snprintf(full, sizeof full, "%s%s", b->prefix, name);
  request.name = full;
  request.stream = mg_stream_named(b->model->seed, full, 0, 0);
  int64_t elements = 1;
  for (int32_t i = 0; i < request.dims; i++) elements *= request.shape[i];
  *count += elements;
  return mg_params_add(b->model->params, &request, index);
}

static mg_status add_matrix(builder *b, const char *name, int64_t rows, int64_t columns, double scale, int64_t *count,
                            int64_t *index) {
  const mg_param_request request = {
      .dims = 2, .shape = {rows, columns}, .init = MG_INIT_NORMAL, .scale = scale, .decay = true};
  return add(b, name, request, count, index);
}

static mg_status add_vector(builder *b, const char *name, int64_t count_of, mg_init init, int64_t *count,
                            int64_t *index) {
  const mg_param_request request = {.dims = 1, .shape = {count_of}, .init = init};
  return add(b, name, request, count, index);
}

/* NAME.weight [out, in] and, where the specification has biases, NAME.bias [out]. */
static mg_status add_linear(builder *b, const char *name, int64_t out, int64_t in, double scale, int64_t *count,
                            mg__linear *linear) {
  char text[MG_PARAM_NAME_BYTES];
  snprintf(text, sizeof text, "%s.weight", name);
  linear->bias = -1;
  MG_TRY(add_matrix(b, text, out, in, scale, count, &linear->weight));
  if (!b->model->spec.settings.biases) return MG_OK;
  snprintf(text, sizeof text, "%s.bias", name);
  return add_vector(b, text, out, MG_INIT_ZERO, count, &linear->bias);
}

/* NAME.scale [width] and, for layer norm, NAME.shift [width]. */
static mg_status add_norm(builder *b, const char *name, int64_t width, mg__norm *norm) {
  char text[MG_PARAM_NAME_BYTES];
  int64_t *count = &b->model->size.norm;
  snprintf(text, sizeof text, "%s.scale", name);
  norm->shift = -1;
  MG_TRY(add_vector(b, text, width, MG_INIT_ONE, count, &norm->scale));
  if (b->model->spec.settings.norm == 0) return MG_OK;
  snprintf(text, sizeof text, "%s.shift", name);
  return add_vector(b, text, width, MG_INIT_ZERO, count, &norm->shift);
}

static double residual_scale(const mg_model *model) {
  return deviation / sqrt(2.0 * (double)model->spec.settings.layers);
}

static mg_status add_attention(builder *b, mg__block *block) {
  const mg__model_settings *s = &b->model->spec.settings;
  const int64_t query = s->heads * s->head_width, key = s->kv_heads * s->head_width;
  int64_t *count = &b->model->size.attention;
  MG_TRY(add_linear(b, "attention.query", query, s->width, deviation, count, &block->query));
  MG_TRY(add_linear(b, "attention.key", key, s->width, deviation, count, &block->key));
  MG_TRY(add_linear(b, "attention.value", key, s->width, deviation, count, &block->value));
  MG_TRY(add_linear(b, "attention.output", s->width, query, residual_scale(b->model), count, &block->output));
  if (!s->qk_norm) return MG_OK;
  MG_TRY(add_norm(b, "attention.query_norm", s->head_width, &block->query_norm));
  return add_norm(b, "attention.key_norm", s->head_width, &block->key_norm);
}

static mg_status add_dense(builder *b, const mg__dense_settings *dense, mg__block *block) {
  const int64_t width = b->model->spec.settings.width;
  int64_t *count = &b->model->size.dense;
  if (dense->gated) MG_TRY(add_linear(b, "feed_forward.gate", dense->width, width, deviation, count, &block->gate));
  MG_TRY(add_linear(b, "feed_forward.up", dense->width, width, deviation, count, &block->up));
  return add_linear(b, "feed_forward.down", width, dense->width, residual_scale(b->model), count, &block->down);
}

static mg_status add_moe(builder *b, mg_registry *registry, int64_t index) {
  mg_model *model = b->model;
  char prefix[2 * MG_PARAM_NAME_BYTES];
  snprintf(prefix, sizeof prefix, "%sfeed_forward.", b->prefix);
  const mg_moe_place place = {.width = model->spec.settings.width,
                              .vocabulary = model->spec.settings.vocabulary,
                              .layer = (int32_t)index,
                              .prefix = prefix,
                              .seed = model->seed,
                              .output_deviation = residual_scale(model)};
  return mg_moe_create(model->context, registry, model->spec.layers[index].feed_forward, place, model->params,
                       &model->blocks[index].moe);
}

static mg_status add_block(builder *b, mg_registry *registry, int64_t index) {
  mg_model *model = b->model;
  mg__block *block = &model->blocks[index];
  const int64_t width = model->spec.settings.width;
  block->query_norm = block->key_norm = (mg__norm){-1, -1};
  snprintf(b->prefix, sizeof b->prefix, "layers.%lld.", (long long)index);
  MG_TRY(add_norm(b, "attention_norm", width, &block->attention_norm));
  MG_TRY(add_attention(b, block));
  MG_TRY(add_norm(b, "feed_norm", width, &block->feed_norm));
  if (model->spec.layers[index].moe) return add_moe(b, registry, index);
  return add_dense(b, &model->spec.layers[index].dense, block);
}

mg_status mg__model_build(mg_model *model, mg_registry *registry) {
  const mg__model_settings *s = &model->spec.settings;
  builder b = {.model = model};
  MG_TRY(add_matrix(&b, "embedding.weight", s->vocabulary, s->width, deviation, &model->size.embedding,
                    &model->embedding));
  for (int64_t i = 0; i < s->layers; i++) MG_TRY(add_block(&b, registry, i));
  b.prefix[0] = '\0';
  model->final_norm = (mg__norm){-1, -1};
  if (s->final_norm) MG_TRY(add_norm(&b, "final_norm", s->width, &model->final_norm));
  model->head = model->embedding;
  if (s->tie_embeddings) return MG_OK;
  return add_matrix(&b, "head.weight", s->vocabulary, s->width, deviation, &model->size.head, &model->head);
}
