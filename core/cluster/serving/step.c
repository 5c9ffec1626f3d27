/* One step of an instance: which requests it takes, how long it lasts, and what it leaves.
 *
 * A step may add a token to every running sequence, and compute prompt tokens of requests on their way to their first
 * token. It lasts decode(sequences, mean length) + prefill(tokens, mean context), longer while a node is slow. The sum is
 * an upper bound for a step that does both, in which weights are read once. */
#include <math.h>

#include "cluster/serving/internal.h"

static mg__request *request(mg__simulation *sim, int32_t id) {
  return &sim->requests.items[id];
}

/* Tokens that must be in memory before the next token: the prompt, and after a loss what was generated since. */
static int64_t prefill_target(const mg__request *r) {
  return (int64_t)r->prompt + r->generated;
}

/* KV memory that a request needs to be admitted to a pool. */
static int64_t kv_wanted(const mg__pool *pool, const mg__request *r) {
  if (pool->plan->decodes && pool->plan->set.reserve) return (int64_t)r->prompt + r->output - 1;
  return pool->plan->prefills ? prefill_target(r) : r->present;
}

/* Tokens by which the running sequences grow in a step, where these are not set aside before. */
static int64_t growth(const mg__pool *pool, const mg__instance *instance) {
  return pool->plan->set.reserve ? 0 : instance->running.count;
}

/* ---- requests leave ------------------------------------------------------------------------------------------ */

static void finish(mg__simulation *sim, int32_t id) {
  const mg__request *r = request(sim, id);
  const mg__serving_settings *set = &sim->plan->set;
  mg__tally *tally = &sim->tally;
  const double ttft = r->first_token - r->arrived;
  const double tpot = r->output > 1 ? (sim->now - r->first_token) / (r->output - 1) : 0;
  tally->finished += set->group;
  mg_durations_add(&tally->whole, sim->now - r->arrived, set->group);
  if (r->output > 1) mg_durations_add(&tally->tpot, tpot, set->group);
  if ((set->ttft_seconds == 0 || ttft <= set->ttft_seconds) && (set->tpot_seconds == 0 || tpot <= set->tpot_seconds))
    tally->met += set->group;
  mg__requests_give(&sim->requests, id);
  mg__count_present(sim, -1);
}

/* Back to the front of the queue for prefill, with nothing in memory but the cached part of its prompt. */
static void send_back(mg__simulation *sim, int32_t id) {
  mg__request *r = request(sim, id);
  r->present = r->cached;
  r->chunk = 0;
  mg__pool_enqueue(sim, &sim->pools[0], id, true);
}

static void leave_prefill(mg__simulation *sim, mg__pool *pool, mg__instance *instance, int32_t id) {
  instance->kv_tokens -= kv_wanted(pool, request(sim, id));
  mg__list_remove(&sim->requests, &instance->prefilling, id);
}

mg_status mg__step_lose(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  for (int32_t id; (id = instance->running.last) != MG__NOBODY; sim->tally.lost += sim->plan->set.group) {
    mg__running_remove(sim, pool, instance, id);
    send_back(sim, id);
  }
  for (int32_t id; (id = instance->prefilling.last) != MG__NOBODY; sim->tally.lost += sim->plan->set.group) {
    leave_prefill(sim, pool, instance, id);
    send_back(sim, id);
  }
  return mg__pool_wake(sim, &sim->pools[0]);
}

/* Takes memory from the youngest until the others can grow. */
static mg_status make_room(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  bool some = false;
  while (instance->kv_tokens + growth(pool, instance) > pool->plan->kv_tokens) {
    int32_t victim = instance->prefilling.last;
    if (victim != MG__NOBODY) {
      leave_prefill(sim, pool, instance, victim);
    } else {
      victim = instance->running.last;
      mg__running_remove(sim, pool, instance, victim);
    }
    sim->tally.preempted += sim->plan->set.group;
    send_back(sim, victim);
    some = true;
  }
  return some ? mg__pool_wake(sim, &sim->pools[0]) : MG_OK;
}

/* ---- requests come ------------------------------------------------------------------------------------------- */

