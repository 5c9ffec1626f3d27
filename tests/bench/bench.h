/* What the benchmarks share: one backend, the machine's peaks, tensors with random contents. */
#ifndef MG_BENCH_H
#define MG_BENCH_H

#include "gbench_shim.h"
#include "host/registry.h"
#include "measure/peak.h"
#include "moegauge/moegauge.h"

typedef struct bench_world {
  mg_context *context;
  mg_registry *registry;
  mg_backend *backend;
  mg_peak peak;
} bench_world;

/* The one world of this program, made by main. */
const bench_world *bench_world_get(void);

/* A tensor of normal numbers with the given deviation; data NULL when memory ran out. */
mg_tensor bench_tensor(mg_dtype dtype, int32_t dims, const int64_t *shape, double deviation);
/* i32 ids: rows of `choices` distinct numbers below `bound`. */
mg_tensor bench_ids(int64_t rows, int64_t choices, int64_t bound);
void bench_release(mg_tensor *tensor);

/* Runs one call; false after a failure, which is then the benchmark's reason. */
bool bench_run(gbench_state *state, const mg_op_call *call);

/* "FLOP/s" and their share of the peak that fits the dtype. */
void bench_flops(gbench_state *state, mg_dtype compute, double flops);
/* "B/s" and their share of the copy bandwidth. */
void bench_bytes(gbench_state *state, double bytes);

void bench_register_ops(void);
void bench_register_gating(void);
void bench_register_moe(void);
void bench_register_expert_matmul(void);
void bench_register_train(void);
void bench_register_cluster(void);

#endif
