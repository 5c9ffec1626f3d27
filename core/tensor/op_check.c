/* Checks of a call before it runs: operands present, dtypes by the row's kinds, shapes by the row's rule. */
#include <stdio.h>

#include "tensor/op_info.h"

enum { TEXT_BYTES = MG_SHAPE_TEXT_BYTES };

mg_status mg__refuse(const mg_op_check *check, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return mg_fail(check->context, MG_USAGE, "%s: %s", mg_op_name(check->call->op), text);
}

/* ---- presence ------------------------------------------------------------------------------------------------ */

static mg_status check_extent(const mg_op_check *check, const char *name, const mg_tensor *tensor) {
  const bool stored = mg_dtype_is_stored(tensor->dtype);
  if ((unsigned)tensor->dtype >= MG_DTYPE_COUNT && !stored) return mg__refuse(check, "%s has an unknown dtype", name);
  if (tensor->dims < 1 || tensor->dims > MG_DIMS_MAX)
    return mg__refuse(check, "%s has %d dimensions; it must have 1 to %d", name, tensor->dims, MG_DIMS_MAX);
  if (mg_tensor_columns(tensor) % mg_dtype_block(tensor->dtype) != 0)
    return mg__refuse(check, "%s has rows of %lld; in %s they must be multiples of %lld", name,
                      (long long)mg_tensor_columns(tensor), mg_dtype_name(tensor->dtype),
                      (long long)mg_dtype_block(tensor->dtype));
  int64_t bytes = stored ? 2 : (int64_t)mg_dtype_bytes(tensor->dtype); /* no stored element takes more */
  bool too_large = false;
  for (int32_t i = 0; i < tensor->dims; i++) {
    if (tensor->shape[i] < 0)
      return mg__refuse(check, "%s has a dimension of %lld; sizes are not negative", name, (long long)tensor->shape[i]);
    too_large |= tensor->shape[i] > 0 && __builtin_mul_overflow(bytes, tensor->shape[i], &bytes);
  }
  if (too_large) return mg__refuse(check, "%s is too large for memory to address", name);
  return MG_OK;
}

static mg_status check_presence(const mg_op_check *check) {
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) {
    const mg_operand *operand = &check->info->in[i];
    const mg_tensor *tensor = check->call->in[i];
    if (!operand->name && tensor) return mg__refuse(check, "input %d was given; there are fewer inputs", i);
    if (operand->name && !tensor && !operand->optional) return mg__refuse(check, "%s is missing (NULL)", operand->name);
    if (tensor) MG_TRY(check_extent(check, operand->name, tensor));
  }
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    const mg_operand *operand = &check->info->out[i];
    const mg_tensor *tensor = check->call->out[i];
    if (!operand->name && tensor) return mg__refuse(check, "output %d was given; there are fewer outputs", i);
    if (operand->name && !tensor && !operand->optional)
      return mg__refuse(check, "output %s is missing (NULL)", operand->name);
    if (tensor && tensor->dims != 0) MG_TRY(check_extent(check, operand->name, tensor));
  }
  return MG_OK;
}

/* ---- dtypes -------------------------------------------------------------------------------------------------- */

static bool is_real(mg_dtype dtype) {
  return dtype == MG_F32 || dtype == MG_BF16 || dtype == MG_F64;
}

/* The dtype that the REAL (or MIXED) operands agree on: that of the first one. MG_DTYPE_COUNT if there is none. */
static mg_dtype leading_dtype(const mg_op_check *check) {
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) {
    const mg_operand_kind kind = check->info->in[i].kind;
    if (check->call->in[i] && (kind == MG_OPERAND_REAL || kind == MG_OPERAND_MIXED))
      return mg_dtype_is_stored(check->call->in[i]->dtype) ? MG_F32 : check->call->in[i]->dtype;
  }
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    const mg_tensor *out = check->call->out[i];
    if (out && out->dims != 0 && check->info->out[i].kind == MG_OPERAND_REAL) return out->dtype;
  }
  return MG_DTYPE_COUNT;
}

