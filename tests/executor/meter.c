/* The pretended device's energy meter: a millijoule for each launch, where the settings give it a meter. */
#include "executor.h"
#include "gpu.h"

static char present; /* its address stands for the library */

void gpu_meter_open(const gpu_device_facts *facts, gpu_meter *meter) {
  (void)facts;
  *meter = (gpu_meter){.library = executor_has_meter() ? &present : NULL};
}

bool gpu_meter_read(const gpu_meter *meter, double *out_joules) {
  *out_joules = 1e-3 * (double)executor_count().launches;
  return meter->library == &present;
}

void gpu_meter_close(gpu_meter *meter) {
  *meter = (gpu_meter){0};
}
