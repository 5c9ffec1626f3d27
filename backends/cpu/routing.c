/* Routing: the list of assignments from the choices, rows sent to their experts, and results gathered back.
 * What is kept and in which order is defined in backends/reference/assign.c. */
#include <stdlib.h>

#include "kernels.h"

typedef struct assign_work {
  const int32_t *ids;
  int32_t *position; /* while choosing: 0 = kept, -1 = not */
  int32_t *taken;    /* per expert */
  int64_t count, choices, experts, capacity;
} assign_work;

static void keep_all(const assign_work *w) {
  for (int64_t slot = 0; slot < w->count; slot++) w->position[slot] = w->ids[slot] >= 0 ? 0 : -1;
}

/* All first choices in token order, then all second choices, and so on. */
static void keep_by_position(const assign_work *w) {
  for (int64_t s = 0; s < w->choices; s++)
    for (int64_t slot = s; slot < w->count; slot += w->choices) {
      const int32_t e = w->ids[slot];
      w->position[slot] = e >= 0 && w->taken[e]++ < w->capacity ? 0 : -1;
    }
}

typedef struct ranked_slot {
  float priority;
  int32_t expert, slot;
} ranked_slot;

/* By expert, then by falling priority, then by slot: a total order, so that qsort's result is unique. */
static int compare_ranked(const void *left, const void *right) {
  const ranked_slot *a = left, *b = right;
  if (a->expert != b->expert) return a->expert < b->expert ? -1 : 1;
  if (a->priority != b->priority) return a->priority > b->priority ? -1 : 1;
  return a->slot < b->slot ? -1 : 1;
}

static void keep_by_priority(const assign_work *w, const mg_tensor *priority, ranked_slot *ranked) {
  int64_t used = 0;
  for (int64_t slot = 0; slot < w->count; slot++) {
    w->position[slot] = -1;
    if (w->ids[slot] < 0) continue;
    const float value = cpu_at(priority, slot);
    ranked[used++] = (ranked_slot){isnan(value) ? -INFINITY : value, w->ids[slot], (int32_t)slot};
  }
  qsort(ranked, (size_t)used, sizeof *ranked, compare_ranked);
  for (int64_t i = 0; i < used; i++)
    if (w->taken[ranked[i].expert]++ < w->capacity) w->position[ranked[i].slot] = 0;
}

/* Rows in expert order, ascending slots within an expert. */
static void number_rows(const assign_work *w, int32_t *offsets, int32_t *slots) {
  memset(w->taken, 0, (size_t)w->experts * sizeof(int32_t));
  for (int64_t slot = 0; slot < w->count; slot++)
    if (w->position[slot] == 0) w->taken[w->ids[slot]]++;
  offsets[0] = 0;
  for (int64_t e = 0; e < w->experts; e++) {
    offsets[e + 1] = offsets[e] + w->taken[e];
    w->taken[e] = offsets[e];
  }
  for (int64_t slot = 0; slot < w->count; slot++) {
    if (w->position[slot] != 0) continue;
    const int32_t row = w->taken[w->ids[slot]]++;
    w->position[slot] = row;
    slots[row] = (int32_t)slot;
  }
  for (int64_t a = offsets[w->experts]; a < w->count; a++) slots[a] = -1;
}

mg_status CPU_NAME(assign)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *ids = call->in[0];
  int32_t *demand = call->out[3]->data;
  assign_work w = {.ids = ids->data, .position = call->out[2]->data, .count = mg_tensor_count(ids)};
  w.choices = mg_tensor_columns(ids);
  w.experts = mg_tensor_count(call->out[3]);
  w.capacity = call->attributes.assign.capacity;
  MG_TRY(cpu_check_ids(backend, call->op, ids, w.experts));
  const size_t taken_bytes = ((size_t)w.experts * sizeof(int32_t) + 63) / 64 * 64;
  char *scratch = mg__cpu_scratch(backend, taken_bytes + (size_t)w.count * sizeof(ranked_slot));
  if (!scratch) return MG_MEMORY;
  w.taken = (int32_t *)(void *)scratch;
  memset(w.taken, 0, taken_bytes);
  if (w.experts) memset(demand, 0, (size_t)w.experts * sizeof(int32_t));
  for (int64_t slot = 0; slot < w.count; slot++)
    if (w.ids[slot] >= 0) demand[w.ids[slot]]++;
  if (w.capacity == 0)
    keep_all(&w);
  else if (call->attributes.assign.order == MG_ORDER_POSITION)
    keep_by_position(&w);
  else
    keep_by_priority(&w, call->in[1], (ranked_slot *)(void *)(scratch + taken_bytes));
  number_rows(&w, call->out[0]->data, call->out[1]->data);
  return MG_OK;
}

static int64_t last_offset(const mg_tensor *offsets) {
  return ((const int32_t *)offsets->data)[mg_tensor_count(offsets) - 1];
}

