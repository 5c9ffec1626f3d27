/* The event loop. */
#include "cluster/serving.h"

#include <math.h>

#include "cluster/serving/internal.h"

enum { EVENTS_BETWEEN_PROGRESS = 1 << 17, DRAIN_MOST = 100 };

void mg__count_present(mg__simulation *sim, int64_t change) {
  sim->present_seconds += (double)sim->present * (sim->now - sim->present_since);
  sim->present_since = sim->now;
  sim->present += change;
}

/* ---- arrivals ------------------------------------------------------------------------------------------------ */

static void fetch(mg__simulation *sim) {
  sim->more = mg_arrivals_next(sim->plan->arrivals, &sim->coming) && sim->coming.seconds <= sim->until;
}

/* Whether every pool could hold it alone to its end. */
static bool fits(const mg__simulation *sim, const mg_request *request) {
  const int64_t most = (int64_t)request->prompt_tokens + request->output_tokens - 1;
  for (int64_t i = 0; i < sim->plan->pools_count; i++)
    if (most > sim->plan->pools[i].kv_tokens) return false;
  return true;
}

static void count_demand(mg__simulation *sim, const mg_request *request) {
  const double group = (double)sim->plan->set.group;
  sim->tally.input_tokens += group * request->prompt_tokens;
  sim->tally.cached_tokens += group * request->cached_tokens;
  for (int64_t i = 0; i < sim->plan->pools_count; i++) {
    mg__pool *pool = &sim->pools[i];
    pool->meter.requests += group;
    if (pool->plan->prefills) pool->meter.tokens += group * (request->prompt_tokens - request->cached_tokens);
    if (pool->plan->decodes) pool->meter.tokens += group * request->output_tokens;
  }
}

static mg_status arrive(mg__simulation *sim) {
  const mg_request coming = sim->coming;
  int32_t id;
  sim->tally.arrived += sim->plan->set.group;
  fetch(sim);
  if (!fits(sim, &coming)) {
    sim->tally.rejected += sim->plan->set.group;
    return MG_OK;
  }
  MG_TRY(mg__requests_take(&sim->requests, &id));
  sim->requests.items[id] = (mg__request){.arrived = sim->now,
                                          .first_token = -1,
                                          .prompt = coming.prompt_tokens,
                                          .output = coming.output_tokens,
                                          .cached = coming.cached_tokens,
                                          .present = coming.cached_tokens};
  count_demand(sim, &coming);
  mg__count_present(sim, 1);
  mg__pool_enqueue(sim, &sim->pools[0], id, false);
  return mg__pool_wake(sim, &sim->pools[0]);
}

/* ---- events -------------------------------------------------------------------------------------------------- */

static mg_status sample(mg__simulation *sim) {
  MG_TRY(mg__serving_sample(sim));
  return mg__events_add(&sim->events,
                        (mg__event){.seconds = sim->now + sim->plan->set.sample_seconds, .kind = MG__SAMPLE});
}

static mg_status end_transfer(mg__simulation *sim, mg__pool *pool, int32_t id) {
  mg__pool_enqueue(sim, pool, id, false);
  return mg__pool_wake(sim, pool);
}

static mg_status happen(mg__simulation *sim, const mg__event *event) {
  mg__pool *pool = &sim->pools[event->pool];
  const bool of_instance = event->kind <= MG__NODE_SLOWS;
  if (of_instance && pool->instances[event->index].epoch != event->epoch) return MG_OK;
  switch ((mg__event_kind)event->kind) {
  case MG__STEP_ENDS: return mg__step_end(sim, pool, &pool->instances[event->index]);
  case MG__INSTANCE_READY: return mg__pool_ready(sim, pool, event->index);
  case MG__NODE_FAILS: return mg__pool_fail(sim, pool, event->index);
  case MG__NODE_REPAIRED: return mg__pool_repair(sim, pool, event->index);
  case MG__NODE_SLOWS: return mg__pool_slow(sim, pool, event->index);
  case MG__TRANSFER_ENDS: return end_transfer(sim, pool, event->index);
  case MG__POOL_DECIDES: return mg__pool_decide(sim, pool);
  case MG__SAMPLE: return sample(sim);
  }
  return mg_fail(sim->context, MG_BUG, "serving: there is no event of kind %d", event->kind);
}

