/* What a simulation leaves: series over hours, metrics, and a table of where the time of each pool went. */
#include <math.h>
#include <stdio.h>

#include "cluster/serving/internal.h"

enum { NAME_BYTES = 96 };

static json_t *number(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

/* ---- series -------------------------------------------------------------------------------------------------- */

static mg_status point(mg__simulation *sim, const char *name, const char *pool, double value) {
  char whole[NAME_BYTES];
  snprintf(whole, sizeof whole, "%s%s%s", name, pool ? "_" : "", pool ? pool : "");
  json_t *points = json_object_get(sim->series, whole);
  if (!points) {
    points = json_array();
    json_object_set_new(sim->series, whole, points);
  }
  if (json_array_append_new(points, json_pack("[f, o]", sim->now / 3600.0, number(value))) == 0) return MG_OK;
  return mg_fail(sim->context, MG_MEMORY, "serving: no memory for the series %s", whole);
}

mg_status mg__serving_sample(mg__simulation *sim) {
  const double seconds = sim->now - sim->sampled_at;
  double nodes = 0;
  MG_TRY(point(sim, "requests_per_second", NULL,
               (sim->pools[0].meter.requests - sim->pools[0].sampled.requests) / seconds));
  MG_TRY(point(sim, "output_tokens_per_second", NULL, (sim->tally.output_tokens - sim->sampled_output) / seconds));
  for (int64_t i = 0; i < sim->plan->pools_count; i++) {
    mg__pool *pool = &sim->pools[i];
    mg__pool_account(sim, pool);
    const double available = pool->meter.available - pool->sampled.available;
    const double here = (pool->meter.paid - pool->sampled.paid) / seconds * (double)pool->plan->set.nodes;
    MG_TRY(point(sim, "nodes", pool->plan->name, here));
    MG_TRY(point(sim, "queued", pool->plan->name, (double)(pool->queue.count * sim->plan->set.group)));
    MG_TRY(point(sim, "utilisation", pool->plan->name, (pool->meter.used - pool->sampled.used) / available));
    pool->sampled = pool->meter;
    nodes += here;
  }
  sim->sampled_at = sim->now;
  sim->sampled_output = sim->tally.output_tokens;
  return point(sim, "nodes", NULL, nodes);
}

/* ---- metrics ------------------------------------------------------------------------------------------------- */

static void put(json_t *metrics, const char *name, double value) {
  json_object_set_new(metrics, name, number(value));
}

static void put_of(json_t *metrics, const char *name, const char *of, double value) {
  char whole[NAME_BYTES];
  snprintf(whole, sizeof whole, "%s_%s", name, of);
  put(metrics, whole, value);
}

static void put_durations(json_t *metrics, const char *name, const mg_durations *durations) {
  put_of(metrics, name, "mean", mg_durations_mean(durations));
  put_of(metrics, name, "p50", mg_durations_quantile(durations, 0.5));
  put_of(metrics, name, "p90", mg_durations_quantile(durations, 0.9));
  put_of(metrics, name, "p99", mg_durations_quantile(durations, 0.99));
}

static void put_requests(const mg__simulation *sim, json_t *metrics) {
  const mg__tally *t = &sim->tally;
  const double group = (double)sim->plan->set.group;
  put(metrics, "requests", (double)t->arrived);
  put(metrics, "finished", (double)t->finished);
  put(metrics, "rejected", (double)t->rejected);
  put(metrics, "unfinished", (double)sim->present * group);
  put(metrics, "preempted", (double)t->preempted);
  put(metrics, "lost_to_failures", (double)t->lost);
  put(metrics, "failures", (double)t->failures);
  put(metrics, "input_tokens", t->input_tokens);
  put(metrics, "cached_tokens", t->cached_tokens);
  put(metrics, "prefill_tokens", t->prefill_tokens);
  put(metrics, "output_tokens", t->output_tokens);
  put(metrics, "seconds_simulated", sim->now);
  put(metrics, "requests_per_second", (double)t->arrived / sim->now);
  put(metrics, "output_tokens_per_second", t->output_tokens / sim->now);
  put(metrics, "requests_present", sim->present_seconds * group / sim->now);
  put_durations(metrics, "ttft_seconds", &t->ttft);
  put_durations(metrics, "tpot_seconds", &t->tpot);
  put_durations(metrics, "latency_seconds", &t->whole);
  put(metrics, "goodput", (double)t->met / sim->now);
  put(metrics, "goodput_share", t->finished > 0 ? (double)t->met / (double)t->finished : NAN);
}

static double node_seconds(const mg__pool *pool) {
  return pool->meter.paid * (double)pool->plan->set.nodes;
}

static void put_pool(const mg__simulation *sim, const mg__pool *pool, json_t *metrics) {
  const char *name = pool->plan->name;
  const mg__tally *t = &sim->tally;
  put_of(metrics, "node_hours", name, node_seconds(pool) / 3600.0);
  put_of(metrics, "nodes", name, node_seconds(pool) / sim->now);
  put_of(metrics, "utilisation", name, pool->meter.used / pool->meter.available);
  put_of(metrics, "queued", name, pool->queued_seconds * (double)sim->plan->set.group / sim->now);
  put_of(metrics, "kv_peak", name, pool->kv_peak);
  if (pool->plan->prefills) put(metrics, "prefill_tokens_per_second_per_node", t->prefill_tokens / node_seconds(pool));
  if (pool->plan->decodes) put(metrics, "output_tokens_per_second_per_node", t->output_tokens / node_seconds(pool));
}

/* Power is drawn by every node that is paid; energy is not measured where power is not known. */
static void put_cost(const mg__simulation *sim, json_t *metrics) {
  const mg__serving_settings *set = &sim->plan->set;
  double nodes = 0, busy = 0;
  for (int64_t i = 0; i < sim->plan->pools_count; i++) {
    nodes += node_seconds(&sim->pools[i]);
    busy += sim->pools[i].state_seconds[MG__BUSY] * (double)sim->plan->pools[i].set.nodes;
  }
  put(metrics, "node_hours", nodes / 3600.0);
  put(metrics, "nodes", nodes / sim->now);
  put(metrics, "nodes_peak", (double)sim->nodes_peak);
  if (set->dollars_per_node_hour > 0) {
    const double dollars = nodes / 3600.0 * set->dollars_per_node_hour;
    put(metrics, "dollars", dollars);
    put(metrics, "dollars_per_million_output_tokens", 1e6 * dollars / sim->tally.output_tokens);
  }
  if (set->idle_watts_per_node > 0 && set->busy_watts_per_node > 0) {
    const double joules = set->busy_watts_per_node * busy + set->idle_watts_per_node * (nodes - busy);
    put(metrics, "joules", joules);
    put(metrics, "joules_per_output_token", joules / sim->tally.output_tokens);
  }
}

/* {POOL: {starting, idle, busy, down, paid}} in instance seconds; the first four add up to the last. */
static json_t *time_table(const mg__simulation *sim) {
  json_t *table = json_object();
  for (int64_t i = 0; i < sim->plan->pools_count; i++) {
    const mg__pool *pool = &sim->pools[i];
    json_object_set_new(table, pool->plan->name,
                        json_pack("{s:f, s:f, s:f, s:f, s:f}", "starting", pool->state_seconds[MG__STARTING], "idle",
                                  pool->state_seconds[MG__IDLE], "busy", pool->state_seconds[MG__BUSY], "down",
                                  pool->state_seconds[MG__DOWN], "paid", pool->meter.paid));
  }
  return table;
}

mg_status mg__serving_result(mg__simulation *sim, json_t **result) {
  json_t *metrics = json_object();
  put_requests(sim, metrics);
  for (int64_t i = 0; i < sim->plan->pools_count; i++) put_pool(sim, &sim->pools[i], metrics);
  put_cost(sim, metrics);
  *result = json_pack("{s:o, s:O, s:{s:o}}", "metrics", metrics, "series", sim->series, "tables", "instance_seconds",
                      time_table(sim));
  return *result ? MG_OK : mg_fail(sim->context, MG_MEMORY, "serving: no memory for the result");
}
