/* What goes wrong on a device, in words: out of memory, no device, no code for it, a refused call, a lost device. */
#include <stdio.h>

#include "gpu.h"

static mg_status no_device(mg_backend *backend, const char *text) {
  return mg_fail(backend->context, MG_DEVICE,
                 "no " GPU_RUNTIME
                 " device can be used here (%s); run on a machine that has one and its driver, or choose "
                 "backend=cpu",
                 text);
}

static mg_status no_code(mg_backend *backend, const char *text) {
  const gpu_device_facts *facts = &gpu_state_of(backend)->facts;
  return mg_fail(backend->context, MG_DEVICE,
                 "this plugin holds no code for %s (%s): it was built for " GPU_ARCHITECTURES
                 " (%s); configure again with " GPU_REBUILD " for this device",
                 facts->name, facts->architecture, text);
}

mg_status mg__gpu_check(mg_backend *backend, gpu_error error, const char *what) {
  const char *name = backend->state ? gpu_state_of(backend)->facts.name : GPU_BACKEND_NAME;
  switch (gpu_problem_of(error)) {
  case GPU_PROBLEM_NONE: return MG_OK;
  case GPU_PROBLEM_MEMORY:
    return mg_fail(backend->context, MG_DEVICE, "%s is out of memory while %s; use a smaller batch or model", name,
                   what);
  case GPU_PROBLEM_NO_DEVICE: return no_device(backend, gpu_error_text(error));
  case GPU_PROBLEM_ARCHITECTURE: return no_code(backend, gpu_error_text(error));
  case GPU_PROBLEM_CALL:
    return mg_fail(backend->context, MG_BUG, "%s refused a call while %s: %s", name, what, gpu_error_text(error));
  case GPU_PROBLEM_LOST: break;
  }
  return mg_fail(backend->context, MG_DEVICE,
                 "%s was lost while %s: %s; this process can use it no more, other cases start afresh (a kernel log or "
                 "the vendor's tool may say why)",
                 name, what, gpu_error_text(error));
}

mg_status mg__gpu_launched(mg_backend *backend, const mg_op_call *call) {
  const gpu_error error = gpu_last_error();
  char what[64];
  if (error == GPU_OK) return MG_OK;
  snprintf(what, sizeof what, "launching %s", mg_op_name(call->op));
  return mg__gpu_check(backend, error, what);
}
