/* Keys and values of past tokens, one pair of tensors per layer, [sequences * room, columns].
 *
 * A layer without a window has room for all tokens. One with a window w has room for 3 w rows: when they are full, the
 * last w - 1 move to the front, which cannot overlap as a pass adds at most w. */
#include "model/cache_internal.h"

#include "model/block.h"
#include "model/rope.h"
#include "tensor/tape_work.h"

typedef struct rows {
  mg_tensor key, value; /* data NULL = none */
  int64_t room;         /* rows of each sequence */
  int64_t first;        /* the token of row 0 */
  int64_t window;
} rows;

struct mg_cache {
  mg_context *context;
  mg_backend *backend;
  const mg_model *model;
  mg_dtype dtype;
  int64_t sequences, capacity, length, source_tokens;
  int64_t longest; /* tokens of each sequence after the pass that rotated the last keys */
  int64_t count;   /* layers */
  rows *own, *cross;
  size_t bytes;
};

/* ---- life ---------------------------------------------------------------------------------------------------- */

static mg_status allocate(mg_cache *cache, int64_t room, int64_t columns, mg_tensor *out) {
  const int64_t most = INT64_MAX / 16;
  int64_t count;
  if (columns == 0) return MG_OK;
  if (__builtin_mul_overflow(cache->sequences, room, &count) || __builtin_mul_overflow(count, columns, &count) ||
      count > most)
    return mg_fail(cache->context, MG_USAGE, "cache: %lld sequences of %lld tokens do not fit memory",
                   (long long)cache->sequences, (long long)cache->capacity);
  *out = (mg_tensor){.dtype = cache->dtype, .dims = 2, .shape = {cache->sequences * room, columns}};
  const mg_status status = cache->backend->plugin->allocate(cache->backend, mg_tensor_bytes(out), &out->data);
  if (status == MG_OK) cache->bytes += mg_tensor_bytes(out);
  return status;
}

static void release(mg_cache *cache, mg_tensor *tensor) {
  if (!tensor->data) return;
  cache->backend->plugin->release(cache->backend, tensor->data, mg_tensor_bytes(tensor));
  cache->bytes -= mg_tensor_bytes(tensor);
  tensor->data = NULL;
}

static mg_status make_layer(mg_cache *cache, const mg__attention_settings *a, rows *out) {
  const bool latent = a->kind == MG__ATTENTION_LATENT;
  out->window = a->window;
  out->room = a->window > 0 && a->window < cache->capacity / 3 ? 3 * a->window : cache->capacity;
  if (a->kind == MG__ATTENTION_NONE) return MG_OK;
  MG_TRY(allocate(cache, out->room, latent ? a->kv_rank + a->rope_width : a->kv_heads * a->head_width, &out->key));
  return allocate(cache, out->room, latent ? 0 : a->kv_heads * a->value_width, &out->value);
}

static mg_status make_layers(mg_cache *cache) {
  const mg__stack_spec *stack = &cache->model->spec.decoder;
  cache->count = stack->count;
  cache->own = mg_alloc(cache->context, (size_t)cache->count * sizeof *cache->own);
  cache->cross = mg_alloc(cache->context, (size_t)cache->count * sizeof *cache->cross);
  if (!cache->own || !cache->cross) return MG_MEMORY;
  for (int64_t i = 0; i < cache->count; i++) MG_TRY(make_layer(cache, &stack->layers[i].attention, &cache->own[i]));
  return MG_OK;
}

mg_status mg_cache_create(mg_model *model, mg_dtype dtype, int64_t sequences, int64_t capacity, mg_cache **out) {
  *out = NULL;
  if (sequences < 1 || capacity < 1 || dtype == MG_I32)
    return mg_fail(model->context, MG_USAGE,
                   "cache: at least 1 sequence and 1 token in f32, bf16 or f64 are needed, not %lld and %lld in %s",
                   (long long)sequences, (long long)capacity, mg_dtype_name(dtype));
  mg_cache *cache = mg_alloc(model->context, sizeof *cache);
  if (!cache) return MG_MEMORY;
  *cache = (mg_cache){.context = model->context,
                      .backend = model->backend,
                      .model = model,
                      .dtype = dtype,
                      .sequences = sequences,
                      .capacity = capacity};
  const mg_status status = make_layers(cache);
  if (status == MG_OK)
    *out = cache;
  else
    mg_cache_destroy(cache);
  return status;
}

