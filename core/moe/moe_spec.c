/* The specification of an MoE layer: option tables, and the rules between its keys. */
#include <stdio.h>
#include <string.h>

#include "moe/internal.h"
#include "moe/spec.h"

static const char *const kinds[] = {"moe", NULL};
static const char *const shared_gates[] = {"none", "sigmoid", NULL};
static const char *const policies[] = {"none", "drop", "reroute", "pad", NULL};
static const char *const orders[] = {"position", "priority", "batch_priority", NULL};
static const char *const loss_kinds[] = {"balance", "z", "importance", "load", "entropy", NULL};
static const char *const scopes[] = {"sequence", "shuffle", "batch", "global", NULL};
static const char *const importances[] = {"weights", "probs", NULL};

static const mg_option layer_options[] = {
    MG_OPTION_CHOICE(mg__moe_spec, kind, 0, kinds, "the kind of feed-forward"),
    MG_OPTION_INT(mg__moe_spec, experts, 0, 1, 65536, "routed experts"),
    MG_OPTION_INT(mg__moe_spec, width, 0, 1, 1 << 24, "hidden width of one routed expert"),
    MG_OPTION_CHOICE(mg__moe_spec, activation, MG_ACTIVATION_SILU, mg_activation_names, "activation inside an expert"),
    MG_OPTION_FLOAT(mg__moe_spec, alpha, 1.702, 0, 1e3, "slope of clamped_silu's sigmoid"),
    MG_OPTION_FLOAT(mg__moe_spec, limit, 7, 0, 1e6, "where clamped_silu clamps gate and up"),
    MG_OPTION_BOOL(mg__moe_spec, gated, true, "down(act(gate x) * up x) instead of down(act(up x))"),
    MG_OPTION_BOOL(mg__moe_spec, biases, false, "biases in the routed experts"),
    MG_OPTION_BOOL(mg__moe_spec, scale_inputs, false, "the weight of a choice multiplies the expert's input"),
    MG_OPTION_END};

static const mg_option capacity_options[] = {
    MG_OPTION_CHOICE(mg__capacity, policy, MG__POLICY_DROP, policies, "what happens to choices beyond the capacity"),
    MG_OPTION_FLOAT(mg__capacity, factor, 1.25, 1e-6, 1e6, "capacity in units of the mean load, tokens * k / experts"),
    MG_OPTION_INT(mg__capacity, tokens, 0, 0, 1 << 24, "tokens per expert; 0 = by the factor"),
    MG_OPTION_CHOICE(mg__capacity, order, MG__ORDER_POSITION, orders, "which choices an expert keeps"), MG_OPTION_END};

static const mg_option loss_options[] = {
    MG_OPTION_CHOICE(mg__loss, kind, MG__LOSS_BALANCE, loss_kinds, "the loss"),
    MG_OPTION_FLOAT(mg__loss, weight, 0.01, 0, 1e6, "factor in the total loss"),
    MG_OPTION_CHOICE(mg__loss, scope, MG__SCOPE_BATCH, scopes, "tokens over which a balance loss counts load"),
    MG_OPTION_INT(mg__loss, window, 1, 1, 4096, "training batches over which the global scope counts load"),
    MG_OPTION_INT(mg__loss, choices, 0, 0, 65536, "first choices of each token that a balance loss counts; 0 = all"),
    MG_OPTION_INT(mg__loss, groups, 0, 0, 65536, "equal runs of experts (devices) to balance; 0 = every expert"),
    MG_OPTION_CHOICE(mg__loss, of, MG__OF_WEIGHTS, importances, "what an importance loss adds up for each expert"),
    MG_OPTION_END};

static const mg_option shared_options[] = {
    MG_OPTION_INT(mg__shared, experts, 1, 0, 4096, "experts that every token uses"),
    MG_OPTION_INT(mg__shared, width, 0, 0, 1 << 24, "hidden width of one shared expert; 0 = that of a routed one"),
    MG_OPTION_CHOICE(mg__shared, gate, MG__SHARED_PLAIN, shared_gates, "what weighs the shared experts' sum"),
    MG_OPTION_END};

static const mg_option parallel_options[] = {
    MG_OPTION_INT(mg__parallel, width, 0, 1, 1 << 24, "hidden width of the dense feed-forward beside the experts"),
    MG_OPTION_BOOL(mg__parallel, norm, false, "it has a norm of its own"), MG_OPTION_END};

