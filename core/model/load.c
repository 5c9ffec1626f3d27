/* Finds, for each parameter of a model, the tensors that it is made from, and refuses what is missing or left over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/load_internal.h"

static const char blocks_end[] = "_blocks";

mg_status mg__load_name(const mg__loader *loader, const mg__load_source *source, int64_t expert,
                        char name[MG__TENSOR_NAME_BYTES]) {
  return mg__load_expand(loader->context, source->rule->from, source->rule->from_bytes, source->layer, expert, name,
                         MG__TENSOR_NAME_BYTES);
}

/* ---- which rule ---------------------------------------------------------------------------------------------- */

static bool is_there(const mg__loader *loader, const mg__load_rule *rule, const char *name) {
  char blocks[MG__TENSOR_NAME_BYTES + sizeof blocks_end];
  snprintf(blocks, sizeof blocks, "%s%s", name, blocks_end);
  return mg_checkpoint_find(loader->checkpoint, rule->pair ? blocks : name) >= 0;
}

/* The first rule for the parameter whose tensor is there; else the first rule, and *there is false. */
static mg_status find_source(const mg__loader *loader, const char *parameter, mg__load_source *out, bool *there) {
  char name[MG__TENSOR_NAME_BYTES];
  *there = false;
  *out = (mg__load_source){0};
  for (int64_t r = 0; r < loader->rules.count && !*there; r++)
    for (int64_t t = 0; t < loader->rules.rule[r].to_count && !*there; t++) {
      mg__load_source found = {.rule = &loader->rules.rule[r], .target = t};
      int64_t unused;
      const char *to = found.rule->to[t];
      if (!mg__load_matches(to, strlen(to), parameter, &found.layer, &unused)) continue;
      MG_TRY(mg__load_name(loader, &found, 0, name));
      *there = is_there(loader, found.rule, name);
      if (*there || !out->rule) *out = found;
    }
  return out->rule ? mg__load_count_rows(loader->context, loader->params, out)
                   : mg_fail(loader->context, MG_BUG, "load: the family does not say where parameter %s comes from",
                             parameter);
}

static mg_status load_parameter(mg__loader *loader, int64_t index) {
  const mg_param *param = mg_params_look(loader->params, index);
  char name[MG__TENSOR_NAME_BYTES], shape[MG_SHAPE_TEXT_BYTES];
  mg__load_source source;
  bool there;
  MG_TRY(find_source(loader, param->name, &source, &there));
  if (there) return mg__load_fill(loader, index, &source);
  MG_TRY(mg__load_name(loader, &source, 0, name));
  return mg_fail(loader->context, MG_FILE, "%s: tensor %s is missing; parameter %s %s is made from it",
                 mg_checkpoint_path(loader->checkpoint), name, param->name, mg_shape_text(&param->value, shape));
}

/* ---- what is left over --------------------------------------------------------------------------------------- */

/* Whether `name` is the pattern, with any run of characters for * and a module's layer number for {module}. */
static bool is_ignored(const mg__model_spec *spec, const char *pattern, const char *name) {
  static const char module_mark[] = "{module}";
  const size_t mark = sizeof module_mark - 1;
  for (; *pattern; pattern++, name++) {
    if (*pattern == '*') {
      do
        if (is_ignored(spec, pattern + 1, name)) return true;
      while (*name++);
      return false;
    }
    if (strncmp(pattern, module_mark, mark) == 0) {
      char *end;
      const int64_t number = strtoll(name, &end, 10) - spec->decoder.count;
      return end != name && number >= 0 && number < spec->prediction_modules && is_ignored(spec, pattern + mark, end);
    }
    if (*pattern != *name) return false;
  }
  return *name == '\0';
}

/* Besides what the family ignores: a second copy of a tied head, and tables that are computed here. */
static bool not_needed(const mg__loader *loader, const char *name) {
  const mg__model_spec *spec = &loader->model->spec;
  if (is_ignored(spec, "*.rotary_emb.inv_freq", name)) return true;
  for (size_t i = 0; i < json_array_size(loader->ignored); i++) {
    const char *pattern = json_string_value(json_array_get(loader->ignored, i));
    if (pattern && is_ignored(spec, pattern, name)) return true;
  }
  for (int64_t r = 0; r < loader->rules.count && spec->settings.tie_embeddings; r++) {
    int64_t layer, expert;
    const mg__load_rule *rule = &loader->rules.rule[r];
    const bool ends = strcmp(rule->to[0], "head.weight") == 0 || strcmp(rule->to[0], "embedding.weight") == 0;
    if (ends && mg__load_matches(rule->from, rule->from_bytes, name, &layer, &expert)) return true;
  }
  return false;
}

static mg_status refuse_leftovers(const mg__loader *loader) {
  for (int64_t i = 0; i < mg_checkpoint_count(loader->checkpoint); i++) {
    mg_checkpoint_tensor tensor;
    char name[MG__PRINTABLE_BYTES];
    if (loader->used[i]) continue;
    mg_checkpoint_at(loader->checkpoint, i, &tensor);
    if (not_needed(loader, tensor.name)) continue;
    return mg_fail(loader->context, MG_FILE,
                   "%s: tensor %s is left over: no part of the model that the configuration describes is made from it",
                   mg_checkpoint_path(loader->checkpoint), mg__printable(tensor.name, name));
  }
  return MG_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------------- */

static mg_status load_all(mg__loader *loader, const json_t *rules) {
  const size_t tensors = (size_t)mg_checkpoint_count(loader->checkpoint);
  MG_TRY(mg__load_rules_read(loader->context, rules, &loader->rules));
  loader->used = mg_alloc(loader->context, (tensors + 1) * sizeof *loader->used);
  if (!loader->used) return MG_MEMORY;
  for (int64_t i = 0; i < mg_params_count(loader->params); i++) MG_TRY(load_parameter(loader, i));
  MG_TRY(refuse_leftovers(loader));
  return mg_checkpoint_unchanged(loader->checkpoint);
}

mg_status mg_model_load(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                        const json_t *rules, const json_t *ignored, mg_checkpoint *checkpoint, mg_dtype precision,
                        mg_model **out) {
  mg__loader loader = {.context = context, .checkpoint = checkpoint, .precision = precision, .ignored = ignored};
  *out = NULL;
  if (precision != MG_F32 && precision != MG_BF16)
    return mg_fail(context, MG_USAGE, "load: a model runs in f32 or bf16, not in %s", mg_dtype_name(precision));
  MG_TRY(mg__model_create_empty(context, registry, backend, spec, 0, &loader.model));
  loader.params = mg_model_params(loader.model);
  const mg_status status = load_all(&loader, rules);
  mg__load_rules_release(context, &loader.rules);
  const size_t tensors = (size_t)mg_checkpoint_count(checkpoint);
  mg_free(context, loader.used, loader.used ? (tensors + 1) * sizeof *loader.used : 0);
  if (status == MG_OK)
    *out = loader.model;
  else
    mg_model_destroy(loader.model);
  return status;
}
