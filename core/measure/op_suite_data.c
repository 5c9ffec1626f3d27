/* A case filled with numbers, and one call of it on a backend with guarded operands. */
#include <stdio.h>
#include <string.h>

#include "measure/op_suite_internal.h"

/* ---- elements ------------------------------------------------------------------------------------------------- */

double mg__suite_at(const mg_tensor *x, int64_t i) {
  switch (x->dtype) {
  case MG_F32: return ((const float *)x->data)[i];
  case MG_BF16: return mg_bf16_to_f32(((const uint16_t *)x->data)[i]);
  case MG_I32: return ((const int32_t *)x->data)[i];
  case MG_F64: return ((const double *)x->data)[i];
  default: return mg_dtype_is_stored(x->dtype) ? mg__suite_stored_at(x, i) : NAN;
  }
}

void mg__suite_put(const mg_tensor *x, int64_t i, double value) {
  switch (x->dtype) {
  case MG_F32: ((float *)x->data)[i] = (float)value; break;
  case MG_BF16: ((uint16_t *)x->data)[i] = mg_bf16_from_f32((float)value); break;
  case MG_I32: ((int32_t *)x->data)[i] = fabs(value) < INT32_MAX ? (int32_t)value : 0; break;
  case MG_F64: ((double *)x->data)[i] = value; break;
  default: break;
  }
}

enum { PERIOD = 4093 }; /* large tensors repeat their first so many draws; a prime, so that rows still differ */

static double drawn(suite_fill fill, mg_stream stream, uint64_t i, int64_t bound) {
  if (fill == FILL_NORMAL) return mg_random_normal(stream, i);
  const uint32_t bits = mg_random_bits(stream, 4 * i + 3);
  switch (fill) {
  case FILL_WIDE: return 30 * mg_random_normal(stream, i);
  case FILL_POSITIVE: return exp(mg_random_normal(stream, i));
  case FILL_MASK: return bits & 1;
  case FILL_TIES: return bits & 3;
  case FILL_HOLES: return bits % 4 == 0 ? -INFINITY : mg_random_normal(stream, i);
  case FILL_NAN: return bits % 8 == 0 ? (double)NAN : bits % 8 == 1 ? -(double)INFINITY : (double)(bits % 4);
  case FILL_SOME_NAN: return bits % 8 == 0 ? (double)NAN : mg_random_normal(stream, i);
  case FILL_FEW_NAN: return bits % 64 == 0 ? (double)NAN : mg_random_normal(stream, i);
  case FILL_INTEGERS: return (double)(bits % 2000001) - 1e6;
  case FILL_SOME_IDS:
    if (bits % 4 == 0) return -1;
    return (double)mg_random_below(stream, i, (uint64_t)bound);
  case FILL_IDS: return (double)mg_random_below(stream, i, (uint64_t)bound);
  case FILL_POSITIONS: return (double)mg_random_below(stream, i, (uint64_t)bound + 1);
  default: return mg_random_normal(stream, i);
  }
}

static void fill_tensor(const mg_tensor *x, suite_fill fill, int64_t bound, mg_stream stream) {
  const int64_t count = mg_tensor_count(x);
  if (mg_dtype_is_stored(x->dtype)) {
    mg__suite_fill_stored(x, stream);
    return;
  }
  const int64_t drawn_count = count < PERIOD ? count : PERIOD;
  const size_t size = mg_dtype_bytes(x->dtype);
  for (int64_t i = 0; i < drawn_count; i++) mg__suite_put(x, i, drawn(fill, stream, (uint64_t)i, bound));
  for (int64_t i = drawn_count; i < count; i++)
    memcpy((char *)x->data + (size_t)i * size, (char *)x->data + (size_t)(i - drawn_count) * size, size);
  if (fill == FILL_HOLES)
    for (int64_t c = 0; c < mg_tensor_columns(x) && c < count; c++) mg__suite_put(x, c, -INFINITY);
  if (fill == FILL_POSITIONS && count) mg__suite_put(x, count - 1, (double)bound);
  if (fill == FILL_FREQUENCIES)
    for (int64_t i = 0; i < count; i++) mg__suite_put(x, i, pow(10000, -(double)i / (double)count));
}

