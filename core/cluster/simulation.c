/* Runs a specification as it is, with perfect balance, and at the hardware's peak, and puts the answers together. */
#include "cluster/simulation.h"

#include <math.h>

#include "cluster/simulation_setup.h"
#include "cluster/timeline.h"
#include "moe/balance.h"

static void put(json_t *metrics, const char *name, double value) {
  json_object_set_new(metrics, name, isfinite(value) ? json_real(value) : json_null());
}

/* ---- balance of the routing ----------------------------------------------------------------------------------- */

enum { FLOOR_RUNS = 8 };

/* Over the tokens of one step, mean over traced layers; the floor is that of as many tokens. */
mg_status mg__put_balance(const mg__setup *s, json_t *metrics) {
  const mg_routing *r = s->routing;
  const int64_t tokens = s->options.tokens * s->options.ranks, seen = tokens < r->tokens ? tokens : r->tokens;
  double *load = mg_alloc(s->context, (size_t)r->experts * sizeof *load), cv = 0, most = 0;
  if (!load) return MG_MEMORY;
  for (int64_t layer = 0; layer < r->layers; layer++) {
    for (int64_t e = 0; e < r->experts; e++) load[e] = 0;
    mg_routing_load(r, layer, s->options.offset, tokens, load);
    cv += mg_balance_cv(load, r->experts) / (double)r->layers;
    most += mg_balance_max_over_mean(load, r->experts) / (double)r->layers;
  }
  mg_free(s->context, load, (size_t)r->experts * sizeof *load);
  const mg_balance_floor least = mg_balance_random_floor(r->experts, s->shape.choices, seen, FLOOR_RUNS, 1);
  put(metrics, "cv", cv);
  put(metrics, "random_floor_cv", least.cv);
  put(metrics, "max_over_mean", most);
  put(metrics, "random_floor_max_over_mean", 1 + least.max_violation);
  put(metrics, "trace_repeats", fmax(1, (double)(s->options.offset + tokens) / (double)r->tokens));
  return MG_OK;
}

/* ---- what a second costs -------------------------------------------------------------------------------------- */

static void put_rates(const mg__setup *s, double tokens, double seconds, int64_t ranks, json_t *metrics) {
  const mg_accelerator *a = &s->accelerator;
  const double per_rank = tokens / seconds / (double)ranks;
  put(metrics, "step_ms", seconds * 1e3);
  put(metrics, "cluster_tokens_per_second", tokens / seconds);
  put(metrics, "device_tokens_per_second", per_rank);
  put(metrics, "node_tokens_per_second", per_rank * (double)(a->node_ranks < ranks ? a->node_ranks : ranks));
  if (a->dollars_per_hour > 0) put(metrics, "dollars_per_million_tokens", a->dollars_per_hour / 3600 / per_rank * 1e6);
  if (a->power_w > 0) put(metrics, "joules_per_token", a->power_w / per_rank);
}

static void put_memory(const mg_memory *m, json_t *metrics) {
  put(metrics, "memory_bytes", m->total_bytes);
  put(metrics, "memory_expert_bytes", m->expert_bytes);
  put(metrics, "memory_other_bytes", m->other_bytes);
  put(metrics, "memory_state_bytes", m->state_bytes);
  put(metrics, "memory_activation_bytes", m->activation_bytes);
  put(metrics, "memory_cache_bytes", m->cache_bytes);
}

/* ---- forward steps -------------------------------------------------------------------------------------------- */

static void put_phases(const mg_schedule *schedule, json_t *metrics) {
  double computed = 0;
  for (int phase = 0; phase < MG_PHASE_COUNT; phase++) {
    char name[64];
    const double seconds = mg_schedule_phase_s(schedule, (mg_phase)phase);
    if (phase != MG_PHASE_DISPATCH && phase != MG_PHASE_COMBINE) computed += seconds;
    if (seconds <= 0) continue;
    snprintf(name, sizeof name, "%s_ms", mg_phase_names[phase]);
    put(metrics, name, seconds * 1e3);
  }
  put(metrics, "exposed_network_ms", (schedule->makespan_s - computed) * 1e3);
}

/* Means over ranks of busy and idle time, and every rank's as lists. */
static void put_ranks(const mg_schedule *schedule, json_t *metrics, json_t *ranks) {
  static const char *const busy[] = {"busy_compute_ms", "busy_network_ms"};
  static const char *const idle[] = {"idle_compute_ms", "idle_network_ms"};
  for (int resource = 0; resource < MG_RESOURCE_COUNT; resource++) {
    json_t *list = json_array();
    double sum = 0;
    for (int64_t r = 0; r < schedule->ranks; r++) {
      const double seconds = mg_schedule_busy_s(schedule, (mg_resource)resource, r);
      sum += seconds / (double)schedule->ranks;
      json_array_append_new(list, json_real(seconds * 1e3));
    }
    json_object_set_new(ranks, busy[resource], list);
    put(metrics, busy[resource], sum * 1e3);
    put(metrics, idle[resource], (schedule->makespan_s - sum) * 1e3);
  }
}

