/* List scheduling over at most six queues: computing, network and deferred operations of each batch. */
#include "cluster/overlap.h"

#include <math.h>
#include <string.h>

#include "base/vector.h"

const char *const mg_phase_names[] = {
#define MG_PHASE_NAME(NAME, name) #name,
    MG_PHASE_LIST(MG_PHASE_NAME)
#undef MG_PHASE_NAME
        NULL};

void mg_schedule_open(mg_context *context, int64_t ranks, mg_schedule *schedule) {
  *schedule = (mg_schedule){.context = context, .ranks = ranks};
}

void mg_schedule_close(mg_schedule *s) {
  MG_VECTOR_FREE(s->context, s->operations, s->room);
  MG_VECTOR_FREE(s->context, s->rank_seconds, s->rank_room);
  *s = (mg_schedule){.context = s->context};
}

static mg_status add_ranks(mg_schedule *s, const double *rank_s, mg_operation *operation) {
  const size_t ranks = (size_t)s->ranks;
  MG_TRY(MG_VECTOR_RESERVE(s->context, s->rank_seconds, s->rank_room, s->rank_count + ranks));
  memcpy(s->rank_seconds + s->rank_count, rank_s, ranks * sizeof *rank_s);
  operation->rank_s = (int64_t)s->rank_count;
  operation->seconds = 0;
  for (size_t r = 0; r < ranks; r++) operation->seconds = fmax(operation->seconds, rank_s[r]);
  s->rank_count += ranks;
  return MG_OK;
}

mg_status mg_schedule_add(mg_schedule *s, const mg_operation *operation, double seconds, const double *rank_s,
                          int32_t *index) {
  mg_operation added = *operation;
  added.seconds = seconds;
  added.rank_s = -1;
  if (rank_s) MG_TRY(add_ranks(s, rank_s, &added));
  MG_TRY(MG_VECTOR_RESERVE(s->context, s->operations, s->room, s->count + 1));
  if (index) *index = (int32_t)s->count;
  s->operations[s->count++] = added;
  return MG_OK;
}

/* ---- running -------------------------------------------------------------------------------------------------- */

enum { QUEUES = 3 * MG_SCHEDULE_BATCHES_MAX, DEFERRED = 2 };

/* The position of the next operation of each queue; count = none. */
typedef struct heads {
  size_t next[QUEUES];
} heads;

static int queue_of(const mg_operation *o) {
  const int kind = o->deferred ? DEFERRED : (int)o->resource;
  return kind * MG_SCHEDULE_BATCHES_MAX + o->batch;
}

static void advance(const mg_schedule *s, heads *h, int queue, size_t from) {
  while (from < s->count && queue_of(&s->operations[from]) != queue) from++;
  h->next[queue] = from;
}

/* When the operations before it have ended; INFINITY if one has not started. */
static double ready(const mg_schedule *s, const mg_operation *o) {
  double latest = 0;
  for (int i = 0; i < 2; i++) {
    if (o->after[i] < 0) continue;
    const mg_operation *before = &s->operations[o->after[i]];
    if (before->start_s < 0) return INFINITY;
    latest = fmax(latest, before->start_s + before->seconds);
  }
  return latest;
}

/* The queue whose head can start first; -1 when all are empty. Queues are in order of preference. */
static int choose(const mg_schedule *s, const heads *h, const double *free_s, double *start) {
  int best = -1;
  *start = INFINITY;
  for (int queue = 0; queue < QUEUES; queue++) {
    if (h->next[queue] >= s->count) continue;
    const mg_operation *o = &s->operations[h->next[queue]];
    const double here = fmax(ready(s, o), free_s[o->resource]);
    if (here < *start) {
      *start = here;
      best = queue;
    }
  }
  return best;
}

static void tax_compute(mg_schedule *s, double tax) {
  bool network = false;
  for (size_t i = 0; i < s->count; i++) network |= s->operations[i].resource == MG_RESOURCE_NETWORK;
  if (!network) return;
  for (size_t i = 0; i < s->count; i++) {
    mg_operation *o = &s->operations[i];
    if (o->resource != MG_RESOURCE_COMPUTE) continue;
    o->seconds *= tax;
    for (int64_t r = 0; r < s->ranks && o->rank_s >= 0; r++) s->rank_seconds[o->rank_s + r] *= tax;
  }
}

void mg_schedule_run(mg_schedule *s, double tax) {
  heads h;
  double free_s[MG_RESOURCE_COUNT] = {0}, start;
  tax_compute(s, tax);
  for (size_t i = 0; i < s->count; i++) s->operations[i].start_s = -1;
  for (int queue = 0; queue < QUEUES; queue++) advance(s, &h, queue, 0);
  s->makespan_s = 0;
  for (int queue; (queue = choose(s, &h, free_s, &start)) >= 0;) {
    mg_operation *o = &s->operations[h.next[queue]];
    o->start_s = start;
    free_s[o->resource] = start + o->seconds;
    s->makespan_s = fmax(s->makespan_s, start + o->seconds);
    advance(s, &h, queue, h.next[queue] + 1);
  }
}

/* ---- sums ----------------------------------------------------------------------------------------------------- */

double mg_schedule_phase_s(const mg_schedule *s, mg_phase phase) {
  double sum = 0;
  for (size_t i = 0; i < s->count; i++)
    if (s->operations[i].phase == phase) sum += s->operations[i].seconds;
  return sum;
}

double mg_schedule_rank_s(const mg_schedule *s, const mg_operation *o, int64_t rank) {
  return o->rank_s >= 0 ? s->rank_seconds[o->rank_s + rank] : o->seconds;
}

double mg_schedule_busy_s(const mg_schedule *s, mg_resource resource, int64_t rank) {
  double sum = 0;
  for (size_t i = 0; i < s->count; i++)
    if (s->operations[i].resource == resource) sum += mg_schedule_rank_s(s, &s->operations[i], rank);
  return sum;
}
