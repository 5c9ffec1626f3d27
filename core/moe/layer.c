/* The MoE layer: y[t] = sum over the kept choices (e, w) of token t of w * expert_e(x[t]), plus the shared experts.
 *
 * or, with `scale_inputs`, of expert_e(w * x[t]) (Llama 4).
 *
 * expert(x) = down(act(gate x) * up x) when gated, else down(act(up x)); routed experts hold gate and up [E,H,D] and
 * down [E,D,H]; n shared experts of width h are one feed-forward of width n * h, which computes the same sum.
 * Weights start normal with deviation 0.02, or what the model asks for. The router always computes in f32 (Fedus et al.
 * 2021, selective precision), in f64 on an f64 tape. */
#include <stdio.h>
#include <string.h>

#include "moe/internal.h"

/* ---- making ------------------------------------------------------------------------------------------------ */

static mg_router_place router_place(const mg__moe_spec *spec, int64_t width, int64_t vocabulary, int32_t layer) {
  return (mg_router_place){.width = width, .experts = spec->experts, .vocabulary = vocabulary, .layer = layer};
}

/* Reads and checks a specification; the caller destroys *router. */
static mg_status read_spec(mg_context *context, mg_registry *registry, const json_t *json, int64_t width,
                           int64_t vocabulary, mg__moe_spec *spec, mg_router **router) {
  *router = NULL;
  MG_TRY(mg__moe_spec_read(context, json, spec));
  MG_TRY(mg_router_describe(context, registry, spec->router, router_place(spec, width, vocabulary, 0), router));
  return mg__moe_spec_fits(spec, *router);
}

mg_status mg_moe_check_spec(mg_context *context, mg_registry *registry, const json_t *spec, int64_t width,
                            int64_t vocabulary) {
  mg__moe_spec parsed;
  mg_router *router;
  const mg_status status = read_spec(context, registry, spec, width, vocabulary, &parsed, &router);
  mg_router_destroy(router);
  return status;
}

mg_status mg_moe_resolve_spec(mg_context *context, mg_registry *registry, const json_t *spec, int64_t width,
                              int64_t vocabulary, json_t **out) {
  mg__moe_spec parsed;
  mg_router *router;
  *out = NULL;
  mg_status status = read_spec(context, registry, spec, width, vocabulary, &parsed, &router);
  if (status == MG_OK) {
    *out = mg__moe_spec_json(&parsed, router);
    if (!*out) status = mg_fail(context, MG_MEMORY, "moe: no memory to write the specification");
  }
  mg_router_destroy(router);
  return status;
}

/* Adds a weight matrix or a stack of them (first > 0). */
static mg_status add_weight(mg_moe *moe, const mg_moe_place *place, const char *part, int64_t first, int64_t rows,
                            int64_t columns, double deviation, int64_t *index) {
  char name[MG_PARAM_NAME_BYTES];
  if ((size_t)snprintf(name, sizeof name, "%s%s", place->prefix, part) >= sizeof name)
    return mg_fail(moe->context, MG_USAGE, "moe: the parameter name '%s%s' is longer than %d bytes", place->prefix,
                   part, MG_PARAM_NAME_BYTES - 1);
  mg_param_request request = {.name = name,
                              .dims = first ? 3 : 2,
                              .shape = {first, rows, columns},
                              .init = MG_INIT_NORMAL,
                              .scale = deviation,
                              .decay = true,
                              .stream = mg_stream_named(place->seed, name, 0, 0)};
  if (!first) memcpy(request.shape, (int64_t[]){rows, columns}, 2 * sizeof(int64_t));
  return mg_params_add(moe->params, &request, index);
}

/* A bias of each expert [E, columns], or with one row the norm of the parallel feed-forward. */
static mg_status add_rows(mg_moe *moe, const mg_moe_place *place, const char *part, int64_t rows, int64_t columns,
                          mg_init init, int64_t *index) {
  char name[2 * MG_PARAM_NAME_BYTES];
  snprintf(name, sizeof name, "%s%s", place->prefix, part);
  const mg_param_request request = {.name = name, .dims = 2, .shape = {rows, columns}, .init = init};
  return mg_params_add(moe->params, &request, index);
}

