/* Models that take their parameters from another one: the same weights under another routing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/block.h"

typedef struct deriving {
  mg_context *context;
  mg_model *from, *model;
  const mg_model_change *change;
} deriving;

/* ---- lists of experts ---------------------------------------------------------------------------------------- */

static const json_t *list_of(const deriving *d, int64_t layer) {
  const json_t *list = json_array_get(d->change->experts, (size_t)layer);
  return json_is_array(list) ? list : NULL;
}

/* Every number once, and of an expert that there is. */
static mg_status check_numbers(const deriving *d, const json_t *list, int64_t layer, int64_t old, bool *seen) {
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *entry = json_array_get(list, i);
    const json_int_t expert = json_is_integer(entry) ? json_integer_value(entry) : -1;
    if (expert < 0 || expert >= old || seen[expert])
      return mg_fail(d->context, MG_USAGE,
                     "experts: entry %zu of mixture %lld must be the number of an expert, 0 to %lld, that stands "
                     "nowhere before it",
                     i + 1, (long long)(layer + 1), (long long)(old - 1));
    seen[expert] = true;
  }
  return MG_OK;
}

/* A parameter that joins experts to experts would have to be reordered twice. */
static mg_status check_router(const deriving *d, int64_t layer) {
  const mg_router_plugin *plugin = mg_moe_router(mg_model_moe(d->from, layer))->plugin;
  for (const mg_param_spec *param = plugin->params; param && param->name; param++)
    for (int32_t i = 1; i < MG_DIMS_MAX && param->shape[i] != MG_DIM_NONE; i++)
      if (param->shape[i] == MG_DIM_EXPERTS)
        return mg_fail(d->context, MG_USAGE,
                       "experts: the parameter '%s' of router %s joins experts to each other, so that they must stay "
                       "as they stand",
                       param->name, plugin->name);
  return MG_OK;
}

static mg_status check_list(const deriving *d, int64_t layer) {
  const json_t *list = list_of(d, layer);
  if (!list) return MG_OK;
  MG_TRY(check_router(d, layer));
  const mg_moe_facts old = mg_moe_describe(mg_model_moe(d->from, layer));
  const mg_moe_facts new = mg_moe_describe(mg_model_moe(d->model, layer));
  if (old.null_experts || d->from->spec.encoder.count)
    return mg_fail(d->context, MG_USAGE, "experts: a model with null experts or an encoder keeps its experts");
  if ((int64_t)json_array_size(list) != new.experts)
    return mg_fail(d->context, MG_USAGE, "experts: mixture %lld has %lld experts, but its list names %zu",
                   (long long)(layer + 1), (long long)new.experts, json_array_size(list));
  bool *seen = mg_alloc(d->context, (size_t)old.experts * sizeof *seen);
  if (!seen) return MG_MEMORY;
  const mg_status status = check_numbers(d, list, layer, old.experts, seen);
  mg_free(d->context, seen, (size_t)old.experts * sizeof *seen);
  return status;
}

static mg_status check_lists(const deriving *d) {
  const size_t layers = (size_t)d->from->moe_layers;
  if (!d->change->experts) return MG_OK;
  if (d->model->moe_layers != d->from->moe_layers || json_array_size(d->change->experts) != layers)
    return mg_fail(d->context, MG_USAGE, "experts: a list for each of the %zu mixtures was expected", layers);
  for (int64_t i = 0; i < d->from->moe_layers; i++) MG_TRY(check_list(d, i));
  return MG_OK;
}

/* The experts that stand for those of a parameter "layers.N.feed_forward.{router,experts}.NAME"; NULL where all stand
 * as they stood. */
static const json_t *list_for(const deriving *d, const char *name) {
  static const char start[] = "layers.", middle[] = ".feed_forward.";
  if (!d->change->experts || strncmp(name, start, sizeof start - 1) != 0) return NULL;
  char *end;
  const long long block = strtoll(name + sizeof start - 1, &end, 10);
  if (strncmp(end, middle, sizeof middle - 1) != 0) return NULL;
  const char *part = end + sizeof middle - 1;
  if (strncmp(part, "router.", 7) != 0 && strncmp(part, "experts.", 8) != 0) return NULL;
  for (int64_t i = 0; i < d->model->moe_layers; i++)
    if (mg_model_moe_block(d->model, i) == block) return list_of(d, i);
  return NULL;
}

/* ---- one parameter ------------------------------------------------------------------------------------------- */

static mg_status refuse_shape(const deriving *d, const mg_param *param, const mg_tensor *old) {
  char wanted[MG_SHAPE_TEXT_BYTES], came[MG_SHAPE_TEXT_BYTES];
  return mg_fail(d->context, MG_USAGE, "the parameter '%s' has the shape %s, and was trained in the shape %s",
                 param->name, mg_shape_text(&param->value, wanted), mg_shape_text(old, came));
}