static bool may_admit(mg__simulation *sim, const mg__pool *pool, const mg__instance *instance) {
  if (instance->draining || pool->queue.count == 0) return false;
  if (instance->running.count + instance->prefilling.count >= pool->plan->sequences) return false;
  const int64_t own_growth = pool->plan->prefills || pool->plan->set.reserve ? 0 : 1;
  const int64_t wanted = kv_wanted(pool, request(sim, pool->queue.first)) + own_growth;
  return instance->kv_tokens + wanted + growth(pool, instance) <= pool->plan->kv_tokens;
}

static mg_status admit_ready(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  while (may_admit(sim, pool, instance)) MG_TRY(mg__running_add(sim, pool, instance, mg__pool_dequeue(sim, pool)));
  return MG_OK;
}

typedef struct prefill_work {
  double tokens, attended; /* and the context of each, summed */
  double seconds;
  int64_t budget;
} prefill_work;

/* As much of the request as the budget allows: all or nothing where prompts are not cut. */
static void give_chunk(mg__request *r, bool chunked, prefill_work *work) {
  const int64_t due = prefill_target(r) - r->present;
  const int64_t chunk = chunked && due > work->budget ? work->budget : due;
  r->chunk = (int32_t)chunk;
  work->budget -= chunk;
  work->tokens += (double)chunk;
  work->attended += (double)chunk * ((double)r->present + 0.5 * (double)chunk);
}

static bool whole_fits(mg__simulation *sim, const mg__pool *pool, const prefill_work *work) {
  const mg__request *r = request(sim, pool->queue.first);
  return pool->plan->set.chunked || work->tokens == 0 || prefill_target(r) - r->present <= work->budget;
}

/* Those already begun come first, then new ones. Decoding tokens count towards the limit of a step. */
static prefill_work plan_prefill(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  const bool chunked = pool->plan->set.chunked;
  prefill_work work = {.budget = pool->plan->step_tokens - (chunked ? instance->running.count : 0)};
  for (int32_t id = instance->prefilling.first; id != MG__NOBODY; id = request(sim, id)->next)
    if (work.budget > 0) give_chunk(request(sim, id), chunked, &work);
  while (work.budget > 0 && may_admit(sim, pool, instance) && whole_fits(sim, pool, &work)) {
    const int32_t id = mg__pool_dequeue(sim, pool);
    instance->kv_tokens += kv_wanted(pool, request(sim, id));
    mg__list_append(&sim->requests, &instance->prefilling, id);
    give_chunk(request(sim, id), chunked, &work);
  }
  return work;
}

/* ---- the step ------------------------------------------------------------------------------------------------ */

static mg_status duration(const mg__simulation *sim, const mg__pool *pool, const mg__instance *instance,
                          prefill_work *work, double *seconds) {
  const double group = (double)sim->plan->set.group, running = (double)instance->running.count;
  double decode = 0;
  if (work->tokens > 0)
    MG_TRY(mg_step_cost_seconds(pool->plan->prefill_step, work->tokens * group, work->attended / work->tokens,
                                &work->seconds));
  if (instance->decoding)
    MG_TRY(mg_step_cost_seconds(pool->plan->decode_step, running * group, (double)instance->context_tokens / running,
                                &decode));
  *seconds = (work->seconds + decode) * (sim->now < instance->slow_until ? pool->plan->set.slowdown : 1);
  return MG_OK;
}

/* The share of its capacity that an instance uses. Where it decodes, of sequences or of memory, whichever is fuller. Where
 * it only prefills, the time that its tokens would take in full steps against the time that they take: one that works all
 * day on half-empty steps is not fully used. */
