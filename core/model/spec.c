/* Reads a model's specification: strict keys, defaults that depend on other keys, one entry per layer. */
#include "model/spec.h"

#include <string.h>

#include "moe/spec.h"

enum { LAYERS_MAX = 1024 };

static const char *const norms[] = {"rms", "layer", NULL};
static const char *const activations[] = {"silu", "gelu", "gelu_tanh", "relu", "sigmoid", NULL};

static const mg_option model_options[] = {
    MG_OPTION_INT(mg__model_settings, layers, 4, 1, LAYERS_MAX, "number of blocks"),
    MG_OPTION_INT(mg__model_settings, width, 128, 1, 65536, "width of the hidden states"),
    MG_OPTION_INT(mg__model_settings, vocabulary, 0, 1, 1 << 24, "number of tokens; must be given"),
    MG_OPTION_INT(mg__model_settings, heads, 4, 1, 4096, "attention heads"),
    MG_OPTION_INT(mg__model_settings, kv_heads, 0, 0, 4096, "key and value heads, a divisor of heads; 0 = heads"),
    MG_OPTION_INT(mg__model_settings, head_width, 0, 0, 65536, "width of one head; 0 = width / heads"),
    MG_OPTION_CHOICE(mg__model_settings, norm, 0, norms, "root mean square norm, or layer norm with shift"),
    MG_OPTION_FLOAT(mg__model_settings, norm_epsilon, 1e-5, 0, 1, "added to the variance in a norm"),
    MG_OPTION_BOOL(mg__model_settings, qk_norm, false, "norm each head's query and key before rotation"),
    MG_OPTION_BOOL(mg__model_settings, biases, false, "biases in attention and dense feed-forward"),
    MG_OPTION_FLOAT(mg__model_settings, rope_base, 10000, 1, 1e12, "base of the rotary frequencies"),
    MG_OPTION_INT(mg__model_settings, rotary, -1, -1, 65536, "columns of a head that rotate; 0 = none, -1 = all"),
    MG_OPTION_BOOL(mg__model_settings, rope_interleaved, false, "rotate neighbours (2i, 2i+1), else halves"),
    MG_OPTION_BOOL(mg__model_settings, tie_embeddings, true, "the head is the embedding table"),
    MG_OPTION_BOOL(mg__model_settings, final_norm, true, "a norm before the head"),
    MG_OPTION_FLOAT(mg__model_settings, embedding_scale, 1, 0, 1e6, "factor on the embedded tokens"),
    MG_OPTION_END};

static const mg_option dense_options[] = {
    MG_OPTION_INT(mg__dense_settings, width, 0, 0, 1 << 24,
                  "hidden width; 0 = 8/3 (gated) or 4 times the model's, up to a multiple of 16"),
    MG_OPTION_CHOICE(mg__dense_settings, activation, 0, activations, "activation"),
    MG_OPTION_BOOL(mg__dense_settings, gated, true, "act(gate) * up, else act(up)"), MG_OPTION_END};

const mg_option *mg_model_options(void) {
  return model_options;
}
const mg_option *mg_model_dense_options(void) {
  return dense_options;
}

mg_glu_kind mg__dense_glu(int64_t activation) {
  static const mg_glu_kind kinds[] = {MG_GLU_SILU, MG_GLU_GELU, MG_GLU_GELU_TANH, MG_GLU_RELU, MG_GLU_SIGMOID};
  return kinds[activation];
}
mg_unary mg__dense_unary(int64_t activation) {
  static const mg_unary kinds[] = {MG_UNARY_SILU, MG_UNARY_GELU, MG_UNARY_GELU_TANH, MG_UNARY_RELU, MG_UNARY_SIGMOID};
  return kinds[activation];
}

static mg_status settle_heads(mg_context *context, mg__model_settings *s) {
  if (s->kv_heads == 0) s->kv_heads = s->heads;
  if (s->heads % s->kv_heads != 0)
    return mg_fail(context, MG_USAGE, "model: 'kv_heads' must divide 'heads' = %lld, not be %lld", (long long)s->heads,
                   (long long)s->kv_heads);
  if (s->head_width == 0 && s->width % s->heads != 0)
    return mg_fail(context, MG_USAGE, "model: 'heads' = %lld does not divide 'width' = %lld; give 'head_width'",
                   (long long)s->heads, (long long)s->width);
  if (s->head_width == 0) s->head_width = s->width / s->heads;
  if (s->rotary < 0) s->rotary = s->head_width - s->head_width % 2;
  if (s->rotary % 2 != 0 || s->rotary > s->head_width)
    return mg_fail(context, MG_USAGE, "model: 'rotary' must be even and at most the head width %lld, not %lld",
                   (long long)s->head_width, (long long)s->rotary);
  return MG_OK;
}

static mg_status settle(mg_context *context, mg__model_settings *s) {
  if (s->vocabulary == 0)
    return mg_fail(context, MG_USAGE, "model: 'vocabulary' must be given (the number of tokens of the data)");
  return settle_heads(context, s);
}

/* The entry of `value` for one layer: the value itself, or its element when it is a list of one per layer. */
static mg_status entry_of(mg_context *context, const json_t *value, const char *key, int64_t layer, int64_t layers,
                          const json_t **out) {
  *out = value;
  if (!json_is_array(value)) return MG_OK;
  if ((int64_t)json_array_size(value) != layers)
    return mg_fail(context, MG_USAGE, "model: '%s' is a list of %zu entries for %lld layers; give one per layer", key,
                   json_array_size(value), (long long)layers);
  *out = json_array_get(value, (size_t)layer);
  return MG_OK;
}

