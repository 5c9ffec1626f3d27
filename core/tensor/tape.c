/* The life of a tape: creation, reset, sticky failure, settings, and what its variables tell. */
#include <string.h>

#include "base/clock.h"
#include "tensor/tape_internal.h"

mg_status mg_tape_create(mg_backend *backend, mg_dtype compute, mg_tape **out) {
  *out = NULL;
  mg_context *context = backend->context;
  if (compute != MG_F32 && compute != MG_BF16 && compute != MG_F64)
    return mg_fail(context, MG_USAGE, "a tape computes in f32, bf16 or f64, not in %s", mg_dtype_name(compute));
  mg_tape *tape = mg_alloc(context, sizeof *tape);
  if (!tape) return MG_MEMORY;
  tape->backend = backend;
  tape->context = context;
  tape->compute = compute;
  tape->part = MG_PART_OTHER;
  tape->recording = true;
  tape->generation = (uint64_t)mg_clock_ns(); /* so that a later tape at the same address repeats no generation */
  const mg_status status = mg__memory_open(&tape->memory, backend);
  if (status != MG_OK) {
    mg_free(context, tape, sizeof *tape);
    return status;
  }
  *out = tape;
  return MG_OK;
}

void mg_tape_destroy(mg_tape *tape) {
  if (!tape) return;
  mg__memory_close(&tape->memory);
  mg_free(tape->context, tape, sizeof *tape);
}

void mg_tape_reset(mg_tape *tape) {
  mg__memory_reset(&tape->memory);
  tape->last = NULL;
  tape->status = MG_OK;
  tape->walked_back = false;
  tape->generation++;
}

/* ---- failure ------------------------------------------------------------------------------------------------- */

mg_status mg_tape_status(const mg_tape *tape) {
  return tape->status;
}

bool mg__passed(mg_tape *tape, mg_status status) {
  if (status == MG_OK) return true;
  if (tape->status == MG_OK) tape->status = status;
  return false;
}

mg_var *mg_tape_fail(mg_tape *tape, mg_status status, const char *format, ...) {
  if (tape->status != MG_OK) return NULL;
  va_list arguments;
  va_start(arguments, format);
  tape->status = mg_fail_va(tape->context, status, format, arguments);
  va_end(arguments);
  return NULL;
}

bool mg__usable(mg_tape *tape, const mg_var *x, const char *what) {
  if (tape->status != MG_OK) return false;
  if (!x) {
    mg_tape_fail(tape, MG_USAGE, "%s is missing (NULL)", what);
    return false;
  }
  if (x->tape == tape) return true;
  mg_tape_fail(tape, MG_USAGE, "%s is a variable of another tape; download it there and upload it here", what);
  return false;
}

/* ---- settings and accounts ----------------------------------------------------------------------------------- */

bool mg_tape_recording(const mg_tape *tape) {
  return tape->recording;
}

mg_tape_place mg_tape_here(const mg_tape *tape) {
  return mg__memory_place(&tape->memory);
}

void mg_tape_go_back(mg_tape *tape, mg_tape_place place) {
  mg__memory_rewind(&tape->memory, place);
}

void mg_tape_begin_step(mg_tape *tape) {
  const mg_backend_plugin *plugin = tape->backend->plugin;
  if (plugin->step_begin) mg__passed(tape, plugin->step_begin(tape->backend));
}

void mg_tape_end_step(mg_tape *tape) {
  const mg_backend_plugin *plugin = tape->backend->plugin;
  if (plugin->step_begin) mg__passed(tape, plugin->step_end(tape->backend));
}

mg_context *mg_tape_context(const mg_tape *tape) {
  return tape->context;
}

mg_backend *mg_tape_backend(const mg_tape *tape) {
  return tape->backend;
}

void mg_tape_set_recording(mg_tape *tape, bool recording) {
  tape->recording = recording;
}

mg_dtype mg_tape_set_compute(mg_tape *tape, mg_dtype compute) {
  const mg_dtype before = tape->compute;
  tape->compute = compute;
  return before;
}

mg_part mg_tape_set_part(mg_tape *tape, mg_part part) {
  const mg_part before = tape->part;
  tape->part = part;
  return before;
}

size_t mg_tape_bytes(const mg_tape *tape) {
  return tape->memory.used;
}

size_t mg_tape_peak_bytes(const mg_tape *tape) {
  return tape->memory.peak;
}

mg_counters *mg_tape_counters(mg_tape *tape) {
  return &tape->counters;
}

void mg_tape_set_timing(mg_tape *tape, bool timing) {
  tape->timing = timing;
}

uint64_t mg__tape_generation(const mg_tape *tape) {
  return tape->generation;
}

/* ---- what variables tell ------------------------------------------------------------------------------------- */

const mg_tensor *mg_var_tensor(const mg_var *x) {
  return x ? &x->tensor : NULL;
}

const mg_tensor *mg_var_gradient(const mg_var *x) {
  if (!x || !x->has_gradient) return NULL;
  return x->leaf_gradient ? x->leaf_gradient : &x->gradient;
}

bool mg_var_needs_gradient(const mg_var *x) {
  return x && x->needs_gradient;
}

void mg_var_keep_gradient(mg_var *x) {
  if (x) x->keeps_gradient = true;
}

int64_t mg_var_rows(const mg_var *x) {
  return x ? mg_tensor_rows(&x->tensor) : 0;
}

int64_t mg_var_columns(const mg_var *x) {
  return x ? mg_tensor_columns(&x->tensor) : 0;
}

mg_dtype mg_var_dtype(const mg_var *x) {
  return x ? x->tensor.dtype : MG_F32;
}
