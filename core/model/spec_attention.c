/* Reads one entry of "attention": the kind, its rotary positions, and parameters that are only counted. */
#include <string.h>

#include "model/spec.h"
#include "moe/spec.h"

enum { POSITIONS_MAX = 1 << 30 };

static const char *const kinds[] = {"grouped", "latent", "counted", "none", NULL};
static const char *const norms[] = {"none", "head", "whole", NULL};
static const char *const biases[] = {"none", "qkv", "all", NULL};
static const char *const scalings[] = {"none", "linear", "yarn", "llama3", "longrope", NULL};

static const mg_option attention_options[] = {
    MG_OPTION_CHOICE(mg__attention_settings, kind, MG__ATTENTION_GROUPED, kinds, "the kind of attention"),
    MG_OPTION_INT(mg__attention_settings, heads, 4, 1, 4096, "query heads"),
    MG_OPTION_INT(mg__attention_settings, kv_heads, 0, 0, 4096, "key and value heads, a divisor of heads; 0 = heads"),
    MG_OPTION_INT(mg__attention_settings, head_width, 0, 0, 65536, "width of a query or key head; 0 = width / heads"),
    MG_OPTION_INT(mg__attention_settings, value_width, 0, 0, 65536, "width of a value head; 0 = as a query's"),
    MG_OPTION_INT(mg__attention_settings, query_rank, 0, 0, 65536, "latent: rank of the queries; 0 = full"),
    MG_OPTION_INT(mg__attention_settings, kv_rank, 0, 0, 65536, "latent: rank of keys and values, which is cached"),
    MG_OPTION_INT(mg__attention_settings, nope_width, 0, 0, 65536, "latent: columns of a head without rotation"),
    MG_OPTION_INT(mg__attention_settings, rope_width, 0, 0, 65536, "latent: rotated columns; keys share theirs"),
    MG_OPTION_CHOICE(mg__attention_settings, qk_norm, MG__QK_NORM_NONE, norms,
                     "norm of queries and keys before rotation: of each head, or of the whole projection"),
    MG_OPTION_CHOICE(mg__attention_settings, biases, MG__BIASES_NONE, biases, "which projections have a bias"),
    MG_OPTION_INT(mg__attention_settings, window, 0, 0, 1e9, "keys that a query sees, itself included; 0 = all"),
    MG_OPTION_INT(mg__attention_settings, chunk, 0, 0, 1e9, "a query sees its own run of so many tokens; 0 = all"),
    MG_OPTION_INT(mg__attention_settings, selected, 0, 0, 1e9, "keys that an indexer leaves to a query; 0 = all"),
    MG_OPTION_INT(mg__attention_settings, cache, 0, 0, 1 << 24, "counted: elements cached per token"),
    MG_OPTION_INT(mg__attention_settings, scores, 0, 0, 1 << 24,
                  "multiply-adds per visible pair beyond the kind's own"),
    MG_OPTION_INT(mg__attention_settings, work, 0, 0, 1e12, "multiply-adds per token beyond its parameters"),
    MG_OPTION_FLOAT(mg__attention_settings, scale, 0, 0, 1e6, "factor on the scores; 0 = 1 / sqrt(query width)"),
    MG_OPTION_FLOAT(mg__attention_settings, clip, 0, 0, 1e6, "queries, keys and values are clamped to it; 0 = not"),
    MG_OPTION_BOOL(mg__attention_settings, sinks, false,
                   "a learned logit per head that takes weight and gives nothing"),
    MG_OPTION_BOOL(mg__attention_settings, gated, false,
                   "the sigmoid of a second query projection multiplies the output"),
    MG_OPTION_BOOL(mg__attention_settings, shares_kv, false, "keys and values are those of the layer before"),
    MG_OPTION_END};

static const mg_option rope_options[] = {
    MG_OPTION_FLOAT(mg__rope, base, 10000, 1, 1e12, "base of the rotary frequencies"),
    MG_OPTION_INT(mg__rope, columns, -1, -1, 65536, "columns of a head that rotate; 0 = none, -1 = all"),
    MG_OPTION_BOOL(mg__rope, interleaved, false, "rotate neighbours (2i, 2i+1), else halves"), MG_OPTION_END};

