/* Runs kernels on the host: scheduling of fibres, barriers, exchanges, shared memory. */
#include "executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor_internal.h"
#include "fibre.h"

enum { WARPS_MAX = EXECUTOR_THREADS_MAX / 32, LANES_MAX = 64, ARRAYS_MAX = 32, COPIES_MAX = 64, COPY_BYTES = 16 };

executor_place executor_now;

typedef enum thread_state {
  THREAD_WAITING_TO_START,
  THREAD_RUNS,
  THREAD_AT_BARRIER,
  THREAD_AT_EXCHANGE,
  THREAD_ENDED
} thread_state;

typedef struct warp_state {
  uint64_t given[2][LANES_MAX]; /* of this exchange and the one before, which slow lanes may still read */
  int parity, arrived, kind;
} warp_state;

typedef struct shared_array {
  const void *key;
  size_t offset, bytes;
} shared_array;

/* Copies of a thread that have not been done, in the order in which they were begun. */
typedef struct copy_queue {
  struct {
    void *to;
    const void *from; /* NULL: zeros */
    int group;
  } copies[COPIES_MAX];
  int count, groups; /* groups: closed so far */
} copy_queue;

/* The launch that runs. One thread of the operating system uses a device at a time. */
static struct {
  void (*body)(const void *user);
  const void *user;
  int warp;
  fibre *caller;
  fibre *fibres[EXECUTOR_THREADS_MAX]; /* made once, kept */
  int fibres_made;
  fibre *idle[EXECUTOR_THREADS_MAX]; /* between two threads */
  int idle_count;
  fibre *of_thread[EXECUTOR_THREADS_MAX];
  thread_state state[EXECUTOR_THREADS_MAX];
  int started, ended, at_barrier;
  int ready[EXECUTOR_THREADS_MAX]; /* a ring of threads that may go on */
  int ready_first, ready_count;
  warp_state warps[WARPS_MAX];
  copy_queue queues[EXECUTOR_THREADS_MAX];
  shared_array arrays[ARRAYS_MAX];
  int arrays_count;
  size_t shared_bytes;
  _Alignas(64) unsigned char shared[EXECUTOR_SHARED_MAX];
} run;

/* ---- choosing who runs ------------------------------------------------------------------------------------------ */

static int in_order(int index, int count) {
  return executor__settings.reverse ? count - 1 - index : index;
}

static void make_ready(int thread) {
  run.state[thread] = THREAD_RUNS;
  run.ready[(run.ready_first + run.ready_count++) % EXECUTOR_THREADS_MAX] = thread;
}

static bool take_ready(int *thread) {
  if (run.ready_count == 0) return false;
  *thread = run.ready[run.ready_first];
  run.ready_first = (run.ready_first + 1) % EXECUTOR_THREADS_MAX;
  run.ready_count--;
  return true;
}

static void run_threads(void *unused);

static fibre *idle_fibre(void) {
  if (run.idle_count > 0) return run.idle[--run.idle_count];
  fibre *f = run.fibres_made < EXECUTOR_THREADS_MAX ? fibre_create(run_threads, NULL) : NULL;
  if (f) run.fibres[run.fibres_made++] = f;
  return f;
}

/* Leaves the running fibre for a thread that can go on: one that has not started, else one that no longer waits. When
 * there is none the block is over, or stuck; the caller sees which. */
static void run_another(fibre *self) {
  int thread;
  fibre *next = run.caller;
  if (run.started < executor_now.threads)
    next = idle_fibre();
  else if (take_ready(&thread)) {
    next = run.of_thread[thread];
    executor_now.thread = thread;
  }
  if (!next) executor__fail(EXECUTOR_LOST, "no host memory for the threads of a block");
  fibre_switch(self, next ? next : run.caller);
}