static mg_status add_biases(mg_moe *moe, const mg_moe_place *place) {
  const mg__moe_spec *spec = &moe->spec;
  const int64_t experts = mg__computing_experts(spec);
  if (!spec->biases) return MG_OK;
  if (spec->gated)
    MG_TRY(add_rows(moe, place, "experts.gate_bias", experts, spec->width, MG_INIT_ZERO, &moe->gate_bias));
  MG_TRY(add_rows(moe, place, "experts.up_bias", experts, spec->width, MG_INIT_ZERO, &moe->up_bias));
  return add_rows(moe, place, "experts.down_bias", experts, moe->width, MG_INIT_ZERO, &moe->down_bias);
}

static mg_status add_parallel(mg_moe *moe, const mg_moe_place *place, double in, double out) {
  const int64_t hidden = moe->spec.parallel.width, width = moe->width;
  if (!hidden) return MG_OK;
  if (moe->spec.parallel.norm)
    MG_TRY(add_rows(moe, place, "parallel.norm", 1, width, MG_INIT_ONE, &moe->parallel_norm));
  if (moe->spec.gated) MG_TRY(add_weight(moe, place, "parallel.gate", 0, hidden, width, in, &moe->parallel_gate));
  MG_TRY(add_weight(moe, place, "parallel.up", 0, hidden, width, in, &moe->parallel_up));
  return add_weight(moe, place, "parallel.down", 0, width, hidden, out, &moe->parallel_down);
}

static mg_status add_experts(mg_moe *moe, const mg_moe_place *place) {
  const mg__moe_spec *spec = &moe->spec;
  const int64_t shared = spec->shared.experts * spec->shared.width, width = moe->width;
  const int64_t experts = mg__computing_experts(spec), constant = spec->null.constant;
  const double in = place->deviation > 0.0 ? place->deviation : 0.02;
  const double out = place->output_deviation > 0.0 ? place->output_deviation : in;
  if (spec->gated) MG_TRY(add_weight(moe, place, "experts.gate", experts, spec->width, width, in, &moe->gate));
  MG_TRY(add_weight(moe, place, "experts.up", experts, spec->width, width, in, &moe->up));
  MG_TRY(add_weight(moe, place, "experts.down", experts, width, spec->width, out, &moe->down));
  if (constant) MG_TRY(add_weight(moe, place, "null.mix", 0, 2 * constant, width, in, &moe->null_mix));
  if (constant) MG_TRY(add_weight(moe, place, "null.value", 0, constant, width, in, &moe->null_value));
  MG_TRY(add_biases(moe, place));
  MG_TRY(add_parallel(moe, place, in, out));
  if (!shared) return MG_OK;
  if (spec->shared.gate == MG__SHARED_SIGMOID)
    MG_TRY(add_weight(moe, place, "shared.mix", 0, 1, width, in, &moe->shared_mix));
  if (spec->gated) MG_TRY(add_weight(moe, place, "shared.gate", 0, shared, width, in, &moe->shared_gate));
  MG_TRY(add_weight(moe, place, "shared.up", 0, shared, width, in, &moe->shared_up));
  return add_weight(moe, place, "shared.down", 0, width, shared, out, &moe->shared_down);
}

/* Demand of earlier batches; a buffer among the parameters, so that checkpoints hold it. */
static mg_status add_window(mg_moe *moe, const mg_moe_place *place) {
  const int64_t batches = mg__moe_spec_window(&moe->spec);
  if (batches <= 1) return MG_OK;
  char name[MG_PARAM_NAME_BYTES];
  snprintf(name, sizeof name, "%sbalance_window", place->prefix);
  const mg_param_request request = {
      .name = name, .dims = 2, .shape = {batches - 1, moe->spec.experts}, .init = MG_INIT_ZERO, .fixed = true};
  return mg_params_add(moe->params, &request, &moe->window);
}

