/* Running calls on the tape's backend: check, memory, kernel, counting, and remembering for backward. */
#include <stdio.h>

#include "tensor/stopwatch.h"
#include "tensor/tape_internal.h"

/* Scoring and choosing are told apart within a gate. */
static mg_part part_of(const mg_op_call *call) {
  const bool chooses = call->op == MG_OP_TOP_K || call->op == MG_OP_ASSIGN || call->op == MG_OP_HISTOGRAM;
  if ((unsigned)call->part >= MG_PART_COUNT) return MG_PART_OTHER;
  return call->part == MG_PART_GATE && chooses ? MG_PART_SELECTION : call->part;
}

/* A fused gate looks at each score once to choose. */
static double choosing_flops(const mg_op_call *call) {
  return call->op == MG_OP_GATE && call->part == MG_PART_GATE ? (double)mg_tensor_count(call->in[0]) : 0.0;
}

static void count(mg_tape *tape, const mg_op_call *call, bool backward, int64_t time_ns) {
  mg_counters *counters = &tape->counters;
  const mg_part part = part_of(call);
  double *flops = backward ? counters->backward_flops : counters->flops;
  flops[part] += mg_op_flops(call) - choosing_flops(call);
  flops[MG_PART_SELECTION] += choosing_flops(call);
  counters->bytes[part] += mg_op_bytes(call);
  counters->calls[part]++;
  counters->time_ns[part] += time_ns;
}

mg_status mg__tape_execute(mg_tape *tape, const mg_op_call *call, bool backward) {
  mg_stopwatch watch = {0};
  int64_t time_ns = 0;
  if (tape->timing) MG_TRY(mg_stopwatch_start(tape->backend, &watch));
  MG_TRY(mg__op_run(tape->backend, call));
  if (tape->timing) MG_TRY(mg_stopwatch_stop(tape->backend, &watch, &time_ns));
  count(tape, call, backward, time_ns);
  return MG_OK;
}

mg_status mg_tape_run(mg_tape *tape, mg_op_call *call) {
  if (tape->status != MG_OK) return tape->status;
  mg_status status = mg__op_check(tape->context, call);
  if (status == MG_OK) status = mg__tape_execute(tape, call, false);
  mg__passed(tape, status);
  return status;
}

/* ---- applications -------------------------------------------------------------------------------------------- */

static bool inputs_usable(mg_tape *tape, const mg_application *application) {
  const mg_op_info *info = mg__op_info(application->op);
  if (tape->status != MG_OK) return false;
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) {
    if (!info->in[i].name || (info->in[i].optional && !application->in[i])) continue;
    if (application->in[i] && application->in[i]->tape == tape)
      continue; /* the words are only for what is not usable */
    char what[64];
    snprintf(what, sizeof what, "%s: %s", mg_op_name(application->op), info->in[i].name);
    if (!mg__usable(tape, application->in[i], what)) return false;
  }
  return true;
}

/* The call over the variables' tensors, with a new variable for every output. */
static bool prepare(mg_tape *tape, mg_application *application, mg_op_call *call) {
  const mg_op_info *info = mg__op_info(application->op);
  *call = (mg_op_call){.op = application->op, .part = tape->part, .attributes = application->attributes};
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) {
    if (application->in[i]) call->in[i] = &application->in[i]->tensor;
  }
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    if (!info->out[i].name || (info->out[i].optional && application->out[i].dims == 0)) continue;
    mg_var *out = mg__var_new(tape);
    if (!out) return false;
    out->tensor = application->out[i];
    application->result[i] = out;
    call->out[i] = &out->tensor;
  }
  return true;
}

static mg_status give_memory(mg_tape *tape, const mg_op_call *call) {
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    mg_tensor *out = call->out[i];
    if (out) MG_TRY(mg__memory_take(&tape->memory, mg_tensor_bytes(out), &out->data));
  }
  return MG_OK;
}

bool mg__has_fused(const mg_tape *tape, const mg_application *application) {
  mg_op_call call = {.op = application->op, .part = tape->part, .attributes = application->attributes};
  mg_tensor out[MG_OP_OUTPUTS_MAX];
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (application->in[i]) call.in[i] = &application->in[i]->tensor;
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    out[i] = application->out[i];
    if (out[i].dims) call.out[i] = &out[i];
  }
  return mg__op_runs(tape->backend, &call);
}

static bool leads_to_gradient(const mg_tape *tape, const mg_application *application) {
  if (!tape->recording || !mg__op_info(application->op)->backward) return false;
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) {
    if (mg_var_needs_gradient(application->in[i])) return true;
  }
  return false;
}

static bool record(mg_tape *tape, const mg_application *application, const mg_op_call *call) {
  mg_node *node = mg_arena_alloc(tape->memory.host, sizeof *node);
  if (!node) return mg__passed(tape, MG_MEMORY);
  node->call = *call;
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) node->in[i] = application->in[i];
  for (int32_t i = 0; i < MG_COMPANIONS_MAX; i++) {
    if (application->companions[i]) node->companions[i] = &application->companions[i]->tensor;
  }
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    node->out[i] = application->result[i];
    const bool real = node->out[i] && node->out[i]->tensor.dtype != MG_I32;
    if (real) node->out[i]->needs_gradient = true;
  }
  node->previous = tape->last;
  tape->last = node;
  return true;
}

mg_var *mg__apply(mg_tape *tape, mg_application *application) {
  mg_op_call call;
  if (!inputs_usable(tape, application) || !prepare(tape, application, &call)) return NULL;
  mg_status status = mg__op_check(tape->context, &call);
  if (status == MG_OK) status = give_memory(tape, &call);
  if (status == MG_OK) status = mg__tape_execute(tape, &call, false);
  if (!mg__passed(tape, status)) return NULL;
  if (leads_to_gradient(tape, application) && !record(tape, application, &call)) return NULL;
  return application->result[0];
}