static const mg_option scaling_options[] = {
    MG_OPTION_CHOICE(mg__scaling, kind, MG__SCALING_NONE, scalings, "how frequencies are stretched"),
    MG_OPTION_FLOAT(mg__scaling, factor, 1, 1e-6, 1e6, "positions now over positions in training"),
    MG_OPTION_INT(mg__scaling, original_positions, 0, 0, POSITIONS_MAX, "positions in training"),
    MG_OPTION_FLOAT(mg__scaling, attention_factor, 0, 0, 1e3, "factor on rotated columns; 0 = the kind's own rule"),
    MG_OPTION_FLOAT(mg__scaling, long_attention_factor, 0, 0, 1e3, "longrope: the same beyond original_positions"),
    MG_OPTION_FLOAT(mg__scaling, beta_fast, 32, 0, 1e6, "yarn: rotations above which a frequency stays"),
    MG_OPTION_FLOAT(mg__scaling, beta_slow, 1, 0, 1e6, "yarn: rotations below which it is divided by the factor"),
    MG_OPTION_FLOAT(mg__scaling, mscale, 0, 0, 1e3, "yarn: weight of ln(factor) on rotated columns"),
    MG_OPTION_FLOAT(mg__scaling, mscale_all_dim, 0, 0, 1e3, "yarn: weight of ln(factor) on the scores"),
    MG_OPTION_BOOL(mg__scaling, truncate, true, "yarn: the ramp begins and ends at whole columns"),
    MG_OPTION_FLOAT(mg__scaling, low_frequency, 1, 1e-6, 1e6, "llama3: rotations below which all is divided"),
    MG_OPTION_FLOAT(mg__scaling, high_frequency, 4, 1e-6, 1e6, "llama3: rotations above which all stays"),
    MG_OPTION_END};

static const mg_option counted_options[] = {
    MG_OPTION_CHOICE(mg__counted, part, MG_MODEL_OTHER, mg_model_part_names, "the part they are counted to"),
    MG_OPTION_INT(mg__counted, parameters, 0, 1, 1e15, "how many there are"),
    MG_OPTION_INT(mg__counted, active, -1, -1, 1e15, "how many one token uses; -1 = all"),
    MG_OPTION_BOOL(mg__counted, products, true, "each active one is a multiply-add"), MG_OPTION_END};

const mg_option *mg_model_attention_options(void) {
  return attention_options;
}

int64_t mg__query_width(const mg__attention_settings *a) {
  return a->kind == MG__ATTENTION_LATENT ? a->nope_width + a->rope_width : a->head_width;
}

int64_t mg__value_width(const mg__attention_settings *a) {
  return a->value_width;
}

/* ---- rotary positions ---------------------------------------------------------------------------------------- */

static mg_status check_factors(mg_context *context, const json_t *list, const char *key, int64_t count) {
  bool good = json_is_array(list) && (int64_t)json_array_size(list) == count;
  for (size_t i = 0; good && i < json_array_size(list); i++) {
    const json_t *number = json_array_get(list, i);
    good = json_is_number(number) && json_number_value(number) > 0;
  }
  if (good) return MG_OK;
  return mg_fail(context, MG_USAGE, "scaling: '%s' must be a list of %lld numbers above 0, one per rotated pair", key,
                 (long long)count);
}

static mg_status read_scaling(mg_context *context, const json_t *json, mg__rope *rope, json_t **resolved) {
  mg_spec_part parts[] = {{"short_factors", NULL}, {"long_factors", NULL}};
  MG_TRY(mg_spec_read(context, scaling_options, parts, MG_COUNT(parts), json, "scaling", &rope->scaling));
  mg__scaling *s = &rope->scaling;
  const bool lists = s->kind == MG__SCALING_LONGROPE && rope->columns > 0;
  for (size_t i = 0; i < MG_COUNT(parts) && lists; i++)
    MG_TRY(check_factors(context, parts[i].value, parts[i].name, rope->columns / 2));
  if (s->kind != MG__SCALING_NONE && s->kind != MG__SCALING_LINEAR && s->original_positions < 1)
    return mg_fail(context, MG_USAGE, "scaling: kind '%s' needs 'original_positions'", scalings[s->kind]);
  *resolved = mg_options_to_json(scaling_options, s);
  for (size_t i = 0; i < MG_COUNT(parts) && lists && *resolved; i++)
    json_object_set(*resolved, parts[i].name, (json_t *)parts[i].value);
  s->short_factors = json_object_get(*resolved, parts[0].name);
  s->long_factors = json_object_get(*resolved, parts[1].name);
  return *resolved ? MG_OK : mg_fail(context, MG_MEMORY, "scaling: no memory");
}

