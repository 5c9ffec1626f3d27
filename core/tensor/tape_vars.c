/* How variables come onto the tape and leave it: leaves, uploads, downloads, views. */
#include <string.h>

#include "tensor/tape_internal.h"

mg_tensor mg__shape_of(mg_dtype dtype, int32_t dims, const int64_t *shape) {
  mg_tensor tensor = {.dtype = dtype, .dims = dims};
  for (int32_t i = 0; i < dims && i < MG_DIMS_MAX; i++) tensor.shape[i] = shape[i];
  return tensor;
}

mg_var *mg__var_new(mg_tape *tape) {
  mg_var *x = mg_arena_alloc(tape->memory.host, sizeof *x);
  if (!x) {
    mg__passed(tape, MG_MEMORY);
    return NULL;
  }
  x->tape = tape;
  return x;
}

/* ---- leaves -------------------------------------------------------------------------------------------------- */

static bool gradient_fits(mg_tape *tape, const mg_tensor *tensor, const mg_tensor *gradient) {
  const mg_dtype due = tensor->dtype == MG_F64 ? MG_F64 : MG_F32;
  if (tensor->dtype == MG_I32) {
    mg_tape_fail(tape, MG_USAGE, "leaf: an i32 tensor has no gradient; pass NULL");
    return false;
  }
  if (gradient->dtype == due && mg_tensor_same_shape(tensor, gradient)) return true;
  char shape[MG_SHAPE_TEXT_BYTES], wanted[MG_SHAPE_TEXT_BYTES];
  mg_tape_fail(tape, MG_USAGE, "leaf: the gradient is %s %s; it must be %s %s", mg_dtype_name(gradient->dtype),
               mg_shape_text(gradient, shape), mg_dtype_name(due), mg_shape_text(tensor, wanted));
  return false;
}

mg_var *mg_tape_leaf(mg_tape *tape, const mg_tensor *tensor, mg_tensor *gradient) {
  if (tape->status != MG_OK) return NULL;
  if (!tensor) return mg_tape_fail(tape, MG_USAGE, "leaf: the tensor is missing (NULL)");
  if (gradient && !gradient_fits(tape, tensor, gradient)) return NULL;
  mg_var *x = mg__var_new(tape);
  if (!x) return NULL;
  x->tensor = *tensor;
  x->leaf_gradient = gradient;
  x->needs_gradient = gradient != NULL;
  return x;
}

/* ---- to and from the host ------------------------------------------------------------------------------------ */

static bool shape_is_sound(mg_tape *tape, const char *what, mg_dtype dtype, int32_t dims, const int64_t *shape) {
  int64_t bytes = (int64_t)mg_dtype_bytes(dtype);
  bool sound = dims >= 1 && dims <= MG_DIMS_MAX && bytes > 0;
  for (int32_t i = 0; sound && i < dims; i++) {
    sound = shape[i] >= 0 && !__builtin_mul_overflow(bytes, shape[i], &bytes);
  }
  if (!sound)
    mg_tape_fail(tape, MG_USAGE, "%s: the shape is not one of 1 to %d sizes that fit memory", what, MG_DIMS_MAX);
  return sound;
}

mg_var *mg_tape_upload(mg_tape *tape, mg_dtype dtype, int32_t dims, const int64_t *shape, const void *host) {
  if (tape->status != MG_OK || !shape_is_sound(tape, "upload", dtype, dims, shape)) return NULL;
  mg_var *x = mg__var_new(tape);
  if (!x) return NULL;
  x->tensor = mg__shape_of(dtype, dims, shape);
  const size_t bytes = mg_tensor_bytes(&x->tensor);
  if (!mg__passed(tape, mg__memory_take(&tape->memory, bytes, &x->tensor.data))) return NULL;
  if (bytes == 0) return x;
  if (!mg__passed(tape, tape->backend->plugin->upload(tape->backend, x->tensor.data, host, bytes))) return NULL;
  return x;
}

