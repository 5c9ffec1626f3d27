/* A pool: its queue, its instances' lives, and the sums that are kept of both. */
#include <math.h>

#include "cluster/serving/internal.h"

/* ---- sums ---------------------------------------------------------------------------------------------------- */

static void account(const mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  const double seconds = sim->now - instance->since;
  pool->state_seconds[instance->state] += seconds;
  if (instance->state == MG__BUSY) pool->meter.used += instance->occupancy * seconds;
  if (instance->state == MG__BUSY || instance->state == MG__IDLE) pool->meter.available += seconds;
  instance->since = sim->now;
}

static void account_paid(const mg__simulation *sim, mg__pool *pool) {
  pool->meter.paid += (double)pool->paid * (sim->now - pool->paid_since);
  pool->paid_since = sim->now;
}

static void account_queue(const mg__simulation *sim, mg__pool *pool) {
  pool->queued_seconds += (double)pool->queue.count * (sim->now - pool->queue_since);
  pool->queue_since = sim->now;
}

void mg__pool_account(mg__simulation *sim, mg__pool *pool) {
  for (size_t i = 0; i < pool->count; i++) account(sim, pool, &pool->instances[i]);
  account_paid(sim, pool);
  account_queue(sim, pool);
}

static void note_nodes(mg__simulation *sim) {
  int64_t nodes = 0;
  for (int64_t i = 0; i < sim->plan->pools_count; i++) nodes += sim->pools[i].paid * sim->plan->pools[i].set.nodes;
  if (nodes > sim->nodes_peak) sim->nodes_peak = nodes;
}

void mg__instance_enter(mg__simulation *sim, mg__pool *pool, mg__instance *instance, mg__instance_state state) {
  account(sim, pool, instance);
  pool->idle += (state == MG__IDLE) - (instance->state == MG__IDLE);
  const int64_t change = (state != MG__STOPPED) - (instance->state != MG__STOPPED);
  instance->state = state;
  if (change == 0) return;
  account_paid(sim, pool);
  pool->paid += change;
  note_nodes(sim);
}

/* ---- the queue ----------------------------------------------------------------------------------------------- */

void mg__pool_enqueue(mg__simulation *sim, mg__pool *pool, int32_t id, bool first) {
  account_queue(sim, pool);
  if (first)
    mg__list_prepend(&sim->requests, &pool->queue, id);
  else
    mg__list_append(&sim->requests, &pool->queue, id);
}

int32_t mg__pool_dequeue(mg__simulation *sim, mg__pool *pool) {
  const int32_t id = pool->queue.first;
  account_queue(sim, pool);
  mg__list_remove(&sim->requests, &pool->queue, id);
  return id;
}

mg_status mg__pool_wake(mg__simulation *sim, mg__pool *pool) {
  for (size_t i = 0; i < pool->count && pool->idle > 0 && pool->queue.count > 0; i++)
    if (pool->instances[i].state == MG__IDLE) MG_TRY(mg__step_begin(sim, pool, &pool->instances[i]));
  return MG_OK;
}

/* ---- lives --------------------------------------------------------------------------------------------------- */

static mg_status later(mg__simulation *sim, const mg__pool *pool, const mg__instance *instance, double seconds,
                       mg__event_kind kind) {
  return mg__events_add(&sim->events, (mg__event){.seconds = sim->now + seconds,
                                                  .kind = (int32_t)kind,
                                                  .pool = (int32_t)(pool - sim->pools),
                                                  .index = (int32_t)(instance - pool->instances),
                                                  .epoch = instance->epoch});
}

/* The next time that something happens to one of its nodes, each of which waits `hours` on average. */
static mg_status wait_for_node(mg__simulation *sim, const mg__pool *pool, const mg__instance *instance, double hours,
                               mg__event_kind kind) {
  if (hours <= 0) return MG_OK;
  const double mean = 3600.0 * hours / (double)pool->plan->set.nodes;
  return later(sim, pool, instance, mg__draw_exponential(&sim->draws, mean), kind);
}