/* An object of all options of `inherited`, with those of `entry` over them: what an entry leaves out is inherited. */
static json_t *over(const mg_option *table, const void *inherited, const json_t *entry) {
  json_t *merged = mg_options_to_json(table, inherited);
  if (merged && entry) json_object_update(merged, (json_t *)entry);
  return merged;
}

static mg_status settle_columns(mg_context *context, mg__rope *rope, int64_t width) {
  if (rope->columns < 0) rope->columns = width - width % 2;
  if (rope->columns % 2 == 0 && rope->columns <= width) return MG_OK;
  return mg_fail(context, MG_USAGE, "rope: 'columns' must be even and at most the head width %lld, not %lld",
                 (long long)width, (long long)rope->columns);
}

static mg_status read_rope(mg_context *context, const json_t *json, const mg__model_settings *model, int64_t width,
                           mg__rope *out, json_t **resolved) {
  const mg__rope inherited = {
      .base = model->rope_base, .columns = model->rotary, .interleaved = model->rope_interleaved};
  mg_spec_part scaling = {"scaling", NULL};
  json_t *merged = json && !json_is_object(json) ? json_incref((json_t *)json) : over(rope_options, &inherited, json);
  mg_status status = mg_spec_read(context, rope_options, &scaling, 1, merged, "rope", out);
  json_t *scaled = NULL;
  if (status == MG_OK) status = settle_columns(context, out, width);
  if (status == MG_OK) status = read_scaling(context, scaling.value, out, &scaled);
  json_decref(merged);
  if (status == MG_OK && !(*resolved = mg_options_to_json(rope_options, out)))
    status = mg_fail(context, MG_MEMORY, "rope: no memory");
  if (status == MG_OK)
    json_object_set_new(*resolved, "scaling", scaled);
  else
    json_decref(scaled);
  return status;
}

/* ---- counted parameters -------------------------------------------------------------------------------------- */

static mg_status read_counted(mg_context *context, const json_t *list, mg__layer_spec *out, json_t *resolved) {
  if (!list) return MG_OK;
  if (json_is_object(list) && json_object_size(list) == 0) return MG_OK; /* an empty Lua table */
  if (!json_is_array(list) || json_array_size(list) > MG__COUNTED_MAX)
    return mg_fail(context, MG_USAGE, "counted: a list of at most %d tables was expected", MG__COUNTED_MAX);
  json_t *written = json_array();
  for (size_t i = 0; i < json_array_size(list); i++) {
    mg__counted *c = &out->counted[i];
    const mg_status status = mg_spec_read(context, counted_options, NULL, 0, json_array_get(list, i), "counted", c);
    if (status == MG_OK && c->active < 0) c->active = c->parameters;
    if (status != MG_OK || c->parameters < 1 || c->active > c->parameters) {
      json_decref(written);
      return status != MG_OK ? status
                             : mg_fail(context, MG_USAGE, "counted: 'parameters' is needed, and 'active' at most that");
    }
    json_array_append_new(written, mg_options_to_json(counted_options, c));
    out->counted_count++;
  }
  json_object_set_new(resolved, "counted", written);
  return MG_OK;
}

/* ---- the entry ----------------------------------------------------------------------------------------------- */