/* What a fibre does: thread after thread from beginning to end. A thread that waits keeps its fibre. */
static void run_threads(void *unused) {
  (void)unused;
  fibre *self = run.fibres[run.fibres_made - 1]; /* this fibre was made last when it first runs */
  for (;;) {
    while (run.started < executor_now.threads) {
      const int thread = in_order(run.started++, executor_now.threads);
      executor_now.thread = thread;
      run.of_thread[thread] = self;
      run.state[thread] = THREAD_RUNS;
      run.body(run.user);
      if (run.queues[executor_now.thread].count > 0)
        executor__fail(EXECUTOR_BAD_KERNEL, "a thread has ended before its copies have");
      run.state[executor_now.thread] = THREAD_ENDED;
      run.ended++;
    }
    run.idle[run.idle_count++] = self;
    run_another(self);
  }
}

/* The running thread waits; back when somebody has made it ready. */
static void wait_as(thread_state why) {
  const int thread = executor_now.thread;
  run.state[thread] = why;
  run_another(run.of_thread[thread]);
  executor_now.thread = thread;
}

/* ---- waiting for each other ------------------------------------------------------------------------------------- */

void executor_barrier(void) {
  const int threads = executor_now.threads;
  if (++run.at_barrier < threads) {
    wait_as(THREAD_AT_BARRIER);
    return;
  }
  run.at_barrier = 0;
  const int self = executor_now.thread;
  for (int i = 0; i < threads; i++)
    if (in_order(i, threads) != self) make_ready(in_order(i, threads));
}

static void stop_kernel(const char *text) {
  executor__fail(EXECUTOR_BAD_KERNEL, text);
  fibre_switch(run.of_thread[executor_now.thread], run.caller); /* which drops all fibres */
}

/* Deposits a value; back when all lanes of the warp have. Gives the deposits. */
static const uint64_t *meet(uint64_t value, int kind) {
  const int thread = executor_now.thread, first = thread / run.warp * run.warp;
  warp_state *warp = &run.warps[thread / run.warp];
  const int parity = warp->parity;
  if (warp->arrived == 0) warp->kind = kind;
  if (warp->kind != kind) stop_kernel("lanes of one warp meet at different exchanges");
  warp->given[parity][thread - first] = value;
  if (++warp->arrived < run.warp) {
    wait_as(THREAD_AT_EXCHANGE);
    return warp->given[parity];
  }
  warp->arrived = 0;
  warp->parity = !parity;
  for (int i = 0; i < run.warp; i++)
    if (first + in_order(i, run.warp) != thread) make_ready(first + in_order(i, run.warp));
  return warp->given[parity];
}

uint64_t executor_exchange(uint64_t value, int from, int kind) {
  const uint64_t *given = meet(value, kind);
  return given[(unsigned)from % (unsigned)run.warp];
}

uint64_t executor_ballot(bool vote) {
  const uint64_t *given = meet(vote, -1);
  uint64_t votes = 0;
  for (int lane = 0; lane < run.warp; lane++) votes |= given[lane] << lane;
  return votes;
}

/* ---- copies beside the work ------------------------------------------------------------------------------------- */

static void do_copy(void *to, const void *from) {
  if (from)
    memcpy(to, from, COPY_BYTES);
  else
    memset(to, 0, COPY_BYTES);
}

void executor_copy_async(void *to, const void *from, bool inside) {
  copy_queue *queue = &run.queues[executor_now.thread];
  if (!executor__settings.reverse) {
    do_copy(to, inside ? from : NULL);
    return;
  }
  if (queue->count == COPIES_MAX) stop_kernel("a thread has more than 64 copies on their way");
  queue->copies[queue->count].to = to;
  queue->copies[queue->count].from = inside ? from : NULL;
  queue->copies[queue->count++].group = queue->groups;
}

void executor_copies_close(void) {
  run.queues[executor_now.thread].groups++;
}

void executor_copies_wait(int left) {
  copy_queue *queue = &run.queues[executor_now.thread];
  int done = 0;
  while (done < queue->count && queue->copies[done].group < queue->groups - left) {
    do_copy(queue->copies[done].to, queue->copies[done].from);
    done++;
  }
  queue->count -= done;
  memmove(queue->copies, queue->copies + done, (size_t)queue->count * sizeof queue->copies[0]);
}

/* ---- shared memory ---------------------------------------------------------------------------------------------- */