static mg_status fill_moe(mg_moe *moe, mg_registry *registry, const json_t *json, const mg_moe_place *place) {
  MG_TRY(mg__moe_spec_read(moe->context, json, &moe->spec));
  if (!mg_params_described(moe->params)) MG_TRY(mg__moe_spec_runs(moe->context, &moe->spec));
  char prefix[MG_PARAM_NAME_BYTES];
  snprintf(prefix, sizeof prefix, "%srouter.", place->prefix);
  MG_TRY(mg_router_create(moe->context, registry, moe->spec.router,
                          router_place(&moe->spec, place->width, place->vocabulary, place->layer), moe->params, prefix,
                          place->seed, &moe->router));
  moe->spec.router = NULL;
  MG_TRY(mg__moe_spec_fits(&moe->spec, moe->router));
  MG_TRY(add_experts(moe, place));
  return add_window(moe, place);
}

mg_status mg_moe_create(mg_context *context, mg_registry *registry, const json_t *spec, mg_moe_place place,
                        mg_params *params, mg_moe **out) {
  *out = NULL;
  MG_TRY(mg_moe_check_spec(context, registry, spec, place.width, place.vocabulary));
  mg_moe *moe = mg_alloc(context, sizeof *moe);
  if (!moe) return MG_MEMORY;
  moe->context = context;
  moe->params = params;
  moe->width = place.width;
  moe->gate = moe->up = moe->down = moe->shared_gate = moe->shared_up = moe->shared_down = moe->window = -1;
  moe->null_mix = moe->null_value = moe->gate_bias = moe->up_bias = moe->down_bias = moe->shared_mix = -1;
  moe->parallel_gate = moe->parallel_up = moe->parallel_down = moe->parallel_norm = -1;
  const mg_status status = fill_moe(moe, registry, spec, &place);
  if (status == MG_OK)
    *out = moe;
  else
    mg_moe_destroy(moe);
  return status;
}

mg_status mg_moe_runs(const mg_moe *moe) {
  return mg__moe_spec_runs(moe->context, &moe->spec);
}

void mg_moe_destroy(mg_moe *moe) {
  if (!moe) return;
  mg_router_destroy(moe->router);
  mg_free(moe->context, moe->scratch, moe->scratch_bytes);
  mg_free(moe->context, moe, sizeof *moe);
}

void *mg__moe_scratch(mg_moe *moe, size_t bytes) {
  if (bytes <= moe->scratch_bytes) return moe->scratch;
  void *grown = mg_resize(moe->context, moe->scratch, moe->scratch_bytes, bytes);
  if (!grown) return NULL;
  moe->scratch = grown;
  moe->scratch_bytes = bytes;
  return grown;
}

/* ---- forward ----------------------------------------------------------------------------------------------- */

mg_var *mg_moe_wanted(const mg_moe_record *record) {
  return record->route.wanted ? record->route.wanted : record->route.ids;
}

mg_var *mg__demanded_ids(const mg_moe_record *record) {
  return record->slots ? record->ids : mg_moe_wanted(record);
}

/* From here on matrix products run in full precision; returns what they ran in before. */
static mg_dtype full_precision(mg_tape *tape) {
  const mg_dtype before = mg_tape_set_compute(tape, MG_F32);
  if (before == MG_F64) mg_tape_set_compute(tape, MG_F64);
  return before;
}

static mg_status route(mg_moe *moe, mg_tape *tape, const mg_moe_input *input, mg_moe_record *record) {
  mg_var *x = input->x;
  const bool like = input->previous && mg_var_columns(input->previous) == moe->spec.experts;
  const mg_route_input in = {.x = mg_var_dtype(x) == MG_BF16 ? mg_cast(tape, x, MG_F32) : x,
                             .token_ids = input->token_ids,
                             .tokens = mg_var_rows(x),
                             .sequence_tokens = input->sequence_tokens,
                             .training = input->training,
                             .noise = input->noise,
                             .previous = like ? input->previous : NULL};
  record->slots = mg_router_slots(moe->router);
  record->sequences = in.tokens / in.sequence_tokens;
  MG_TRY(mg_router_route(moe->router, tape, &in, &record->route));
  if (input->training) moe->router->step_tokens += in.tokens;
  if (record->slots) MG_TRY(mg__slots_begin(moe, tape, record));
  record->demand = mg_histogram(tape, mg__demanded_ids(record), moe->spec.experts, 1);
  return mg_tape_status(tape);
}

