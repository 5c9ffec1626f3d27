/* How many parameters a model has, by part, how many one token uses, and what its key-value cache holds. */
#include "model/block.h"

#include <math.h>
#include <string.h>

const char *const mg_model_part_names[] = {
#define NAME(NAME_, name) #name,
    MG_MODEL_PART_LIST(NAME)
#undef NAME
        NULL};

static bool begins(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* "...counted.PART.I" */
static mg_model_part counted_part(const char *after) {
  const size_t length = strcspn(after, ".");
  for (int part = 0; part < MG_MODEL_PART_COUNT; part++)
    if (strlen(mg_model_part_names[part]) == length && strncmp(mg_model_part_names[part], after, length) == 0)
      return (mg_model_part)part;
  return MG_MODEL_OTHER;
}

mg_model_part mg_model_part_of(const char *parameter) {
  static const struct {
    const char *within;
    mg_model_part part;
  } rows[] = {{".attention.", MG_MODEL_ATTENTION},    {".cross_attention.", MG_MODEL_ATTENTION},
              {".router.bias", MG_MODEL_ROUTER_BIAS}, {".router.", MG_MODEL_ROUTER},
              {".experts.", MG_MODEL_ROUTED},         {".null.", MG_MODEL_ROUTED},
              {".shared.", MG_MODEL_SHARED},          {".parallel.norm", MG_MODEL_NORM},
              {".feed_forward.", MG_MODEL_DENSE},     {"norm.", MG_MODEL_NORM},
              {"relative_bias.", MG_MODEL_ATTENTION}};
  static const char counted[] = ".counted.";
  if (begins(parameter, "prediction.")) return MG_MODEL_PREDICTION;
  if (begins(parameter, "embedding.") || begins(parameter, "positions.")) return MG_MODEL_EMBEDDING;
  if (begins(parameter, "head.")) return MG_MODEL_HEAD;
  const char *found = strstr(parameter, counted);
  if (found) return counted_part(found + strlen(counted));
  for (size_t i = 0; i < MG_COUNT(rows); i++)
    if (strstr(parameter, rows[i].within)) return rows[i].part;
  return MG_MODEL_OTHER;
}

/* ---- what one token uses ------------------------------------------------------------------------------------- */

static void count_moe(const mg_moe *moe, mg_model_size *size) {
  const mg_moe_facts facts = mg_moe_describe(moe);
  const int64_t computing = facts.experts - facts.null_experts;
  const int64_t used = (int64_t)fmin(ceil(facts.computed_choices), (double)computing);
  const int64_t most = (int64_t)fmin(ceil(facts.mean_choices), (double)computing);
  size->routed_active += used * facts.expert_parameters + facts.null_parameters;
  size->routed_most += most * facts.expert_parameters + facts.null_parameters;
}

static void count_stack(const mg__stack_spec *stack, const mg__block *blocks, mg_model_size *size) {
  for (int64_t i = 0; i < stack->count; i++) {
    if (blocks[i].moe) count_moe(blocks[i].moe, size);
    const mg__layer_spec *layer = &stack->layers[i];
    for (int64_t j = 0; j < layer->counted_count; j++) {
      const int64_t idle = layer->counted[j].parameters - layer->counted[j].active;
      const bool routed = layer->counted[j].part == MG_MODEL_ROUTED;
      size->active -= routed ? 0 : idle;
      size->routed_active += routed ? layer->counted[j].active : 0;
      size->routed_most += routed ? layer->counted[j].active : 0;
    }
  }
}

mg_model_size mg_model_count(const mg_model *model) {
  mg_model_size size = {0};
  for (int64_t i = 0; i < mg_params_count(model->params); i++) {
    const mg_param *param = mg_params_look(model->params, i);
    const mg_model_part part = mg_model_part_of(param->name);
    const int64_t elements = mg_tensor_count(&param->value);
    if (!param->fixed || part == MG_MODEL_PREDICTION)
      size.part[part] += elements;
    else if (part == MG_MODEL_ROUTER || part == MG_MODEL_ROUTER_BIAS)
      size.buffers += elements;
  }
  for (int part = 0; part < MG_MODEL_PART_COUNT; part++)
    if (part != MG_MODEL_PREDICTION) size.total += size.part[part];
  count_stack(&model->spec.decoder, model->blocks, &size);
  count_stack(&model->spec.encoder, model->encoder, &size);
  size.active += size.total - size.part[MG_MODEL_ROUTED] + size.routed_active;
  return size;
}

/* ---- the cache ----------------------------------------------------------------------------------------------- */

static int64_t cached(const mg__attention_settings *a) {
  if (a->kind == MG__ATTENTION_COUNTED) return a->cache;
  if (a->kind == MG__ATTENTION_NONE || a->shares_kv) return 0;
  if (a->kind == MG__ATTENTION_LATENT) return a->kv_rank + a->rope_width;
  return a->kv_heads * (a->head_width + a->value_width);
}

mg_model_cache mg_model_cache_per_token(const mg_model *model) {
  mg_model_cache cache = {0, 0};
  for (int64_t i = 0; i < model->spec.decoder.count; i++) {
    const int64_t elements = cached(&model->spec.decoder.layers[i].attention);
    cache.own += elements;
    if (model->spec.encoder.count) cache.cross += elements;
  }
  return cache;
}
