/* The order of every rank first, then their times together. */
#include "cluster/pipeline.h"

#include <math.h>
#include <string.h>

#include "base/vector.h"

const char *const mg_task_names[] = {"forward", "backward", "inputs", "weights", "pair", NULL};

/* ---- orders --------------------------------------------------------------------------------------------------- */

/* A rank's order while it is written down. Direction 0 goes from stage 0 up, direction 1 from the last stage down. */
typedef struct writer {
  mg_pipeline *pipeline;
  int32_t rank, stages;
  int32_t forward_next[2], backward_next[2]; /* micro-batches of each direction */
  int32_t weighed;                           /* gradients of weights that were written after those of inputs */
  int64_t half;                              /* micro-batches of one direction; the second's are numbered after it */
} writer;

static int32_t stage_of(const writer *w, int direction) {
  return direction == 0 ? w->rank : w->stages - 1 - w->rank;
}

static mg_status append(writer *w, const mg_task *task) {
  mg_pipeline *p = w->pipeline;
  MG_TRY(MG_VECTOR_RESERVE(p->context, p->tasks, p->room, p->count + 1));
  p->tasks[p->count] = *task;
  p->tasks[p->count++].rank = w->rank;
  return MG_OK;
}

static int32_t number(const writer *w, int direction, int32_t batch) {
  return direction == 0 ? batch : (int32_t)w->half + batch;
}

static void put_forward(writer *w, int direction, mg_task *task) {
  task->forward_stage = stage_of(w, direction);
  task->forward_batch = number(w, direction, w->forward_next[direction]++);
}

static void put_backward(writer *w, int direction, mg_task *task) {
  task->backward_stage = stage_of(w, direction);
  task->backward_batch = number(w, direction, w->backward_next[direction]++);
}

static mg_status forward(writer *w, int direction) {
  mg_task task = {.kind = MG_TASK_FORWARD, .backward_stage = -1, .backward_batch = -1};
  put_forward(w, direction, &task);
  return append(w, &task);
}

static mg_status back(writer *w, int direction, bool with_weights) {
  mg_task task = {.kind = with_weights ? MG_TASK_BACKWARD : MG_TASK_INPUTS, .forward_stage = -1, .forward_batch = -1};
  put_backward(w, direction, &task);
  return append(w, &task);
}

static mg_status pair(writer *w, int forward_direction, int backward_direction) {
  mg_task task = {.kind = MG_TASK_PAIR};
  put_forward(w, forward_direction, &task);
  put_backward(w, backward_direction, &task);
  return append(w, &task);
}

/* The oldest gradients of weights that wait. */
static mg_status weigh(writer *w) {
  const mg_pipeline *p = w->pipeline;
  int32_t due = ++w->weighed;
  for (size_t i = p->first[w->rank]; i < p->count; i++) {
    if (p->tasks[i].kind != MG_TASK_INPUTS || --due > 0) continue;
    mg_task task = p->tasks[i];
    task.kind = MG_TASK_WEIGHTS;
    return append(w, &task);
  }
  return mg_fail(p->context, MG_BUG, "pipeline: no gradient of weights waits");
}

static mg_status write_gpipe(writer *w) {
  for (int64_t i = 0; i < w->half; i++) MG_TRY(forward(w, 0));
  for (int64_t i = 0; i < w->half; i++) MG_TRY(back(w, 0, true));
  return MG_OK;
}

static mg_status write_1f1b(writer *w) {
  const int64_t ahead = w->stages - 1 - w->rank, warm = ahead < w->half ? ahead : w->half;
  for (int64_t i = 0; i < warm; i++) MG_TRY(forward(w, 0));
  for (int64_t i = warm; i < w->half; i++) {
    MG_TRY(forward(w, 0));
    MG_TRY(back(w, 0, true));
  }
  for (int64_t i = 0; i < warm; i++) MG_TRY(back(w, 0, true));
  return MG_OK;
}

/* Warm-up, the steady state of pairs, and the way out, mirrored for the second half of the ranks. */
static mg_status write_dualpipe(writer *w) {
  const int64_t middle = w->stages / 2;
  const bool second = w->rank >= middle;
  const int64_t depth = second ? w->stages - 1 - w->rank : w->rank;
  const int here = second, there = !second;
  for (int64_t i = 0; i < 2 * (middle - depth - 1); i++) MG_TRY(forward(w, here));
  for (int64_t i = 0; i < depth + 1; i++) {
    MG_TRY(forward(w, here));
    MG_TRY(forward(w, there));
  }
  for (int64_t i = 0; i < middle - depth - 1; i++) {
    MG_TRY(back(w, there, false));
    MG_TRY(weigh(w));
    MG_TRY(forward(w, there));
  }
  for (int64_t i = 0; i < w->half - w->stages + depth + 1; i++) {
    MG_TRY(pair(w, here, there));
    MG_TRY(pair(w, there, here));
  }
  for (int64_t i = 0; i < middle - depth - 1; i++) {
    MG_TRY(back(w, there, true));
    MG_TRY(pair(w, there, here));
  }
  for (int64_t i = 0; i < depth + 1; i++) { /* the second half of these without weights, which then fill the end */
    const int64_t turn = (depth + 1) / 2;
    MG_TRY(back(w, there, i < turn || (i == turn && depth % 2 == 0)));
    MG_TRY(back(w, here, i < turn));
  }
  for (int64_t i = 0; i < middle - depth - 1; i++) {
    MG_TRY(weigh(w));
    MG_TRY(back(w, here, false));
  }
  return MG_OK;
}