static double share(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

static void put_messages(const mg_step *step, int64_t ranks, json_t *metrics) {
  const double n = (double)ranks;
  put(metrics, "near_bytes_per_rank", step->near_bytes / n);
  put(metrics, "far_bytes_per_rank", step->far_bytes / n);
  put(metrics, "most_near_bytes", step->most_near_bytes);
  put(metrics, "most_far_bytes", step->most_far_bytes);
  put(metrics, "rank_max_over_mean", step->rows_max_over_mean);
  put(metrics, "dropped_assignments", share(step->dropped, step->assigned));
}

static mg_costs costs_of(const mg__setup *s, bool roofline) {
  return (mg_costs){.context = s->context,
                    .accelerator = &s->accelerator,
                    .calibration = roofline || s->options.roofline ? NULL : &s->calibration,
                    .extrapolate = s->options.extrapolate};
}

/* Seconds of the same step with perfect balance, or at the peak. */
static mg_status other_step(const mg__setup *s, bool balanced, bool roofline, double *seconds) {
  mg_costs costs = costs_of(s, roofline);
  mg_step_request request = mg__setup_step(s, &costs);
  mg_step step;
  request.balanced = balanced;
  MG_TRY(mg_step_run(s->context, &request, &step));
  *seconds = step.schedule.makespan_s;
  mg_step_close(&step);
  return MG_OK;
}

static void put_comparison(double seconds, double balanced, double roofline, json_t *metrics) {
  put(metrics, "balanced_step_ms", balanced * 1e3);
  put(metrics, "imbalance_ms", (seconds - balanced) * 1e3);
  put(metrics, "roofline_step_ms", roofline * 1e3);
}

static mg_status compare_step(const mg__setup *s, double seconds, json_t *metrics) {
  double balanced, roofline;
  if (!s->options.compare) return MG_OK;
  MG_TRY(other_step(s, true, false, &balanced));
  MG_TRY(other_step(s, false, true, &roofline));
  put_comparison(seconds, balanced, roofline, metrics);
  return MG_OK;
}

static mg_status run_forward(const mg__setup *s, mg_costs *costs, json_t *metrics, json_t *ranks) {
  const mg__options *o = &s->options;
  const mg_step_request request = mg__setup_step(s, costs);
  mg_memory memory;
  mg_step step;
  mg_step_memory(&request, &memory);
  MG_TRY(mg_step_run(s->context, &request, &step));
  const double seconds = step.schedule.makespan_s;
  put_rates(s, (double)(o->tokens * o->ranks), seconds, o->ranks, metrics);
  put_phases(&step.schedule, metrics);
  put_ranks(&step.schedule, metrics, ranks);
  put_messages(&step, o->ranks, metrics);
  put_memory(&memory, metrics);
  mg_status status = MG_OK;
  if (*o->timeline) status = mg_timeline_write_step(s->context, &step.schedule, o->timeline_ranks, o->timeline);
  mg_step_close(&step);
  return status == MG_OK ? compare_step(s, seconds, metrics) : status;
}

/* ---- training ------------------------------------------------------------------------------------------------- */

static mg_status other_training(const mg__setup *s, bool balanced, bool roofline, double *seconds) {
  mg_costs costs = costs_of(s, roofline);
  mg_training_request request = mg__setup_training(s, &costs);
  mg_training training;
  request.batch.balanced = balanced;
  MG_TRY(mg_training_run(s->context, &request, &training));
  *seconds = training.step_s;
  mg_training_close(s->context, &training);
  return MG_OK;
}

/* Model FLOPs utilisation of bf16's peak: three times the forward pass, every query charged with all keys or with those
 * before it. */
static void put_utilisation(const mg__setup *s, const mg_training *t, json_t *metrics) {
  const double keys = (double)s->options.context;
  const double peak = (double)t->ranks * t->step_s * mg_accelerator_flops(&s->accelerator, 2);
  put(metrics, "mfu", 3 * mg_shape_token_flops(&s->shape, keys) * t->tokens / peak);
  put(metrics, "mfu_causal", 3 * mg_shape_token_flops(&s->shape, keys / 2) * t->tokens / peak);
  put(metrics, "gpu_hours_per_trillion_tokens", 1e12 / t->tokens * t->step_s / 3600 * (double)t->ranks);
}

static void put_training(const mg__setup *s, const mg_training *t, json_t *metrics, json_t *ranks) {
  put_rates(s, t->tokens, t->step_s, t->ranks, metrics);
  put_utilisation(s, t, metrics);
  for (int kind = 0; kind < MG_TASK_KINDS; kind++) {
    char name[64];
    snprintf(name, sizeof name, "%s_ms", mg_task_names[kind]);
    if (t->pipeline.kind_s[kind] > 0) put(metrics, name, t->pipeline.kind_s[kind] * 1e3);
  }
  put(metrics, "bubble_ms", t->pipeline.idle_s * 1e3);
  put(metrics, "optimiser_ms", t->optimiser_s * 1e3);
  put(metrics, "ranks", (double)t->ranks);
  put(metrics, "near_bytes_per_rank", t->near_bytes / (double)t->ranks);
  put(metrics, "far_bytes_per_rank", t->far_bytes / (double)t->ranks);
  put(metrics, "dropped_assignments", share(t->dropped, t->assigned));
  json_t *blocks = json_array();
  for (int64_t i = 0; i < t->stages; i++)
    json_array_append_new(blocks, json_integer(t->first_block[i + 1] - t->first_block[i]));
  json_object_set_new(ranks, "stage_blocks", blocks);
}

static mg_status run_training(const mg__setup *s, mg_costs *costs, json_t *metrics, json_t *ranks) {
  const mg_training_request request = mg__setup_training(s, costs);
  mg_training training;
  mg_memory memory;
  MG_TRY(mg_training_run(s->context, &request, &training));
  const double seconds = training.step_s;
  mg_training_memory(&request, &training, &memory);
  mg_status status = mg_memory_check(s->context, &s->accelerator, &memory);
  put_training(s, &training, metrics, ranks);
  put_memory(&memory, metrics);
  if (status == MG_OK && *s->options.timeline)
    status = mg_timeline_write_pipeline(s->context, &training.pipeline, s->options.timeline);
  mg_training_close(s->context, &training);
  if (status != MG_OK || !s->options.compare) return status;
  double balanced, roofline;
  MG_TRY(other_training(s, true, false, &balanced));
  MG_TRY(other_training(s, false, true, &roofline));
  put_comparison(seconds, balanced, roofline, metrics);
  return MG_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

static mg_status run(mg__setup *s, json_t *metrics, json_t *ranks, json_t **outside) {
  mg_costs costs = costs_of(s, false);
  MG_TRY(mg__setup_routing(s));
  MG_TRY(mg__setup_placement(s));
  MG_TRY(mg__put_balance(s, metrics));
  MG_TRY(s->options.step == MG_STEP_TRAINING ? run_training(s, &costs, metrics, ranks)
                                             : run_forward(s, &costs, metrics, ranks));
  if (s->options.replan_moves > 0) {
    put(metrics, "moved_experts", (double)s->moved);
    put(metrics, "move_ms", s->moved_s * 1e3);
  }
  *outside = mg_costs_outside(&costs);
  put(metrics, "extrapolated", (double)json_array_size(*outside));
  return MG_OK;
}

mg_status mg_simulation_check(mg_context *context, const json_t *spec) {
  mg__setup setup;
  const mg_status status = mg__setup_read(context, spec, &setup);
  mg__setup_close(&setup);
  return status;
}

mg_status mg_simulation_run(mg_context *context, const json_t *spec, json_t **out) {
  mg__setup setup;
  json_t *metrics = json_object(), *ranks = json_object(), *outside = NULL;
  *out = NULL;
  mg_status status = mg__setup_read(context, spec, &setup);
  if (status == MG_OK) status = run(&setup, metrics, ranks, &outside);
  if (status == MG_OK) *out = json_pack("{s:O, s:O, s:O}", "metrics", metrics, "ranks", ranks, "extrapolated", outside);
  if (status == MG_OK && !*out) status = mg_fail(context, MG_MEMORY, "cluster: out of host memory");
  json_decref(metrics);
  json_decref(ranks);
  json_decref(outside);
  mg__setup_close(&setup);
  return status;
}

/* ---- placements made elsewhere -------------------------------------------------------------------------------- */

static mg_status list_requests(mg__setup *s, json_t *list) {
  const int64_t experts = s->shape.experts;
  double *load = mg_alloc(s->context, (size_t)experts * sizeof *load);
  if (!load) return MG_MEMORY;
  for (int64_t layer = 0; layer < s->routing->layers; layer++) {
    const mg_place_request r = mg__setup_request(s, layer, load);
    json_t *loads = json_array();
    for (int64_t e = 0; e < experts; e++) json_array_append_new(loads, json_real(load[e]));
    json_array_append_new(list, json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "layer", (json_int_t)layer,
                                          "load", loads, "experts", (json_int_t)r.experts, "slots", (json_int_t)r.slots,
                                          "ranks", (json_int_t)r.ranks, "nodes", (json_int_t)r.nodes, "groups",
                                          (json_int_t)r.groups, "seed", (json_int_t)r.seed));
  }
  mg_free(s->context, load, (size_t)experts * sizeof *load);
  return MG_OK;
}

mg_status mg_simulation_requests(mg_context *context, const json_t *spec, json_t **out) {
  mg__setup setup;
  *out = json_array();
  mg_status status = mg__setup_read(context, spec, &setup);
  if (status == MG_OK) status = mg__setup_routing(&setup);
  if (status == MG_OK) status = list_requests(&setup, *out);
  mg__setup_close(&setup);
  if (status == MG_OK) return MG_OK;
  json_decref(*out);
  *out = NULL;
  return status;
}

/* ---- grids and files ------------------------------------------------------------------------------------------ */

/* What a point of a grid may ask for. */
static const double grid_most = 1e12;

/* Every value of an axis of the grid is a number from 0 up. */
static mg_status check_axis(mg_context *context, const json_t *grid, const char *name) {
  size_t index;
  json_t *value;
  const json_t *list = json_object_get(grid, name);
  if (json_array_size(list) == 0) return mg_fail(context, MG_USAGE, "cluster: a grid has lists 'tokens' and 'context'");
  json_array_foreach(list, index, value) {
    if (!json_is_number(value) || !(json_number_value(value) >= 0) || json_number_value(value) > grid_most)
      return mg_fail(context, MG_USAGE, "cluster: entry %zu of the grid's '%s' must be a number from 0 to %g",
                     index + 1, name, grid_most);
  }
  return MG_OK;
}

/* One point. A token of a prompt of P attends to P / 2 on average; a decode step's context is its keys. */
static mg_status grid_point(mg_context *context, const json_t *spec, const mg__options *options, double tokens,
                            double mean_context, double *seconds) {
  const double keys = fmax(1, round(options->step == MG_STEP_PREFILL ? 2 * mean_context : mean_context));
  const double of_rank = fmax(1, round(tokens / (double)options->ranks));
  json_t *point = json_copy((json_t *)spec), *result;
  json_object_set_new(point, "tokens", json_integer((json_int_t)of_rank));
  json_object_set_new(point, "context", json_integer((json_int_t)keys));
  json_object_set_new(point, "compare", json_false());
  const mg_status status = mg_simulation_run(context, point, &result);
  json_decref(point);
  if (status != MG_OK) return status;
  *seconds = json_number_value(json_object_get(json_object_get(result, "metrics"), "step_ms")) / 1e3;
  json_decref(result);
  return MG_OK;
}

static mg_status fill_grid(mg_context *context, const json_t *spec, const mg__options *options, const json_t *grid,
                           json_t *rows) {
  size_t t, c;
  json_t *tokens, *keys;
  json_array_foreach(json_object_get(grid, "tokens"), t, tokens) {
    json_t *row = json_array();
    json_array_append_new(rows, row);
    json_array_foreach(json_object_get(grid, "context"), c, keys) {
      double seconds;
      MG_TRY(grid_point(context, spec, options, json_number_value(tokens), json_number_value(keys), &seconds));
      json_array_append_new(row, json_real(seconds));
    }
  }
  return MG_OK;
}

mg_status mg_simulation_step_costs(mg_context *context, const json_t *spec, const json_t *grid, json_t **out) {
  mg__setup setup;
  *out = NULL;
  const mg_status readable = mg__setup_read(context, spec, &setup);
  mg__setup_close(&setup);
  MG_TRY(readable);
  if (setup.options.step == MG_STEP_TRAINING)
    return mg_fail(context, MG_USAGE, "cluster: the costs of a step need step = \"prefill\" or \"decode\"");
  MG_TRY(check_axis(context, grid, "tokens"));
  MG_TRY(check_axis(context, grid, "context"));
  json_t *rows = json_array();
  const mg_status status = fill_grid(context, spec, &setup.options, grid, rows);
  if (status == MG_OK)
    *out = json_pack("{s:O, s:O, s:O}", "tokens", json_object_get(grid, "tokens"), "context",
                     json_object_get(grid, "context"), "seconds", rows);
  json_decref(rows);
  return status;
}

mg_status mg_simulation_write_trace(mg_context *context, const json_t *spec, mg_backend *backend, const char *path) {
  mg__setup setup;
  mg_status status = mg__setup_read(context, spec, &setup);
  if (status == MG_OK) status = mg__setup_routing(&setup);
  if (status == MG_OK) status = mg_routing_write(setup.routing, backend, path, NULL);
  mg__setup_close(&setup);
  return status;
}