mg_status CPU_NAME(dispatch)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int32_t *slots = call->in[1]->data;
  const int64_t choices = call->attributes.dispatch.choices, used = last_offset(call->in[2]);
  const int64_t rows = mg_tensor_rows(out), work = mg_tensor_count(out);
  const size_t bytes = (size_t)mg_tensor_columns(out) * mg_dtype_bytes(out->dtype);
  MG_TRY(cpu_check_ids(backend, call->op, call->in[1], mg_tensor_rows(x) * choices));
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    char *target = (char *)out->data + (size_t)row * bytes;
    if (row < used && slots[row] >= 0) /* -1 is a padding row */
      memcpy(target, (const char *)x->data + (size_t)(slots[row] / choices) * bytes, bytes);
    else
      memset(target, 0, bytes);
  }
  return MG_OK;
}

/* out[i] = the sum over the choices of one token, in the order of the choices, of weight * y[position]. */
static void combine_chunk(const mg_op_call *call, int64_t token, int64_t first, int64_t n) {
  const mg_tensor *y = call->in[0], *weights = call->in[1], *out = call->out[0];
  const int32_t *position = call->in[2]->data;
  const int64_t choices = mg_tensor_columns(call->in[2]), columns = mg_tensor_columns(out);
  float sum_buffer[CPU_CHUNK], y_buffer[CPU_CHUNK];
  float *sum = cpu_write_begin(out, token * columns + first, sum_buffer);
  memset(sum, 0, (size_t)n * sizeof(float));
  for (int64_t slot = token * choices; slot < (token + 1) * choices; slot++) {
    if (position[slot] < 0) continue;
    const float weight = weights ? cpu_at(weights, slot) : 1.0f;
    const float *row = cpu_read(y, position[slot] * columns + first, n, y_buffer);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += weight * row[i];
  }
  cpu_write_end(out, token * columns + first, n, sum_buffer);
}

mg_status CPU_NAME(combine)(mg_backend *backend, const mg_op_call *call) {
  const int64_t tokens = mg_tensor_rows(call->in[2]), columns = mg_tensor_columns(call->out[0]);
  const int64_t work = mg_tensor_count(call->in[2]) * columns;
  MG_TRY(cpu_check_ids(backend, call->op, call->in[2], mg_tensor_rows(call->in[0])));
  CPU_PARALLEL(backend, work)
  for (int64_t token = 0; token < tokens; token++)
    for (int64_t first = 0; first < columns; first += CPU_CHUNK)
      combine_chunk(call, token, first, cpu_min(CPU_CHUNK, columns - first));
  return MG_OK;
}

/* dy[row] = weight * dout[token]; returns dout[token] . y[row]. */
static float combine_backward_row(const mg_op_call *call, int64_t row, int64_t token, float weight, bool want_dot) {
  const mg_tensor *dout = call->in[0], *y = call->in[1], *dy = call->out[0];
  const int64_t columns = mg_tensor_columns(dy);
  float dot = 0.0f;
  for (int64_t first = 0; first < columns; first += CPU_CHUNK) {
    const int64_t n = cpu_min(CPU_CHUNK, columns - first);
    float g_buffer[CPU_CHUNK], y_buffer[CPU_CHUNK], out_buffer[CPU_CHUNK];
    const float *g = cpu_read(dout, token * columns + first, n, g_buffer);
    float *out = cpu_write_begin(dy, row * columns + first, out_buffer);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = weight * g[i];
    cpu_write_end(dy, row * columns + first, n, out_buffer);
    if (!want_dot) continue;
    const float *values = cpu_read(y, row * columns + first, n, y_buffer);
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < n; i++) dot += g[i] * values[i];
  }
  return dot;
}

mg_status CPU_NAME(combine_backward)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *weights = call->in[2], *dy = call->out[0], *dweights = call->out[1];
  const int32_t *slots = call->in[3]->data;
  const int64_t choices = weights ? mg_tensor_columns(weights) : call->attributes.dispatch.choices;
  const int64_t rows = mg_tensor_rows(dy), used = last_offset(call->in[4]), work = mg_tensor_count(dy);
  const size_t bytes = (size_t)mg_tensor_columns(dy) * mg_dtype_bytes(dy->dtype);
  MG_TRY(cpu_check_ids(backend, call->op, call->in[3], mg_tensor_rows(call->in[0]) * choices));
  if (dweights && dweights->data) memset(dweights->data, 0, mg_tensor_bytes(dweights));
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    const int32_t slot = row < used ? slots[row] : -1;
    if (slot < 0) {
      memset((char *)dy->data + (size_t)row * bytes, 0, bytes);
      continue;
    }
    const float weight = weights ? cpu_at(weights, slot) : 1.0f;
    const float dot = combine_backward_row(call, row, slot / choices, weight, dweights != NULL);
    if (dweights) cpu_set(dweights, slot, dot);
  }
  return MG_OK;
}