static void destroy_rows(mg_cache *cache, rows *all) {
  for (int64_t i = 0; i < cache->count && all; i++) {
    release(cache, &all[i].key);
    release(cache, &all[i].value);
  }
  mg_free(cache->context, all, all ? (size_t)cache->count * sizeof *all : 0);
}

void mg_cache_destroy(mg_cache *cache) {
  if (!cache) return;
  destroy_rows(cache, cache->own);
  destroy_rows(cache, cache->cross);
  mg_free(cache->context, cache, sizeof *cache);
}

/* ---- what it tells ------------------------------------------------------------------------------------------- */

int64_t mg_cache_length(const mg_cache *cache) {
  return cache->length;
}
int64_t mg_cache_capacity(const mg_cache *cache) {
  return cache->capacity;
}
size_t mg_cache_bytes(const mg_cache *cache) {
  return cache->bytes;
}
bool mg__cache_has_source(const mg_cache *cache) {
  return cache->source_tokens > 0;
}

int64_t mg_cache_step_tokens(const mg_cache *cache) {
  int64_t least = cache->capacity;
  for (int64_t i = 0; i < cache->count; i++)
    if (cache->own[i].room < cache->capacity && cache->own[i].window < least) least = cache->own[i].window;
  return least;
}

/* Keys that stand in the cache must be rotated as the new ones will be. */
static mg_status check_rotation(const mg_cache *cache, int64_t tokens) {
  const int64_t after = cache->length + tokens;
  for (int64_t i = 0; i < cache->count && cache->length > 0; i++) {
    const mg__rope *rope = &cache->model->spec.decoder.layers[i].attention.rope;
    if (mg__rope_turns(rope, cache->longest, after))
      return mg_fail(cache->context, MG_USAGE,
                     "cache: sequences of %lld tokens are rotated otherwise than those of %lld (longrope changes at "
                     "%lld); truncate it to 0 and read all tokens in one pass",
                     (long long)after, (long long)cache->longest, (long long)rope->scaling.original_positions);
  }
  return MG_OK;
}

mg_status mg__cache_check(const mg_cache *cache, const mg_model *model, int64_t sequences, int64_t tokens) {
  if (cache->model != model) return mg_fail(model->context, MG_USAGE, "cache: it was made for another model");
  if (sequences != cache->sequences)
    return mg_fail(model->context, MG_USAGE, "cache: it holds %lld sequences, the batch has %lld",
                   (long long)cache->sequences, (long long)sequences);
  if (tokens > cache->capacity - cache->length)
    return mg_fail(model->context, MG_USAGE, "cache: %lld tokens after %lld do not fit its %lld; make a larger one",
                   (long long)tokens, (long long)cache->length, (long long)cache->capacity);
  if (cache->length > 0 && tokens > mg_cache_step_tokens(cache))
    return mg_fail(model->context, MG_USAGE,
                   "cache: a pass after the first adds at most %lld tokens (the shortest window), not %lld",
                   (long long)mg_cache_step_tokens(cache), (long long)tokens);
  return check_rotation(cache, tokens);
}

/* ---- filling ------------------------------------------------------------------------------------------------- */

/* Rows [row, row + count) as a tensor of their own. */
static mg_tensor view_of(const mg_tensor *tensor, int64_t row, int64_t count) {
  const int64_t columns = mg_tensor_columns(tensor);
  mg_tensor view = {.dtype = tensor->dtype, .dims = 2, .shape = {count, columns}};
  view.data = (char *)tensor->data + (size_t)(row * columns) * mg_dtype_bytes(tensor->dtype);
  return view;
}

static bool copy_rows(mg_tape *tape, const mg_tensor *from, int64_t from_row, const mg_tensor *to, int64_t to_row,
                      int64_t count) {
  if (count == 0) return true;
  const mg_tensor source = view_of(from, from_row, count);
  mg_tensor target = view_of(to, to_row, count);
  mg_op_call call = {.op = MG_OP_CAST, .part = MG_PART_ATTENTION, .in = {&source}, .out = {&target}};
  return mg_tape_run(tape, &call) == MG_OK;
}

/* Moves the last `keep` of `held` rows of each sequence to the front. */
static bool move_to_front(const mg_cache *cache, mg_tape *tape, const rows *layer, const mg_tensor *tensor,
                          int64_t held, int64_t keep) {
  for (int64_t b = 0; b < cache->sequences; b++)
    if (!copy_rows(tape, tensor, b * layer->room + held - keep, tensor, b * layer->room, keep)) return false;
  return true;
}

