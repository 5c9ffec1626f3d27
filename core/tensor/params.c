/* The store of named parameters: memory, initial values, and their variables on the tape. */
#include "tensor/params.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tensor/tape_internal.h"

/* One parameter, and its variable in the step it was last asked for. */
typedef struct entry {
  mg_param param; /* first: mg_params_at hands out its address, which never moves */
  bool borrowed;  /* the memory of its value is another's */
  mg_init init;   /* with the two below: the initial values it was added with */
  double scale;
  mg_stream stream;
  const mg_tape *tape;
  uint64_t generation;
  mg_var *var;
} entry;

struct mg_params {
  mg_context *context;
  mg_backend *backend; /* NULL: described only */
  mg_dtype dtype;
  bool deferred;
  entry **entries;
  int64_t count, capacity;
  int64_t *places; /* of entries by their name's hash, -1 = none; 2 * capacity of them, linear probing */
  int64_t bytes;   /* of all in the widest dtype: sums over them fit */
};

static mg_status open_store(mg_context *context, mg_backend *backend, mg_dtype dtype, mg_params **out) {
  *out = NULL;
  if (dtype != MG_F32 && dtype != MG_BF16 && dtype != MG_F64)
    return mg_fail(context, MG_USAGE, "parameters are f32, bf16 or f64, not %s", mg_dtype_name(dtype));
  mg_params *params = mg_alloc(context, sizeof *params);
  if (!params) return MG_MEMORY;
  params->context = context;
  params->backend = backend;
  params->dtype = dtype;
  *out = params;
  return MG_OK;
}

mg_status mg_params_create(mg_backend *backend, mg_dtype dtype, mg_params **out) {
  return open_store(backend->context, backend, dtype, out);
}

mg_status mg_params_describe(mg_context *context, mg_dtype dtype, mg_params **out) {
  return open_store(context, NULL, dtype, out);
}

bool mg_params_described(const mg_params *params) {
  return !params->backend;
}

void mg_params_defer(mg_params *params) {
  params->deferred = true;
}

/* ---- memory -------------------------------------------------------------------------------------------------- */

static mg_status tensor_allocate(mg_backend *backend, mg_tensor *tensor) {
  const size_t bytes = mg_tensor_bytes(tensor);
  return bytes ? backend->plugin->allocate(backend, bytes, &tensor->data) : MG_OK;
}

static void tensor_release(mg_backend *backend, mg_tensor *tensor) {
  if (tensor->data) backend->plugin->release(backend, tensor->data, mg_tensor_bytes(tensor));
  tensor->data = NULL;
}

static mg_status tensor_zero(mg_backend *backend, mg_tensor *tensor) {
  mg_op_call call = {.op = MG_OP_FILL, .part = MG_PART_OPTIMISER, .out = {tensor}};
  return tensor->data ? mg__op_run(backend, &call) : MG_OK;
}

static void entry_release(mg_context *context, mg_backend *backend, entry *e) {
  if (!e->borrowed) tensor_release(backend, &e->param.value);
  tensor_release(backend, &e->param.gradient);
  tensor_release(backend, &e->param.first);
  tensor_release(backend, &e->param.second);
  mg_free(context, e, sizeof *e);
}

void mg_params_destroy(mg_params *params) {
  if (!params) return;
  mg_context *context = params->context;
  for (int64_t i = 0; i < params->count; i++) entry_release(context, params->backend, params->entries[i]);
  mg_free(context, params->entries, (size_t)params->capacity * sizeof *params->entries);
  mg_free(context, params->places, 2 * (size_t)params->capacity * sizeof *params->places);
  mg_free(context, params, sizeof *params);
}

/* ---- initial values ------------------------------------------------------------------------------------------ */

/* Draw i of a normal distribution cut off at two deviations. A draw beyond is repeated from the next run of `count`. */
static double truncated_normal(mg_stream stream, int64_t i, int64_t count) {
  uint64_t index = (uint64_t)i;
  double value = mg_random_normal(stream, index);
  while (fabs(value) > 2.0) {
    index += (uint64_t)count;
    value = mg_random_normal(stream, index);
  }
  return value;
}

static double initial_value(const entry *e, const mg_tensor *tensor, int64_t i) {
  const double fan_in = (double)mg_tensor_columns(tensor);
  switch (e->init) {
  case MG_INIT_ZERO: return 0.0;
  case MG_INIT_ONE: return 1.0;
  case MG_INIT_NORMAL: return e->scale * mg_random_normal(e->stream, (uint64_t)i);
  case MG_INIT_TRUNCATED_FAN_IN:
    return sqrt(e->scale / fan_in) * truncated_normal(e->stream, i, mg_tensor_count(tensor));
  }
  return 0.0;
}