static mg_status check_dtype(const mg_op_check *check, const mg_operand *operand, const mg_tensor *tensor,
                             mg_dtype leading) {
  const mg_dtype dtype = tensor->dtype;
  const mg_dtype wide = leading == MG_F64 ? MG_F64 : MG_F32;
  if (mg_dtype_is_stored(dtype)) {
    if (operand->stored && leading != MG_F64) return MG_OK;
    return mg__refuse(check, "%s is %s, a stored dtype, which it cannot be here; mg_cast decodes it", operand->name,
                      mg_dtype_name(dtype));
  }
  switch (operand->kind) {
  case MG_OPERAND_REAL:
    if (!is_real(dtype))
      return mg__refuse(check, "%s is %s; it must be f32, bf16 or f64", operand->name, mg_dtype_name(dtype));
    if (dtype != leading)
      return mg__refuse(check, "%s is %s beside %s; they must share one dtype (mg_cast converts)", operand->name,
                        mg_dtype_name(dtype), mg_dtype_name(leading));
    return MG_OK;
  case MG_OPERAND_MIXED:
    if (!is_real(dtype) || (dtype == MG_F64) != (leading == MG_F64))
      return mg__refuse(check, "%s is %s beside %s; f32 and bf16 mix, f64 goes only with f64", operand->name,
                        mg_dtype_name(dtype), mg_dtype_name(leading));
    return MG_OK;
  case MG_OPERAND_WIDE:
    if (dtype == wide) return MG_OK;
    return mg__refuse(check, "%s is %s; it must be %s here", operand->name, mg_dtype_name(dtype), mg_dtype_name(wide));
  case MG_OPERAND_F32:
    if (dtype == MG_F32) return MG_OK;
    return mg__refuse(check, "%s is %s; it must be f32", operand->name, mg_dtype_name(dtype));
  case MG_OPERAND_I32:
    if (dtype == MG_I32) return MG_OK;
    return mg__refuse(check, "%s is %s; it must be i32", operand->name, mg_dtype_name(dtype));
  case MG_OPERAND_ANY:
  case MG_OPERAND_NONE: return MG_OK;
  }
  return MG_OK;
}

static void derive_dtype(const mg_operand *operand, mg_tensor *tensor, mg_dtype leading) {
  switch (operand->kind) {
  case MG_OPERAND_REAL:
  case MG_OPERAND_MIXED: tensor->dtype = leading; break;
  case MG_OPERAND_WIDE: tensor->dtype = leading == MG_F64 ? MG_F64 : MG_F32; break;
  case MG_OPERAND_F32: tensor->dtype = MG_F32; break;
  case MG_OPERAND_I32: tensor->dtype = MG_I32; break;
  case MG_OPERAND_ANY:
  case MG_OPERAND_NONE: break;
  }
}

static mg_status check_dtypes(const mg_op_check *check) {
  const mg_dtype leading = leading_dtype(check);
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) {
    if (check->call->in[i]) MG_TRY(check_dtype(check, &check->info->in[i], check->call->in[i], leading));
  }
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    mg_tensor *out = check->call->out[i];
    if (!out) continue;
    if (out->dims == 0) derive_dtype(&check->info->out[i], out, leading);
    MG_TRY(check_dtype(check, &check->info->out[i], out, leading));
  }
  return MG_OK;
}

mg_status mg__op_check(mg_context *context, const mg_op_call *call) {
  const mg_op_info *info = mg__op_info(call->op);
  if (!info) return mg_fail(context, MG_BUG, "%d is not the number of a primitive", (int)call->op);
  const mg_op_check check = {context, call, info};
  MG_TRY(check_presence(&check));
  MG_TRY(check_dtypes(&check));
  return info->shape(&check);
}

