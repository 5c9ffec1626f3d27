/* Time by two events in the stream, and energy by the vendor's meter. */
#include "gpu.h"

mg_status mg__gpu_clock_create(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  for (int i = 0; i < 2; i++) MG_TRY(mg__gpu_check(backend, gpu_event_create(&state->clock[i]), "creating an event"));
  gpu_meter_open(&state->facts, &state->meter);
  return MG_OK;
}

void mg__gpu_clock_destroy(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  for (int i = 0; i < 2; i++)
    if (state->clock[i]) (void)gpu_event_destroy(state->clock[i]);
  gpu_meter_close(&state->meter);
}

mg_status mg__gpu_clock_start(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  MG_TRY(mg__gpu_submit(backend));
  return mg__gpu_check(backend, gpu_event_record(state->clock[0], state->stream), "recording an event");
}

mg_status mg__gpu_clock_stop(mg_backend *backend, int64_t *out_ns) {
  gpu_state *state = gpu_state_of(backend);
  float milliseconds = 0.0f;
  MG_TRY(mg__gpu_submit(backend));
  MG_TRY(mg__gpu_check(backend, gpu_event_record(state->clock[1], state->stream), "recording an event"));
  MG_TRY(mg__gpu_check(backend, gpu_event_wait(state->clock[1]), "waiting for the device"));
  MG_TRY(mg__gpu_check(backend, gpu_event_milliseconds(&milliseconds, state->clock[0], state->clock[1]),
                       "reading the device's clock"));
  *out_ns = (int64_t)(1e6 * (double)milliseconds);
  return MG_OK;
}

mg_status mg__gpu_energy(mg_backend *backend, double *out_joules) {
  const gpu_meter *meter = &gpu_state_of(backend)->meter;
  if (meter->library && gpu_meter_read(meter, out_joules)) return MG_OK;
  return mg_fail(backend->context, MG_UNSUPPORTED, "nothing measures the energy of %s here",
                 gpu_state_of(backend)->facts.name);
}