static void store(mg_dtype dtype, void *values, int64_t i, double value) {
  switch (dtype) {
  case MG_F64: ((double *)values)[i] = value; break;
  case MG_BF16: ((uint16_t *)values)[i] = mg_bf16_from_f32((float)value); break;
  default: ((float *)values)[i] = (float)value; break;
  }
}

/* Elements [first, first + count) into host memory. Each is drawn by its number, so threads change nothing. */
static void draw(const entry *e, const mg_tensor *tensor, int64_t first, int64_t count, void *values) {
  enum { WORTH_THREADS = 1 << 14 };
#pragma omp parallel for schedule(static) if (count >= WORTH_THREADS)
  for (int64_t i = 0; i < count; i++) store(tensor->dtype, values, i, initial_value(e, tensor, first + i));
}

/* Drawn on the host, so that a model starts from the same bits on every backend; uploaded piece by piece. */
static mg_status initialise(mg_backend *backend, const entry *e, mg_tensor *tensor) {
  enum { PIECE = 1 << 18 };
  const int64_t count = mg_tensor_count(tensor);
  const size_t each = mg_dtype_bytes(tensor->dtype), room = (size_t)(count < PIECE ? count : PIECE) * each;
  void *piece = mg_alloc(backend->context, room);
  mg_status status = piece ? MG_OK : MG_MEMORY;
  for (int64_t first = 0; first < count && status == MG_OK; first += PIECE) {
    const int64_t here = count - first < PIECE ? count - first : PIECE;
    draw(e, tensor, first, here, piece);
    status = backend->plugin->upload(backend, (char *)tensor->data + (size_t)first * each, piece, (size_t)here * each);
  }
  mg_free(backend->context, piece, piece ? room : 0);
  return status;
}

/* ---- adding -------------------------------------------------------------------------------------------------- */

static mg_status check_request(const mg_params *params, const mg_param_request *request) {
  mg_context *context = params->context;
  if (!request->name || !*request->name || strlen(request->name) >= MG_PARAM_NAME_BYTES)
    return mg_fail(context, MG_USAGE, "a parameter's name must have 1 to %d characters", MG_PARAM_NAME_BYTES - 1);
  if (mg_params_find(params, request->name) >= 0)
    return mg_fail(context, MG_USAGE, "there is a parameter %s already; names are unique", request->name);
  int64_t bytes = (int64_t)mg_dtype_bytes(MG_F64);
  bool sound = request->dims >= 1 && request->dims <= MG_DIMS_MAX;
  for (int32_t i = 0; sound && i < request->dims; i++) {
    sound = request->shape[i] > 0 && !__builtin_mul_overflow(bytes, request->shape[i], &bytes);
  }
  int64_t all;
  sound = sound && !__builtin_add_overflow(bytes, params->bytes, &all);
  if (sound) return MG_OK;
  return mg_fail(context, MG_USAGE,
                 "parameter %s must have 1 to %d dimensions, each positive, that fit memory with all others",
                 request->name, MG_DIMS_MAX);
}

/* FNV-1a. */
static uint64_t hash_of(const char *name) {
  uint64_t hash = 14695981039346656037u;
  for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 1099511628211u;
  return hash;
}

/* Where a name's entry is, or the free place where it would go. The capacity is a power of two. */
static int64_t *place_of(const mg_params *params, const char *name) {
  const uint64_t mask = 2 * (uint64_t)params->capacity - 1;
  uint64_t at = hash_of(name) & mask;
  while (params->places[at] >= 0 && strcmp(params->entries[params->places[at]]->param.name, name) != 0)
    at = (at + 1) & mask;
  return &params->places[at];
}

static mg_status make_room(mg_params *params) {
  if (params->count < params->capacity) return MG_OK;
  const int64_t capacity = params->capacity ? 2 * params->capacity : 16;
  int64_t *places = mg_alloc(params->context, 2 * (size_t)capacity * sizeof *places);
  if (!places) return MG_MEMORY;
  entry **larger = mg_resize(params->context, params->entries, (size_t)params->capacity * sizeof *larger,
                             (size_t)capacity * sizeof *larger);
  if (!larger) {
    mg_free(params->context, places, 2 * (size_t)capacity * sizeof *places);
    return MG_MEMORY;
  }
  mg_free(params->context, params->places, 2 * (size_t)params->capacity * sizeof *places);
  params->entries = larger;
  params->capacity = capacity;
  params->places = places;
  for (int64_t i = 0; i < 2 * capacity; i++) places[i] = -1;
  for (int64_t i = 0; i < params->count; i++) *place_of(params, larger[i]->param.name) = i;
  return MG_OK;
}

