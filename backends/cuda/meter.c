/* The device's energy by NVML, which comes with the driver: looked for when the device is opened. */
#include <dlfcn.h>
#include <string.h>

#include "gpu.h"

typedef int (*nvml_call)(void);
typedef int (*nvml_find)(const char *bus, void **device);
typedef int (*nvml_read)(void *device, unsigned long long *millijoules);

/* ISO C has no conversion from an object's address to a function's; POSIX promises that this one works. */
#define NVML_FUNCTION(meter, name, out)                                                                                \
  do {                                                                                                                 \
    void *address_ = dlsym((meter)->library, name);                                                                    \
    memcpy(&(out), &address_, sizeof address_);                                                                        \
  } while (0)

void gpu_meter_open(const gpu_device_facts *facts, gpu_meter *meter) {
  nvml_call init = NULL;
  nvml_find find = NULL;
  double joules;
  *meter = (gpu_meter){.library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)};
  if (!meter->library) return;
  NVML_FUNCTION(meter, "nvmlInit_v2", init);
  NVML_FUNCTION(meter, "nvmlDeviceGetHandleByPciBusId_v2", find);
  if (init && find && init() == 0 && find(facts->bus, &meter->device) == 0 && gpu_meter_read(meter, &joules)) return;
  gpu_meter_close(meter);
}

bool gpu_meter_read(const gpu_meter *meter, double *out_joules) {
  nvml_read energy = NULL;
  unsigned long long millijoules = 0;
  NVML_FUNCTION(meter, "nvmlDeviceGetTotalEnergyConsumption", energy);
  if (!energy || energy(meter->device, &millijoules) != 0) return false;
  *out_joules = 1e-3 * (double)millijoules;
  return true;
}

void gpu_meter_close(gpu_meter *meter) {
  nvml_call shutdown = NULL;
  if (!meter->library) return;
  NVML_FUNCTION(meter, "nvmlShutdown", shutdown);
  if (shutdown) (void)shutdown();
  dlclose(meter->library);
  *meter = (gpu_meter){0};
}