/* What still waits at the end. */
static mg_status write_rest(writer *w) {
  const mg_pipeline *p = w->pipeline;
  int32_t inputs = 0;
  for (size_t i = p->first[w->rank]; i < p->count; i++) inputs += p->tasks[i].kind == MG_TASK_INPUTS;
  while (w->weighed < inputs) MG_TRY(weigh(w));
  return MG_OK;
}

static mg_status write_orders(mg_pipeline_order order, mg_pipeline *p) {
  for (int32_t rank = 0; rank < p->ranks; rank++) {
    writer w = {.pipeline = p,
                .rank = rank,
                .stages = (int32_t)p->ranks,
                .half = order == MG_PIPELINE_DUALPIPE ? p->batches / 2 : p->batches};
    p->first[rank] = p->count;
    if (order == MG_PIPELINE_GPIPE) MG_TRY(write_gpipe(&w));
    if (order == MG_PIPELINE_1F1B) MG_TRY(write_1f1b(&w));
    if (order == MG_PIPELINE_DUALPIPE) MG_TRY(write_dualpipe(&w));
    MG_TRY(write_rest(&w));
  }
  p->first[p->ranks] = p->count;
  return MG_OK;
}

/* ---- times ---------------------------------------------------------------------------------------------------- */

/* When forward and backward of each (micro-batch, stage) have ended; below 0 = not yet. */
typedef struct progress {
  const mg_stage_costs *costs;
  mg_pipeline *pipeline;
  double *forward_end, *backward_end;
  size_t *next; /* [ranks] */
  double *free_s;
} progress;

static double *at(double *ends, const progress *g, int32_t batch, int32_t stage) {
  return &ends[(int64_t)batch * g->costs->stages + stage];
}

/* The end of what comes before in another stage, sent here; INFINITY if it has not ended. Micro-batches of direction 1
 * meet the stages in the same order, on other ranks. */
static double before_forward(const progress *g, const mg_task *t) {
  if (t->forward_stage <= 0) return 0;
  const double end = *at(g->forward_end, g, t->forward_batch, t->forward_stage - 1);
  return end < 0 ? INFINITY : end + g->costs->send_s;
}

static double before_backward(const progress *g, const mg_task *t) {
  if (t->backward_stage < 0 || t->kind == MG_TASK_WEIGHTS) return 0;
  const bool last = t->backward_stage == g->costs->stages - 1;
  const double end = last ? *at(g->forward_end, g, t->backward_batch, t->backward_stage)
                          : *at(g->backward_end, g, t->backward_batch, t->backward_stage + 1);
  return end < 0 ? INFINITY : end + (last ? 0 : g->costs->send_s);
}

static double seconds_of(const mg_stage_costs *c, const mg_task *t) {
  switch (t->kind) {
  case MG_TASK_FORWARD: return c->forward_s[t->forward_stage];
  case MG_TASK_BACKWARD: return c->backward_s[t->backward_stage];
  case MG_TASK_INPUTS: return c->inputs_s[t->backward_stage];
  case MG_TASK_WEIGHTS: return c->weights_s[t->backward_stage];
  case MG_TASK_PAIR:
  case MG_TASK_KINDS: break;
  }
  return c->paired_s[t->forward_stage];
}

/* Starts the rank's next task if it can; true if it did. */
static bool advance(progress *g, int64_t rank) {
  mg_pipeline *p = g->pipeline;
  if (g->next[rank] == p->first[rank + 1]) return false;
  mg_task *t = &p->tasks[g->next[rank]];
  const double start = fmax(g->free_s[rank], fmax(before_forward(g, t), before_backward(g, t)));
  if (!isfinite(start)) return false;
  t->start_s = start;
  t->seconds = seconds_of(g->costs, t);
  g->free_s[rank] = start + t->seconds;
  if (t->forward_stage >= 0 && t->kind != MG_TASK_WEIGHTS)
    *at(g->forward_end, g, t->forward_batch, t->forward_stage) = g->free_s[rank];
  if (t->backward_stage >= 0 && t->kind != MG_TASK_WEIGHTS)
    *at(g->backward_end, g, t->backward_batch, t->backward_stage) = g->free_s[rank];
  g->next[rank]++;
  return true;
}