/* It can work from now on. */
static mg_status activate(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  mg__instance_enter(sim, pool, instance, MG__IDLE);
  instance->slow_until = 0;
  MG_TRY(wait_for_node(sim, pool, instance, pool->plan->set.node_failure_hours, MG__NODE_FAILS));
  return wait_for_node(sim, pool, instance, pool->plan->set.node_slow_hours, MG__NODE_SLOWS);
}

/* A place that no instance holds, with an epoch of its own. */
static mg_status place(mg__simulation *sim, mg__pool *pool, mg__instance **out) {
  for (size_t i = 0; i < pool->count; i++) {
    if (pool->instances[i].state != MG__STOPPED) continue;
    *out = &pool->instances[i];
    (*out)->epoch++;
    (*out)->draining = false;
    return MG_OK;
  }
  MG_TRY(MG_VECTOR_RESERVE(sim->context, pool->instances, pool->room, pool->count + 1));
  *out = &pool->instances[pool->count++];
  **out = (mg__instance){.state = MG__STOPPED, .since = sim->now};
  mg__list_clear(&(*out)->prefilling);
  mg__list_clear(&(*out)->running);
  return MG_OK;
}

mg_status mg__pool_ready(mg__simulation *sim, mg__pool *pool, int32_t index) {
  MG_TRY(activate(sim, pool, &pool->instances[index]));
  return mg__pool_wake(sim, pool);
}

mg_status mg__pool_fail(mg__simulation *sim, mg__pool *pool, int32_t index) {
  mg__instance *instance = &pool->instances[index];
  sim->tally.failures++;
  instance->epoch++;
  mg__instance_enter(sim, pool, instance, instance->draining ? MG__STOPPED : MG__DOWN);
  MG_TRY(mg__step_lose(sim, pool, instance));
  if (instance->state == MG__STOPPED) return MG_OK;
  return later(sim, pool, instance, pool->plan->set.repair_seconds, MG__NODE_REPAIRED);
}

mg_status mg__pool_repair(mg__simulation *sim, mg__pool *pool, int32_t index) {
  mg__instance *instance = &pool->instances[index];
  mg__instance_enter(sim, pool, instance, MG__STARTING);
  return later(sim, pool, instance, pool->plan->set.start_up_seconds, MG__INSTANCE_READY);
}

mg_status mg__pool_slow(mg__simulation *sim, mg__pool *pool, int32_t index) {
  mg__instance *instance = &pool->instances[index];
  instance->slow_until = sim->now + pool->plan->set.slow_seconds;
  return wait_for_node(sim, pool, instance, pool->plan->set.node_slow_hours, MG__NODE_SLOWS);
}

/* ---- scaling ------------------------------------------------------------------------------------------------- */

static mg_status add_instance(mg__simulation *sim, mg__pool *pool) {
  mg__instance *instance;
  for (size_t i = 0; i < pool->count; i++) {
    instance = &pool->instances[i];
    if (!instance->draining || instance->state == MG__STOPPED) continue;
    instance->draining = false; /* it is warm still */
    return MG_OK;
  }
  MG_TRY(place(sim, pool, &instance));
  mg__instance_enter(sim, pool, instance, MG__STARTING);
  return later(sim, pool, instance, pool->plan->set.start_up_seconds, MG__INSTANCE_READY);
}

/* Those that do not work yet are the cheapest to give back, then those with the fewest requests. */
static int64_t cost_of_giving_back(const mg__instance *instance) {
  if (instance->state == MG__STARTING || instance->state == MG__DOWN) return -1;
  return instance->running.count + instance->prefilling.count;
}

