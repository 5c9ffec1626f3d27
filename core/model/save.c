/* Parameters as tensors of a released checkpoint: as they are, one expert's slice each, or rearranged to the form that the
 * rules would read back. */
#include "model/save.h"

#include <stdint.h>
#include <string.h>

#include "model/load_internal.h"
#include "model/safetensors.h"

/* One tensor of the file. */
typedef struct stored {
  struct saver *saver;
  const mg__load_rule *rule;
  int64_t layer, expert; /* -1 = none */
  mg_tensor tensor;      /* data NULL: it is made when it is written */
  char name[MG__TENSOR_NAME_BYTES];
} stored;

typedef struct saver {
  mg_context *context;
  mg_model *model;
  mg_backend *backend;
  const mg_params *params;
  mg_dtype decoded; /* what stored dtypes are written in */
  mg__load_rules rules;
  int64_t count, room;
  stored *tensors;
  mg_safetensors_item *items;
} saver;

/* ---- which rule ---------------------------------------------------------------------------------------------- */

/* The first rule that stores the parameter as what it is; out->rule NULL = none. */
static mg_status find_source(const saver *s, const char *parameter, mg__load_source *out) {
  for (int64_t r = 0; r < s->rules.count; r++)
    for (int64_t t = 0; t < s->rules.rule[r].to_count; t++) {
      int64_t unused;
      const mg__load_rule *rule = &s->rules.rule[r];
      *out = (mg__load_source){.rule = rule, .target = t};
      if (rule->pair || rule->second) continue;
      if (!mg__load_matches(rule->to[t], strlen(rule->to[t]), parameter, &out->layer, &unused)) continue;
      return mg__load_count_rows(s->context, s->params, out);
    }
  *out = (mg__load_source){0};
  return MG_OK;
}

/* Parameter `target` of a tensor's rule and its place there. */
static mg_status place_in(const stored *t, int64_t target, mg__load_source *source, mg__place *out) {
  const saver *s = t->saver;
  char name[MG_PARAM_NAME_BYTES];
  const char *to = t->rule->to[target];
  *source = (mg__load_source){.rule = t->rule, .layer = t->layer, .target = target};
  MG_TRY(mg__load_expand(s->context, to, strlen(to), t->layer, -1, name, sizeof name));
  const mg_param *param = mg_params_look(s->params, mg_params_find(s->params, name));
  if (!param) return mg_fail(s->context, MG_UNSUPPORTED, "save: there is no parameter %s beside its neighbours", name);
  MG_TRY(mg__load_count_rows(s->context, s->params, source));
  *out = mg__place_of(s->model, param, source);
  return MG_OK;
}

/* ---- rearranging --------------------------------------------------------------------------------------------- */

/* What a parameter is written in. */
static mg_dtype saved_dtype(const saver *s, const mg_param *param) {
  return mg_dtype_is_stored(param->value.dtype) ? s->decoded : param->value.dtype;
}

static float number_of(const void *values, mg_dtype dtype, int64_t at) {
  if (dtype == MG_F32) return ((const float *)values)[at];
  if (dtype == MG_F64) return (float)((const double *)values)[at];
  return mg_bf16_to_f32(((const uint16_t *)values)[at]);
}

/* Element `here` of values, in their dtype or as one of f32 and bf16, to place `there`. */
static void put(const mg_tensor *values, int64_t here, mg_dtype dtype, void *bytes, int64_t there) {
  const size_t each = mg_dtype_bytes(dtype);
  if (values->dtype == dtype)
    memcpy((char *)bytes + (size_t)there * each, (const char *)values->data + (size_t)here * each, each);
  else if (dtype == MG_BF16)
    ((uint16_t *)bytes)[there] = mg_bf16_from_f32(number_of(values->data, values->dtype, here));
  else
    ((float *)bytes)[there] = number_of(values->data, values->dtype, here);
}

/* Writes a parameter's values, or those of one expert, to their places in the tensor's bytes. */
static void scatter(const stored *t, const mg__place *p, const mg_tensor *values, void *bytes) {
  const mg_checkpoint_tensor whole = mg__place_stored(p);
  const int64_t matrices = p->by_expert ? 1 : p->matrices, inside = whole.rows * whole.columns / matrices;
  int64_t here = 0;
  for (int64_t e = 0; e < matrices; e++)
    for (int64_t r = 0; r < p->rows; r++)
      for (int64_t c = 0; c < p->columns; c++, here++)
        put(values, here, t->tensor.dtype, bytes, e * inside + mg__place_element(p, &whole, r, c));
}

/* `count` values of a parameter from `first` on, on the host; stored dtypes as f32. To be freed also after a failure. */
static mg_status fetch(const saver *s, const mg_tensor *from, int64_t first, int64_t count, mg_tensor *out) {
  const size_t bytes = mg_dtype_run_bytes(from->dtype, count);
  const char *start = (const char *)from->data + mg_dtype_run_bytes(from->dtype, first);
  *out = (mg_tensor){.dtype = from->dtype, .dims = 1, .shape = {count}};
  out->data = mg_alloc(s->context, bytes);
  if (bytes && !out->data) return MG_MEMORY;
  MG_TRY(s->backend->plugin->download(s->backend, out->data, start, bytes));
  if (!mg_dtype_is_stored(from->dtype)) return MG_OK;
  float *decoded = mg_alloc(s->context, (size_t)count * sizeof *decoded);
  if (!decoded) return MG_MEMORY;
  mg_stored_decode(from->dtype, out->data, count, decoded);
  mg_free(s->context, out->data, bytes);
  out->dtype = MG_F32;
  out->data = decoded;
  return MG_OK;
}