/* ---- shapes -------------------------------------------------------------------------------------------------- */

mg_status mg__want_dims(const mg_op_check *check, int32_t index, int32_t dims) {
  const mg_tensor *tensor = check->call->in[index];
  if (!tensor || tensor->dims == dims) return MG_OK;
  char shape[TEXT_BYTES];
  return mg__refuse(check, "%s is %s; it must have %d dimension%s", check->info->in[index].name,
                    mg_shape_text(tensor, shape), dims, dims == 1 ? "" : "s");
}

mg_status mg__want_matrix(const mg_op_check *check, int32_t index, int64_t rows, int64_t columns, const char *because) {
  const mg_tensor *tensor = check->call->in[index];
  if (!tensor || (mg_tensor_rows(tensor) == rows && mg_tensor_columns(tensor) == columns)) return MG_OK;
  char shape[TEXT_BYTES];
  return mg__refuse(check, "%s is %s; it must be [%lld, %lld] (%s)", check->info->in[index].name,
                    mg_shape_text(tensor, shape), (long long)rows, (long long)columns, because);
}

mg_status mg__want_count(const mg_op_check *check, int32_t index, int64_t count, const char *because) {
  const mg_tensor *tensor = check->call->in[index];
  if (!tensor || mg_tensor_count(tensor) == count) return MG_OK;
  char shape[TEXT_BYTES];
  return mg__refuse(check, "%s is %s; it must have %lld elements (%s)", check->info->in[index].name,
                    mg_shape_text(tensor, shape), (long long)count, because);
}

mg_status mg__want_compute(const mg_op_check *check, mg_dtype compute) {
  if (is_real(compute)) return MG_OK;
  return mg__refuse(check, "a product in %s was asked for; it computes in f32, bf16 or f64", mg_dtype_name(compute));
}

mg_status mg__out(const mg_op_check *check, int32_t index, int32_t dims, const int64_t *shape) {
  mg_tensor *out = check->call->out[index];
  if (!out) return MG_OK;
  mg_tensor due = {.dims = dims, .dtype = out->dtype};
  for (int32_t i = 0; i < dims; i++) due.shape[i] = shape[i];
  if (out->dims == 0) {
    due.data = out->data;
    *out = due;
    return check_extent(check, check->info->out[index].name, out);
  }
  if (mg_tensor_rows(out) == mg_tensor_rows(&due) && mg_tensor_columns(out) == mg_tensor_columns(&due)) return MG_OK;
  char was[TEXT_BYTES], must[TEXT_BYTES];
  return mg__refuse(check, "output %s is %s; it must be %s", check->info->out[index].name, mg_shape_text(out, was),
                    mg_shape_text(&due, must));
}

mg_status mg__out_matrix(const mg_op_check *check, int32_t index, int64_t rows, int64_t columns) {
  return mg__out(check, index, 2, (const int64_t[]){rows, columns});
}

mg_status mg__out_vector(const mg_op_check *check, int32_t index, int64_t count) {
  return mg__out(check, index, 1, &count);
}

mg_status mg__out_like(const mg_op_check *check, int32_t index, const mg_tensor *tensor) {
  return mg__out(check, index, tensor->dims, tensor->shape);
}

mg_status mg__out_given(const mg_op_check *check, int32_t index) {
  if (check->call->out[index]->dims != 0) return MG_OK;
  return mg__refuse(check, "the caller must give the shape of output %s", check->info->out[index].name);
}

mg_status mg__shape_all_alike(const mg_op_check *check) {
  const mg_tensor *first = check->call->in[0];
  for (int32_t i = 1; i < MG_OP_INPUTS_MAX; i++) {
    MG_TRY(mg__want_matrix(check, i, mg_tensor_rows(first), mg_tensor_columns(first), check->info->in[0].name));
  }
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) MG_TRY(mg__out_like(check, i, first));
  return MG_OK;
}
