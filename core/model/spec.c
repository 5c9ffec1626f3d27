/* Reads a model's specification: strict keys, defaults that depend on other keys, one entry per layer. */
#include "model/spec.h"

#include <string.h>

#include "moe/spec.h"

enum { LAYERS_MAX = 1024 };

static const char *const norms[] = {"rms", "layer", NULL};
static const char *const positions[] = {"none", "learned", "sinusoidal", NULL};

static const char attention_key[] = "attention", feed_key[] = "feed_forward", window_key[] = "window",
                  encoder_key[] = "encoder", prediction_key[] = "prediction";

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
    MG_OPTION_FLOAT(mg__model_settings, initial_deviation, 0.02, 0, 100, "of the weights drawn at the start"),
    MG_OPTION_FLOAT(mg__model_settings, embedding_scale, 1, 0, 1e6, "factor on the embedded tokens"),
    MG_OPTION_FLOAT(mg__model_settings, residual_scale, 1, 0, 1e6, "factor on what a branch adds to the stream"),
    MG_OPTION_FLOAT(mg__model_settings, logit_scale, 1, 0, 1e6, "factor on the logits"),
    MG_OPTION_BOOL(mg__model_settings, norm_shift, true, "layer norms have a shift"),
    MG_OPTION_BOOL(mg__model_settings, post_norms, false, "a norm after attention and after feed-forward as well"),
    MG_OPTION_BOOL(mg__model_settings, head_bias, false, "the head has a bias"),
    MG_OPTION_CHOICE(mg__model_settings, positions, 0, positions, "absolute positions added to the embedded tokens"),
    MG_OPTION_INT(mg__model_settings, positions_max, 0, 0, 1 << 24, "how many positions are learned"),
    MG_OPTION_INT(mg__model_settings, positions_first, 0, 0, 1 << 24, "the position of the first token"),
    MG_OPTION_INT(mg__model_settings, relative_buckets, 0, 0, 4096,
                  "buckets of a learned bias on scores by distance, one table per stack; 0 = none"),
    MG_OPTION_INT(mg__model_settings, relative_distance, 128, 1, 1 << 24, "distance from which the last bucket holds"),
    MG_OPTION_END};

static const mg_option dense_options[] = {
    MG_OPTION_INT(mg__dense_settings, width, 0, 0, 1 << 24,
                  "hidden width; 0 = 8/3 (gated) or 4 times the model's, up to a multiple of 16"),
    MG_OPTION_CHOICE(mg__dense_settings, activation, MG_ACTIVATION_SILU, mg_activation_names, "activation"),
    MG_OPTION_FLOAT(mg__dense_settings, alpha, 1.702, 0, 1e3, "slope of clamped_silu's sigmoid"),
    MG_OPTION_FLOAT(mg__dense_settings, limit, 7, 0, 1e6, "where clamped_silu clamps gate and up"),
    MG_OPTION_BOOL(mg__dense_settings, gated, true, "act(gate) * up, else act(up)"),
    MG_OPTION_BOOL(mg__dense_settings, biases, false, "its projections have biases; default: the model's"),
    MG_OPTION_END};

typedef struct encoder_settings {
  int64_t layers;
} encoder_settings;
static const mg_option encoder_options[] = {
    MG_OPTION_INT(encoder_settings, layers, 0, 1, LAYERS_MAX, "number of the encoder's blocks; must be given"),
    MG_OPTION_END};

typedef struct prediction_settings {
  int64_t modules;
} prediction_settings;
static const mg_option prediction_options[] = {
    MG_OPTION_INT(prediction_settings, modules, 1, 1, 64, "modules that predict tokens further ahead"), MG_OPTION_END};

