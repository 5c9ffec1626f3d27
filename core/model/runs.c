/* What a specification may say that this program describes and counts but does not run: one row for each. */
#include "model/block.h"

static bool latent(const mg__layer_spec *l) {
  return l->attention.kind == MG__ATTENTION_LATENT;
}
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
static bool scaled(const mg__layer_spec *l) {
  return l->attention.rope.scaling.kind != MG__SCALING_NONE;
}
static bool activation(const mg__layer_spec *l) {
  return l->feed == MG__FEED_DENSE && !mg_activation_runs(l->dense.activation);
}

static const struct {
  bool (*has)(const mg__layer_spec *layer);
  const char *what;
} layer_rows[] = {{latent, "attention of kind 'latent'"},
                  {counted, "parameters that are only counted"},
                  {limited, "attention within chunks or to selected keys"},
                  {gated, "attention with a gated output"},
                  {shares_kv, "attention that shares keys and values with the layer before"},
                  {scaled, "scaled rotary positions"},
                  {activation, "a dense feed-forward of this activation"}};

static mg_status refuse(mg_context *context, const char *what) {
  return mg_fail(context, MG_USAGE, "model: %s can be described and counted, but not run", what);
}

static bool rotates(const mg__layer_spec *layer) {
  return layer->attention.kind == MG__ATTENTION_GROUPED && layer->attention.rope.columns > 0;
}

const mg__rope *mg__model_spec_rope(const mg__model_spec *spec) {
  for (int64_t i = 0; i < spec->decoder.count; i++)
    if (rotates(&spec->decoder.layers[i])) return &spec->decoder.layers[i].attention.rope;
  return NULL;
}

/* Rotary positions are uploaded once for all layers. */
static bool ropes_differ(const mg__model_spec *spec) {
  const mg__rope *first = mg__model_spec_rope(spec);
  for (int64_t i = 0; i < spec->decoder.count; i++) {
    const mg__rope *rope = &spec->decoder.layers[i].attention.rope;
    if (rotates(&spec->decoder.layers[i]) && (rope->base != first->base || rope->columns != first->columns))
      return true;
  }
  return false;
}

mg_status mg__model_spec_runs(mg_context *context, const mg__model_spec *spec) {
  if (spec->encoder.count) return refuse(context, "an encoder");
  if (spec->settings.positions != MG__POSITIONS_NONE) return refuse(context, "absolute positions");
  if (spec->settings.relative_buckets) return refuse(context, "a relative position bias");
  if (ropes_differ(spec)) return refuse(context, "rotary positions that differ from layer to layer");
  for (int64_t i = 0; i < spec->decoder.count; i++)
    for (size_t row = 0; row < MG_COUNT(layer_rows); row++)
      if (layer_rows[row].has(&spec->decoder.layers[i])) return refuse(context, layer_rows[row].what);
  return MG_OK;
}

mg_status mg_model_runs(const mg_model *model) {
  MG_TRY(mg__model_spec_runs(model->context, &model->spec));
  for (int64_t i = 0; i < model->spec.decoder.count; i++)
    if (model->blocks[i].moe) MG_TRY(mg_moe_runs(model->blocks[i].moe));
  for (int64_t i = 0; i < model->spec.encoder.count; i++)
    if (model->encoder[i].moe) MG_TRY(mg_moe_runs(model->encoder[i].moe));
  return MG_OK;
}
