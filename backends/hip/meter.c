/* The device's energy by ROCm SMI, looked for when the device is opened. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "gpu.h"

typedef int (*smi_init)(uint64_t flags);
typedef int (*smi_count)(uint32_t *count);
typedef int (*smi_bus)(uint32_t device, uint64_t *bus);
typedef int (*smi_read)(uint32_t device, uint64_t *count, float *microjoules_each, uint64_t *when_ns);
typedef int (*smi_call)(void);

/* ISO C has no conversion from an object's address to a function's; POSIX promises that this one works. */
#define SMI_FUNCTION(meter, name, out)                                                                                 \
  do {                                                                                                                 \
    void *address_ = dlsym((meter)->library, name);                                                                    \
    memcpy(&(out), &address_, sizeof address_);                                                                        \
  } while (0)

static void *open_library(void) {
  static const char *const names[] = {"librocm_smi64.so.7", "librocm_smi64.so.6", "librocm_smi64.so.5",
                                      "librocm_smi64.so.1", "librocm_smi64.so"};
  void *library = NULL;
  for (size_t i = 0; i < MG_COUNT(names) && !library; i++) library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  return library;
}

/* The library packs the address as domain << 32, bus << 8, device << 3, function. */
static bool find_device(gpu_meter *meter, const char *address) {
  smi_count count_devices = NULL;
  smi_bus bus_of = NULL;
  unsigned domain, bus, device;
  uint32_t count = 0;
  SMI_FUNCTION(meter, "rsmi_num_monitor_devices", count_devices);
  SMI_FUNCTION(meter, "rsmi_dev_pci_id_get", bus_of);
  if (!count_devices || !bus_of || sscanf(address, "%x:%x:%x", &domain, &bus, &device) != 3) return false;
  if (count_devices(&count) != 0) return false;
  const uint64_t wanted = (uint64_t)domain << 32 | (uint64_t)bus << 8 | (uint64_t)device << 3;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t here;
    if (bus_of(i, &here) != 0 || (here & ~UINT64_C(7)) != wanted) continue;
    meter->device = (void *)(uintptr_t)i;
    return true;
  }
  return false;
}

void gpu_meter_open(const gpu_device_facts *facts, gpu_meter *meter) {
  smi_init init = NULL;
  double joules;
  *meter = (gpu_meter){.library = open_library()};
  if (!meter->library) return;
  SMI_FUNCTION(meter, "rsmi_init", init);
  if (init && init(0) == 0 && find_device(meter, facts->bus) && gpu_meter_read(meter, &joules)) return;
  gpu_meter_close(meter);
}

bool gpu_meter_read(const gpu_meter *meter, double *out_joules) {
  smi_read energy = NULL;
  uint64_t count = 0, when_ns = 0;
  float microjoules_each = 0.0f;
  SMI_FUNCTION(meter, "rsmi_dev_energy_count_get", energy);
  if (!energy || energy((uint32_t)(uintptr_t)meter->device, &count, &microjoules_each, &when_ns) != 0) return false;
  *out_joules = 1e-6 * (double)count * (double)microjoules_each;
  return true;
}

void gpu_meter_close(gpu_meter *meter) {
  smi_call shutdown = NULL;
  if (!meter->library) return;
  SMI_FUNCTION(meter, "rsmi_shut_down", shutdown);
  if (shutdown) (void)shutdown();
  dlclose(meter->library);
  *meter = (gpu_meter){0};
}