static void remove_instance(mg__simulation *sim, mg__pool *pool) {
  mg__instance *chosen = NULL;
  for (size_t i = 0; i < pool->count; i++) {
    mg__instance *other = &pool->instances[i];
    if (other->state == MG__STOPPED || other->draining) continue;
    if (!chosen || cost_of_giving_back(other) <= cost_of_giving_back(chosen)) chosen = other;
  }
  if (!chosen) return;
  chosen->draining = true;
  if (chosen->state == MG__BUSY) return;
  chosen->epoch++;
  mg__instance_enter(sim, pool, chosen, MG__STOPPED);
}

static double mean_tokens(const mg__simulation *sim, const mg__pool *pool) {
  const mg_arrivals *arrivals = sim->plan->arrivals;
  return (pool->plan->prefills ? mg_arrivals_mean_prefill(arrivals) : 0) +
         (pool->plan->decodes ? mg_arrivals_mean_output(arrivals) : 0);
}

static mg_scaling_state state_of(mg__simulation *sim, mg__pool *pool) {
  mg__pool_account(sim, pool);
  const mg__meter *now = &pool->meter, *then = &pool->decided;
  const double seconds = sim->now - pool->decided_at, available = now->available - then->available;
  const double ahead = mg_arrivals_rate(sim->plan->arrivals, sim->now + pool->scaling.lead_seconds);
  mg_scaling_state state = {.seconds = sim->now,
                            .requests_per_second = (now->requests - then->requests) / seconds,
                            .tokens_per_second = (now->tokens - then->tokens) / seconds,
                            .forecast_tokens_per_second = ahead * mean_tokens(sim, pool),
                            .utilisation = available > 0 ? (now->used - then->used) / available : 1,
                            .queued = pool->queue.count * sim->plan->set.group};
  for (size_t i = 0; i < pool->count; i++) {
    const mg__instance *instance = &pool->instances[i];
    if (instance->state == MG__STOPPED || instance->draining) continue;
    state.instances++;
    state.starting += instance->state == MG__STARTING || instance->state == MG__DOWN;
  }
  return state;
}

mg_status mg__pool_decide(mg__simulation *sim, mg__pool *pool) {
  const mg_scaling_state state = state_of(sim, pool);
  double custom = 0;
  if (pool->scaling.policy == MG_SCALING_CUSTOM)
    MG_TRY(sim->hooks->decide(sim->hooks->user, pool->plan->name, &state, &custom));
  const int64_t wanted = mg_scaling_wanted(&pool->scaling, &state, custom);
  for (int64_t i = state.instances; i < wanted; i++) MG_TRY(add_instance(sim, pool));
  for (int64_t i = state.instances; i > wanted; i--) remove_instance(sim, pool);
  pool->decided = pool->meter;
  pool->decided_at = sim->now;
  return mg__events_add(&sim->events, (mg__event){.seconds = sim->now + pool->scaling.interval_seconds,
                                                  .kind = MG__POOL_DECIDES,
                                                  .pool = (int32_t)(pool - sim->pools)});
}

/* ---- the ends ------------------------------------------------------------------------------------------------ */

mg_status mg__pool_open(mg__simulation *sim, int64_t index) {
  mg__pool *pool = &sim->pools[index];
  pool->plan = &sim->plan->pools[index];
  pool->scaling = pool->plan->scaling;
  mg__list_clear(&pool->queue);
  for (int64_t i = 0; i < pool->scaling.instances; i++) {
    mg__instance *instance;
    MG_TRY(place(sim, pool, &instance));
    MG_TRY(activate(sim, pool, instance));
  }
  if (pool->scaling.policy == MG_SCALING_FIXED) return MG_OK;
  return mg__events_add(
      &sim->events,
      (mg__event){.seconds = pool->scaling.interval_seconds, .kind = MG__POOL_DECIDES, .pool = (int32_t)index});
}

void mg__pool_close(mg__simulation *sim, mg__pool *pool) {
  for (size_t i = 0; i < pool->count; i++)
    MG_VECTOR_FREE(sim->context, pool->instances[i].heap, pool->instances[i].heap_room);
  MG_VECTOR_FREE(sim->context, pool->instances, pool->room);
}
