/* Copies between host and device, and waiting: the only places where the host may stop for the device.
 *
 * Uploads go through a ring of page-locked buffers: the call returns once its bytes are in a buffer, and waits only where
 * the copies out of the next buffer have not finished. What a step records stands in one of them. Downloads and
 * synchronising wait for the stream; both then look whether a kernel met a wrong id. */
#include <string.h>

#include "gpu.h"

enum { STAGE_ALIGNMENT = 64 };

static mg_status create_stage(mg_backend *backend, gpu_stage *stage) {
  void *host;
  MG_TRY(mg__gpu_check(backend, gpu_host_malloc(&host, GPU_STAGE_BYTES), "allocating page-locked memory"));
  stage->host = host;
  return mg__gpu_check(backend, gpu_event_create(&stage->copied), "creating an event");
}

mg_status mg__gpu_transfer_create(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  void *fault, *fault_host;
  for (int i = 0; i < GPU_STAGES; i++) MG_TRY(create_stage(backend, &state->stages[i]));
  MG_TRY(mg__gpu_allocate(backend, sizeof(gpu_fault), &fault));
  state->fault = fault;
  MG_TRY(mg__gpu_check(backend, gpu_host_malloc(&fault_host, sizeof(gpu_fault)), "allocating page-locked memory"));
  state->fault_host = fault_host;
  return mg__gpu_check(backend, gpu_set(fault, 0, sizeof(gpu_fault), state->stream), "clearing memory");
}

void mg__gpu_transfer_destroy(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  for (int i = 0; i < GPU_STAGES; i++) {
    if (state->stages[i].copied) (void)gpu_event_destroy(state->stages[i].copied);
    if (state->stages[i].host) (void)gpu_host_free(state->stages[i].host);
  }
  if (state->fault_host) (void)gpu_host_free(state->fault_host);
  mg__gpu_release(backend, state->fault, sizeof(gpu_fault));
}

/* The next stage's turn: copies out of this one are in the stream, and those out of the next are waited for. */
static mg_status turn_stage(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  gpu_stage *full = &state->stages[state->stage], *next = &state->stages[(state->stage + 1) % GPU_STAGES];
  MG_TRY(mg__gpu_submit(backend));
  MG_TRY(mg__gpu_check(backend, gpu_event_record(full->copied, state->stream), "recording an event"));
  full->in_use = true;
  if (next->in_use) MG_TRY(mg__gpu_check(backend, gpu_event_wait(next->copied), "waiting for an upload"));
  *next = (gpu_stage){.host = next->host, .copied = next->copied};
  state->stage = (state->stage + 1) % GPU_STAGES;
  return MG_OK;
}

mg_status mg__gpu_stage_prepare(mg_backend *backend) {
  const gpu_state *state = gpu_state_of(backend);
  return state->stages[state->stage].used_bytes > GPU_STAGE_BYTES / 2 ? turn_stage(backend) : MG_OK;
}

/* At most one stage of bytes. */
static mg_status upload_piece(mg_backend *backend, char *device, const char *host, size_t bytes) {
  gpu_state *state = gpu_state_of(backend);
  if (bytes > GPU_STAGE_BYTES - state->stages[state->stage].used_bytes) MG_TRY(turn_stage(backend));
  gpu_stage *stage = &state->stages[state->stage];
  char *place = stage->host + stage->used_bytes;
  memcpy(place, host, bytes);
  stage->used_bytes += (bytes + STAGE_ALIGNMENT - 1) / STAGE_ALIGNMENT * STAGE_ALIGNMENT;
  return mg__gpu_check(backend, gpu_upload(device, place, bytes, state->stream), "copying to the device");
}

mg_status mg__gpu_upload(mg_backend *backend, void *device, const void *host, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const size_t left = bytes - done, piece = left < GPU_STAGE_BYTES ? left : GPU_STAGE_BYTES;
    MG_TRY(upload_piece(backend, (char *)device + done, (const char *)host + done, piece));
    done += piece;
  }
  return MG_OK;
}

/* What the kernels said about ids; the record is cleared for the next. */
static mg_status report_fault(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  const gpu_fault fault = *state->fault_host;
  if (fault.taken == 0) return MG_OK;
  MG_TRY(mg__gpu_check(backend, gpu_set(state->fault, 0, sizeof fault, state->stream), "clearing memory"));
  return mg_fail(backend->context, MG_BUG,
                 "%s: id %d at element %lld is outside [0, %lld); only -1 may stand for none, so check the ids before "
                 "the call",
                 mg_op_name((mg_op)(fault.taken - 1)), fault.id, (long long)fault.element, (long long)fault.bound);
}

mg_status mg__gpu_synchronize(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  const char *what = "waiting for the device";
  MG_TRY(mg__gpu_submit(backend));
  MG_TRY(mg__gpu_check(backend, gpu_download(state->fault_host, state->fault, sizeof(gpu_fault), state->stream), what));
  MG_TRY(mg__gpu_check(backend, gpu_stream_wait(state->stream), what));
  return report_fault(backend);
}

mg_status mg__gpu_download(mg_backend *backend, void *host, const void *device, size_t bytes) {
  gpu_state *state = gpu_state_of(backend);
  MG_TRY(mg__gpu_submit(backend));
  if (bytes > 0)
    MG_TRY(mg__gpu_check(backend, gpu_download(host, device, bytes, state->stream), "copying from the device"));
  return mg__gpu_synchronize(backend);
}
