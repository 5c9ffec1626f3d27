/* A specification made strict: every key known, every number in its range, the parts fit together. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "cluster/serving/internal.h"

#define UNLIMITED 1e15
enum { SAMPLES_MAX = 100000 };

static const mg_option serving_options[] = {
    MG_OPTION_FLOAT(mg__serving_settings, hours, 1, 1e-6, 1e5, "how long requests arrive, from midnight on"),
    MG_OPTION_INT(mg__serving_settings, seed, 1, 0, 9007199254740992.0, "of arrivals, lengths and failures"),
    MG_OPTION_INT(mg__serving_settings, group, 1, 1, 1000000, "equal requests that are simulated as one"),
    MG_OPTION_BOOL(mg__serving_settings, drain, false,
                   "go on after that until every request is finished, at most 100 times as long"),
    MG_OPTION_FLOAT(mg__serving_settings, sample_seconds, 0, 0, 1e7, "between points of series; 0 = 288 in all"),
    MG_OPTION_FLOAT(mg__serving_settings, ttft_seconds, 0, 0, 1e6, "objective: time to the first token; 0 = any"),
    MG_OPTION_FLOAT(mg__serving_settings, tpot_seconds, 0, 0, 1e6,
                    "objective: time per later token, mean of a request; 0 = any"),
    MG_OPTION_FLOAT(mg__serving_settings, dollars_per_node_hour, 0, 0, 1e6, "price; 0 = not known"),
    MG_OPTION_FLOAT(mg__serving_settings, idle_watts_per_node, 0, 0, 1e6, "power without work; 0 = not known"),
    MG_OPTION_FLOAT(mg__serving_settings, busy_watts_per_node, 0, 0, 1e6, "power in a step; 0 = not known"),
    MG_OPTION_END};

static const mg_option pool_options[] = {
    MG_OPTION_INT(mg__pool_settings, nodes, 1, 1, 1e6, "of an instance"),
    MG_OPTION_INT(mg__pool_settings, step_tokens, 8192, 1, UNLIMITED,
                  "most tokens of a step, prefill and decode together"),
    MG_OPTION_INT(mg__pool_settings, sequences, 256, 1, UNLIMITED, "most requests at a time in an instance"),
    MG_OPTION_INT(mg__pool_settings, kv_tokens, UNLIMITED, 1, UNLIMITED,
                  "tokens that the KV memory of an instance holds"),
    MG_OPTION_BOOL(mg__pool_settings, chunked, true,
                   "prompts may be cut at the end of a step, and share it with decoding"),
    MG_OPTION_BOOL(mg__pool_settings, reserve, false,
                   "set KV memory aside for the whole output; false: preempt the youngest"),
    MG_OPTION_FLOAT(mg__pool_settings, start_up_seconds, 0, 0, 1e7, "from the decision to the first step"),
    MG_OPTION_FLOAT(mg__pool_settings, transfer_seconds, 0, 0, 1e6, "decode: until the KV of a request arrives"),
    MG_OPTION_FLOAT(mg__pool_settings, transfer_seconds_per_token, 0, 0, 1e3, "decode: and for each of its tokens"),
    MG_OPTION_FLOAT(mg__pool_settings, node_failure_hours, 0, 0, 1e9,
                    "mean time between failures of a node; 0 = never"),
    MG_OPTION_FLOAT(mg__pool_settings, repair_seconds, 3600, 0, 1e9, "until a failed node is there again"),
    MG_OPTION_FLOAT(mg__pool_settings, node_slow_hours, 0, 0, 1e9,
                    "mean time between slow spells of a node; 0 = never"),
    MG_OPTION_FLOAT(mg__pool_settings, slow_seconds, 600, 0, 1e9, "length of a slow spell"),
    MG_OPTION_FLOAT(mg__pool_settings, slowdown, 2, 1, 1e6, "factor on the steps of an instance with a slow node"),
    MG_OPTION_END};

const mg_option *mg_serving_options(void) {
  return serving_options;
}

const mg_option *mg_serving_pool_options(void) {
  return pool_options;
}

/* ---- a pool -------------------------------------------------------------------------------------------------- */

static mg_status read_flat(mg_context *context, const mg_option *table, const json_t *json, const char *const *nested,
                           const char *where, void *out) {
  if (!json_is_object(json)) return mg_fail(context, MG_USAGE, "%s: a table of named options was expected", where);
  json_t *flat = json_copy((json_t *)(uintptr_t)json);
  for (; *nested; nested++) json_object_del(flat, *nested);
  mg_options_defaults(table, out);
  const mg_status status = mg_options_from_json(context, table, flat, where, out);
  json_decref(flat);
  return status;
}

static mg_status read_step(mg_context *context, const char *pool, const char *key, bool wanted, const json_t *json,
                           mg_step_cost **out) {
  char where[64];
  const json_t *grid = json_object_get(json, key);
  snprintf(where, sizeof where, "%s.%s", pool, key);
  if (wanted && !grid)
    return mg_fail(context, MG_USAGE, "%s: '%s' is needed: the cost of a step, made with mg.step_cost", pool, key);
  if (!wanted && grid) return mg_fail(context, MG_USAGE, "%s: this pool does no such steps", where);
  return grid ? mg_step_cost_from_json(context, where, grid, out) : MG_OK;
}

