/* What the files of the GPU backends share on the host: state, memory, launching and failing. README.md explains.
 *
 * The same sources make the plugin of each vendor and those of tests/executor: gpu_vendor.h, found through the include
 * path, gives the names that begin with gpu_ their meaning. */
#ifndef MG_GPU_H
#define MG_GPU_H

#include "gpu_types.h"
#include "gpu_vendor.h"
#include "moegauge/backend.h"

/* Who computes dense products: the vendor's library where it is found, or one of the two always. */
typedef enum gpu_matmul { GPU_MATMUL_AUTO, GPU_MATMUL_OWN, GPU_MATMUL_LIBRARY } gpu_matmul;

typedef struct gpu_options {
  int64_t device, matmul;
  bool graphs;
#ifdef GPU_VENDOR_OPTION_FIELDS
  GPU_VENDOR_OPTION_FIELDS
#endif
} gpu_options;

/* The first wrong id that a kernel met since the last report; kernels write it, synchronising reads it. */
typedef struct gpu_fault {
  int32_t taken; /* 0 = none, else 1 + the primitive */
  int32_t id;
  int64_t element, bound;
} gpu_fault;

/* A free block of device memory, kept for the next allocation of its size. */
typedef struct gpu_cached {
  void *pointer;
  size_t bytes;
} gpu_cached;

typedef struct gpu_cache {
  gpu_cached *blocks;
  int64_t count, room;
  size_t bytes; /* in free blocks */
} gpu_cache;

enum { GPU_STAGES = 16, GPU_STAGE_BYTES = 1 << 18 };

/* A page-locked buffer through which the host hands data to the stream without waiting. It is filled from its beginning. */
typedef struct gpu_stage {
  char *host;
  size_t used_bytes;
  gpu_event copied; /* recorded after the copies out of it, when the next stage's turn comes */
  bool in_use;      /* `copied` has been recorded */
} gpu_stage;

/* What graphs.c keeps of steps. */
typedef struct gpu_graphs {
  bool wanted;
  bool warm;           /* a step has run without a graph */
  bool recording;      /* calls go into a graph that has not been submitted */
  gpu_graph_exec exec; /* what the last graph was submitted as; NULL = nothing yet */
} gpu_graphs;

typedef struct gpu_state {
  gpu_device_facts facts;
  gpu_stream stream; /* all work of the backend, in order */
  gpu_cache cache;
  gpu_stage stages[GPU_STAGES];
  int stage; /* which is being filled */
  gpu_graphs graphs;
  void *scratch;
  size_t scratch_bytes;
  gpu_fault *fault;      /* on the device */
  gpu_fault *fault_host; /* page-locked; where it is read */
  gpu_event clock[2];    /* between which calls are timed */
  gpu_meter meter;
  gpu_blas blas; /* not opened where the option says `own` */
  void *blas_workspace;
} gpu_state;

static inline gpu_state *gpu_state_of(const mg_backend *backend) {
  return (gpu_state *)backend->state;
}

/* Rows that a warp holds in registers to choose from them (choose.h); a fused gate needs that. */
enum { GPU_HELD_PER_LANE = 16, GPU_CHOICES_MAX = 32 /* no more than a warp has lanes */ };
static inline bool gpu_choosing_is_held(int64_t columns, int64_t choices) {
  return columns <= GPU_HELD_PER_LANE * GPU_WARP && choices <= GPU_CHOICES_MAX;
}

