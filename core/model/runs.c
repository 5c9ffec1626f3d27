/* What a specification may say that this program describes and counts but does not run: one row for each. */
#include "model/block.h"
#include "model/rope.h"

static bool counted(const mg__layer_spec *l) {
  const mg__attention_settings *a = &l->attention;
  return a->kind == MG__ATTENTION_COUNTED || l->counted_count > 0 || a->scores > 0 || a->work > 0;
}
static bool limited(const mg__layer_spec *l) {
  return l->attention.chunk > 0 || l->attention.selected > 0;
}
static bool gated(const mg__layer_spec *l) {
  return l->attention.gated;
}
static bool shares_kv(const mg__layer_spec *l) {
  return l->attention.shares_kv;
}

static const struct {
  bool (*has)(const mg__layer_spec *layer);
  const char *what;
} layer_rows[] = {{counted, "parameters that are only counted"},
                  {limited, "attention within chunks or to selected keys"},
                  {gated, "attention with a gated output"},
                  {shares_kv, "attention that shares keys and values with the layer before"}};

static mg_status refuse(mg_context *context, const char *what) {
  return mg_fail(context, MG_USAGE, "model: %s can be described and counted, but not run", what);
}

/* A pass holds so many rotary tables. */
static bool too_many_ropes(const mg__stack_spec *stack) {
  const mg__rope *found[MG__TABLES_MAX];
  int64_t count = 0;
  for (int64_t i = 0; i < stack->count; i++) {
    const mg__rope *rope = &stack->layers[i].attention.rope;
    int64_t at = 0;
    while (at < count && !mg__rope_same(found[at], rope)) at++;
    if (rope->columns == 0 || at < count) continue;
    if (count == MG__TABLES_MAX) return true;
    found[count++] = rope;
  }
  return false;
}

static mg_status stack_runs(mg_context *context, const mg__stack_spec *stack) {
  if (too_many_ropes(stack)) return refuse(context, "more than 8 kinds of rotary positions");
  for (int64_t i = 0; i < stack->count; i++)
    for (size_t row = 0; row < MG_COUNT(layer_rows); row++)
      if (layer_rows[row].has(&stack->layers[i])) return refuse(context, layer_rows[row].what);
  return MG_OK;
}

mg_status mg__model_spec_runs(mg_context *context, const mg__model_spec *spec) {
  MG_TRY(stack_runs(context, &spec->encoder));
  return stack_runs(context, &spec->decoder);
}

mg_status mg_model_runs(const mg_model *model) {
  MG_TRY(mg__model_spec_runs(model->context, &model->spec));
  for (int64_t i = 0; i < model->spec.decoder.count; i++)
    if (model->blocks[i].moe) MG_TRY(mg_moe_runs(model->blocks[i].moe));
  for (int64_t i = 0; i < model->spec.encoder.count; i++)
    if (model->encoder[i].moe) MG_TRY(mg_moe_runs(model->encoder[i].moe));
  return MG_OK;
}