/* `limit` for a member of a group. */
static mg_status divide(mg_context *context, const char *pool, const char *key, int64_t limit, int64_t group,
                        int64_t *out) {
  *out = limit / group;
  if (*out >= 1) return MG_OK;
  return mg_fail(context, MG_USAGE,
                 "%s: %s = %lld is less than one token of each of the %lld requests of a group; use a smaller 'group'",
                 pool, key, (long long)limit, (long long)group);
}

static mg_status read_pool(mg__serving_plan *plan, const json_t *spec, const char *name, bool prefills, bool decodes) {
  static const char *const nested[] = {"prefill_step", "decode_step", "scaling", NULL};
  mg_context *context = plan->context;
  const json_t *json = json_object_get(spec, name);
  mg__pool_plan *pool = &plan->pools[plan->pools_count++];
  char where[64];
  *pool = (mg__pool_plan){.name = name, .prefills = prefills, .decodes = decodes};
  MG_TRY(read_flat(context, pool_options, json, nested, name, &pool->set));
  MG_TRY(read_step(context, name, "prefill_step", prefills, json, &pool->prefill_step));
  MG_TRY(read_step(context, name, "decode_step", decodes, json, &pool->decode_step));
  snprintf(where, sizeof where, "%s.scaling", name);
  MG_TRY(mg_scaling_from_json(context, where, json_object_get(json, "scaling"), &pool->scaling));
  const int64_t group = plan->set.group;
  MG_TRY(divide(context, name, "step_tokens", pool->set.step_tokens, group, &pool->step_tokens));
  MG_TRY(divide(context, name, "sequences", pool->set.sequences, group, &pool->sequences));
  return divide(context, name, "kv_tokens", pool->set.kv_tokens, group, &pool->kv_tokens);
}

/* ---- the whole ----------------------------------------------------------------------------------------------- */

static mg_status read_pools(mg__serving_plan *plan, const json_t *spec) {
  const bool mixed = json_object_get(spec, "mixed") != NULL;
  const int apart = (json_object_get(spec, "prefill") != NULL) + (json_object_get(spec, "decode") != NULL);
  if (mixed ? apart != 0 : apart != 2)
    return mg_fail(plan->context, MG_USAGE, "serving: pools are needed, either 'mixed' or both 'prefill' and 'decode'");
  if (mixed) return read_pool(plan, spec, "mixed", true, true);
  MG_TRY(read_pool(plan, spec, "prefill", true, false));
  return read_pool(plan, spec, "decode", false, true);
}

static mg_status check_forecasts(const mg__serving_plan *plan) {
  for (int64_t i = 0; i < plan->pools_count; i++)
    if (plan->pools[i].scaling.policy == MG_SCALING_PREDICTIVE && isnan(mg_arrivals_rate(plan->arrivals, 0)))
      return mg_fail(plan->context, MG_USAGE, "%s.scaling: recorded arrivals foretell nothing; choose another policy",
                     plan->pools[i].name);
  return MG_OK;
}

static mg_status read_plan(mg__serving_plan *plan, const json_t *spec) {
  static const char *const nested[] = {"arrivals", "mixed", "prefill", "decode", NULL};
  MG_TRY(read_flat(plan->context, serving_options, spec, nested, "serving", &plan->set));
  const json_t *arrivals = json_object_get(spec, "arrivals");
  if (!json_is_object(arrivals))
    return mg_fail(plan->context, MG_USAGE,
                   "serving: 'arrivals' is needed: {requests_per_second = ...} or {replay = FILE}");
  MG_TRY(read_pools(plan, spec));
  MG_TRY(mg_arrivals_create(plan->context, arrivals, (uint64_t)plan->set.seed, plan->set.group, &plan->arrivals));
  const double seconds = plan->set.hours * 3600.0;
  if (plan->set.sample_seconds == 0) plan->set.sample_seconds = seconds / 288.0;
  if (seconds / plan->set.sample_seconds > SAMPLES_MAX)
    return mg_fail(plan->context, MG_USAGE, "serving: sample_seconds = %g makes more than %d points in %g hours",
                   plan->set.sample_seconds, SAMPLES_MAX, plan->set.hours);
  return check_forecasts(plan);
}

mg_status mg__serving_plan_make(mg_context *context, const json_t *spec, mg__serving_plan **out) {
  *out = NULL;
  mg__serving_plan *plan = mg_alloc(context, sizeof *plan);
  if (!plan) return MG_MEMORY;
  plan->context = context;
  const mg_status status = read_plan(plan, spec);
  if (status == MG_OK)
    *out = plan;
  else
    mg__serving_plan_free(plan);
  return status;
}

void mg__serving_plan_free(mg__serving_plan *plan) {
  if (!plan) return;
  for (int64_t i = 0; i < plan->pools_count; i++) {
    mg_step_cost_destroy(plan->pools[i].prefill_step);
    mg_step_cost_destroy(plan->pools[i].decode_step);
  }
  mg_arrivals_destroy(plan->arrivals);
  mg_free(plan->context, plan, sizeof *plan);
}
