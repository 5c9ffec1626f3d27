/* The executor: runs the kernels of backends/gpu on the host, one block after the other, as a GPU would order them.
 *
 * The threads of a block are fibres. A thread runs until it ends or must wait: at a barrier for all threads of its block,
 * at an exchange for all lanes of its warp. Threads run in the order of their numbers or in the reverse order, so that a
 * kernel which lacks a barrier gives other results in one of them. Shared memory is filled with ones (NaN, -1) before each
 * block. A kernel fails, with a message, when a thread ends or waits elsewhere while others wait for it, when lanes of a
 * warp meet at different exchanges, when a thread ends before its copies have, and when a launch asks for more than devices
 * have. */
#ifndef MG_TESTS_EXECUTOR_H
#define MG_TESTS_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu_types.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { EXECUTOR_THREADS_MAX = 1024, EXECUTOR_SHARED_MAX = 48 << 10 };

typedef enum executor_error {
  EXECUTOR_OK,
  EXECUTOR_NO_DEVICE,
  EXECUTOR_NO_MEMORY,
  EXECUTOR_NO_CODE,    /* for this device */
  EXECUTOR_BAD_LAUNCH, /* more threads, blocks or shared memory than there are, or half a warp */
  EXECUTOR_BAD_KERNEL, /* it broke a rule of barriers or exchanges */
  EXECUTOR_BAD_GRAPH,  /* a call that a recording does not allow, or an update with another graph */
  EXECUTOR_LOST
} executor_error;

typedef enum executor_failure {
  EXECUTOR_FAIL_NOTHING,
  EXECUTOR_FAIL_NO_DEVICE,
  EXECUTOR_FAIL_NO_CODE,
  EXECUTOR_FAIL_LOST /* from the next launch on */
} executor_failure;

/* How the pretended device behaves; for the backend's options and for tests. */
typedef struct executor_settings {
  bool reverse;         /* threads of a block run in falling order */
  int64_t memory_bytes; /* of the device */
  executor_failure fail;
  bool meter; /* the device measures its energy */
  bool blas;  /* it has a library of matrix products */
} executor_settings;

typedef struct executor_counts {
  int64_t allocations; /* since the start */
  int64_t bytes;       /* allocated now */
  int64_t launches;
  int64_t graphs_prepared, graphs_updated, graphs_refused; /* refused: could not be updated */
  int64_t graphs_launched, graphs_calls;                   /* calls: of the launched ones */
} executor_counts;

void executor_configure(const executor_settings *settings);
executor_counts executor_count(void);
bool executor_has_meter(void);
bool executor_has_blas(void);

/* ---- the runtime ---------------------------------------------------------------------------------------------- */

executor_error executor_device_count(int *count);
executor_error executor_device_facts(gpu_device_facts *facts, int warp);
executor_error executor_memory_free(size_t *free_bytes, size_t *total_bytes);
executor_error executor_malloc(void **pointer, size_t bytes);
executor_error executor_free(void *pointer);
executor_error executor_wait(void);
executor_error executor_copy(void *to, const void *from, size_t bytes);
executor_error executor_set(void *pointer, int value, size_t bytes);
executor_error executor_event_create(double **event);
executor_error executor_event_destroy(double *event);
executor_error executor_event_record(double *event);
executor_error executor_event_milliseconds(float *out, const double *start, const double *end);
/* The error of a launch since the last call of this function. */
executor_error executor_last_error(void);
const char *executor_error_text(executor_error error);

/* body(user) as each thread of each block; the launch keeps a copy of `user`. */
typedef struct executor_launch {
  void (*body)(const void *user);
  const void *user;
  size_t user_bytes;
  void (*kernel)(void); /* which kernel this is: bodies may be shared */
  gpu_grid grid;
  int threads, warp; /* warp: 32 or 64 */
} executor_launch;
/* What goes wrong is told by executor_last_error. */
void executor_run(const executor_launch *launch);
/* body(user) on the host in its turn, for what stands for a library's kernels. */
void executor_call(void (*body)(const void *user), const void *user, size_t user_bytes);

/* Between begin and end, launches, copies and calls are not done but kept, with their arguments; calls that would wait,
 * record an event, or take or give back memory are refused. A graph made executable is a copy; updating it takes the
 * arguments of a graph of the same kernels, copies and calls in the same order, and is refused for another. */
typedef struct executor_graph executor_graph;
executor_error executor_record_begin(void);
executor_error executor_record_end(executor_graph **out);
executor_error executor_graph_prepare(executor_graph **out, const executor_graph *graph);
executor_error executor_graph_update(executor_graph *exec, const executor_graph *graph);
executor_error executor_graph_launch(const executor_graph *exec);
executor_error executor_graph_destroy(executor_graph *graph);

/* ---- what a kernel sees ----------------------------------------------------------------------------------------- */

/* Where the running thread stands. The built-in variables of a kernel have no argument to travel through, so this is the
 * executor's one variable that others can see. */
typedef struct executor_place {
  int thread, threads;
  int64_t block[2], blocks;
} executor_place;
extern executor_place executor_now;

void executor_barrier(void);
/* Every lane gives 8 bytes and gets those of lane `from`, each with its own `from`. `kind` must agree in the warp. */
uint64_t executor_exchange(uint64_t value, int from, int kind);
/* Bit i says what lane i gave. */
uint64_t executor_ballot(bool vote);
/* Copies of 16 bytes beside the work: a thread begins them (zeros where not `inside`), closes those begun into a group, and
 * waits until all groups but the `left` latest are done. They are done when they begin where threads run in rising order,
 * and when the thread waits where they run in falling order: a kernel must be right with both. */
void executor_copy_async(void *to, const void *from, bool inside);
void executor_copies_close(void);
void executor_copies_wait(int left);
/* The block's shared array that belongs to `key`, an address that stands for its declaration. */
void *executor_shared(const void *key, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
