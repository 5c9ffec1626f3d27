/* Where the numbers of a parameter stand in the tensors of a file, for reading them as for writing them. */
#include <string.h>

#include "model/load_internal.h"

static int64_t rows_of(const mg_tensor *value) {
  return value->dims > 1 ? value->shape[value->dims - 2] : mg_tensor_columns(value);
}

mg_status mg__load_count_rows(mg_context *context, const mg_params *params, mg__load_source *source) {
  char name[MG_PARAM_NAME_BYTES];
  source->before = source->all = 0;
  for (int64_t t = 0; t < source->rule->to_count && source->rule->split_rows; t++) {
    const char *to = source->rule->to[t];
    MG_TRY(mg__load_expand(context, to, strlen(to), source->layer, -1, name, sizeof name));
    const mg_param *param = mg_params_look(params, mg_params_find(params, name));
    if (!param) return mg_fail(context, MG_BUG, "load: there is no parameter %s beside its neighbours", name);
    if (t < source->target) source->before += rows_of(&param->value);
    source->all += rows_of(&param->value);
  }
  return MG_OK;
}

mg__place mg__place_of(const mg_model *model, const mg_param *param, const mg__load_source *source) {
  const mg_tensor *value = &param->value;
  const mg__stack_spec *stack = &model->spec.decoder;
  mg__place p = {.param = param, .source = source, .matrices = 1, .rows = 1, .columns = mg_tensor_columns(value)};
  if (value->dims == 3) p.matrices = value->shape[0];
  if (value->dims > 1) p.rows = value->shape[value->dims - 2];
  p.by_expert = mg__load_by_expert(source->rule);
  if (p.by_expert && value->dims == 2) { /* a vector of each expert */
    p.matrices = p.rows;
    p.rows = 1;
  }
  if (source->rule->unpermute && source->layer >= 0 && source->layer < stack->count)
    p.head = stack->layers[source->layer].attention.head_width;
  return p;
}

bool mg__place_is_vector(const mg__place *p) {
  return p->param->value.dims == 1 || (p->by_expert && p->param->value.dims == 2);
}

bool mg__place_keeps_rows(const mg__place *p) {
  const mg__load_rule *rule = p->source->rule;
  return !rule->transpose && !rule->deinterleave_rows && !rule->deinterleave_columns && p->head == 0;
}

bool mg__place_keeps_columns(const mg__place *p) {
  const mg__load_rule *rule = p->source->rule;
  return !mg__place_is_vector(p) && !rule->transpose && !rule->deinterleave_columns;
}

/* ---- shapes -------------------------------------------------------------------------------------------------- */

static void measure(mg_checkpoint_tensor *stored) {
  stored->columns = stored->shape[stored->dims - 1];
  stored->rows = 1;
  for (int32_t i = 0; i < stored->dims - 1; i++) stored->rows *= stored->shape[i];
}

/* Sizes of the stored matrices, outermost first; returns their number. */
static int32_t matrix_shape(const mg__place *p, int64_t rows, int64_t columns, int64_t shape[3]) {
  const mg__load_rule *rule = p->source->rule;
  const int64_t high = rule->transpose ? columns : rows, wide = rule->transpose ? rows : columns;
  const bool stacked = p->param->value.dims == 3 && !p->by_expert;
  int32_t dims = 0;
  if (stacked && !rule->unpack) shape[dims++] = p->matrices;
  shape[dims++] = rule->unpack ? p->matrices * high : high;
  shape[dims++] = wide;
  return dims;
}

mg_checkpoint_tensor mg__place_stored(const mg__place *p) {
  const mg__load_rule *rule = p->source->rule;
  const int64_t shares = rule->to_count;
  const int64_t rows = rule->split_rows ? p->source->all : rule->deinterleave_rows ? shares * p->rows : p->rows;
  const int64_t columns = rule->deinterleave_columns ? shares * p->columns : p->columns;
  mg_checkpoint_tensor stored = {.dims = 1};
  if (mg__place_is_vector(p))
    stored.shape[0] = rule->split_rows ? p->source->all : columns;
  else
    stored.dims = matrix_shape(p, rows, columns, stored.shape);
  measure(&stored);
  return stored;
}

/* ---- elements ------------------------------------------------------------------------------------------------ */

/* Row r of halves (i, i + head / 2) where they stand in pairs (2i, 2i + 1). */
static int64_t paired(int64_t r, int64_t head) {
  const int64_t half = head / 2, i = r % head;
  return r - i + 2 * (i % half) + i / half;
}

int64_t mg__place_element(const mg__place *p, const mg_checkpoint_tensor *stored, int64_t r, int64_t c) {
  const mg__load_rule *rule = p->source->rule;
  const int64_t shares = rule->to_count, target = p->source->target, stride = stored->columns;
  int64_t *along = mg__place_is_vector(p) ? &c : &r;
  if (p->head > 0) *along = paired(*along, p->head);
  if (rule->split_rows) *along += p->source->before;
  if (rule->deinterleave_rows) r = r * shares + target;
  if (rule->deinterleave_columns) c = c * shares + target;
  return rule->transpose ? c * stride + r : r * stride + c;
}