/* The bias of each row's expert: ones [A,1] times the biases seen as [E,N,1]. */
static mg_var *expert_bias(mg_moe *moe, mg_tape *tape, mg_var *x, int64_t bias, mg_var *offsets) {
  mg_var *table = mg_params_var(moe->params, tape, bias);
  const int64_t ones[] = {mg_var_rows(x), 1}, shape[] = {mg_var_rows(table), mg_var_columns(table), 1};
  mg_var *one = mg_fill(tape, mg_var_dtype(x), 2, ones, 1.0);
  return mg_grouped_linear(tape, one, mg_reshape(tape, table, 3, shape), offsets);
}

static mg_var *grouped(mg_moe *moe, mg_tape *tape, mg_var *x, int64_t weight, int64_t bias, mg_var *offsets) {
  if (weight < 0) return NULL;
  mg_var *y = mg_grouped_linear(tape, x, mg_params_var(moe->params, tape, weight), offsets);
  return bias < 0 ? y : mg_add(tape, y, expert_bias(moe, tape, x, bias, offsets));
}

static mg_var *activate(const mg_moe *moe, mg_tape *tape, mg_var *gate, mg_var *up) {
  const mg_activation_settings settings = {moe->spec.activation, moe->spec.alpha, moe->spec.limit};
  return mg_activate(tape, &settings, gate, up);
}

/* rows [A,D], sorted by expert -> [A,D]. */
static mg_var *routed_experts(mg_moe *moe, mg_tape *tape, mg_var *rows, mg_var *offsets) {
  mg_var *gate = grouped(moe, tape, rows, moe->gate, moe->gate_bias, offsets);
  mg_var *up = grouped(moe, tape, rows, moe->up, moe->up_bias, offsets);
  return grouped(moe, tape, activate(moe, tape, gate, up), moe->down, moe->down_bias, offsets);
}

static mg_var *linear(mg_moe *moe, mg_tape *tape, mg_var *x, int64_t weight) {
  return weight < 0 ? NULL : mg_linear(tape, x, mg_params_var(moe->params, tape, weight));
}

static mg_var *shared_experts(mg_moe *moe, mg_tape *tape, mg_var *x) {
  mg_var *gate = linear(moe, tape, x, moe->shared_gate);
  mg_var *up = linear(moe, tape, x, moe->shared_up);
  mg_var *y = linear(moe, tape, activate(moe, tape, gate, up), moe->shared_down);
  return moe->shared_mix < 0 ? y : mg_mul(tape, y, mg_sigmoid(tape, linear(moe, tape, x, moe->shared_mix)));
}

/* The dense feed-forward beside the experts. */
static mg_var *parallel(mg_moe *moe, mg_tape *tape, mg_var *x) {
  mg_var *gate = linear(moe, tape, x, moe->parallel_gate);
  mg_var *up = linear(moe, tape, x, moe->parallel_up);
  return linear(moe, tape, activate(moe, tape, gate, up), moe->parallel_down);
}

/* Everything that must not run in low precision: the router, the losses, the assignment. */
static mg_status plan(mg_moe *moe, mg_tape *tape, const mg_moe_input *input, mg_moe_record *record) {
  mg_tape_set_part(tape, MG_PART_GATE);
  MG_TRY(route(moe, tape, input, record));
  mg_tape_set_part(tape, MG_PART_LOSS);
  MG_TRY(mg__losses_apply(moe, tape, input, record));
  mg_tape_set_part(tape, MG_PART_DISPATCH);
  return record->slots ? mg__slots_assign(moe, tape, record) : mg__capacity_apply(moe, tape, record);
}

/* Each row times the weight of the choice that brought it here; slots of choices that were dropped come last. */
static mg_var *weigh_rows(mg_tape *tape, mg_var *rows, const mg_moe_record *record) {
  if (!rows) return NULL;
  mg_tensor slots = *mg_var_tensor(record->assignment.slots);
  slots.dims = 1;
  slots.shape[0] = mg_var_rows(rows);
  mg_var *weights = mg_gather_rows(tape, mg_reshape2(tape, record->weights, -1, 1), mg_tape_leaf(tape, &slots, NULL));
  return mg_mul(tape, rows, mg_cast(tape, weights, mg_var_dtype(rows)));
}