/* Whether the first dimension of both counts experts, and the others are alike. */
static bool is_stack(const mg_tensor *value, int64_t count, const mg_tensor *old, int64_t old_count) {
  if (value->dims != old->dims || value->shape[0] != count || old->shape[0] != old_count) return false;
  for (int32_t i = 1; i < value->dims; i++)
    if (value->shape[i] != old->shape[i]) return false;
  return true;
}

static mg_status copy_slice(mg_backend *backend, char *to, const char *from, void *host, size_t bytes) {
  MG_TRY(backend->plugin->download(backend, host, from, bytes));
  return backend->plugin->upload(backend, to, host, bytes);
}

/* Memory of its own with the slices of the listed experts. */
static mg_status gather(const deriving *d, int64_t index, const mg_tensor *old, const json_t *list) {
  mg_backend *backend = d->model->backend;
  mg_tensor value = mg_params_look(d->model->params, index)->value;
  value.dtype = old->dtype;
  const size_t bytes = mg_tensor_bytes(&value), each = bytes / (size_t)value.shape[0];
  void *host = mg_alloc(d->context, each);
  mg_status status = host ? backend->plugin->allocate(backend, bytes, &value.data) : MG_MEMORY;
  for (size_t i = 0; i < json_array_size(list) && status == MG_OK; i++) {
    const size_t expert = (size_t)json_integer_value(json_array_get(list, i));
    status = copy_slice(backend, (char *)value.data + i * each, (const char *)old->data + expert * each, host, each);
  }
  mg_free(d->context, host, host ? each : 0);
  if (status == MG_OK) return mg_params_bind(d->model->params, index, &value, true);
  if (value.data) backend->plugin->release(backend, value.data, bytes);
  return status;
}

static bool is_drawn(const deriving *d, const mg_param *param, bool there) {
  const bool router = strstr(param->name, ".router.") != NULL;
  if (router && d->change->routers == MG_ROUTERS_DRAW_ALL) return true;
  return !there && d->change->routers != MG_ROUTERS_KEEP && (router || param->fixed);
}

static mg_status take(const deriving *d, int64_t index) {
  const mg_param *param = mg_params_look(d->model->params, index);
  const int64_t place = mg_params_find(d->from->params, param->name);
  const mg_dtype wide = mg_params_look(d->from->params, d->from->embedding)->value.dtype;
  if (is_drawn(d, param, place >= 0)) return mg_params_draw(d->model->params, index, wide == MG_F64 ? MG_F64 : MG_F32);
  if (place < 0) return mg_fail(d->context, MG_USAGE, "there is no trained parameter '%s'", param->name);
  const mg_tensor *old = &mg_params_look(d->from->params, place)->value;
  const json_t *list = list_for(d, param->name);
  if (!list)
    return mg_tensor_same_shape(&param->value, old) ? mg_params_bind(d->model->params, index, old, false)
                                                    : refuse_shape(d, param, old);
  int64_t layer = 0;
  while (list_of(d, layer) != list) layer++;
  const int64_t experts = mg_moe_describe(mg_model_moe(d->from, layer)).experts;
  if (!is_stack(&param->value, (int64_t)json_array_size(list), old, experts)) return refuse_shape(d, param, old);
  return gather(d, index, old, list);
}

static mg_status take_all(const deriving *d) {
  MG_TRY(check_lists(d));
  for (int64_t i = 0; i < mg_params_count(d->model->params); i++) MG_TRY(take(d, i));
  return MG_OK;
}

mg_status mg_model_derive(mg_model *from, const mg_model_change *change, mg_model **out) {
  *out = NULL;
  const uint64_t seed = change->seed ? change->seed : from->seed;
  deriving d = {.context = from->context, .from = from, .change = change};
  MG_TRY(mg__model_create_empty(from->context, from->registry, from->backend, change->spec, seed, &d.model));
  const mg_status status = take_all(&d);
  if (status == MG_OK)
    *out = d.model;
  else
    mg_model_destroy(d.model);
  return status;
}

/* ---- a model that nobody trained -------------------------------------------------------------------------------- */

mg_status mg_model_draw(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                        mg_dtype precision, uint64_t seed, mg_model **out) {
  mg_model *model;
  *out = NULL;
  MG_TRY(mg__model_create_empty(context, registry, backend, spec, seed, &model));
  mg_status status = MG_OK;
  for (int64_t i = 0; i < mg_params_count(model->params) && status == MG_OK; i++) {
    const mg_param *param = mg_params_look(model->params, i);
    status = mg_params_draw(model->params, i, param->value.dims > 1 && !param->fixed ? precision : MG_F32);
  }
  if (status == MG_OK)
    *out = model;
  else
    mg_model_destroy(model);
  return status;
}
