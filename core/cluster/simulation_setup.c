/* From JSON to the structures that the simulation works on, with every check that needs no time. */
#include <math.h>
#include <string.h>

#include "base/options.h"
#include "cluster/simulation_setup.h"

static const char *const steps[] = {"decode", "prefill", "training", NULL};
static const char *const kernels[] = {"low_latency", "normal", NULL};
static const char *const overlaps[] = {"none", "two_batch", NULL};
static const char *const schedules[] = {"gpipe", "1f1b", "dualpipe", NULL};
static const char *const costs_kinds[] = {"calibrated", "roofline", NULL};

typedef struct spec_options {
  mg__options all;
  int64_t costs;
} spec_options;

#define WHOLE(field, default_, least, most, help)                                                                      \
  { #field, MG_OPTION_TYPE_INT, offsetof(spec_options, all.field), (default_), NULL, least, most, NULL, help }
#define CHOICE(field, default_, choices, help)                                                                         \
  { #field, MG_OPTION_TYPE_CHOICE, offsetof(spec_options, all.field), (default_), NULL, 0, 0, choices, help }
#define FLAG(field, default_, help)                                                                                    \
  { #field, MG_OPTION_TYPE_BOOL, offsetof(spec_options, all.field), (default_), NULL, 0, 1, NULL, help }
#define TEXT(field, default_, help)                                                                                    \
  { #field, MG_OPTION_TYPE_STRING, offsetof(spec_options, all.field), 0, (default_), 0, 0, NULL, help }

const mg_option mg_simulation_options[] = {
    CHOICE(step, MG_STEP_DECODE, steps, "what is simulated"),
    WHOLE(ranks, 8, 1, 65536, "accelerators of the expert-parallel group"),
    WHOLE(slots, 0, 0, 1 << 20, "slots for experts on all ranks; 0 = as many as experts, rounded up to the ranks"),
    WHOLE(groups, 1, 1, 65536, "groups of consecutive experts that a placement keeps on a node"),
    WHOLE(tokens, 128, 1, 1 << 24, "tokens of a rank: sequences (decode), or tokens of a batch or micro-batch"),
    WHOLE(context, 4096, 1, 1 << 24, "decode: keys of a query; else tokens of a sequence"),
    CHOICE(kernels, MG_KERNELS_LOW_LATENCY, kernels, "dispatch and combine: every assignment, or de-duplicated"),
    WHOLE(comm_sms, 20, 0, 100000, "normal kernels: units that copy; 0 = the network copies by itself"),
    CHOICE(overlap, 0, overlaps, "two half batches, one computing while the other communicates"),
    WHOLE(element_bytes, 1, 1, 2, "of weights and of what products read: 1 = fp8, 2 = bf16"),
    WHOLE(tensor_parallel, 1, 1, 1024, "ranks that share attention and dense parts"),
    WHOLE(stages, 1, 1, 1024, "training: pipeline stages"),
    WHOLE(replicas, 1, 1, 65536, "training: data-parallel copies of the expert-parallel group"),
    WHOLE(micro_batches, 1, 1, 65536, "training: micro-batches of a rank in a step"),
    CHOICE(schedule, MG_PIPELINE_1F1B, schedules, "training: order of the pipeline"),
    FLAG(recompute, true, "training: compute norms and the projections behind the latent again in the backward pass"),
    {"capacity", MG_OPTION_TYPE_FLOAT, offsetof(spec_options, all.capacity), 0, NULL, 0, 1e6, NULL,
     "most assignments of an expert as a multiple of the mean, those beyond are dropped; 0 = no limit"},
    TEXT(placement, "contiguous", "policy that places the experts"),
    WHOLE(plan_tokens, 0, 0, 1 << 30, "first tokens of the trace that the placement is planned on; 0 = all"),
    WHOLE(replan_moves, 0, 0, 1 << 20, "experts of a layer that may then be moved for the step's own loads"),
    WHOLE(offset, 0, 0, 1 << 30, "token of the trace with which the step begins"),
    WHOLE(seed, 1, 0, 1e15, "seed of random placements"),
    {"costs", MG_OPTION_TYPE_CHOICE, offsetof(spec_options, costs), 0, NULL, 0, 0, costs_kinds,
     "calibrated, or the hardware's peak"},
    FLAG(extrapolate, false, "accept costs outside the range they were calibrated in; the result lists them"),
    FLAG(compare, true, "also simulate perfect balance, and the hardware's peak"),
    TEXT(timeline, "", "file for the time line of the step, as Chrome trace JSON"),
    WHOLE(timeline_ranks, 8, 1, 65536, "ranks that the time line of a forward step shows"),
    MG_OPTION_END};

typedef struct recorded_options {
  char path[MG_OPTION_STRING_MAX];
  int64_t order;
} recorded_options;

static const char *const orders[] = {"recorded", "domains", NULL};

const mg_option mg_simulation_recorded_options[] = {
    MG_OPTION_STRING(recorded_options, path, "", "the trace's file"),
    MG_OPTION_CHOICE(recorded_options, order, 0, orders, "of the texts: as recorded, or domain after domain"),
    MG_OPTION_END};

/* Layers with experts. */
static int64_t mixtures_of(const mg__setup *s) {
  const int64_t predicting = s->options.step == MG_STEP_TRAINING ? s->shape.prediction_layers : 0;
  return s->shape.layers - s->shape.dense_layers + predicting;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

/* The specification's own keys, without the tables in it. */
static mg_status read_options(mg_context *context, const json_t *spec, spec_options *out) {
  static const char *const tables[] = {"model", "accelerator", "calibration", "trace", "assignment"};
  json_t *plain = json_copy((json_t *)spec);
  if (!plain) return mg_fail(context, MG_MEMORY, "cluster: out of host memory");
  for (size_t i = 0; i < MG_COUNT(tables); i++) json_object_del(plain, tables[i]);
  mg_options_defaults(mg_simulation_options, out);
  const mg_status status = mg_options_from_json(context, mg_simulation_options, plain, "cluster", out);
  json_decref(plain);
  return status;
}

/* Assignments are counted in int32_t, and the times of all ranks in all layers are held together. */
static mg_status check_size(const mg__setup *s, int64_t choices) {
  static const int64_t most_assignments = INT32_MAX, most_places = (int64_t)1 << 22;
  const mg__options *o = &s->options;
  const int64_t assignments = o->tokens * o->ranks * choices;
  const int64_t places = (s->shape.layers + s->shape.prediction_layers) * o->ranks;
  if (assignments <= most_assignments && places <= most_places) return MG_OK;
  return mg_fail(
      s->context, MG_USAGE,
      "cluster: %lld tokens of %lld ranks make %lld assignments in a layer, and %lld times of ranks in layers; "
      "at most %lld and %lld can be simulated",
      (long long)o->tokens, (long long)o->ranks, (long long)assignments, (long long)places, (long long)most_assignments,
      (long long)most_places);
}

static mg_status check_options(mg__setup *s) {
  mg__options *o = &s->options;
  const mg_accelerator *a = &s->accelerator;
  s->nodes = o->ranks <= a->node_ranks ? 1 : o->ranks / a->node_ranks;
  if (o->ranks > a->node_ranks && o->ranks % a->node_ranks != 0)
    return mg_fail(s->context, MG_USAGE, "cluster: %lld ranks do not divide over nodes of %lld", (long long)o->ranks,
                   (long long)a->node_ranks);
  if (o->slots == 0) o->slots = (s->shape.experts + o->ranks - 1) / o->ranks * o->ranks;
  if (o->kernels == MG_KERNELS_NORMAL && o->comm_sms >= a->sms)
    return mg_fail(s->context, MG_USAGE,
                   "cluster: comm_sms = %lld leaves nothing of %s's %lld to compute with; 0 is for networks that copy "
                   "by themselves",
                   (long long)o->comm_sms, a->name, (long long)a->sms);
  if (o->ranks % o->tensor_parallel != 0 || s->shape.heads % o->tensor_parallel != 0)
    return mg_fail(s->context, MG_USAGE, "cluster: tensor_parallel = %lld does not divide %lld ranks and %lld heads",
                   (long long)o->tensor_parallel, (long long)o->ranks, (long long)s->shape.heads);
  MG_TRY(check_size(s, s->shape.choices));
  const double none[1] = {0};
  mg_place_request request = mg__setup_request(s, -1, NULL);
  request.load = none;
  MG_TRY(mg_place_check_request(s->context, &request));
  mg_place_function place;
  return mg_place_find(s->context, o->placement, &place);
}

/* A forward step fits or not whatever its trace; a training step is looked at when its stages are known. */
static mg_status check_memory(mg__setup *s) {
  mg_memory memory;
  s->placement = (mg_placement){.slots = s->options.slots, .ranks = s->options.ranks};
  if (s->options.step == MG_STEP_TRAINING) return MG_OK;
  const mg_step_request request = mg__setup_step(s, NULL);
  mg_step_memory(&request, &memory);
  return mg_memory_check(s->context, &s->accelerator, &memory);
}

/* Every form that a step of this kind is made of must be calibrated. */
static mg_status check_forms(const mg__setup *s) {
  const mg__options *o = &s->options;
  const bool decode = o->step == MG_STEP_DECODE, fast = o->kernels == MG_KERNELS_LOW_LATENCY;
  const mg_form_kind needed[] = {MG_FORM_GEMM,
                                 MG_FORM_MEMORY,
                                 decode ? MG_FORM_ATTENTION_DECODE : MG_FORM_ATTENTION_PREFILL,
                                 o->step == MG_STEP_TRAINING ? MG_FORM_ATTENTION_BACKWARD : MG_FORM_MEMORY,
                                 decode ? MG_FORM_EXPERT_FFN_DECODE : MG_FORM_EXPERT_FFN_PREFILL,
                                 fast ? MG_FORM_DISPATCH_LOW_LATENCY : MG_FORM_DISPATCH_NORMAL,
                                 fast ? MG_FORM_COMBINE_LOW_LATENCY : MG_FORM_COMBINE_NORMAL};
  for (size_t i = 0; i < MG_COUNT(needed); i++)
    if (!s->calibration.known[needed[i]])
      return mg_fail(s->context, MG_USAGE,
                     "cluster: the calibration has no coefficients of '%s'; fit them (`moegauge cluster fit`) or use "
                     "costs = \"roofline\"",
                     mg_forms[needed[i]].name);
  return MG_OK;
}

static mg_status refuse_trace(const mg__setup *s, const mg_routing_facts *f, double mean) {
  return mg_fail(s->context, MG_FILE,
                 "%s: %lld layers of %lld experts, %g of them for a token; the model has at most %lld layers of %lld "
                 "experts, %lld for a token: it is a trace of another model",
                 s->trace_path, (long long)f->layers, (long long)f->experts, mean, (long long)mixtures_of(s),
                 (long long)s->shape.experts, (long long)s->shape.choices);
}

/* The recipe of a generated trace, but for its shares. */
static mg_status read_recipe(const mg__setup *s, mg_routing_recipe *recipe) {
  json_t *plain = json_copy((json_t *)s->trace);
  if (plain) json_object_del(plain, "shares");
  mg_options_defaults(mg_routing_recipe_options, recipe);
  recipe->experts = s->shape.experts;
  recipe->choices = s->shape.choices;
  recipe->layers = mixtures_of(s) > 0 ? mixtures_of(s) : 1;
  recipe->tokens = s->options.offset + s->options.tokens * s->options.ranks;
  const mg_status status = mg_options_from_json(s->context, mg_routing_recipe_options, plain, "trace", recipe);
  json_decref(plain);
  MG_TRY(status);
  if (recipe->experts == s->shape.experts && recipe->choices == s->shape.choices) return MG_OK;
  return mg_fail(s->context, MG_USAGE,
                 "cluster: the trace has %lld experts and %lld choices, the model %lld and %lld; leave both out of a "
                 "generated trace",
                 (long long)recipe->experts, (long long)recipe->choices, (long long)s->shape.experts,
                 (long long)s->shape.choices);
}

/* All that a recipe can contradict itself in; shares are looked at when they are read. */
static mg_status check_recipe(const mg__setup *s) {
  mg_routing_recipe recipe;
  MG_TRY(read_recipe(s, &recipe));
  return recipe.kind == MG_ROUTING_SHARES ? MG_OK : mg_routing_check(s->context, &recipe);
}

/* A recorded trace fits the model by its head: its tokens may have room for more choices than they make on average. */
static mg_status check_trace(mg__setup *s) {
  recorded_options recorded;
  mg_routing_facts facts;
  if (!json_object_get(s->trace, "path")) return check_recipe(s);
  mg_options_defaults(mg_simulation_recorded_options, &recorded);
  MG_TRY(mg_options_from_json(s->context, mg_simulation_recorded_options, s->trace, "trace", &recorded));
  s->trace_path = json_string_value(json_object_get(s->trace, "path"));
  s->by_domain = recorded.order == 1;
  MG_TRY(mg_routing_describe(s->context, s->trace_path, &facts));
  if (facts.experts == s->shape.experts && facts.choices >= s->shape.choices && facts.layers <= mixtures_of(s))
    return check_size(s, facts.choices);
  return refuse_trace(s, &facts, (double)facts.choices);
}

mg_status mg__setup_read(mg_context *context, const json_t *spec, mg__setup *s) {
  spec_options read;
  *s = (mg__setup){
      .context = context, .trace = json_object_get(spec, "trace"), .assignment = json_object_get(spec, "assignment")};
  MG_TRY(read_options(context, spec, &read));
  s->options = read.all;
  s->options.roofline = read.costs == 1;
  MG_TRY(mg_shape_read(context, json_object_get(spec, "model"), &s->shape));
  MG_TRY(mg_accelerator_read(context, json_object_get(spec, "accelerator"), &s->accelerator));
  const json_t *calibration = json_object_get(spec, "calibration");
  if (calibration) {
    MG_TRY(mg_calibration_read(context, calibration, &s->calibration));
    if (!s->options.roofline) MG_TRY(check_forms(s));
  } else if (!s->options.roofline) {
    return mg_fail(context, MG_USAGE,
                   "cluster: there is no calibration for %s; fit one (`moegauge cluster fit`) or use costs = "
                   "\"roofline\"",
                   s->accelerator.name);
  }
  MG_TRY(check_options(s));
  MG_TRY(check_memory(s));
  return check_trace(s);
}

void mg__setup_close(mg__setup *s) {
  mg_calibration_free(s->context, &s->calibration);
  mg_placement_destroy(s->context, &s->placement);
  mg_routing_destroy(s->routing);
  s->routing = NULL;
}

/* ---- routing -------------------------------------------------------------------------------------------------- */

/* "shares" of the trace as numbers [layers, experts]; NULL without any. */
static mg_status read_shares(mg_context *context, const json_t *shares, int64_t experts, double **out) {
  const size_t layers = json_array_size(shares);
  *out = NULL;
  if (layers == 0) return MG_OK;
  *out = mg_alloc(context, layers * (size_t)experts * sizeof **out);
  if (!*out) return MG_MEMORY;
  for (size_t layer = 0; layer < layers; layer++) {
    const json_t *row = json_array_get(shares, layer);
    double sum = 0;
    for (size_t e = 0; e < (size_t)experts; e++) {
      const double share = json_number_value(json_array_get(row, e));
      (*out)[layer * (size_t)experts + e] = share > 0 ? share : 0;
      sum += (*out)[layer * (size_t)experts + e];
    }
    if (json_array_size(row) != (size_t)experts || !(sum > 0) || !isfinite(sum))
      return mg_fail(context, MG_USAGE, "trace: shares[%zu] must be %lld numbers from 0 up, not all 0", layer + 1,
                     (long long)experts);
  }
  return MG_OK;
}

static mg_status generate(mg__setup *s) {
  mg_routing_recipe recipe;
  double *shares;
  MG_TRY(read_recipe(s, &recipe));
  const json_t *given = json_object_get(s->trace, "shares");
  mg_status status = read_shares(s->context, given, recipe.experts, &shares);
  recipe.shares = shares;
  recipe.shares_layers = (int64_t)json_array_size(given);
  if (status == MG_OK) status = mg_routing_generate(s->context, &recipe, &s->routing);
  mg_free(s->context, shares, (size_t)(recipe.shares_layers * recipe.experts) * sizeof *shares);
  return status;
}

/* The head was checked; what it leaves open is how many experts a token has on average. */
static mg_status read_trace(mg__setup *s) {
  MG_TRY(mg_routing_read(s->context, s->trace_path, &s->routing));
  if (s->by_domain) MG_TRY(mg_routing_sort_domains(s->routing));
  const mg_routing *r = s->routing;
  const mg_routing_facts facts = {r->tokens, r->starts_count, r->layers, r->experts, r->choices};
  const double most = (double)s->shape.choices * (1 + 1e-9);
  return r->mean_choices <= most ? MG_OK : refuse_trace(s, &facts, r->mean_choices);
}

mg_status mg__setup_routing(mg__setup *s) {
  if (s->trace_path) return read_trace(s);
  return generate(s);
}

/* ---- placement ------------------------------------------------------------------------------------------------ */

mg_place_request mg__setup_request(const mg__setup *s, int64_t layer, double *load) {
  const mg__options *o = &s->options;
  if (load) {
    const int64_t all = s->routing->tokens, planned = o->plan_tokens;
    memset(load, 0, (size_t)s->shape.experts * sizeof *load);
    mg_routing_load(s->routing, layer, 0, planned > 0 && planned < all ? planned : all, load);
  }
  return (mg_place_request){.load = load,
                            .experts = s->shape.experts,
                            .slots = o->slots,
                            .ranks = o->ranks,
                            .nodes = s->nodes,
                            .groups = o->groups,
                            .layer = layer,
                            .seed = (uint64_t)o->seed};
}

/* The slots of a layer as they were given, for mg_place. */
static mg_status place_given(mg_context *context, void *user, const mg_place_request *r, int32_t *expert) {
  const json_t *slots = json_array_get(user, (size_t)r->layer);
  if (json_array_size(slots) != (size_t)r->slots)
    return mg_fail(context, MG_USAGE, "placement: layer %lld has %zu slots instead of %lld", (long long)r->layer,
                   json_array_size(slots), (long long)r->slots);
  for (int64_t i = 0; i < r->slots; i++) {
    const json_t *value = json_array_get(slots, (size_t)i);
    const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    expert[i] = id >= 0 && id < r->experts ? (int32_t)id : -1;
  }
  return MG_OK;
}

/* Moves experts for the loads of the step itself, within the budget. */
static mg_status replan_layer(mg__setup *s, mg_place_request request, double *load, int32_t *expert) {
  const mg__options *o = &s->options;
  const size_t slots = (size_t)o->slots, ranks = (size_t)o->ranks;
  int32_t *before = mg_alloc(s->context, slots * sizeof *before);
  int64_t *received = mg_alloc(s->context, ranks * sizeof *received), moves = 0;
  mg_status status = before && received ? MG_OK : MG_MEMORY;
  if (status == MG_OK) {
    memcpy(before, expert, slots * sizeof *before);
    memset(load, 0, (size_t)request.experts * sizeof *load);
    mg_routing_load(s->routing, request.layer, o->offset, o->tokens * o->ranks, load);
    status = mg_replan(s->context, &request, o->replan_moves, expert, &moves);
  }
  if (status == MG_OK) status = mg_placement_moves(s->context, &request, before, expert, received, &moves);
  if (status == MG_OK) {
    int64_t most = 0;
    for (size_t d = 0; d < ranks; d++) most = received[d] > most ? received[d] : most;
    const double link = s->nodes > 1 ? s->accelerator.far_gb_s : s->accelerator.near_gb_s;
    s->moved += moves;
    s->moved_s += (double)most * mg_shape_expert_parameters(&s->shape) * (double)o->element_bytes / (link * 1e9);
  }
  mg_free(s->context, before, slots * sizeof *before);
  mg_free(s->context, received, ranks * sizeof *received);
  return status;
}

static mg_status place_layers(mg__setup *s, double *load) {
  mg_place_function place = place_given;
  if (!s->assignment) MG_TRY(mg_place_find(s->context, s->options.placement, &place));
  for (int64_t layer = 0; layer < s->routing->layers; layer++) {
    const mg_place_request request = mg__setup_request(s, layer, load);
    int32_t *expert = s->placement.expert + layer * s->placement.slots;
    MG_TRY(mg_place(s->context, place, (void *)(uintptr_t)s->assignment, &request, expert));
    if (s->options.replan_moves > 0) MG_TRY(replan_layer(s, request, load, expert));
  }
  return MG_OK;
}

mg_status mg__setup_placement(mg__setup *s) {
  const mg__options *o = &s->options;
  MG_TRY(mg_placement_create(s->context, s->routing->layers, s->shape.experts, o->slots, o->ranks, s->nodes,
                             &s->placement));
  double *load = mg_alloc(s->context, (size_t)s->shape.experts * sizeof *load);
  const mg_status status = load ? place_layers(s, load) : MG_MEMORY;
  mg_free(s->context, load, (size_t)s->shape.experts * sizeof *load);
  return status;
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

mg_step_request mg__setup_step(const mg__setup *s, mg_costs *costs) {
  const mg__options *o = &s->options;
  return (mg_step_request){.work = {.costs = costs,
                                    .shape = &s->shape,
                                    .kind = (mg_step_kind)o->step,
                                    .kernels = (mg_kernels)o->kernels,
                                    .element_bytes = o->element_bytes,
                                    .parallel = o->tensor_parallel,
                                    .nodes = s->nodes,
                                    .context = o->context,
                                    .comm_sms = o->comm_sms},
                           .routing = s->routing,
                           .placement = &s->placement,
                           .tokens = o->tokens,
                           .offset = o->offset,
                           .two_batch = o->overlap == 1,
                           .capacity = o->capacity};
}

mg_training_request mg__setup_training(const mg__setup *s, mg_costs *costs) {
  const mg__options *o = &s->options;
  return (mg_training_request){.batch = mg__setup_step(s, costs),
                               .stages = o->stages,
                               .replicas = o->replicas,
                               .micro_batches = o->micro_batches,
                               .order = o->schedule,
                               .recompute = o->recompute};
}