static mg_var *compute(mg_moe *moe, mg_tape *tape, const mg_moe_input *input, const mg_moe_record *record) {
  mg_var *x = record->slots ? mg__slots_mix(tape, input->x, record) : input->x;
  mg_var *rows = mg_dispatch(tape, x, &record->assignment);
  if (moe->spec.scale_inputs) rows = weigh_rows(tape, rows, record);
  mg_tape_set_part(tape, MG_PART_ROUTED);
  mg_var *y = routed_experts(moe, tape, rows, record->assignment.offsets);
  mg_tape_set_part(tape, MG_PART_COMBINE);
  mg_var *weights = moe->spec.scale_inputs ? NULL : mg_cast(tape, record->weights, mg_var_dtype(x));
  mg_var *out = mg_combine(tape, y, weights, &record->assignment);
  mg_var *null = mg__null_output(moe, tape, x, record);
  if (null) out = mg_add(tape, out, null);
  if (record->slots) out = mg__slots_spread(tape, out, record);
  mg_tape_set_part(tape, MG_PART_SHARED);
  if (moe->shared_up >= 0) out = mg_add(tape, out, shared_experts(moe, tape, input->x));
  mg_tape_set_part(tape, MG_PART_DENSE);
  return moe->parallel_up < 0 ? out : mg_add(tape, out, parallel(moe, tape, input->x));
}

mg_var *mg_moe_forward(mg_moe *moe, mg_tape *tape, const mg_moe_input *input, mg_moe_record *record) {
  *record = (mg_moe_record){.x = input->x};
  if (mg_tape_status(tape) != MG_OK || !input->x) return NULL;
  if (input->sequence_tokens < 1 || mg_var_rows(input->x) % input->sequence_tokens != 0)
    return mg_tape_fail(tape, MG_BUG, "moe: %lld tokens are not whole sequences of %lld",
                        (long long)mg_var_rows(input->x), (long long)input->sequence_tokens);
  const mg_part part = mg_tape_set_part(tape, MG_PART_GATE);
  const mg_dtype precision = full_precision(tape);
  const mg_status status = plan(moe, tape, input, record);
  mg_tape_set_compute(tape, precision);
  mg_var *y = status == MG_OK ? compute(moe, tape, input, record) : NULL;
  mg_tape_set_part(tape, part);
  /* A step that failed outside the tape (host memory) must stop the caller's tape too. */
  return status == MG_OK || mg_tape_status(tape) != MG_OK
             ? y
             : mg_tape_fail(tape, status, "%s", mg_context_message(moe->context));
}

/* ---- after the step ---------------------------------------------------------------------------------------- */

static mg_status tell_router(mg_moe *moe, mg_tape *tape, const mg_moe_record *record) {
  if (!moe->router->plugin->after_step) return MG_OK;
  const size_t experts = (size_t)moe->spec.experts;
  float *counts = mg__moe_scratch(moe, experts * (sizeof(float) + sizeof(int32_t)));
  if (!counts) return MG_MEMORY;
  MG_TRY(mg_tape_download(tape, record->demand, counts, experts * sizeof *counts));
  int32_t *demand = (int32_t *)(void *)(counts + experts);
  for (size_t e = 0; e < experts; e++) demand[e] = (int32_t)counts[e];
  return moe->router->plugin->after_step(moe->router, tape, demand);
}

mg_status mg_moe_after_step(mg_moe *moe, mg_tape *tape, const mg_moe_record *record) {
  MG_TRY(tell_router(moe, tape, record));
  moe->router->step_tokens = 0;
  return mg__losses_remember(moe, tape, record);
}

/* ---- facts ------------------------------------------------------------------------------------------------- */

/* Products alone, and everything else: biases and the activation. */
static double feed_forward_flops(const mg_moe *moe, int64_t width) {
  return 2.0 * (double)moe->width * (double)width * (moe->spec.gated ? 3 : 2);
}