static mg_status tell(const mg__simulation *sim) {
  const mg_serving_hooks *hooks = sim->hooks;
  if (!hooks || !hooks->progress || hooks->progress(hooks->user, fmin(sim->now, sim->until), sim->until)) return MG_OK;
  return mg_fail(sim->context, MG_INTERRUPTED, "interrupted");
}

/* The next arrival or event; false when the time is over, and everything finished where that is waited for: not for ever,
 * because nodes may fail faster than any request can end. */
static bool advance(mg__simulation *sim, bool *arrival) {
  const double coming = sim->more ? sim->coming.seconds : INFINITY,
               event = sim->events.count > 0 ? sim->events.items[0].seconds : INFINITY;
  const double next = fmin(coming, event);
  const bool drain = sim->plan->set.drain && sim->present > 0;
  if (next > (drain ? DRAIN_MOST * sim->until : sim->until)) return false;
  *arrival = coming <= event;
  sim->now = next;
  return true;
}

static mg_status simulate(mg__simulation *sim) {
  bool arrival;
  for (int64_t count = 0; advance(sim, &arrival); count++) {
    if (arrival) {
      MG_TRY(arrive(sim));
    } else {
      const mg__event event = mg__events_pop(&sim->events);
      MG_TRY(happen(sim, &event));
    }
    if (count % EVENTS_BETWEEN_PROGRESS == 0) MG_TRY(tell(sim));
  }
  sim->now = fmax(sim->now, sim->until);
  mg__count_present(sim, 0);
  for (int64_t i = 0; i < sim->plan->pools_count; i++) mg__pool_account(sim, &sim->pools[i]);
  return tell(sim);
}

/* ---- the ends ------------------------------------------------------------------------------------------------ */

static mg_status open_all(mg__simulation *sim) {
  const mg__serving_settings *set = &sim->plan->set;
  sim->until = set->hours * 3600.0;
  sim->events.context = sim->requests.context = sim->context;
  sim->requests.free = MG__NOBODY;
  sim->draws.stream = mg_stream_named((uint64_t)set->seed, "nodes", 0, 0);
  sim->series = json_object();
  if (!sim->series) return mg_fail(sim->context, MG_MEMORY, "serving: no memory for series");
  for (int64_t i = 0; i < sim->plan->pools_count; i++) {
    if (sim->plan->pools[i].scaling.policy == MG_SCALING_CUSTOM && !(sim->hooks && sim->hooks->decide))
      return mg_fail(sim->context, MG_USAGE, "%s.scaling: a custom policy needs a function", sim->plan->pools[i].name);
    MG_TRY(mg__pool_open(sim, i));
  }
  fetch(sim);
  return mg__events_add(&sim->events, (mg__event){.seconds = set->sample_seconds, .kind = MG__SAMPLE});
}

static void close_all(mg__simulation *sim) {
  for (int64_t i = 0; i < sim->plan->pools_count; i++) mg__pool_close(sim, &sim->pools[i]);
  MG_VECTOR_FREE(sim->context, sim->events.items, sim->events.room);
  MG_VECTOR_FREE(sim->context, sim->requests.items, sim->requests.room);
  json_decref(sim->series);
}

mg_status mg_serving_check(mg_context *context, const json_t *spec) {
  mg__serving_plan *plan;
  MG_TRY(mg__serving_plan_make(context, spec, &plan));
  mg__serving_plan_free(plan);
  return MG_OK;
}

mg_status mg_serving_run(mg_context *context, const json_t *spec, const mg_serving_hooks *hooks, json_t **result) {
  mg__serving_plan *plan;
  *result = NULL;
  MG_TRY(mg__serving_plan_make(context, spec, &plan));
  mg__simulation *sim = mg_alloc(context, sizeof *sim);
  mg_status status = MG_MEMORY;
  if (sim) {
    *sim = (mg__simulation){.context = context, .plan = plan, .hooks = hooks};
    status = open_all(sim);
    if (status == MG_OK) status = simulate(sim);
    if (status == MG_OK) status = mg__serving_result(sim, result);
    close_all(sim);
    mg_free(context, sim, sizeof *sim);
  }
  mg__serving_plan_free(plan);
  return status;
}