mg_status mg_tape_download(mg_tape *tape, const mg_var *x, void *host, size_t bytes) {
  if (!mg__usable(tape, x, "download: the variable")) return tape->status;
  const size_t have = mg_tensor_bytes(&x->tensor);
  if (have != bytes) {
    char shape[MG_SHAPE_TEXT_BYTES];
    mg_tape_fail(tape, MG_USAGE, "download: %s %s has %zu bytes; room for %zu was given",
                 mg_dtype_name(x->tensor.dtype), mg_shape_text(&x->tensor, shape), have, bytes);
    return tape->status;
  }
  const mg_backend_plugin *plugin = tape->backend->plugin;
  if (!mg__passed(tape, plugin->synchronize(tape->backend)) || bytes == 0) return tape->status;
  mg__passed(tape, plugin->download(tape->backend, host, x->tensor.data, bytes));
  return tape->status;
}

/* ---- views --------------------------------------------------------------------------------------------------- */

static bool record_view(mg_tape *tape, mg_var *x, mg_var *view) {
  mg_node *node = mg_arena_alloc(tape->memory.host, sizeof *node);
  if (!node) return mg__passed(tape, MG_MEMORY);
  node->call.op = MG_OP_COUNT;
  node->call.part = tape->part;
  node->in[0] = x;
  node->out[0] = view;
  node->previous = tape->last;
  tape->last = node;
  view->needs_gradient = true;
  return true;
}

mg_var *mg__view(mg_tape *tape, mg_var *x, int32_t dims, const int64_t *shape, bool connected) {
  mg_var *view = mg__var_new(tape);
  if (!view) return NULL;
  view->tensor = mg__shape_of(x->tensor.dtype, dims, shape);
  view->tensor.data = x->tensor.data;
  if (connected && x->needs_gradient && tape->recording && !record_view(tape, x, view)) return NULL;
  return view;
}

mg_var *mg_detach(mg_tape *tape, mg_var *x) {
  if (!mg__usable(tape, x, "detach: x")) return NULL;
  return mg__view(tape, x, x->tensor.dims, x->tensor.shape, false);
}

/* Writes the sizes with -1 replaced; false if they do not hold exactly `count` elements. */
static bool resolve_shape(int64_t count, int32_t dims, const int64_t *shape, int64_t *resolved) {
  int64_t known = 1;
  int32_t open = -1;
  if (dims < 1 || dims > MG_DIMS_MAX) return false;
  for (int32_t i = 0; i < dims; i++) {
    resolved[i] = shape[i];
    if (shape[i] == -1 && open < 0)
      open = i;
    else if (shape[i] < 0 || __builtin_mul_overflow(known, shape[i], &known))
      return false;
  }
  if (open < 0) return known == count;
  if (known == 0) return false;
  resolved[open] = count / known;
  return count % known == 0;
}

mg_var *mg_reshape(mg_tape *tape, mg_var *x, int32_t dims, const int64_t *shape) {
  if (!mg__usable(tape, x, "reshape: x")) return NULL;
  int64_t resolved[MG_DIMS_MAX] = {0};
  if (!resolve_shape(mg_tensor_count(&x->tensor), dims, shape, resolved)) {
    const mg_tensor wanted = mg__shape_of(x->tensor.dtype, dims, shape);
    char from[MG_SHAPE_TEXT_BYTES], to[MG_SHAPE_TEXT_BYTES];
    return mg_tape_fail(tape, MG_USAGE, "reshape: %s does not hold the elements of %s", mg_shape_text(&wanted, to),
                        mg_shape_text(&x->tensor, from));
  }
  return mg__view(tape, x, dims, resolved, true);
}

mg_var *mg_reshape2(mg_tape *tape, mg_var *x, int64_t rows, int64_t columns) {
  return mg_reshape(tape, x, 2, (const int64_t[]){rows, columns});
}