static mg_status make_gradient(const mg_params *params, mg_param *param) {
  const mg_tensor *value = &param->value;
  param->gradient = mg__shape_of(value->dtype == MG_F64 ? MG_F64 : MG_F32, value->dims, value->shape);
  MG_TRY(tensor_allocate(params->backend, &param->gradient));
  return tensor_zero(params->backend, &param->gradient);
}

static mg_status fill_entry(const mg_params *params, const mg_param_request *request, entry *e) {
  mg_param *param = &e->param;
  snprintf(param->name, sizeof param->name, "%s", request->name); /* the length was checked */
  param->fixed = request->fixed;
  param->decay = request->decay;
  param->value = mg__shape_of(params->dtype, request->dims, request->shape);
  e->init = request->init;
  e->scale = request->scale;
  e->stream = request->stream;
  if (!params->backend || params->deferred) return MG_OK;
  MG_TRY(tensor_allocate(params->backend, &param->value));
  MG_TRY(initialise(params->backend, e, &param->value));
  return request->fixed ? MG_OK : make_gradient(params, param);
}

mg_status mg_params_add(mg_params *params, const mg_param_request *request, int64_t *index) {
  MG_TRY(check_request(params, request));
  MG_TRY(make_room(params));
  entry *e = mg_alloc(params->context, sizeof *e);
  if (!e) return MG_MEMORY;
  const mg_status status = fill_entry(params, request, e);
  if (status != MG_OK) {
    entry_release(params->context, params->backend, e);
    return status;
  }
  if (index) *index = params->count;
  *place_of(params, request->name) = params->count;
  params->bytes += mg_tensor_count(&e->param.value) * (int64_t)mg_dtype_bytes(MG_F64);
  params->entries[params->count++] = e;
  return MG_OK;
}

mg_status mg_params_bind(mg_params *params, int64_t index, const mg_tensor *value, bool owned) {
  mg_param *param = mg_params_at(params, index);
  if (!param || param->value.data || !mg_tensor_same_shape(&param->value, value))
    return mg_fail(params->context, MG_BUG, "parameter %lld cannot be bound: it has memory, or another shape",
                   (long long)index);
  param->value = *value;
  params->entries[index]->borrowed = !owned;
  return MG_OK;
}

mg_status mg_params_draw(mg_params *params, int64_t index, mg_dtype dtype) {
  mg_param *param = mg_params_at(params, index);
  if (!param || param->value.data || !params->backend)
    return mg_fail(params->context, MG_BUG, "parameter %lld cannot be drawn: it has memory", (long long)index);
  param->value.dtype = dtype;
  MG_TRY(tensor_allocate(params->backend, &param->value));
  return initialise(params->backend, params->entries[index], &param->value);
}

/* ---- training some of them ------------------------------------------------------------------------------------ */

static void widen(mg_dtype dtype, const void *from, float *to, size_t count) {
  if (mg_dtype_is_stored(dtype)) mg_stored_decode(dtype, from, (int64_t)count, to);
  for (size_t i = 0; i < count && dtype == MG_BF16; i++) to[i] = mg_bf16_to_f32(((const uint16_t *)from)[i]);
}

/* Copies the values through the host, piece by piece; bf16 and stored dtypes may become f32. */
static mg_status copy_values(mg_backend *backend, const mg_tensor *from, const mg_tensor *to) {
  enum { PIECE = 4096 };
  double in[PIECE];
  float wide[PIECE];
  const int64_t count = mg_tensor_count(from);
  for (int64_t first = 0; first < count; first += PIECE) {
    const int64_t here = count - first < PIECE ? count - first : PIECE;
    const char *source = (const char *)from->data + mg_dtype_run_bytes(from->dtype, first);
    MG_TRY(backend->plugin->download(backend, in, source, mg_dtype_run_bytes(from->dtype, here)));
    if (from->dtype != to->dtype) widen(from->dtype, in, wide, (size_t)here);
    const void *out = from->dtype != to->dtype ? (const void *)wide : in;
    char *target = (char *)to->data + mg_dtype_run_bytes(to->dtype, first);
    MG_TRY(backend->plugin->upload(backend, target, out, mg_dtype_run_bytes(to->dtype, here)));
  }
  return MG_OK;
}