static double feed_forward_elementwise(const mg_moe *moe, int64_t width, bool biases) {
  const mg__moe_spec *spec = &moe->spec;
  const double hidden = (double)width, bias = 3; /* a product with 1 and a sum */
  return hidden * mg_activation_flops(spec->activation, spec->gated) +
         (biases ? bias * (hidden * (spec->gated ? 2 : 1) + (double)moe->width) : 0);
}

static int64_t feed_forward_parameters(const mg_moe *moe, int64_t width) {
  return moe->width * width * (moe->spec.gated ? 3 : 2);
}

static int64_t expert_parameters(const mg_moe *moe) {
  const mg__moe_spec *spec = &moe->spec;
  const int64_t biases = spec->width * (spec->gated ? 2 : 1) + moe->width;
  return feed_forward_parameters(moe, spec->width) + (spec->biases ? biases : 0);
}

/* Of the shared experts: the gate's product, its sigmoid and the weighing, and the sum with the routed ones. */
static double shared_elementwise(const mg_moe *moe, int64_t width) {
  const double mix = moe->spec.shared.gate == MG__SHARED_SIGMOID ? 3.0 * (double)moe->width + 3.0 : 0.0;
  return feed_forward_elementwise(moe, width, false) + mix + (double)moe->width;
}

mg_moe_facts mg_moe_describe(const mg_moe *moe) {
  const mg__moe_spec *spec = &moe->spec;
  const int64_t shared = spec->shared.experts * spec->shared.width;
  mg_moe_facts facts = {.experts = spec->experts,
                        .choices = mg_router_choices(moe->router),
                        .mean_choices = mg_router_mean_choices(moe->router),
                        .slots = mg_router_slots(moe->router),
                        .null_experts = mg__null_experts(spec),
                        .parallel_width = spec->parallel.width,
                        .computed_choices = mg_router_mean_choices(moe->router) * mg__computing_share(spec),
                        .expert_width = spec->width,
                        .shared_experts = spec->shared.experts,
                        .shared_width = spec->shared.width,
                        .losses_count = spec->losses_count,
                        .gate_flops_per_token = mg_router_gate_flops(moe->router),
                        .expert_flops_per_assignment = feed_forward_flops(moe, spec->width),
                        .null_flops_per_token = mg__null_flops(moe),
                        .expert_elementwise_flops = feed_forward_elementwise(moe, spec->width, spec->biases),
                        .shared_flops_per_token = feed_forward_flops(moe, shared),
                        .shared_elementwise_flops = shared ? shared_elementwise(moe, shared) : 0,
                        .parallel_flops_per_token = feed_forward_flops(moe, spec->parallel.width) +
                                                    feed_forward_elementwise(moe, spec->parallel.width, false),
                        .parallel_norm = spec->parallel.norm,
                        .scale_inputs = spec->scale_inputs,
                        .per_token = spec->capacity.policy == MG__POLICY_NONE &&
                                     (mg_router_promises(moe->router) & MG_ROUTER_PER_TOKEN) != 0,
                        .router_parameters = mg_router_parameters(moe->router),
                        .expert_parameters = expert_parameters(moe),
                        .null_parameters = mg__null_parameters(moe),
                        .shared_parameters = feed_forward_parameters(moe, shared) +
                                             (spec->shared.gate == MG__SHARED_SIGMOID && shared ? moe->width : 0)};
  if (facts.slots) facts.computed_choices = (double)mg__computing_experts(spec); /* every token is part of all */
  for (int64_t i = 0; i < spec->losses_count; i++) facts.loss_names[i] = mg__loss_name(spec->losses[i].kind);
  facts.groupings_count = mg_router_groupings(moe->router, facts.groupings, MG_MOE_GROUPINGS_MAX);
  return facts;
}

double mg_moe_selection_flops(const mg_moe *moe, int64_t sequences, int64_t sequence_tokens) {
  const mg_route_input call = {.tokens = sequences * sequence_tokens, .sequence_tokens = sequence_tokens};
  return mg_router_selection_flops(moe->router, &call);
}

mg_router *mg_moe_router(mg_moe *moe) {
  return moe->router;
}