static mg_status occupancy(const mg__simulation *sim, mg__pool *pool, mg__instance *instance,
                           const prefill_work *work) {
  const double kv = (double)instance->kv_tokens / (double)pool->plan->kv_tokens;
  const double sequences =
      (double)(instance->running.count + instance->prefilling.count) / (double)pool->plan->sequences;
  pool->kv_peak = fmax(pool->kv_peak, kv);
  instance->occupancy = fmax(kv, sequences);
  if (pool->plan->decodes) return MG_OK;
  const double group = (double)sim->plan->set.group;
  const double full = fmin((double)pool->plan->step_tokens * group, mg_step_cost_most_tokens(pool->plan->prefill_step));
  double seconds;
  MG_TRY(mg_step_cost_seconds(pool->plan->prefill_step, full, work->attended / work->tokens, &seconds));
  instance->occupancy = work->seconds > 0 ? fmin(work->tokens * group / full * seconds / work->seconds, 1) : 1;
  return MG_OK;
}

static void rest(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  if (instance->draining) instance->epoch++;
  mg__instance_enter(sim, pool, instance, instance->draining ? MG__STOPPED : MG__IDLE);
}

mg_status mg__step_begin(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  double seconds;
  prefill_work work = {0};
  mg__instance_enter(sim, pool, instance, MG__BUSY); /* so that what it sends back does not wake it */
  MG_TRY(make_room(sim, pool, instance));
  if (pool->plan->prefills)
    work = plan_prefill(sim, pool, instance);
  else
    MG_TRY(admit_ready(sim, pool, instance));
  instance->decoding = instance->running.count > 0 && (pool->plan->set.chunked || work.tokens == 0);
  if (work.tokens == 0 && !instance->decoding) {
    rest(sim, pool, instance);
    return MG_OK;
  }
  MG_TRY(duration(sim, pool, instance, &work, &seconds));
  MG_TRY(occupancy(sim, pool, instance, &work));
  return mg__events_add(&sim->events, (mg__event){.seconds = sim->now + seconds,
                                                  .kind = MG__STEP_ENDS,
                                                  .pool = (int32_t)(pool - sim->pools),
                                                  .index = (int32_t)(instance - pool->instances),
                                                  .epoch = instance->epoch});
}

static void end_decoding(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  instance->steps++;
  instance->context_tokens += instance->running.count;
  instance->kv_tokens += growth(pool, instance);
  sim->tally.output_tokens += (double)(instance->running.count * sim->plan->set.group);
  for (int32_t id; (id = mg__running_ended(sim, instance)) != MG__NOBODY;) {
    mg__running_remove(sim, pool, instance, id);
    finish(sim, id);
  }
}

/* The first token is there: on to decoding, here or in the other pool. */
static mg_status end_prefill(mg__simulation *sim, mg__pool *pool, mg__instance *instance, int32_t id) {
  leave_prefill(sim, pool, instance, id);
  mg__request *r = request(sim, id);
  r->generated++;
  sim->tally.output_tokens += (double)sim->plan->set.group;
  if (r->first_token < 0) {
    r->first_token = sim->now;
    mg_durations_add(&sim->tally.ttft, sim->now - r->arrived, sim->plan->set.group);
  }
  if (r->generated == r->output) {
    finish(sim, id);
    return MG_OK;
  }
  if (pool->plan->decodes) return mg__running_add(sim, pool, instance, id);
  const mg__pool_settings *to = &mg__decode_pool(sim)->plan->set;
  return mg__events_add(&sim->events, (mg__event){.seconds = sim->now + to->transfer_seconds +
                                                             to->transfer_seconds_per_token * r->present,
                                                  .kind = MG__TRANSFER_ENDS,
                                                  .pool = (int32_t)(sim->plan->pools_count - 1),
                                                  .index = id});
}

mg_status mg__step_end(mg__simulation *sim, mg__pool *pool, mg__instance *instance) {
  if (instance->decoding) end_decoding(sim, pool, instance);
  for (int32_t id = instance->prefilling.first, next; id != MG__NOBODY; id = next) {
    mg__request *r = request(sim, id);
    next = r->next;
    if (r->chunk == 0) break;
    r->present += r->chunk;
    sim->tally.prefill_tokens += (double)(r->chunk * sim->plan->set.group);
    r->chunk = 0;
    if (r->present == prefill_target(r)) MG_TRY(end_prefill(sim, pool, instance, id));
  }
  return mg__step_begin(sim, pool, instance);
}