static mg_status read_window(mg_context *context, const json_t *value, int64_t layer, int64_t layers, int64_t *out) {
  const json_t *entry;
  *out = 0;
  if (!value) return MG_OK;
  MG_TRY(entry_of(context, value, "window", layer, layers, &entry));
  const double number = json_is_number(entry) ? json_number_value(entry) : -1.0;
  if (!(number >= 0.0 && number <= 1e9) || number != (double)(int64_t)number)
    return mg_fail(context, MG_USAGE, "model: 'window' must be an integer from 0 (none) to 1000000000, or a list");
  *out = (int64_t)number;
  return MG_OK;
}

static mg_status read_dense(mg_context *context, const json_t *object, const mg__model_settings *model,
                            mg__dense_settings *out) {
  mg_spec_part parts[] = {{"kind", NULL}};
  MG_TRY(mg_spec_read(context, dense_options, parts, MG_COUNT(parts), object, "feed_forward dense", out));
  const int64_t natural = out->gated ? (8 * model->width + 2) / 3 : 4 * model->width;
  if (out->width == 0) out->width = (natural + 15) / 16 * 16;
  return MG_OK;
}

/* Checks one layer's feed-forward and returns its resolved form as a new reference. */
static mg_status read_feed(mg_context *context, mg_registry *registry, const json_t *entry,
                           const mg__model_settings *model, mg__layer_spec *out, json_t **resolved) {
  const json_t *kind_value = json_object_get(entry, "kind");
  const char *kind = kind_value ? json_string_value(kind_value) : "dense";
  if (!json_is_object(entry) || !kind || (strcmp(kind, "dense") != 0 && strcmp(kind, "moe") != 0))
    return mg_fail(context, MG_USAGE, "model: 'feed_forward' must be a table whose 'kind' is 'dense' or 'moe'%s%s%s",
                   kind ? ", not '" : "", kind ? kind : "", kind ? "'" : "");
  out->moe = strcmp(kind, "moe") == 0;
  if (out->moe) {
    MG_TRY(mg_moe_resolve_spec(context, registry, entry, model->width, model->vocabulary, resolved));
  } else {
    MG_TRY(read_dense(context, entry, model, &out->dense));
    *resolved = mg_options_to_json(dense_options, &out->dense);
    json_object_set_new(*resolved, "kind", json_string("dense"));
  }
  return *resolved ? MG_OK : mg_fail(context, MG_MEMORY, "model: no memory for its specification");
}

static mg_status read_layers(mg_context *context, mg_registry *registry, const json_t *window, const json_t *feed,
                             mg__model_spec *out) {
  json_t *windows = json_array(), *feeds = json_array(), *standard = json_object();
  mg_status status = windows && feeds && standard ? MG_OK : mg_fail(context, MG_MEMORY, "model: no memory");
  for (int64_t i = 0; i < out->settings.layers && status == MG_OK; i++) {
    mg__layer_spec *layer = &out->layers[i];
    const json_t *entry;
    json_t *resolved = NULL;
    status = read_window(context, window, i, out->settings.layers, &layer->window);
    if (status == MG_OK)
      status = entry_of(context, feed ? feed : standard, "feed_forward", i, out->settings.layers, &entry);
    if (status == MG_OK) status = read_feed(context, registry, entry, &out->settings, layer, &resolved);
    if (status != MG_OK) break;
    json_array_append_new(windows, json_integer(layer->window));
    json_array_append_new(feeds, resolved);
    layer->feed_forward = resolved;
  }
  json_decref(standard);
  json_object_set_new(out->resolved, "window", windows);
  json_object_set_new(out->resolved, "feed_forward", feeds);
  return status;
}

mg_status mg__model_spec_read(mg_context *context, mg_registry *registry, const json_t *spec, mg__model_spec *out) {
  mg_spec_part parts[] = {{"window", NULL}, {"feed_forward", NULL}};
  memset(out, 0, sizeof *out);
  MG_TRY(mg_spec_read(context, model_options, parts, MG_COUNT(parts), spec, "model", &out->settings));
  MG_TRY(settle(context, &out->settings));
  out->layers = mg_alloc(context, (size_t)out->settings.layers * sizeof *out->layers);
  if (!out->layers) return MG_MEMORY;
  out->resolved = mg_options_to_json(model_options, &out->settings);
  if (!out->resolved) return mg_fail(context, MG_MEMORY, "model: no memory for its specification");
  return read_layers(context, registry, parts[0].value, parts[1].value, out);
}

void mg__model_spec_release(mg_context *context, mg__model_spec *spec) {
  mg_free(context, spec->layers, spec->layers ? (size_t)spec->settings.layers * sizeof *spec->layers : 0);
  json_decref(spec->resolved);
  memset(spec, 0, sizeof *spec);
}

mg_status mg_model_check_spec(mg_context *context, mg_registry *registry, const json_t *spec) {
  mg__model_spec read;
  const mg_status status = mg__model_spec_read(context, registry, spec, &read);
  mg__model_spec_release(context, &read);
  return status;
}