static mg_status play(progress *g) {
  mg_pipeline *p = g->pipeline;
  for (bool moved = true; moved;) {
    moved = false;
    for (int64_t rank = 0; rank < p->ranks; rank++)
      while (advance(g, rank)) moved = true;
  }
  for (int64_t rank = 0; rank < p->ranks; rank++)
    if (g->next[rank] != p->first[rank + 1])
      return mg_fail(p->context, MG_BUG, "pipeline: rank %lld waits for ever", (long long)rank);
  return MG_OK;
}

static void summarise(mg_pipeline *p) {
  const double share = 1 / (double)p->ranks;
  double busy = 0;
  for (size_t i = 0; i < p->count; i++) {
    p->makespan_s = fmax(p->makespan_s, p->tasks[i].start_s + p->tasks[i].seconds);
    p->kind_s[p->tasks[i].kind] += p->tasks[i].seconds * share;
    busy += p->tasks[i].seconds * share;
  }
  p->idle_s = p->makespan_s - busy;
}

/* A micro-batch's activations live from its forward to its backward pass in a stage. */
static void count_in_flight(mg_pipeline *p) {
  for (int64_t rank = 0; rank < p->ranks; rank++) {
    int64_t held = 0;
    for (size_t i = p->first[rank]; i < p->first[rank + 1]; i++) {
      const mg_task *t = &p->tasks[i];
      if (t->kind == MG_TASK_WEIGHTS) continue;
      held += t->forward_stage >= 0;
      if (held > p->most_in_flight) p->most_in_flight = held;
      held -= t->backward_stage >= 0;
    }
  }
}

static mg_status run_times(const mg_stage_costs *costs, mg_pipeline *p) {
  const size_t places = (size_t)(p->batches * costs->stages), ranks = (size_t)p->ranks;
  progress g = {.costs = costs, .pipeline = p};
  g.forward_end = mg_alloc(p->context, places * sizeof *g.forward_end);
  g.backward_end = mg_alloc(p->context, places * sizeof *g.backward_end);
  g.next = mg_alloc(p->context, ranks * sizeof *g.next);
  g.free_s = mg_alloc(p->context, ranks * sizeof *g.free_s);
  mg_status status = g.forward_end && g.backward_end && g.next && g.free_s ? MG_OK : MG_MEMORY;
  if (status == MG_OK) {
    for (size_t i = 0; i < places; i++) g.forward_end[i] = g.backward_end[i] = -1;
    memcpy(g.next, p->first, ranks * sizeof *g.next);
    status = play(&g);
  }
  mg_free(p->context, g.forward_end, places * sizeof *g.forward_end);
  mg_free(p->context, g.backward_end, places * sizeof *g.backward_end);
  mg_free(p->context, g.next, ranks * sizeof *g.next);
  mg_free(p->context, g.free_s, ranks * sizeof *g.free_s);
  return status;
}

/* Micro-batches of all stages: the tasks of these take half a GiB. */
static const int64_t most_places = (int64_t)1 << 22;

static mg_status check(mg_context *context, mg_pipeline_order order, int64_t stages, int64_t batches) {
  if (stages < 1 || batches < 1)
    return mg_fail(context, MG_USAGE, "pipeline: at least one stage and one micro-batch are needed");
  if (batches > most_places / stages)
    return mg_fail(context, MG_USAGE,
                   "pipeline: %lld micro-batches in %lld stages; together at most %lld can be simulated",
                   (long long)batches, (long long)stages, (long long)most_places);
  if (order != MG_PIPELINE_DUALPIPE) return MG_OK;
  if (stages % 2 == 0 && batches % 2 == 0 && batches >= 2 * stages) return MG_OK;
  return mg_fail(context, MG_USAGE,
                 "pipeline: dualpipe needs an even number of stages, and an even number of micro-batches that is at "
                 "least twice as many; %lld stages and %lld micro-batches came",
                 (long long)stages, (long long)batches);
}

mg_status mg_pipeline_run(mg_context *context, mg_pipeline_order order, const mg_stage_costs *costs, int64_t batches,
                          mg_pipeline *out) {
  *out = (mg_pipeline){.context = context, .ranks = costs->stages, .batches = batches};
  MG_TRY(check(context, order, costs->stages, batches));
  out->first = mg_alloc(context, (size_t)(out->ranks + 1) * sizeof *out->first);
  mg_status status = out->first ? write_orders(order, out) : MG_MEMORY;
  if (status == MG_OK) status = run_times(costs, out);
  if (status != MG_OK) {
    mg_pipeline_close(out);
    return status;
  }
  summarise(out);
  count_in_flight(out);
  return MG_OK;
}

void mg_pipeline_close(mg_pipeline *p) {
  MG_VECTOR_FREE(p->context, p->tasks, p->room);
  mg_free(p->context, p->first, (size_t)(p->ranks + 1) * sizeof *p->first);
  p->first = NULL;
}