static mg_status settle_grouped(mg_context *context, mg__attention_settings *a, int64_t width) {
  if (a->kv_heads == 0) a->kv_heads = a->heads;
  if (a->heads % a->kv_heads != 0)
    return mg_fail(context, MG_USAGE, "attention: 'kv_heads' must divide 'heads' = %lld, not be %lld",
                   (long long)a->heads, (long long)a->kv_heads);
  if (a->head_width == 0 && width % a->heads != 0)
    return mg_fail(context, MG_USAGE, "attention: 'heads' = %lld does not divide 'width' = %lld; give 'head_width'",
                   (long long)a->heads, (long long)width);
  if (a->head_width == 0) a->head_width = width / a->heads;
  if (a->value_width == 0) a->value_width = a->head_width;
  return MG_OK;
}

static mg_status settle_latent(mg_context *context, mg__attention_settings *a) {
  if (a->kv_rank < 1 || a->nope_width < 1 || a->rope_width < 1 || a->rope_width % 2 != 0)
    return mg_fail(
        context, MG_USAGE,
        "attention: kind 'latent' needs 'kv_rank', 'nope_width' and an even 'rope_width', not %lld, %lld, %lld",
        (long long)a->kv_rank, (long long)a->nope_width, (long long)a->rope_width);
  a->kv_heads = a->heads;
  a->head_width = a->nope_width + a->rope_width;
  if (a->value_width == 0) a->value_width = a->nope_width;
  return MG_OK;
}

static mg_status settle(mg_context *context, mg__attention_settings *a, int64_t width) {
  if (a->kind == MG__ATTENTION_GROUPED) return settle_grouped(context, a, width);
  return a->kind == MG__ATTENTION_LATENT ? settle_latent(context, a) : MG_OK;
}

/* Which columns of a head may rotate: of a latent head only its own part. */
static int64_t rotating_width(const mg__attention_settings *a) {
  if (a->kind == MG__ATTENTION_GROUPED) return a->head_width;
  return a->kind == MG__ATTENTION_LATENT ? a->rope_width : 0;
}

static mg_status read_settled(mg_context *context, const json_t *merged, const mg__model_settings *model,
                              mg__layer_spec *out, json_t **resolved) {
  mg_spec_part parts[] = {{"rope", NULL}, {"counted", NULL}};
  mg__attention_settings *a = &out->attention;
  json_t *rope = NULL;
  MG_TRY(mg_spec_read(context, attention_options, parts, MG_COUNT(parts), merged, "attention", a));
  MG_TRY(settle(context, a, model->width));
  mg__model_settings defaults = *model;
  if (rotating_width(a) == 0 || a->kind == MG__ATTENTION_LATENT) defaults.rotary = -1;
  MG_TRY(read_rope(context, parts[0].value, &defaults, rotating_width(a), &a->rope, &rope));
  *resolved = mg_options_to_json(attention_options, a);
  if (!*resolved) {
    json_decref(rope);
    return mg_fail(context, MG_MEMORY, "attention: no memory");
  }
  json_object_set_new(*resolved, "rope", rope);
  return read_counted(context, parts[1].value, out, *resolved);
}

mg_status mg__attention_spec_read(mg_context *context, const json_t *entry, const mg__model_settings *model,
                                  int64_t window, mg__layer_spec *out, json_t **resolved) {
  mg__attention_settings inherited;
  mg_options_defaults(attention_options, &inherited);
  inherited.heads = model->heads;
  inherited.kv_heads = model->kv_heads;
  inherited.head_width = model->head_width;
  inherited.qk_norm = model->qk_norm ? MG__QK_NORM_HEAD : MG__QK_NORM_NONE;
  inherited.biases = model->biases ? MG__BIASES_ALL : MG__BIASES_NONE;
  inherited.window = window;
  *resolved = NULL;
  if (entry && !json_is_object(entry))
    return mg_fail(context, MG_USAGE, "attention: a table was expected, or a list of one per layer");
  json_t *merged = over(attention_options, &inherited, entry);
  if (!merged) return mg_fail(context, MG_MEMORY, "attention: no memory");
  const mg_status status = read_settled(context, merged, model, out, resolved);
  json_decref(merged);
  if (status == MG_OK) return MG_OK;
  json_decref(*resolved);
  *resolved = NULL;
  return status;
}