void *executor_shared(const void *key, size_t bytes) {
  for (int i = 0; i < run.arrays_count; i++)
    if (run.arrays[i].key == key) return run.shared + run.arrays[i].offset;
  const size_t offset = run.shared_bytes;
  if (run.arrays_count == ARRAYS_MAX || bytes > EXECUTOR_SHARED_MAX - offset)
    stop_kernel("the block's shared arrays are larger than 48 KiB or more than 32");
  run.arrays[run.arrays_count++] = (shared_array){key, offset, bytes};
  run.shared_bytes = offset + (bytes + 63) / 64 * 64;
  memset(run.shared + offset, 0xff, bytes);
  return run.shared + offset;
}

/* ---- launching -------------------------------------------------------------------------------------------------- */

static void drop_fibres(void) {
  for (int i = 0; i < run.fibres_made; i++) fibre_destroy(run.fibres[i]);
  run.fibres_made = run.idle_count = 0;
}

static void say_who_waits(void) {
  char text[160];
  int exchange = 0;
  for (int i = 0; i < executor_now.threads; i++) exchange += run.state[i] == THREAD_AT_EXCHANGE;
  snprintf(text, sizeof text,
           "block %lld cannot go on: %d of its %d threads have ended while %d wait at a barrier and %d at an exchange",
           (long long)executor_now.block[0], run.ended, executor_now.threads, run.at_barrier, exchange);
  executor__fail(EXECUTOR_BAD_KERNEL, text);
}

static bool run_block(void) {
  run.started = run.ended = run.at_barrier = run.ready_first = run.ready_count = 0;
  run.arrays_count = 0;
  run.shared_bytes = 0;
  memset(run.state, 0, (size_t)executor_now.threads * sizeof run.state[0]);
  for (int i = 0; i < executor_now.threads; i++) run.queues[i].count = run.queues[i].groups = 0;
  for (int i = 0; i < executor_now.threads / run.warp; i++) run.warps[i].arrived = run.warps[i].parity = 0;
  fibre *first = idle_fibre();
  if (!first) {
    executor__fail(EXECUTOR_LOST, "no host memory for the threads of a block");
    return false;
  }
  fibre_switch(run.caller, first);
  if (executor__failed()) return false;
  if (run.ended < executor_now.threads) say_who_waits();
  return run.ended == executor_now.threads;
}

static bool may_launch(gpu_grid grid, int threads, int warp) {
  if (executor__failed()) return false;
  const char *wrong = NULL;
  if (grid.x == 0 || grid.y == 0) wrong = "a launch has no blocks";
  if (grid.x > INT32_MAX || grid.y > 65535) wrong = "a launch has too many blocks";
  if (threads < 1 || threads > EXECUTOR_THREADS_MAX) wrong = "a block has 1 to 1024 threads";
  if (threads % warp != 0) wrong = "a block's threads are no whole number of warps";
  if (wrong) executor__fail(EXECUTOR_BAD_LAUNCH, wrong);
  return !wrong;
}

static void run_kernel(const executor_launch *launch) {
  if (!executor__begin_launch() || !may_launch(launch->grid, launch->threads, launch->warp)) return;
  if (!run.caller && !(run.caller = fibre_of_caller())) {
    executor__fail(EXECUTOR_LOST, "no host memory for a fibre");
    return;
  }
  run.body = launch->body;
  run.user = launch->user;
  run.warp = launch->warp;
  executor_now = (executor_place){.threads = launch->threads, .blocks = launch->grid.x};
  for (uint32_t y = 0; y < launch->grid.y; y++)
    for (uint32_t x = 0; x < launch->grid.x; x++) {
      executor_now.block[0] = x;
      executor_now.block[1] = y;
      if (run_block()) continue;
      drop_fibres();
      return;
    }
}

void executor__run_now(const executor_launch *launch) {
  if (launch->kernel)
    run_kernel(launch);
  else
    launch->body(launch->user);
}

void executor_run(const executor_launch *launch) {
  if (!executor__record(launch)) executor__run_now(launch);
}

void executor_call(void (*body)(const void *user), const void *user, size_t user_bytes) {
  const executor_launch launch = {.body = body, .user = user, .user_bytes = user_bytes};
  if (!executor__record(&launch)) executor__run_now(&launch);
}