/* The defaults hold where the key is given: MoE++ has 1, 1 and 2 beside 8 feed-forwards. */
static const mg_option null_options[] = {
    MG_OPTION_INT(mg__null, zero, 1, 0, 4096, "experts that give 0"),
    MG_OPTION_INT(mg__null, copy, 1, 0, 4096, "experts that give their input"),
    MG_OPTION_INT(mg__null, constant, 2, 0, 4096, "experts that mix their input with a learned vector"),
    MG_OPTION_FLOAT(mg__null, tau, 0.75, 1e-3, 1e3, "price of a null expert in the balance loss; 1 = as the others"),
    MG_OPTION_END};

/* The papers' weights: Switch 1e-2, ST-MoE 1e-3, Shazeer's language models 0.1, top-p 1e-4. */
static const double default_weights[] = {0.01, 0.001, 0.1, 0.1, 1e-4};

const char *mg__loss_name(int64_t kind) {
  return loss_kinds[kind];
}

static mg_status read_capacity(mg_context *context, const json_t *json, mg__capacity *out) {
  mg_options_defaults(capacity_options, out);
  if (!json) out->policy = MG__POLICY_NONE;
  if (json_is_number(json)) { /* a bare number is a drop factor */
    json_t *object = json_pack("{s:f}", "factor", json_number_value(json));
    const mg_status status = mg_options_from_json(context, capacity_options, object, "capacity", out);
    json_decref(object);
    return status;
  }
  MG_TRY(mg_options_from_json(context, capacity_options, json, "capacity", out));
  if (out->policy == MG__POLICY_REROUTE && out->order != MG__ORDER_POSITION)
    return mg_fail(context, MG_USAGE, "capacity: policy 'reroute' serves tokens in order; use order 'position'");
  return MG_OK;
}

static mg_status read_loss(mg_context *context, const json_t *json, mg__loss *out) {
  MG_TRY(mg_spec_read(context, loss_options, NULL, 0, json, "losses", out));
  if (!json_object_get(json, "weight")) out->weight = default_weights[out->kind];
  if (out->window > 1 && out->scope != MG__SCOPE_GLOBAL)
    return mg_fail(context, MG_USAGE, "losses: 'window' %lld needs scope 'global'", (long long)out->window);
  if ((out->choices || out->groups) && out->kind != MG__LOSS_BALANCE)
    return mg_fail(context, MG_USAGE, "losses: '%s' is about kind 'balance', not '%s'",
                   out->choices ? "choices" : "groups", loss_kinds[out->kind]);
  if (out->of == MG__OF_PROBS && out->kind != MG__LOSS_IMPORTANCE)
    return mg_fail(context, MG_USAGE, "losses: 'of' is about kind 'importance', not '%s'", loss_kinds[out->kind]);
  if (out->choices && out->window > 1)
    return mg_fail(context, MG_USAGE,
                   "losses: 'choices' counts this batch alone; use window = 1, or leave 'choices' out");
  return MG_OK;
}

static mg_status read_losses(mg_context *context, const json_t *json, mg__moe_spec *out) {
  if (!json) return MG_OK;
  /* An empty Lua table may arrive as an object. */
  if (json_is_object(json) && json_object_size(json) == 0) return MG_OK;
  if (!json_is_array(json))
    return mg_fail(context, MG_USAGE, "losses: a list was expected, for example {{kind = \"balance\"}}");
  if (json_array_size(json) > MG_MOE_LOSSES_MAX)
    return mg_fail(context, MG_USAGE, "losses: at most %d are possible, not %zu", MG_MOE_LOSSES_MAX,
                   json_array_size(json));
  for (size_t i = 0; i < json_array_size(json); i++) {
    const mg_status status = read_loss(context, json_array_get(json, i), &out->losses[i]);
    if (status != MG_OK) return mg_fail_where(context, status, "loss %zu", i + 1);
    out->losses_count++;
  }
  return MG_OK;
}

static mg_status read_shared(mg_context *context, const json_t *json, mg__moe_spec *out) {
  MG_TRY(mg_spec_read(context, shared_options, NULL, 0, json, "shared", &out->shared));
  if (!json) out->shared.experts = 0;
  if (out->shared.width == 0) out->shared.width = out->width;
  return MG_OK;
}

