/* What the benchmarks share: one backend, the machine's peaks, tensors with random contents, work timed by turns. */
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
  mg_peak peak;   /* of the host; zero for a device with memory of its own */
  int64_t scale;  /* by which the shapes of limit/ are divided */
  int64_t rounds; /* of each benchmark of limit/ */
} bench_world;

/* The one world of this program, made by main. */
const bench_world *bench_world_get(void);

/* A tensor of uniform numbers with the given deviation; data NULL when memory ran out, which bench_by_turns reports. */
mg_tensor bench_tensor(mg_dtype dtype, int32_t dims, const int64_t *shape, double deviation);
/* i32 ids: rows of `choices` distinct numbers below `bound`. */
mg_tensor bench_ids(int64_t rows, int64_t choices, int64_t bound);
void bench_release(mg_tensor *tensor);

/* A tensor with these contents. */
mg_tensor bench_i32(int64_t rows, int64_t columns, const int32_t *values);
/* Whether the backend runs this very call. */
bool bench_supports(const mg_op_call *call);
/* Runs one call; false after a failure, which is then the benchmark's reason. */
bool bench_run(gbench_state *state, const mg_op_call *call);

/* Runs the two by turns for as many rounds as the benchmark has, after one of each that does not count, and gives the
 * medians of their times by the backend's own clock where it has one. False after a failure. */
typedef bool (*bench_work)(gbench_state *state, void *user);
bool bench_by_turns(gbench_state *state, bench_work subject, bench_work limit, void *user, double *subject_seconds,
                    double *limit_seconds);

/* "FLOP/s" and their share of the peak that fits the dtype. */
void bench_flops(gbench_state *state, mg_dtype compute, double flops);
/* "B/s" and their share of the copy bandwidth. */
void bench_bytes(gbench_state *state, double bytes);

/* Training steps of a model on random tokens: forward, backward, gradient norm and AdamW; parameters in f32. */
typedef struct bench_model {
  int32_t layers, width, heads, vocabulary, experts, hidden, choices; /* top-k with a balance loss, SwiGLU experts */
  int32_t sequences, length;
} bench_model;
typedef struct bench_trainer bench_trainer;
/* NULL after a failure, which is then the benchmark's reason. Three steps have run, until the tape asks for no more
 * memory and all of it has been touched. */
bench_trainer *bench_trainer_open(gbench_state *state, const bench_model *model, mg_dtype compute);
bool bench_trainer_step(gbench_state *state, bench_trainer *trainer);
/* Useful FLOPs of a step: three times those of the forward pass, by formula. */
double bench_trainer_flops(const bench_trainer *trainer);
void bench_trainer_close(bench_trainer *trainer);

void bench_register_ops(void);
void bench_register_gating(void);
void bench_register_moe(void);
void bench_register_expert_matmul(void);
void bench_register_train(void);
void bench_register_cluster(void);
void bench_register_limit(void); /* the only ones that a device with memory of its own can run */

#endif