/* Appends the last `count` of each sequence's new rows behind `held`. */
static bool append(const mg_cache *cache, mg_tape *tape, const rows *layer, const mg_tensor *tensor, int64_t held,
                   const mg_var *x, int64_t count) {
  const mg_tensor *from = mg_var_tensor(x);
  const int64_t tokens = mg_tensor_rows(from) / cache->sequences;
  for (int64_t b = 0; b < cache->sequences; b++)
    if (!copy_rows(tape, from, (b + 1) * tokens - count, tensor, b * layer->room + held, count)) return false;
  return true;
}

static bool dtype_fits(const mg_cache *cache, mg_tape *tape, const mg_var *x) {
  if (mg_tape_status(tape) != MG_OK || !x) return false;
  if (mg_var_dtype(x) == cache->dtype) return true;
  mg_tape_fail(tape, MG_USAGE, "cache: it holds %s, but this pass computes keys in %s; make it with that dtype",
               mg_dtype_name(cache->dtype), mg_dtype_name(mg_var_dtype(x)));
  return false;
}

int64_t mg__cache_extend(mg_cache *cache, mg_tape *tape, int64_t index, mg_var **key, mg_var **value) {
  rows *layer = &cache->own[index];
  if (!dtype_fits(cache, tape, *key) || (value && !*value)) return 0;
  const int64_t tokens = mg_var_rows(*key) / cache->sequences;
  const int64_t count = tokens <= layer->room ? tokens : layer->window - 1; /* of those, what may still be seen */
  int64_t held = cache->length - layer->first;
  if (held + count > layer->room) {
    const int64_t keep = layer->window - 1;
    if (!move_to_front(cache, tape, layer, &layer->key, held, keep)) return 0;
    if (value && !move_to_front(cache, tape, layer, &layer->value, held, keep)) return 0;
    layer->first += held - keep;
    held = keep;
  }
  if (!append(cache, tape, layer, &layer->key, held, *key, count)) return 0;
  if (value && !append(cache, tape, layer, &layer->value, held, *value, count)) return 0;
  if (cache->length == 0) {
    layer->first = tokens - count;
    return 0;
  }
  *key = mg_tape_leaf(tape, &layer->key, NULL);
  if (value) *value = mg_tape_leaf(tape, &layer->value, NULL);
  return held + count;
}

void mg__cache_cross(mg_cache *cache, mg_tape *tape, int64_t index, mg_var **key, mg_var **value) {
  rows *layer = &cache->cross[index];
  if (!*key) {
    *key = mg_tape_leaf(tape, &layer->key, NULL);
    *value = mg_tape_leaf(tape, &layer->value, NULL);
    return;
  }
  if (!dtype_fits(cache, tape, *key) || !*value) return;
  release(cache, &layer->key);
  release(cache, &layer->value);
  layer->room = mg_var_rows(*key) / cache->sequences;
  mg_status status = allocate(cache, layer->room, mg_var_columns(*key), &layer->key);
  if (status == MG_OK) status = allocate(cache, layer->room, mg_var_columns(*value), &layer->value);
  if (status != MG_OK)
    mg_tape_fail(tape, status, "cache: no memory for the encoder's output");
  else if (append(cache, tape, layer, &layer->key, 0, *key, layer->room))
    append(cache, tape, layer, &layer->value, 0, *value, layer->room);
}

void mg__cache_advance(mg_cache *cache, int64_t tokens, int64_t source_tokens) {
  cache->length += tokens;
  cache->longest = cache->length;
  if (source_tokens) cache->source_tokens = source_tokens;
}

mg_status mg_cache_truncate(mg_cache *cache, int64_t length) {
  if (length < 0 || length > cache->length)
    return mg_fail(cache->context, MG_USAGE, "cache: it holds %lld tokens and cannot keep %lld",
                   (long long)cache->length, (long long)length);
  for (int64_t i = 0; i < cache->count; i++) {
    const rows *layer = &cache->own[i];
    const int64_t needed = layer->window > 0 && layer->window - 1 < length ? length - layer->window + 1 : 0;
    if (length > 0 && layer->first > needed)
      return mg_fail(cache->context, MG_USAGE, "cache: a window of %lld has dropped what token %lld would see",
                     (long long)layer->window, (long long)length);
  }
  cache->length = length;
  for (int64_t i = 0; i < cache->count && length == 0; i++) cache->own[i].first = 0;
  if (length == 0) cache->source_tokens = 0;
  return MG_OK;
}