static mg_status read_parallel(mg_context *context, const json_t *json, mg__moe_spec *out) {
  MG_TRY(mg_spec_read(context, parallel_options, NULL, 0, json, "parallel", &out->parallel));
  if (!json || out->parallel.width > 0) return MG_OK;
  return mg_fail(context, MG_USAGE, "parallel: 'width' is needed: the hidden width of the dense feed-forward");
}

static mg_status read_null(mg_context *context, const json_t *json, mg__moe_spec *out) {
  if (!json) {
    out->null = (mg__null){.tau = 1};
    return MG_OK;
  }
  MG_TRY(mg_spec_read(context, null_options, NULL, 0, json, "null", &out->null));
  if (mg__computing_experts(out) > 0) return MG_OK;
  return mg_fail(context, MG_USAGE, "null: %lld null experts of %lld experts leave none that computes; use fewer",
                 (long long)mg__null_experts(out), (long long)out->experts);
}

static mg_status read_parts(mg_context *context, const json_t *json, mg__moe_spec *out) {
  mg_spec_part parts[] = {{"router", NULL}, {"capacity", NULL}, {"losses", NULL},   {"shared", NULL},
                          {"null", NULL},   {"parallel", NULL}, {"knock_out", NULL}};
  MG_TRY(mg_spec_read(context, layer_options, parts, MG_COUNT(parts), json, "moe", out));
  if (!out->experts) return mg_fail(context, MG_USAGE, "moe: 'experts' is needed: the number of routed experts");
  if (!out->width) return mg_fail(context, MG_USAGE, "moe: 'width' is needed: the hidden width of one expert");
  if (!parts[0].value)
    return mg_fail(context, MG_USAGE, "moe: 'router' is needed, for example {name = \"topk\", k = 2}");
  out->router = parts[0].value;
  mg_status status = read_capacity(context, parts[1].value, &out->capacity);
  if (status == MG_OK) status = read_losses(context, parts[2].value, out);
  if (status == MG_OK) status = read_shared(context, parts[3].value, out);
  if (status == MG_OK) status = read_null(context, parts[4].value, out);
  if (status == MG_OK) status = read_parallel(context, parts[5].value, out);
  if (status == MG_OK && out->activation == MG_ACTIVATION_CLAMPED_SILU && !out->gated)
    status = mg_fail(context, MG_USAGE, "activation 'clamped_silu' needs gated experts");
  if (status == MG_OK) status = mg__knock_out_read(context, parts[6].value, out);
  return status == MG_OK ? MG_OK : mg_fail_where(context, status, "moe");
}

mg_status mg__moe_spec_read(mg_context *context, const json_t *json, mg__moe_spec *out) {
  *out = (mg__moe_spec){0};
  return read_parts(context, json, out);
}

mg_status mg__moe_spec_runs(mg_context *context, const mg__moe_spec *spec) {
  if (!spec->parallel.norm) return MG_OK;
  return mg_fail(context, MG_USAGE,
                 "moe: a 'parallel' feed-forward with a norm of its own is described and counted, but cannot run");
}

static mg_status refuse_need(const mg_router *router, const char *what, const char *need) {
  return mg_fail(router->context, MG_USAGE,
                 "moe: %s needs %s, which router %s does not give under these options; "
                 "remove it or choose another router",
                 what, need, router->plugin->name);
}

/* A balance loss over groups needs equal ones, all of experts that compute. */
static mg_status groups_fit(mg_context *context, const mg__moe_spec *spec, int64_t groups) {
  if (groups == 0 || (spec->experts % groups == 0 && mg__null_experts(spec) == 0)) return MG_OK;
  return mg_fail(context, MG_USAGE,
                 "moe: losses: %lld groups of %lld experts, %lld of them null: the experts must be a multiple of the "
                 "groups, without null experts",
                 (long long)groups, (long long)spec->experts, (long long)mg__null_experts(spec));
}

