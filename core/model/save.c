/* Parameters as tensors of a released checkpoint: one each, or one for each expert's slice. */
#include "model/save.h"

#include <string.h>

#include "model/load_internal.h"
#include "model/safetensors.h"

typedef struct saver {
  mg_context *context;
  mg_params *params;
  mg__load_rules rules;
  int64_t count, room;
  mg_safetensors_item *items;
  mg_tensor *tensors;
  char (*names)[MG__TENSOR_NAME_BYTES];
} saver;

static bool is_plain(const mg__load_rule *rule) {
  return !rule->pair && !rule->unpack && !rule->transpose && rule->to_count == 1;
}

/* The first rule that stores the parameter as it is. */
static mg_status find_rule(const saver *s, const char *parameter, const mg__load_rule **rule, int64_t *layer) {
  const mg__load_rule *rearranged = NULL;
  for (int64_t r = 0; r < s->rules.count; r++)
    for (int64_t t = 0; t < s->rules.rule[r].to_count; t++) {
      int64_t unused;
      const char *to = s->rules.rule[r].to[t];
      if (!mg__load_matches(to, strlen(to), parameter, layer, &unused)) continue;
      *rule = &s->rules.rule[r];
      if (is_plain(*rule)) return MG_OK;
      rearranged = *rule;
    }
  if (!rearranged)
    return mg_fail(s->context, MG_UNSUPPORTED, "save: the family has no tensor for parameter %s", parameter);
  return mg_fail(s->context, MG_UNSUPPORTED,
                 "save: parameter %s is stored rearranged in tensor %.*s; only families that store it as it is can be "
                 "written",
                 parameter, (int)rearranged->from_bytes, rearranged->from);
}

/* How many tensors the parameter is stored in. */
static int64_t parts_of(const mg_param *param, const mg__load_rule *rule) {
  return mg__load_by_expert(rule) ? param->value.shape[0] : 1;
}

/* Slice `part` of `parts` along the first dimension, which it then lacks. */
static mg_tensor slice_of(const mg_tensor *value, int64_t parts, int64_t part) {
  mg_tensor slice = *value;
  if (parts == 1) return slice;
  slice.dims--;
  memmove(slice.shape, slice.shape + 1, (size_t)slice.dims * sizeof *slice.shape);
  slice.data = (char *)slice.data + (size_t)part * mg_tensor_bytes(&slice);
  return slice;
}

static mg_status add(saver *s, const mg_param *param) {
  const mg__load_rule *rule = NULL;
  int64_t layer = -1;
  MG_TRY(find_rule(s, param->name, &rule, &layer));
  const int64_t parts = parts_of(param, rule);
  for (int64_t e = 0; e < parts; e++, s->count++) {
    if (!s->items) continue; /* counting */
    s->tensors[s->count] = slice_of(&param->value, parts, e);
    MG_TRY(
        mg__load_expand(s->context, rule->from, rule->from_bytes, layer, e, s->names[s->count], MG__TENSOR_NAME_BYTES));
    s->items[s->count] = (mg_safetensors_item){s->names[s->count], &s->tensors[s->count]};
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
  const size_t room = (size_t)s->room;
  s->tensors = mg_alloc(s->context, room * sizeof *s->tensors);
  s->names = mg_alloc(s->context, room * sizeof *s->names);
  s->items = mg_alloc(s->context, room * sizeof *s->items);
  return s->tensors && s->names && s->items ? MG_OK : MG_MEMORY;
}

static void release(saver *s) {
  const size_t room = (size_t)s->room;
  mg__load_rules_release(s->context, &s->rules);
  mg_free(s->context, s->tensors, s->tensors ? room * sizeof *s->tensors : 0);
  mg_free(s->context, s->names, s->names ? room * sizeof *s->names : 0);
  mg_free(s->context, s->items, s->items ? room * sizeof *s->items : 0);
}

mg_status mg_model_save(mg_model *model, const json_t *rules, const char *path) {
  mg_backend *backend = mg_model_backend(model);
  saver s = {.context = backend->context, .params = mg_model_params(model)};
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