static void fill_choices(const mg_tensor *ids, const suite_routing *routing, mg_stream stream) {
  for (int64_t i = 0; i < mg_tensor_count(ids); i++) {
    const uint64_t experts = (uint64_t)routing->experts, at = (uint64_t)i;
    int64_t id = (int64_t)mg_random_below(stream, at, experts);
    if (routing->spread == SPREAD_ONE) id = routing->experts - 1;
    if (routing->spread == SPREAD_GAP) id = 1 + (int64_t)mg_random_below(stream, at, experts - 1);
    if (routing->spread == SPREAD_SOME && mg_random_bits(stream, 4 * at + 3) % 4 == 0) id = -1;
    ((int32_t *)ids->data)[i] = (int32_t)id;
  }
}

/* ---- tensors -------------------------------------------------------------------------------------------------- */

static mg_dtype dtype_of(suite_type type, mg_dtype dtype) {
  switch (type) {
  case TYPE_WIDE: return dtype == MG_F64 ? MG_F64 : MG_F32;
  case TYPE_F32: return MG_F32;
  case TYPE_BF16: return MG_BF16;
  case TYPE_F64: return MG_F64;
  case TYPE_I32: return MG_I32;
#define STORED(NAME, name, values, bytes)                                                                              \
  case TYPE_##NAME: return MG_##NAME;
    MG_STORED_LIST(STORED)
#undef STORED
  case TYPE_NONE:
  case TYPE_CASE: break;
  }
  return dtype;
}

/* The operand without memory; `rows` stands for ROWS. dims 0 if the case leaves it out. */
static mg_tensor outline(const suite_operand *operand, mg_dtype dtype, int64_t rows) {
  mg_tensor out = {.dtype = dtype_of(operand->type, dtype)};
  if (operand->type == TYPE_NONE) return out;
  out.dims = operand->dims;
  for (int32_t i = 0; i < operand->dims; i++) out.shape[i] = operand->shape[i] == ROWS ? rows : operand->shape[i];
  return out;
}

void mg__suite_data_outline(const suite_case *row, mg_dtype dtype, suite_data *out) {
  const int64_t rows = row->routing.tokens * row->routing.choices;
  *out = (suite_data){.op = row->op, .dtype = dtype, .attributes = row->attributes};
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++) out->in[i] = outline(&row->in[i], dtype, rows);
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) out->out[i] = outline(&row->out[i], dtype, rows);
}

/* A host tensor for the operand. Real numbers are NaN at first, integers large. */
static mg_status make_tensor(mg_context *context, const suite_operand *operand, mg_dtype dtype, int64_t rows,
                             mg_tensor *out) {
  *out = outline(operand, dtype, rows);
  const size_t bytes = out->dims ? mg_tensor_bytes(out) : 0;
  if (bytes == 0) return MG_OK;
  out->data = mg_alloc(context, bytes);
  if (!out->data) return MG_MEMORY;
  memset(out->data, out->dtype == MG_I32 ? 0x5a : 0xff, bytes);
  return MG_OK;
}

static void free_tensor(mg_context *context, mg_tensor *tensor) {
  if (tensor->dims) mg_free(context, tensor->data, mg_tensor_bytes(tensor));
  *tensor = (mg_tensor){0};
}

void mg__suite_data_destroy(suite_data *data) {
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++) free_tensor(data->context, &data->in[i]);
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) free_tensor(data->context, &data->out[i]);
}

mg_status mg__suite_results_create(const suite_data *data, mg_tensor *results) {
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) results[i] = (mg_tensor){0};
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    results[i] = data->out[i];
    results[i].data = NULL;
    const size_t bytes = results[i].dims ? mg_tensor_bytes(&results[i]) : 0;
    if (bytes == 0) continue;
    results[i].data = mg_alloc(data->context, bytes);
    if (results[i].data) continue;
    results[i] = (mg_tensor){0};
    mg__suite_results_destroy(data, results);
    return MG_MEMORY;
  }
  return MG_OK;
}

void mg__suite_results_destroy(const suite_data *data, mg_tensor *results) {
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) free_tensor(data->context, &results[i]);
}