static mg_status make(void *user, void *bytes) {
  const stored *t = user;
  const saver *s = t->saver;
  for (int64_t i = 0; i < t->rule->to_count; i++) {
    mg__load_source source;
    mg__place p = {0};
    mg_tensor values;
    MG_TRY(place_in(t, i, &source, &p));
    const int64_t each = p.rows * p.columns, first = p.by_expert ? t->expert * each : 0;
    const mg_status status =
        fetch(s, &p.param->value, first, p.by_expert ? each : mg_tensor_count(&p.param->value), &values);
    if (status == MG_OK) scatter(t, &p, &values, bytes);
    mg_free(s->context, values.data, values.data ? mg_tensor_bytes(&values) : 0);
    MG_TRY(status);
  }
  return MG_OK;
}

/* ---- the list ------------------------------------------------------------------------------------------------ */

/* The dtype that all parameters of the tensor have, else f32. */
static mg_status common_dtype(const stored *t, mg_dtype *out) {
  for (int64_t i = 0; i < t->rule->to_count; i++) {
    mg__load_source source;
    mg__place p = {0};
    MG_TRY(place_in(t, i, &source, &p));
    const mg_dtype dtype = saved_dtype(t->saver, p.param);
    if (i > 0 && dtype != *out) {
      *out = MG_F32;
      return MG_OK;
    }
    *out = dtype;
  }
  return MG_OK;
}

static mg_status describe(stored *t, const mg__place *p) {
  const mg_checkpoint_tensor whole = mg__place_stored(p);
  t->tensor = (mg_tensor){.dtype = p->param->value.dtype, .dims = whole.dims};
  memcpy(t->tensor.shape, whole.shape, sizeof t->tensor.shape);
  MG_TRY(mg__load_expand(t->saver->context, t->rule->from, t->rule->from_bytes, t->layer, t->expert, t->name,
                         sizeof t->name));
  const bool as_it_is = mg__place_keeps_rows(p) && !mg_dtype_is_stored(p->param->value.dtype);
  if (t->rule->to_count > 1 || !as_it_is) return common_dtype(t, &t->tensor.dtype);
  const int64_t slice = t->expert > 0 ? t->expert : 0;
  t->tensor.data = (char *)p->param->value.data + (size_t)slice * mg_tensor_bytes(&t->tensor);
  return MG_OK;
}

/* Adds the tensors that the parameter is stored in; one that several share comes with the first of them. */
static mg_status add(saver *s, const mg_param *param) {
  mg__load_source source;
  MG_TRY(find_source(s, param->name, &source));
  if (!source.rule && param->fixed) return MG_OK; /* what training counted */
  if (!source.rule)
    return mg_fail(s->context, MG_UNSUPPORTED, "save: the family has no tensor for parameter %s", param->name);
  const mg__place p = mg__place_of(s->model, param, &source);
  const int64_t parts = source.target > 0 ? 0 : p.by_expert ? p.matrices : 1;
  for (int64_t e = 0; e < parts; e++, s->count++) {
    if (!s->items) continue; /* counting */
    stored *t = &s->tensors[s->count];
    *t = (stored){.saver = s, .rule = source.rule, .layer = source.layer, .expert = p.by_expert ? e : -1};
    MG_TRY(describe(t, &p));
    s->items[s->count] =
        (mg_safetensors_item){.name = t->name, .tensor = &t->tensor, .make = t->tensor.data ? NULL : make, .user = t};
  }
  return MG_OK;
}

static mg_status add_all(saver *s) {
  s->count = 0;
  for (int64_t i = 0; i < mg_params_count(s->params); i++) MG_TRY(add(s, mg_params_look(s->params, i)));
  return MG_OK;
}

static mg_status make_room(saver *s) {
  s->room = s->count;
  s->tensors = mg_alloc(s->context, (size_t)s->room * sizeof *s->tensors);
  s->items = mg_alloc(s->context, (size_t)s->room * sizeof *s->items);
  return s->tensors && s->items ? MG_OK : MG_MEMORY;
}

static void release(saver *s) {
  const size_t room = (size_t)s->room;
  mg__load_rules_release(s->context, &s->rules);
  mg_free(s->context, s->tensors, s->tensors ? room * sizeof *s->tensors : 0);
  mg_free(s->context, s->items, s->items ? room * sizeof *s->items : 0);
}

mg_status mg_model_save(mg_model *model, const json_t *rules, mg_dtype decoded, const char *path) {
  mg_backend *backend = mg_model_backend(model);
  saver s = {.context = backend->context, .model = model, .backend = backend, .decoded = decoded};
  s.params = mg_model_params(model);
  json_t *metadata = json_pack("{s:s}", "format", "pt"); /* transformers asks for it */
  mg_status status = metadata ? mg__load_rules_read(s.context, rules, &s.rules) : MG_MEMORY;
  if (status == MG_OK) status = add_all(&s);
  if (status == MG_OK) status = make_room(&s);
  if (status == MG_OK) status = add_all(&s);
  if (status == MG_OK) status = mg_safetensors_write(s.context, backend, path, s.items, s.count, metadata);
  json_decref(metadata);
  release(&s);
  return status;
}