#ifdef __cplusplus
extern "C" {
#endif

/* ---- memory (memory.c) ------------------------------------------------------------------------------------------ */

/* Device memory of at least `bytes`, 256-byte aligned; from the cache where it holds a block of this size. */
mg_status mg__gpu_allocate(mg_backend *backend, size_t bytes, void **out);
/* Puts the block into the cache. Work that was launched before may still use it: later work runs after that. */
void mg__gpu_release(mg_backend *backend, void *pointer, size_t bytes);
/* Gives cached blocks back to the device. */
void mg__gpu_cache_empty(mg_backend *backend);
void mg__gpu_cache_destroy(mg_backend *backend);

/* Memory for one call of a primitive, which the next call may overwrite; it grows to what the largest call needs. NULL
 * after a failure that is in the context. */
void *mg__gpu_scratch(mg_backend *backend, size_t bytes);

/* ---- copies and waiting (transfer.c) ---------------------------------------------------------------------------- */

mg_status mg__gpu_transfer_create(mg_backend *backend);
void mg__gpu_transfer_destroy(mg_backend *backend);
/* Makes room for half a stage of uploads that no wait or event interrupts. */
mg_status mg__gpu_stage_prepare(mg_backend *backend);
mg_status mg__gpu_upload(mg_backend *backend, void *device, const void *host, size_t bytes);
mg_status mg__gpu_download(mg_backend *backend, void *host, const void *device, size_t bytes);
/* Waits for all launched work, and reports the first wrong id that it met (MG_BUG). */
mg_status mg__gpu_synchronize(mg_backend *backend);

/* ---- steps as graphs (graphs.c) --------------------------------------------------------------------------------- */

void mg__gpu_graphs_destroy(mg_backend *backend);
mg_status mg__gpu_step_begin(mg_backend *backend);
mg_status mg__gpu_step_end(mg_backend *backend);
/* Submits what a step has recorded; the rest of the step is launched call by call. Whoever waits for the device, records
 * an event, or asks the device for memory or gives it back, calls this before. */
mg_status mg__gpu_submit(mg_backend *backend);

/* ---- time and energy (clock.c) ---------------------------------------------------------------------------------- */

mg_status mg__gpu_clock_create(mg_backend *backend);
void mg__gpu_clock_destroy(mg_backend *backend);
mg_status mg__gpu_clock_start(mg_backend *backend);
mg_status mg__gpu_clock_stop(mg_backend *backend, int64_t *out_ns);
mg_status mg__gpu_energy(mg_backend *backend, double *out_joules);

/* The vendor's meter (meter.c in the vendor's folder). Opening leaves library NULL where there is none. */
void gpu_meter_open(const gpu_device_facts *facts, gpu_meter *meter);
bool gpu_meter_read(const gpu_meter *meter, double *out_joules);
void gpu_meter_close(gpu_meter *meter);

/* ---- the vendor's matrix products (blas.c) ---------------------------------------------------------------------- */

enum { GPU_BLAS_WORKSPACE_BYTES = 32 << 20 };

mg_status mg__gpu_blas_create(mg_backend *backend, gpu_matmul wanted);
void mg__gpu_blas_destroy(mg_backend *backend);

/* How a vendor's library is used, in the vendor's vendor_blas.c; all NULL where the build has none. Each is false when the
 * library lacks a function or refuses. Products go into the stream and use the workspace alone. */
typedef struct gpu_blas_vendor {
  const char *path, *file; /* what is loaded: as the build found it, else by its name; NULL = nothing need be loaded */
  bool (*prepare)(gpu_blas *blas, gpu_stream stream); /* makes the handle and says the name */
  bool (*lend)(const gpu_blas *blas, void *workspace, size_t bytes);
  bool (*multiply)(const gpu_blas *blas, const gpu_gemm *product);
  void (*finish)(gpu_blas *blas); /* gives the handle back */
} gpu_blas_vendor;
extern const gpu_blas_vendor gpu_vendor_blas;

/* Declares `out` as the loaded library's function, NULL where it has none. ISO C has no conversion from an object's address
 * to a function's; POSIX promises that this one works. */
#define GPU_BLAS_FUNCTION(blas, function, out)                                                                         \
  __typeof__(function) *out = NULL;                                                                                    \
  do {                                                                                                                 \
    void *address_ = dlsym((blas)->library, #function);                                                                \
    memcpy(&(out), &address_, sizeof address_);                                                                        \
  } while (0)

/* ---- failing (errors.c) ----------------------------------------------------------------------------------------- */

/* MG_OK for GPU_OK, else a failure whose message says what was being done (`what`, a clause such as "copying to the
 * device"), what the runtime said, and what to do. */
mg_status mg__gpu_check(mg_backend *backend, gpu_error error, const char *what);
/* What every kernel function ends with: whether its launches were accepted. */
mg_status mg__gpu_launched(mg_backend *backend, const mg_op_call *call);

/* Launches an empty kernel: fails where the plugin holds no code for the device. (elementwise.cpp) */
mg_status mg__gpu_probe(mg_backend *backend);

/* ---- primitives (table.c lists them) ---------------------------------------------------------------------------- */

extern const mg_kernel mg__gpu_kernels[MG_OP_COUNT];
#define GPU_DECLARE(NAME, name, inputs, outputs, what) mg_status mg__gpu_##name(mg_backend *, const mg_op_call *);
MG_OP_LIST(GPU_DECLARE)
#undef GPU_DECLARE

#ifdef __cplusplus
}
#endif

#endif