mg_status mg__moe_spec_fits(const mg__moe_spec *spec, const mg_router *router) {
  static const struct {
    uint32_t flag;
    const char *what, *need;
  } needs[] = {
      [MG__LOSS_BALANCE] = {MG_ROUTER_GIVES_PROBS, "loss 'balance'", "probabilities (probs)"},
      [MG__LOSS_Z] = {MG_ROUTER_GIVES_LOGITS, "loss 'z'", "logits"},
      [MG__LOSS_IMPORTANCE] = {0, "", ""},
      [MG__LOSS_LOAD] = {MG_ROUTER_GIVES_LOAD, "loss 'load'", "a smooth load (topk has one with noise = learned)"},
      [MG__LOSS_ENTROPY] = {MG_ROUTER_GIVES_PROBS, "loss 'entropy'", "probabilities (probs)"}};
  const uint32_t given = mg_router_promises(router);
  for (int64_t i = 0; i < spec->losses_count; i++) {
    if (spec->losses[i].of == MG__OF_PROBS && !(given & MG_ROUTER_GIVES_PROBS))
      return refuse_need(router, "loss 'importance' of 'probs'", "probabilities (probs)");
    MG_TRY(groups_fit(router->context, spec, spec->losses[i].groups));
    const uint32_t flag = needs[spec->losses[i].kind].flag;
    if ((given & flag) != flag)
      return refuse_need(router, needs[spec->losses[i].kind].what, needs[spec->losses[i].kind].need);
  }
  if (spec->capacity.policy != MG__POLICY_NONE && mg_router_slots(router))
    return mg_fail(router->context, MG_USAGE,
                   "moe: capacity policy '%s' decides which choices an expert keeps, but router %s makes every expert "
                   "compute %lld slots of each sequence; remove 'capacity'",
                   policies[spec->capacity.policy], router->plugin->name, (long long)mg_router_slots(router));
  const bool knocks_out = spec->knock_out.choices > 0 || spec->knock_out.experts_count > 0;
  if (knocks_out && mg_router_slots(router))
    return mg_fail(router->context, MG_USAGE, "moe: knock_out: router %s chooses nothing; its experts mix all tokens",
                   router->plugin->name);
  if (spec->scale_inputs && (mg_router_slots(router) || mg__null_experts(spec)))
    return mg_fail(router->context, MG_USAGE,
                   "moe: scale_inputs multiplies an expert's input by the weight of a token's choice, and so goes "
                   "neither with slots nor with null experts");
  if (spec->knock_out.choices >= mg_router_choices(router) && spec->knock_out.choices > 0)
    return mg_fail(router->context, MG_USAGE,
                   "moe: knock_out: %lld of the %lld choices of router %s leave none; use fewer, or a larger k",
                   (long long)spec->knock_out.choices, (long long)mg_router_choices(router), router->plugin->name);
  if (spec->capacity.policy == MG__POLICY_REROUTE && !(given & MG_ROUTER_GIVES_PROBS))
    return refuse_need(router, "capacity policy 'reroute'", "probabilities (probs)");
  return MG_OK;
}

int64_t mg__moe_spec_window(const mg__moe_spec *spec) {
  int64_t longest = 1;
  for (int64_t i = 0; i < spec->losses_count; i++)
    if (spec->losses[i].kind == MG__LOSS_BALANCE && spec->losses[i].window > longest) longest = spec->losses[i].window;
  return longest;
}

json_t *mg__moe_spec_json(const mg__moe_spec *spec, const mg_router *router) {
  json_t *json = mg_options_to_json(layer_options, spec), *losses = json_array();
  if (!json || !losses) {
    json_decref(json);
    json_decref(losses);
    return NULL;
  }
  for (int64_t i = 0; i < spec->losses_count; i++)
    json_array_append_new(losses, mg_options_to_json(loss_options, &spec->losses[i]));
  json_object_set_new(json, "router", mg_router_spec(router));
  json_object_set_new(json, "capacity", mg_options_to_json(capacity_options, &spec->capacity));
  json_object_set_new(json, "losses", losses);
  json_object_set_new(json, "shared", mg_options_to_json(shared_options, &spec->shared));
  if (mg__null_experts(spec)) json_object_set_new(json, "null", mg_options_to_json(null_options, &spec->null));
  if (spec->parallel.width)
    json_object_set_new(json, "parallel", mg_options_to_json(parallel_options, &spec->parallel));
  json_t *knock_out = mg__knock_out_json(&spec->knock_out);
  if (knock_out) json_object_set_new(json, "knock_out", knock_out);
  return json;
}
