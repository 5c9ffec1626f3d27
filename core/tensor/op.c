/* Names of primitives and parts, the table of rows, costs, and running one call on a backend. */
#include <stdio.h>

#include "tensor/op_info.h"

#define ROW_DECLARE(NAME, name, inputs, outputs, what) extern const mg_op_info mg__op_##name;
MG_OP_LIST(ROW_DECLARE)
#undef ROW_DECLARE

static const struct {
  const char *name, *meaning;
  const mg_op_info *info;
} ops[MG_OP_COUNT] = {
#define ROW_ENTRY(NAME, name, inputs, outputs, what) [MG_OP_##NAME] = {#name, what, &mg__op_##name},
    MG_OP_LIST(ROW_ENTRY)
#undef ROW_ENTRY
};

static const char *const part_names[MG_PART_COUNT] = {
#define PART_NAME(NAME, name) [MG_PART_##NAME] = #name,
    MG_PART_LIST(PART_NAME)
#undef PART_NAME
};

static bool is_op(mg_op op) {
  return (unsigned)op < MG_OP_COUNT;
}

const mg_op_info *mg__op_info(mg_op op) {
  return is_op(op) ? ops[op].info : NULL;
}

const char *mg_op_name(mg_op op) {
  return is_op(op) ? ops[op].name : "unknown";
}

const char *mg_op_meaning(mg_op op) {
  return is_op(op) ? ops[op].meaning : "no primitive";
}

const char *mg_part_name(mg_part part) {
  return (unsigned)part < MG_PART_COUNT ? part_names[part] : "unknown";
}

double mg_op_flops(const mg_op_call *call) {
  const mg_op_info *info = mg__op_info(call->op);
  if (!info) return 0.0;
  if (info->flops) return info->flops(call);
  const mg_tensor *over = call->in[0] ? call->in[0] : call->out[0];
  return over ? info->flops_each * (double)mg_tensor_count(over) : 0.0;
}

double mg_op_bytes(const mg_op_call *call) {
  double bytes = 0.0;
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) {
    if (call->in[i]) bytes += (double)mg_tensor_bytes(call->in[i]);
  }
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    if (call->out[i]) bytes += (double)mg_tensor_bytes(call->out[i]);
  }
  return bytes;
}

const char *mg__call_text(const mg_op_call *call, char text[MG_CALL_TEXT_BYTES]) {
  const mg_op_info *info = mg__op_info(call->op);
  size_t used = (size_t)snprintf(text, MG_CALL_TEXT_BYTES, "%s(", mg_op_name(call->op));
  const char *between = "";
  for (int32_t i = 0; info && i < MG_OP_INPUTS_MAX && used < MG_CALL_TEXT_BYTES; i++) {
    if (!call->in[i] || !info->in[i].name) continue;
    char shape[MG_SHAPE_TEXT_BYTES];
    used += (size_t)snprintf(text + used, MG_CALL_TEXT_BYTES - used, "%s%s %s %s", between, info->in[i].name,
                             mg_dtype_name(call->in[i]->dtype), mg_shape_text(call->in[i], shape));
    between = ", ";
  }
  if (used < MG_CALL_TEXT_BYTES) snprintf(text + used, MG_CALL_TEXT_BYTES - used, ")");
  return text;
}

static bool nothing_to_write(const mg_op_call *call) {
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    if (call->out[i] && mg_tensor_count(call->out[i]) > 0) return false;
  }
  return true;
}

static bool has_stored(const mg_op_call *call) {
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (call->in[i] && mg_dtype_is_stored(call->in[i]->dtype)) return true;
  return false;
}

static bool has_kernel(const mg_backend_plugin *plugin, mg_op op) {
  return is_op(op) && (uint32_t)op < plugin->kernels_count && plugin->kernels[op];
}

bool mg__op_runs(const mg_backend *backend, const mg_op_call *call) {
  const mg_backend_plugin *plugin = backend->plugin;
  if (!has_kernel(plugin, call->op) || (!plugin->stored_dtypes && has_stored(call))) return false;
  return !plugin->supports || plugin->supports(backend, call);
}

mg_status mg__op_run(mg_backend *backend, const mg_op_call *call) {
  const mg_backend_plugin *plugin = backend->plugin;
  char text[MG_CALL_TEXT_BYTES];
  if (!has_kernel(plugin, call->op)) {
    return mg_fail(backend->context, MG_UNSUPPORTED,
                   "backend %s cannot run %s: it has no such primitive; choose another backend", plugin->name,
                   mg__call_text(call, text));
  }
  if (!plugin->stored_dtypes && has_stored(call))
    return mg_fail(backend->context, MG_UNSUPPORTED,
                   "backend %s cannot run %s: it reads no stored dtypes; decode them first, or choose another backend",
                   plugin->name, mg__call_text(call, text));
  if (plugin->supports && !plugin->supports(backend, call)) {
    return mg_fail(backend->context, MG_UNSUPPORTED,
                   "backend %s cannot run %s: it does not support these dtypes, shapes or settings; choose another "
                   "precision or backend",
                   plugin->name, mg__call_text(call, text));
  }
  if (nothing_to_write(call)) return MG_OK;
  return plugin->kernels[call->op](backend, call);
}