bool mg__suite_in_place(mg_op op, const mg_op_attributes *attributes) {
  switch (op) {
  case MG_OP_ADD_SCALED:
  case MG_OP_ADAMW: return true;
  case MG_OP_MATMUL: return attributes->matmul.accumulate;
  case MG_OP_GROUPED_MATMUL:
  case MG_OP_GROUPED_MATMUL_WEIGHT: return attributes->grouped.accumulate;
  default: return false;
  }
}

/* ---- routings and forward results ------------------------------------------------------------------------------- */

enum { ROUTE_OFFSETS, ROUTE_SLOTS, ROUTE_POSITION };

/* Runs assign over the case's choices on the reference. */
static mg_status make_routing(mg_context *context, mg_backend *reference, const suite_routing *routing,
                              const char *name, mg_tensor *routed) {
  const int64_t T = routing->tokens, S = routing->choices, E = routing->experts;
  const suite_case row = {
      .op = MG_OP_ASSIGN,
      .attributes.assign = {routing->capacity, MG_ORDER_POSITION},
      .routing = *routing,
      .in = {{TYPE_I32, FILL_CHOICES, 0, 2, {T, S}}},
      .out = {{TYPE_I32, FILL_IDS, 0, 1, {E + 1}},
              {TYPE_I32, FILL_IDS, 0, 1, {T * S}},
              {TYPE_I32, FILL_IDS, 0, 2, {T, S}},
              {TYPE_I32, FILL_IDS, 0, 1, {E}}},
  };
  suite_data data;
  MG_TRY(mg__suite_data_create(context, reference, &row, MG_F32, name, &data));
  mg_status status = mg__suite_results_create(&data, routed);
  if (status == MG_OK) {
    status = mg__suite_run(reference, &data, routed);
    if (status != MG_OK) mg__suite_results_destroy(&data, routed);
  }
  mg__suite_data_destroy(&data);
  return status;
}

/* Moves the rows of each expert to its own `capacity` rows, as the capacity policy that pads does. */
static mg_status pad_routing(mg_context *context, const suite_routing *routing, mg_tensor *routed) {
  const int64_t rows = routing->experts * routing->capacity;
  mg_tensor padded = {.dims = 1, .shape = {rows}, .dtype = MG_I32};
  padded.data = mg_alloc(context, mg_tensor_bytes(&padded));
  if (!padded.data) return MG_MEMORY;
  int32_t *offsets = routed[ROUTE_OFFSETS].data, *position = routed[ROUTE_POSITION].data, *slots = padded.data;
  const int32_t *old_slots = routed[ROUTE_SLOTS].data;
  for (int64_t a = 0; a < rows; a++) slots[a] = -1;
  for (int64_t e = 0; e < routing->experts; e++)
    for (int64_t a = offsets[e]; a < offsets[e + 1]; a++) {
      const int64_t moved = e * routing->capacity + a - offsets[e];
      slots[moved] = old_slots[a];
      position[old_slots[a]] = (int32_t)moved;
    }
  for (int64_t e = 0; e <= routing->experts; e++) offsets[e] = (int32_t)(e * routing->capacity);
  free_tensor(context, &routed[ROUTE_SLOTS]);
  routed[ROUTE_SLOTS] = padded;
  return MG_OK;
}

static bool needs_routing(const suite_case *row) {
  return row->routing.experts > 0 && row->op != MG_OP_ASSIGN;
}

/* Which forward primitive fills FILL_FORWARD inputs, how many of the inputs it reads, and where its outputs go (-1:
 * nowhere). */
typedef struct forward_rule {
  mg_op backward, forward;
  int inputs;
  int target[2];
} forward_rule;

static const forward_rule forward_rules[] = {
    {MG_OP_SOFTMAX_BACKWARD, MG_OP_SOFTMAX, 1, {0, -1}},
    {MG_OP_NORM_BACKWARD, MG_OP_NORM, 2, {-1, 2}},
    {MG_OP_ATTENTION_BACKWARD, MG_OP_ATTENTION, 5, {5, 6}},
    {MG_OP_CROSS_ENTROPY_BACKWARD, MG_OP_CROSS_ENTROPY, 2, {-1, 2}},
};