/* Memory of the store's own in `dtype`, with the values that were there. */
static mg_status own(mg_params *params, int64_t index, mg_dtype dtype) {
  entry *e = params->entries[index];
  mg_tensor *value = &e->param.value;
  if (!e->borrowed && value->dtype == dtype) return MG_OK;
  mg_tensor copy = mg__shape_of(dtype, value->dims, value->shape);
  MG_TRY(tensor_allocate(params->backend, &copy));
  const mg_status status = copy_values(params->backend, value, &copy);
  if (status != MG_OK) {
    tensor_release(params->backend, &copy);
    return status;
  }
  if (!e->borrowed) tensor_release(params->backend, value);
  *value = copy;
  e->borrowed = false;
  e->tape = NULL;
  return MG_OK;
}

mg_status mg_params_own(mg_params *params, int64_t index) {
  return own(params, index, params->entries[index]->param.value.dtype);
}

mg_status mg_params_train(mg_params *params, int64_t index) {
  mg_param *param = mg_params_at(params, index);
  if (param->fixed)
    return mg_fail(params->context, MG_USAGE,
                   "%s is a buffer, which its router moves by its own rule; it cannot be "
                   "trained by gradients",
                   param->name);
  MG_TRY(own(params, index, param->value.dtype == MG_F64 ? MG_F64 : MG_F32));
  params->entries[index]->tape = NULL;
  return param->gradient.data ? MG_OK : make_gradient(params, param);
}

void mg_params_freeze(mg_params *params, int64_t index) {
  mg_param *param = mg_params_at(params, index);
  tensor_release(params->backend, &param->gradient);
  tensor_release(params->backend, &param->first);
  tensor_release(params->backend, &param->second);
  params->entries[index]->tape = NULL;
}

mg_status mg_params_make_moments(mg_params *params) {
  for (int64_t i = 0; i < params->count; i++) {
    mg_param *param = &params->entries[i]->param;
    if (!param->gradient.data || param->first.data) continue;
    mg_tensor first = mg__shape_of(param->gradient.dtype, param->value.dims, param->value.shape), second = first;
    mg_status status = tensor_allocate(params->backend, &first);
    if (status == MG_OK) status = tensor_allocate(params->backend, &second);
    if (status == MG_OK) status = tensor_zero(params->backend, &first);
    if (status == MG_OK) status = tensor_zero(params->backend, &second);
    if (status != MG_OK) {
      tensor_release(params->backend, &first);
      tensor_release(params->backend, &second);
      return status;
    }
    param->first = first;
    param->second = second;
  }
  return MG_OK;
}

mg_status mg_params_zero_gradients(mg_params *params) {
  for (int64_t i = 0; i < params->count; i++) MG_TRY(tensor_zero(params->backend, &params->entries[i]->param.gradient));
  return MG_OK;
}

/* ---- asking -------------------------------------------------------------------------------------------------- */

int64_t mg_params_count(const mg_params *params) {
  return params->count;
}

mg_param *mg_params_at(mg_params *params, int64_t index) {
  return index >= 0 && index < params->count ? &params->entries[index]->param : NULL;
}

const mg_param *mg_params_look(const mg_params *params, int64_t index) {
  return index >= 0 && index < params->count ? &params->entries[index]->param : NULL;
}

int64_t mg_params_find(const mg_params *params, const char *name) {
  return params->places ? *place_of(params, name) : -1;
}

int64_t mg_params_elements(const mg_params *params) {
  int64_t elements = 0;
  for (int64_t i = 0; i < params->count; i++) {
    const mg_param *param = &params->entries[i]->param;
    if (!param->fixed) elements += mg_tensor_count(&param->value);
  }
  return elements;
}

static size_t held_bytes(const mg_tensor *tensor) {
  return tensor->data ? mg_tensor_bytes(tensor) : 0;
}

mg_params_bytes mg_params_memory(const mg_params *params) {
  mg_params_bytes bytes = {0};
  for (int64_t i = 0; i < params->count; i++) {
    const mg_param *param = &params->entries[i]->param;
    bytes.values += held_bytes(&param->value);
    bytes.gradients += held_bytes(&param->gradient);
    bytes.moments += held_bytes(&param->first) + held_bytes(&param->second);
  }
  return bytes;
}

mg_var *mg_params_var(mg_params *params, mg_tape *tape, int64_t index) {
  if (index < 0 || index >= params->count)
    return mg_tape_fail(tape, MG_BUG, "parameter %lld was asked for; there are %lld", (long long)index,
                        (long long)params->count);
  entry *e = params->entries[index];
  if (tape->status != MG_OK) return NULL;
  if (e->tape == tape && e->generation == tape->generation) return e->var;
  e->var = mg_tape_leaf(tape, &e->param.value, e->param.gradient.data ? &e->param.gradient : NULL);
  e->tape = e->var ? tape : NULL;
  e->generation = tape->generation;
  return e->var;
}