const mg_option *mg_model_options(void) {
  return model_options;
}
const mg_option *mg_model_dense_options(void) {
  return dense_options;
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

/* Entries of "attention" settle their own heads. */
static mg_status settle(mg_context *context, bool has_attention, mg__model_settings *s) {
  if (s->vocabulary == 0)
    return mg_fail(context, MG_USAGE, "model: 'vocabulary' must be given (the number of tokens of the data)");
  if (s->positions == MG__POSITIONS_LEARNED && s->positions_max == 0)
    return mg_fail(context, MG_USAGE, "model: positions 'learned' needs 'positions_max'");
  return has_attention ? MG_OK : settle_heads(context, s);
}

/* The entry of `value` for one layer: the value itself, or its element when it is a list of one per layer. */
static mg_status entry_of(mg_context *context, const json_t *value, const char *key, int64_t layer, int64_t layers,
                          const json_t **out) {
  *out = value;
  if (!value || !json_is_array(value)) return MG_OK;
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
  MG_TRY(entry_of(context, value, window_key, layer, layers, &entry));
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
  if (!json_object_get(object, "biases")) out->biases = model->biases;
  if (out->activation == MG_ACTIVATION_CLAMPED_SILU && !out->gated)
    return mg_fail(context, MG_USAGE, "feed_forward dense: activation 'clamped_silu' needs gated = true");
  const int64_t natural = out->gated ? (8 * model->width + 2) / 3 : 4 * model->width;
  if (out->width == 0) out->width = (natural + 15) / 16 * 16;
  return MG_OK;
}

static mg_status kind_of(mg_context *context, const json_t *entry, mg__feed_kind *out) {
  static const char *const names[] = {"dense", "moe", "none"};
  const json_t *value = json_object_get(entry, "kind");
  const char *kind = value ? json_string_value(value) : names[0];
  for (size_t i = 0; kind && json_is_object(entry) && i < MG_COUNT(names); i++) {
    if (strcmp(kind, names[i]) != 0) continue;
    *out = (mg__feed_kind)i;
    return MG_OK;
  }
  return mg_fail(context, MG_USAGE,
                 "model: 'feed_forward' must be a table whose 'kind' is 'dense' or 'moe'%s%s%s (or 'none')",
                 kind ? ", not '" : "", kind ? kind : "", kind ? "'" : "");
}

/* Checks one layer's feed-forward and returns its resolved form as a new reference. */
static mg_status read_feed(mg_context *context, mg_registry *registry, const json_t *entry,
                           const mg__model_settings *model, mg__layer_spec *out, json_t **resolved) {
  MG_TRY(kind_of(context, entry, &out->feed));
  if (out->feed == MG__FEED_MOE)
    return mg_moe_resolve_spec(context, registry, entry, model->width, model->vocabulary, resolved);
  if (out->feed == MG__FEED_DENSE) {
    MG_TRY(read_dense(context, entry, model, &out->dense));
    *resolved = mg_options_to_json(dense_options, &out->dense);
  } else {
    if (json_object_size(entry) > 1)
      return mg_fail(context, MG_USAGE, "model: a feed_forward of kind 'none' has no other key");
    *resolved = json_object();
  }
  if (!*resolved) return mg_fail(context, MG_MEMORY, "model: no memory for its specification");
  json_object_set_new(*resolved, "kind", json_string(out->feed == MG__FEED_DENSE ? "dense" : "none"));
  return MG_OK;
}

/* ---- stacks of blocks ---------------------------------------------------------------------------------------- */

/* What a stack is read from, each one for all layers or a list; and the lists of resolved entries. */
typedef struct stack_source {
  const json_t *window, *attention, *feed;
  json_t *windows, *attentions, *feeds;
} stack_source;

static mg_status read_layer(mg_context *context, mg_registry *registry, stack_source *from,
                            const mg__model_settings *model, int64_t index, mg__stack_spec *out) {
  mg__layer_spec *layer = &out->layers[index];
  const json_t *entry;
  json_t *resolved = NULL;
  int64_t window;
  MG_TRY(read_window(context, from->window, index, out->count, &window));
  MG_TRY(entry_of(context, from->attention, attention_key, index, out->count, &entry));
  MG_TRY(mg__attention_spec_read(context, entry, model, window, layer, &resolved));
  json_array_append_new(from->attentions, resolved);
  json_array_append_new(from->windows, json_integer(layer->attention.window));
  resolved = NULL;
  MG_TRY(entry_of(context, from->feed, feed_key, index, out->count, &entry));
  const mg_status status = read_feed(context, registry, entry, model, layer, &resolved);
  if (resolved) json_array_append_new(from->feeds, resolved);
  layer->feed_forward = resolved;
  return status;
}

/* Reads `count` layers and writes the resolved lists into `target`. */
static mg_status read_stack(mg_context *context, mg_registry *registry, stack_source from,
                            const mg__model_settings *model, int64_t count, json_t *target, mg__stack_spec *out) {
  json_t *standard = json_object();
  out->layers = mg_alloc(context, (size_t)count * sizeof *out->layers);
  if (out->layers) out->count = count;
  from.windows = json_array();
  from.attentions = json_array();
  from.feeds = json_array();
  mg_status status = out->layers && standard && from.windows && from.attentions && from.feeds
                         ? MG_OK
                         : mg_fail(context, MG_MEMORY, "model: no memory for its layers");
  if (!from.feed) from.feed = standard;
  for (int64_t i = 0; i < count && status == MG_OK; i++) status = read_layer(context, registry, &from, model, i, out);
  json_decref(standard);
  json_object_set_new(target, window_key, from.windows);
  json_object_set_new(target, attention_key, from.attentions);
  json_object_set_new(target, feed_key, from.feeds);
  return status;
}

static mg_status read_encoder(mg_context *context, mg_registry *registry, const json_t *json, mg__model_spec *out) {
  encoder_settings settings;
  mg_spec_part parts[] = {{window_key, NULL}, {attention_key, NULL}, {feed_key, NULL}};
  if (!json) return MG_OK;
  MG_TRY(mg_spec_read(context, encoder_options, parts, MG_COUNT(parts), json, encoder_key, &settings));
  if (settings.layers == 0) return mg_fail(context, MG_USAGE, "encoder: 'layers' must be given");
  json_t *resolved = mg_options_to_json(encoder_options, &settings);
  if (!resolved) return mg_fail(context, MG_MEMORY, "encoder: no memory");
  json_object_set_new(out->resolved, encoder_key, resolved);
  const stack_source from = {.window = parts[0].value, .attention = parts[1].value, .feed = parts[2].value};
  const mg_status status =
      read_stack(context, registry, from, &out->settings, settings.layers, resolved, &out->encoder);
  return status == MG_OK ? MG_OK : mg_fail_where(context, status, "%s", encoder_key);
}

/* The modules' block is like the decoder's last one where the specification does not say otherwise. */
static mg_status read_prediction(mg_context *context, mg_registry *registry, const json_t *json, mg__model_spec *out) {
  prediction_settings settings;
  mg_spec_part parts[] = {{window_key, NULL}, {attention_key, NULL}, {feed_key, NULL}};
  if (!json) return MG_OK;
  MG_TRY(mg_spec_read(context, prediction_options, parts, MG_COUNT(parts), json, prediction_key, &settings));
  json_t *resolved = mg_options_to_json(prediction_options, &settings);
  if (!resolved) return mg_fail(context, MG_MEMORY, "prediction: no memory");
  const size_t last = (size_t)out->decoder.count - 1;
  stack_source from = {.window = parts[0].value, .attention = parts[1].value, .feed = parts[2].value};
  if (!from.attention) from.attention = json_array_get(json_object_get(out->resolved, attention_key), last);
  if (!from.feed) from.feed = json_array_get(json_object_get(out->resolved, feed_key), last);
  json_object_set_new(out->resolved, prediction_key, resolved);
  out->prediction_modules = settings.modules;
  const mg_status status = read_stack(context, registry, from, &out->settings, 1, resolved, &out->prediction);
  return status == MG_OK ? MG_OK : mg_fail_where(context, status, "%s", prediction_key);
}

mg_status mg__model_spec_read(mg_context *context, mg_registry *registry, const json_t *spec, mg__model_spec *out) {
  mg_spec_part parts[] = {
      {window_key, NULL}, {attention_key, NULL}, {feed_key, NULL}, {encoder_key, NULL}, {prediction_key, NULL}};
  memset(out, 0, sizeof *out);
  MG_TRY(mg_spec_read(context, model_options, parts, MG_COUNT(parts), spec, "model", &out->settings));
  MG_TRY(settle(context, parts[1].value != NULL, &out->settings));
  out->resolved = mg_options_to_json(model_options, &out->settings);
  if (!out->resolved) return mg_fail(context, MG_MEMORY, "model: no memory for its specification");
  const stack_source from = {.window = parts[0].value, .attention = parts[1].value, .feed = parts[2].value};
  MG_TRY(read_stack(context, registry, from, &out->settings, out->settings.layers, out->resolved, &out->decoder));
  MG_TRY(read_encoder(context, registry, parts[3].value, out));
  return read_prediction(context, registry, parts[4].value, out);
}

static void release_stack(mg_context *context, mg__stack_spec *stack) {
  mg_free(context, stack->layers, stack->layers ? (size_t)stack->count * sizeof *stack->layers : 0);
}

void mg__model_spec_release(mg_context *context, mg__model_spec *spec) {
  release_stack(context, &spec->decoder);
  release_stack(context, &spec->encoder);
  release_stack(context, &spec->prediction);
  json_decref(spec->resolved);
  memset(spec, 0, sizeof *spec);
}

mg_status mg_model_check_spec(mg_context *context, mg_registry *registry, const json_t *spec) {
  mg__model_spec read;
  const mg_status status = mg__model_spec_read(context, registry, spec, &read);
  mg__model_spec_release(context, &read);
  return status;
}