static mg_status run_forward(mg_backend *reference, const forward_rule *rule, suite_data *data) {
  suite_data forward = {
      .context = data->context, .op = rule->forward, .dtype = data->dtype, .attributes = data->attributes};
  for (int i = 0; i < rule->inputs; i++) forward.in[i] = data->in[i];
  for (int o = 0; o < 2; o++) forward.out[o] = rule->target[o] >= 0 ? data->in[rule->target[o]] : data->in[0];
  if (rule->forward == MG_OP_CROSS_ENTROPY) forward.out[0] = data->in[2];
  if (rule->forward == MG_OP_SOFTMAX) forward.out[1] = (mg_tensor){0};
  mg_tensor results[MG_OP_OUTPUTS_MAX];
  MG_TRY(mg__suite_results_create(&forward, results));
  const mg_status status = mg__suite_run(reference, &forward, results);
  for (int o = 0; o < 2 && status == MG_OK; o++) {
    if (rule->target[o] < 0) continue;
    const mg_tensor *target = &data->in[rule->target[o]];
    if (target->data) memcpy(target->data, results[o].data, mg_tensor_bytes(target));
  }
  mg__suite_results_destroy(&forward, results);
  return status;
}

static mg_status fill_forward(mg_backend *reference, suite_data *data) {
  for (size_t i = 0; i < MG_COUNT(forward_rules); i++)
    if (forward_rules[i].backward == data->op) return run_forward(reference, &forward_rules[i], data);
  return MG_OK;
}

static mg_status fill_operand(const suite_case *row, const suite_operand *operand, const mg_tensor *routed,
                              mg_stream stream, const mg_tensor *target) {
  if (!target->data) return MG_OK;
  const mg_tensor *source = NULL;
  switch (operand->fill) {
  case FILL_CHOICES: fill_choices(target, &row->routing, stream); return MG_OK;
  case FILL_OFFSETS: source = &routed[ROUTE_OFFSETS]; break;
  case FILL_SLOTS: source = &routed[ROUTE_SLOTS]; break;
  case FILL_POSITION: source = &routed[ROUTE_POSITION]; break;
  default: fill_tensor(target, operand->fill, operand->bound, stream); return MG_OK;
  }
  memcpy(target->data, source->data, mg_tensor_bytes(target));
  return MG_OK;
}

static mg_status make_operands(mg_context *context, const suite_case *row, const mg_tensor *routed, const char *name,
                               suite_data *out) {
  const int64_t rows = routed[0].data ? (int64_t)mg__suite_at(&routed[0], mg_tensor_count(&routed[0]) - 1) : 0;
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++) {
    MG_TRY(make_tensor(context, &row->in[i], out->dtype, rows, &out->in[i]));
    MG_TRY(fill_operand(row, &row->in[i], routed, mg_stream_named(1, name, (uint64_t)i, 0), &out->in[i]));
  }
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    MG_TRY(make_tensor(context, &row->out[i], out->dtype, rows, &out->out[i]));
    if (mg__suite_in_place(row->op, &row->attributes))
      MG_TRY(fill_operand(row, &row->out[i], routed, mg_stream_named(1, name, (uint64_t)i, 1), &out->out[i]));
  }
  return MG_OK;
}

mg_status mg__suite_data_create(mg_context *context, mg_backend *reference, const suite_case *row, mg_dtype dtype,
                                const char *name, suite_data *out) {
  *out = (suite_data){.context = context, .op = row->op, .dtype = dtype, .attributes = row->attributes};
  mg_tensor routed[MG_OP_OUTPUTS_MAX] = {{0}};
  if (needs_routing(row)) MG_TRY(make_routing(context, reference, &row->routing, name, routed));
  mg_status status = needs_routing(row) && row->routing.padded ? pad_routing(context, &row->routing, routed) : MG_OK;
  if (status == MG_OK) status = make_operands(context, row, routed, name, out);
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) free_tensor(context, &routed[i]);
  if (status == MG_OK) status = fill_forward(reference, out);
  if (status != MG_OK) mg__suite_data_destroy(out);
  return status;
}
