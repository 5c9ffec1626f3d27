/* The host's energy is nobody's to measure here. */
#include "gpu.h"

void gpu_meter_open(const gpu_device_facts *facts, gpu_meter *meter) {
  (void)facts;
  *meter = (gpu_meter){0};
}

bool gpu_meter_read(const gpu_meter *meter, double *out_joules) {
  (void)meter;
  *out_joules = 0.0;
  return false;
}

void gpu_meter_close(gpu_meter *meter) {
  *meter = (gpu_meter){0};
}
