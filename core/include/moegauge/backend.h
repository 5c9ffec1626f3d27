/* The backend ABI: how a shared object runs the primitives on one kind of device.
 *
 * A backend plugin exports exactly one symbol, `mg_backend_entry`, which returns its static table:
 *
 *     static const mg_backend_plugin plugin = {.abi = MG_ABI, .size = sizeof(mg_backend_plugin), .name = "cpu", ...};
 *     MG_BACKEND_PLUGIN(plugin)
 */
#ifndef MOEGAUGE_BACKEND_H
#define MOEGAUGE_BACKEND_H

#include "moegauge/op.h"
#include "moegauge/option.h"

typedef struct mg_backend mg_backend;

/* Runs one call; may return before the device is done. Shapes were checked by the core. A kernel needs no memory from
 * the caller: scratch belongs to the backend and grows only in warm-up. On failure use mg_fail(backend->context, ...). */
typedef mg_status (*mg_kernel)(mg_backend *backend, const mg_op_call *call);

typedef struct mg_backend_memory {
  int64_t total_bytes; /* of the device; 0 = not known */
  int64_t free_bytes;
} mg_backend_memory;

typedef struct mg_backend_plugin {
  uint32_t abi;  /* MG_ABI */
  uint32_t size; /* sizeof(mg_backend_plugin) as the plugin was compiled */
  const char *name;
  const char *summary;      /* one sentence */
  const mg_option *options; /* ends with MG_OPTION_END; NULL = none */
  size_t options_size;      /* of the struct that the options fill */
  bool host_memory;         /* tensors can be read by the CPU without a copy once synchronised */

  /* Opens the device. backend->options is filled; sets backend->state. MG_DEVICE with a message if there is none. */
  mg_status (*open)(mg_backend *backend);
  void (*close)(mg_backend *backend);

  /* Device memory, aligned to at least 64 bytes and not zeroed. On failure MG_DEVICE or MG_MEMORY. */
  mg_status (*allocate)(mg_backend *backend, size_t bytes, void **out);
  void (*release)(mg_backend *backend, void *pointer, size_t bytes);
  /* Both act as if after every call made before them, and are done with `host` when they return: the tape reuses memory
   * without waiting for the device. */
  mg_status (*upload)(mg_backend *backend, void *device, const void *host, size_t bytes);
  mg_status (*download)(mg_backend *backend, void *host, const void *device, size_t bytes);
  /* Waits until every call made so far has finished. */
  mg_status (*synchronize)(mg_backend *backend);

  /* kernels[op], NULL where the primitive is missing; `kernels_count` may be less than MG_OP_COUNT. */
  const mg_kernel *kernels;
  uint32_t kernels_count;
  /* True if this very call (dtypes, shapes, attributes) can run. NULL = every call of a present kernel. */
  bool (*supports)(const mg_backend *backend, const mg_op_call *call);

  /* Writes what took effect (ISA, threads, device name, driver) as one line "isa=avx512 threads=2" for provenance. */
  void (*describe)(const mg_backend *backend, char *text, size_t bytes);
  /* Optional: device memory now. */
  mg_status (*memory)(mg_backend *backend, mg_backend_memory *out);
  /* Optional, for a device with a clock of its own: the first notes when the calls made so far will have finished; the
   * second does so too, waits for it, and gives the time between. */
  mg_status (*clock_start)(mg_backend *backend);
  mg_status (*clock_stop)(mg_backend *backend, int64_t *out_ns);
  /* Optional: what the device has drawn since a moment of its own. MG_UNSUPPORTED where nothing measures it. */
  mg_status (*energy)(mg_backend *backend, double *out_joules);
  /* Products, gather_rows and cast read stored dtypes (moegauge/tensor.h). Without it weights are decoded when they are
   * loaded. */
  bool stored_dtypes;
  /* Optional, both or neither: the calls between the two are a step like the one before but for addresses and sizes, as
   * that of a decoded token is. The backend may keep them back and submit them together; whatever waits for the device or
   * reads its clock submits what was kept. Every step_begin is followed by a step_end, also when a call has failed. */
  mg_status (*step_begin)(mg_backend *backend);
  mg_status (*step_end)(mg_backend *backend);
} mg_backend_plugin;

/* An open backend. The core creates it; the plugin owns `state`. Used by one thread at a time. */
struct mg_backend {
  const mg_backend_plugin *plugin;
  mg_context *context;
  const void *options; /* filled from plugin->options; NULL if there are none */
  void *state;
};

typedef const mg_backend_plugin *(*mg_backend_entry_function)(void);

#ifdef MG_PLUGIN_STATIC /* linked into the program: the build names a distinct function for each plugin */
#define MG_BACKEND_PLUGIN(table)                                                                                       \
  const mg_backend_plugin *MG_PLUGIN_STATIC(void);                                                                     \
  const mg_backend_plugin *MG_PLUGIN_STATIC(void) {                                                                    \
    return &(table);                                                                                                   \
  }
#else
#define MG_BACKEND_PLUGIN(table)                                                                                       \
  MG_API const mg_backend_plugin *mg_backend_entry(void);                                                              \
  const mg_backend_plugin *mg_backend_entry(void) {                                                                    \
    return &(table);                                                                                                   \
  }
#endif

#endif
