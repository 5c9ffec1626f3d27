/* Router instances: a plugin's table, its options and its parameters at one place of a model. */
#include "moe/router.h"

#include <stdio.h>
#include <string.h>

#include "moe/spec.h"

enum { PARAMS_MAX = 32, NAME_MAX_BYTES = 256 };

typedef struct instance {
  mg_router router;
  void *options;
  size_t options_size;
  mg_params *params;         /* NULL for a description */
  int64_t index[PARAMS_MAX]; /* of each entry of plugin->params in the store; -1 = left out */
} instance;

/* ---- the option k ------------------------------------------------------------------------------------------- */

/* The integer option k; 0 if there is none. */
static int64_t option_k(const mg_router *router) {
  for (const mg_option *o = router->plugin->options; o && o->type != MG_OPTION_TYPE_END; o++) {
    if (o->type != MG_OPTION_TYPE_INT || strcmp(o->name, "k") != 0) continue;
    int64_t k;
    memcpy(&k, (const char *)router->options + o->offset, sizeof k);
    return k;
  }
  return 0;
}

mg_status mg_router_check_k(const mg_router *router, int64_t k, bool renormalised) {
  const char *name = router->plugin->name;
  if (k > router->experts)
    return mg_fail(router->context, MG_USAGE,
                   "router %s: k = %lld is more than the %lld experts of the layer; use 1 to %lld", name, (long long)k,
                   (long long)router->experts, (long long)router->experts);
  if (k > 1 || !renormalised) return MG_OK;
  return mg_fail(
      router->context, MG_USAGE,
      "router %s: with k = 1 a weight divided by the sum of the kept ones is always 1, so the gate would get "
      "no gradient; use renormalise = false or k of at least 2",
      name);
}

/* ---- making ------------------------------------------------------------------------------------------------ */

static const char *name_in_spec(const json_t *spec) {
  return json_string_value(json_object_get(spec, "name"));
}

static mg_status read_options(mg_context *context, const json_t *spec, const mg_router_plugin *plugin, void *options) {
  char where[NAME_MAX_BYTES];
  snprintf(where, sizeof where, "router %s", plugin->name);
  mg_spec_part name = {"name", NULL};
  return mg_spec_read(context, plugin->options, &name, 1, spec, where, options);
}

static mg_status check_place(mg_context *context, mg_router_place place) {
  if (place.width < 1) return mg_fail(context, MG_USAGE, "width must be at least 1, not %lld", (long long)place.width);
  if (place.experts < 1)
    return mg_fail(context, MG_USAGE, "experts must be at least 1, not %lld", (long long)place.experts);
  return MG_OK;
}

static mg_status fill_instance(mg_context *context, const json_t *spec, const mg_router_plugin *plugin,
                               mg_router_place place, instance *made) {
  made->router = (mg_router){.plugin = plugin,
                             .context = context,
                             .width = place.width,
                             .experts = place.experts,
                             .vocabulary = place.vocabulary,
                             .layer = place.layer,
                             .host = made};
  for (size_t i = 0; i < PARAMS_MAX; i++) made->index[i] = -1;
  if (plugin->options) {
    made->options_size = plugin->options_size;
    made->options = mg_alloc(context, plugin->options_size);
    if (!made->options) return MG_MEMORY;
    made->router.options = made->options;
  }
  MG_TRY(read_options(context, spec, plugin, made->options));
  return plugin->check ? plugin->check(&made->router)
                       : mg_router_check_k(&made->router, option_k(&made->router), false);
}

mg_status mg_router_describe(mg_context *context, mg_registry *registry, const json_t *spec, mg_router_place place,
                             mg_router **out) {
  *out = NULL;
  const char *name = name_in_spec(spec);
  if (!name)
    return mg_fail(context, MG_USAGE, "router: a table with a 'name' was expected, for example {name = \"topk\"}");
  MG_TRY(check_place(context, place));
  const mg_router_plugin *plugin;
  MG_TRY(mg_registry_router(registry, name, &plugin));
  instance *made = mg_alloc(context, sizeof *made);
  if (!made) return MG_MEMORY;
  const mg_status status = fill_instance(context, spec, plugin, place, made);
  if (status == MG_OK)
    *out = &made->router;
  else
    mg_router_destroy(&made->router);
  return status;
}

mg_status mg_router_check_spec(mg_context *context, mg_registry *registry, const json_t *spec, mg_router_place place) {
  mg_router *router;
  const mg_status status = mg_router_describe(context, registry, spec, place, &router);
  mg_router_destroy(router);
  return status;
}

static int64_t dimension_of(const mg_router *router, int32_t param, int32_t dim) {
  const int64_t said = router->plugin->params[param].shape[dim];
  switch (said) {
  case MG_DIM_WIDTH: return router->width;
  case MG_DIM_EXPERTS: return router->experts;
  case MG_DIM_VOCABULARY: return router->vocabulary;
  case MG_DIM_CUSTOM: return router->plugin->dimension ? router->plugin->dimension(router, param, dim) : 0;
  default: return said;
  }
}

/* Fills the request's shape; false when a dimension of 0 leaves the parameter out. */
static bool shape_of(const mg_router *router, int32_t param, mg_param_request *request) {
  request->dims = 0;
  for (int32_t d = 0; d < MG_DIMS_MAX && router->plugin->params[param].shape[d] != MG_DIM_NONE; d++) {
    request->shape[d] = dimension_of(router, param, d);
    request->dims++;
    if (request->shape[d] == 0) return false;
  }
  return request->dims > 0;
}

static mg_status add_param(instance *made, int32_t param, const char *prefix, uint64_t seed) {
  mg_router *router = &made->router;
  const mg_param_spec *spec = &router->plugin->params[param];
  char name[MG_PARAM_NAME_BYTES];
  if ((size_t)snprintf(name, sizeof name, "%s%s", prefix, spec->name) >= sizeof name)
    return mg_fail(router->context, MG_PLUGIN, "router %s: the parameter name '%s%s' is longer than %d bytes",
                   router->plugin->name, prefix, spec->name, MG_PARAM_NAME_BYTES - 1);
  mg_param_request request = {.name = name,
                              .init = spec->init,
                              .scale = spec->scale,
                              .fixed = spec->fixed,
                              .stream = mg_stream_named(seed, name, 0, 0)};
  if (!shape_of(router, param, &request)) return MG_OK;
  request.decay = request.dims > 1 && !spec->fixed;
  return mg_params_add(made->params, &request, &made->index[param]);
}

static mg_status add_params(instance *made, const char *prefix, uint64_t seed) {
  const mg_router_plugin *plugin = made->router.plugin;
  for (int32_t i = 0; plugin->params && plugin->params[i].name; i++) {
    if (i == PARAMS_MAX)
      return mg_fail(made->router.context, MG_PLUGIN, "router %s has more than %d parameters", plugin->name,
                     PARAMS_MAX);
    MG_TRY(add_param(made, i, prefix, seed));
  }
  return MG_OK;
}

mg_status mg_router_create(mg_context *context, mg_registry *registry, const json_t *spec, mg_router_place place,
                           mg_params *params, const char *prefix, uint64_t seed, mg_router **out) {
  MG_TRY(mg_router_describe(context, registry, spec, place, out));
  instance *made = (*out)->host;
  made->params = params;
  const mg_status status = add_params(made, prefix, seed);
  if (status != MG_OK) {
    mg_router_destroy(*out);
    *out = NULL;
  }
  return status;
}

void mg_router_destroy(mg_router *router) {
  if (!router) return;
  instance *made = router->host;
  mg_context *context = router->context;
  mg_free(context, made->options, made->options_size);
  mg_free(context, made, sizeof *made);
}

json_t *mg_router_spec(const mg_router *router) {
  json_t *spec = router->plugin->options ? mg_options_to_json(router->plugin->options, router->options) : json_object();
  if (spec) json_object_set_new(spec, "name", json_string(router->plugin->name));
  return spec;
}

/* ---- parameters -------------------------------------------------------------------------------------------- */

/* The place of a parameter in the plugin's table; -1 if it has none of that name. */
static int32_t place_of(const mg_router *router, const char *name) {
  const mg_param_spec *params = router->plugin->params;
  for (int32_t i = 0; params && params[i].name && i < PARAMS_MAX; i++)
    if (strcmp(params[i].name, name) == 0) return i;
  return -1;
}

bool mg_router_has_param(const mg_router *router, const char *name) {
  const instance *made = router->host;
  const int32_t place = place_of(router, name);
  return place >= 0 && made->index[place] >= 0;
}

mg_var *mg_router_param(mg_router *router, mg_tape *tape, const char *name) {
  instance *made = router->host;
  const int32_t place = place_of(router, name);
  if (place < 0)
    return mg_tape_fail(tape, MG_PLUGIN, "router %s asked for the parameter '%s', which its table does not list",
                        router->plugin->name, name);
  return made->index[place] < 0 ? NULL : mg_params_var(made->params, tape, made->index[place]);
}

static bool has_prepare(const mg_router_plugin *plugin) {
  return plugin->size >= offsetof(mg_router_plugin, prepare) + sizeof plugin->prepare && plugin->prepare;
}

static bool has_prepare_text(const mg_router_plugin *plugin) {
  return plugin->size >= offsetof(mg_router_plugin, prepare_text) + sizeof plugin->prepare_text && plugin->prepare_text;
}

bool mg_router_wants_text(const mg_router *router) {
  return has_prepare(router->plugin) || has_prepare_text(router->plugin);
}

mg_status mg_router_prepare(mg_router *router, mg_tape *tape, const mg_router_text *text) {
  const mg_router_plugin *plugin = router->plugin;
  if (has_prepare(plugin)) MG_TRY(plugin->prepare(router, tape, text->counts));
  return has_prepare_text(plugin) ? plugin->prepare_text(router, tape, text->ids, text->length) : MG_OK;
}

/* Copies through the host: backends have no copy between two of their own tensors. */
static mg_status overwrite(mg_router *router, mg_tape *tape, const mg_tensor *buffer, const mg_var *value) {
  mg_backend *backend = mg_tape_backend(tape);
  const size_t bytes = mg_tensor_bytes(buffer);
  void *host = mg_alloc(router->context, bytes);
  if (!host) return MG_MEMORY;
  mg_status status = mg_tape_download(tape, value, host, bytes);
  if (status == MG_OK) status = backend->plugin->upload(backend, buffer->data, host, bytes);
  mg_free(router->context, host, bytes);
  return status;
}

mg_status mg_router_store(mg_router *router, mg_tape *tape, const char *name, mg_var *value) {
  const instance *made = router->host;
  const int32_t place = place_of(router, name);
  MG_TRY(mg_tape_status(tape));
  if (place < 0 || made->index[place] < 0 || !router->plugin->params[place].fixed)
    return mg_fail(router->context, MG_PLUGIN, "router %s stores to '%s', which is no fixed parameter of it",
                   router->plugin->name, name);
  const mg_tensor *buffer = &mg_params_at(made->params, made->index[place])->value;
  mg_var *same = mg_cast(tape, value, buffer->dtype);
  MG_TRY(mg_tape_status(tape));
  if (mg_tensor_count(mg_var_tensor(same)) != mg_tensor_count(buffer))
    return mg_fail(router->context, MG_PLUGIN, "router %s stores %lld elements to '%s', which has %lld",
                   router->plugin->name, (long long)mg_tensor_count(mg_var_tensor(same)), name,
                   (long long)mg_tensor_count(buffer));
  return overwrite(router, tape, buffer, same);
}

int64_t mg_router_parameters(const mg_router *router) {
  const instance *made = router->host;
  int64_t elements = 0;
  for (size_t i = 0; i < PARAMS_MAX; i++) {
    if (made->index[i] < 0) continue;
    const mg_param *param = mg_params_at(made->params, made->index[i]);
    if (!param->fixed) elements += mg_tensor_count(&param->value);
  }
  return elements;
}

/* ---- answers ----------------------------------------------------------------------------------------------- */

int64_t mg_router_choices(const mg_router *router) {
  if (router->plugin->choices) return router->plugin->choices(router);
  const int64_t k = option_k(router);
  return k ? k : router->experts;
}

double mg_router_mean_choices(const mg_router *router) {
  const mg_router_plugin *plugin = router->plugin;
  const bool present = plugin->size >= offsetof(mg_router_plugin, mean_choices) + sizeof plugin->mean_choices;
  return present && plugin->mean_choices ? plugin->mean_choices(router) : (double)mg_router_choices(router);
}

int64_t mg_router_slots(const mg_router *router) {
  const mg_router_plugin *plugin = router->plugin;
  const bool present = plugin->size >= offsetof(mg_router_plugin, slots) + sizeof plugin->slots;
  return present && plugin->slots ? plugin->slots(router) : 0;
}

uint32_t mg_router_promises(const mg_router *router) {
  return router->plugin->promises ? router->plugin->promises(router) : 0;
}

/* 2 for each element of the trained parameters that end in the width. */
static double product_flops(const mg_router *router) {
  const mg_param_spec *params = router->plugin->params;
  double flops = 0;
  for (int32_t i = 0; params && params[i].name; i++) {
    mg_param_request request;
    if (params[i].fixed || !shape_of(router, i, &request)) continue;
    double elements = params[i].shape[request.dims - 1] == MG_DIM_WIDTH ? 1 : 0;
    for (int32_t d = 0; d < request.dims; d++) elements *= (double)request.shape[d];
    flops += 2 * elements;
  }
  return flops;
}

double mg_router_gate_flops(const mg_router *router) {
  return router->plugin->gate_flops ? router->plugin->gate_flops(router) : product_flops(router);
}

double mg_router_selection_flops(const mg_router *router, const mg_route_input *call) {
  const mg_router_plugin *plugin = router->plugin;
  const bool present = plugin->size >= offsetof(mg_router_plugin, selection_flops) + sizeof plugin->selection_flops;
  if (present && plugin->selection_flops) return plugin->selection_flops(router, call);
  return mg_router_slots(router) ? 0 : (double)(call->tokens * router->experts);
}

int64_t mg_router_groupings(const mg_router *router, int64_t *groups, int64_t most) {
  const mg_router_plugin *plugin = router->plugin;
  const bool present = plugin->size >= offsetof(mg_router_plugin, groupings) + sizeof plugin->groupings;
  return present && plugin->groupings ? plugin->groupings(router, groups, most) : 0;
}

/* ---- calls ------------------------------------------------------------------------------------------------- */

static mg_status refuse_output(const mg_router *router, mg_tape *tape, const char *what, const mg_var *came,
                               const char *wanted) {
  char shape[MG_SHAPE_TEXT_BYTES];
  mg_tape_fail(tape, MG_PLUGIN, "router %s returned %s of shape %s and type %s; wanted %s", router->plugin->name, what,
               mg_shape_text(mg_var_tensor(came), shape), mg_dtype_name(mg_var_dtype(came)), wanted);
  return mg_tape_status(tape);
}

/* An optional [T,E] output: absent, or real with one column per expert. */
static mg_status check_scores(const mg_router *router, mg_tape *tape, const mg_route_input *input, const char *what,
                              const mg_var *scores) {
  if (!scores) return MG_OK;
  if (mg_var_rows(scores) == input->tokens && mg_var_columns(scores) == router->experts &&
      mg_var_dtype(scores) != MG_I32)
    return MG_OK;
  char wanted[96];
  snprintf(wanted, sizeof wanted, "real [%lld, %lld]", (long long)input->tokens, (long long)router->experts);
  return refuse_output(router, tape, what, scores, wanted);
}

static mg_status check_choices(const mg_router *router, mg_tape *tape, const mg_route_input *input,
                               const mg_route_output *output) {
  if (!output->ids || !output->weights) {
    mg_tape_fail(tape, MG_PLUGIN, "router %s returned no %s; both ids and weights are due", router->plugin->name,
                 output->ids ? "weights" : "ids");
    return mg_tape_status(tape);
  }
  char wanted[128];
  const int64_t most = mg_router_choices(router);
  snprintf(wanted, sizeof wanted, "i32 [%lld, at most %lld]", (long long)input->tokens, (long long)most);
  const int64_t choices = mg_var_columns(output->ids);
  if (mg_var_dtype(output->ids) != MG_I32 || mg_var_rows(output->ids) != input->tokens || choices < 1 || choices > most)
    return refuse_output(router, tape, "ids", output->ids, wanted);
  snprintf(wanted, sizeof wanted, "real [%lld, %lld] like the ids", (long long)input->tokens, (long long)choices);
  if (mg_var_dtype(output->weights) == MG_I32 || mg_var_rows(output->weights) != input->tokens ||
      mg_var_columns(output->weights) != choices)
    return refuse_output(router, tape, "weights", output->weights, wanted);
  return MG_OK;
}

/* All experts for every token: i32 [T,E]. */
static mg_var *every_expert(mg_tape *tape, int64_t tokens, int64_t experts) {
  const int64_t shape[] = {tokens, experts};
  mg_var *counted = mg_cumsum(tape, mg_fill(tape, MG_F32, 2, shape, 1));
  return mg_cast(tape, mg_affine(tape, counted, 1, -1), MG_I32);
}

static mg_status check_mixture(const mg_router *router, mg_tape *tape, const mg_route_input *input, const char *what,
                               const mg_var *weights) {
  const int64_t columns = router->experts * mg_router_slots(router);
  char wanted[96];
  snprintf(wanted, sizeof wanted, "real [%lld, %lld]", (long long)input->tokens, (long long)columns);
  if (!weights) {
    mg_tape_fail(tape, MG_PLUGIN, "router %s has slots and returned no %s; wanted %s", router->plugin->name, what,
                 wanted);
    return mg_tape_status(tape);
  }
  const bool fits = mg_var_rows(weights) == input->tokens && mg_var_columns(weights) == columns;
  return fits && mg_var_dtype(weights) != MG_I32 ? MG_OK : refuse_output(router, tape, what, weights, wanted);
}

/* Checks the mixture of a router with slots and derives its choices: every expert, by the sum over its slots. */
static mg_status fill_choices(const mg_router *router, mg_tape *tape, const mg_route_input *input,
                              mg_route_output *output) {
  const int64_t slots = mg_router_slots(router), experts = router->experts;
  if (!slots && !output->dispatch && !output->combine) return MG_OK;
  if (!slots) {
    mg_tape_fail(tape, MG_PLUGIN, "router %s returned dispatch or combine, but its table has no .slots",
                 router->plugin->name);
    return mg_tape_status(tape);
  }
  MG_TRY(check_mixture(router, tape, input, "dispatch", output->dispatch));
  MG_TRY(check_mixture(router, tape, input, "combine", output->combine));
  output->ids = every_expert(tape, input->tokens, experts);
  output->weights = output->combine;
  if (slots == 1) return mg_tape_status(tape);
  mg_var *sums = mg_sum_columns(tape, mg_reshape2(tape, output->combine, input->tokens * experts, slots));
  output->weights = mg_reshape2(tape, sums, input->tokens, experts);
  return mg_tape_status(tape);
}

/* Where the host can read device memory a wrong id is caught here, before a kernel would index with it. */
static mg_status check_ids(const mg_router *router, mg_tape *tape, const mg_var *ids) {
  mg_backend *backend = mg_tape_backend(tape);
  if (!backend->plugin->host_memory) return MG_OK;
  MG_TRY(backend->plugin->synchronize(backend));
  const mg_tensor *tensor = mg_var_tensor(ids);
  const int32_t *id = tensor->data;
  for (int64_t i = 0; i < mg_tensor_count(tensor); i++) {
    if (id[i] >= -1 && id[i] < router->experts) continue;
    mg_tape_fail(tape, MG_PLUGIN, "router %s chose expert %d for token %lld; wanted 0 to %lld, or -1 for no choice",
                 router->plugin->name, id[i], (long long)(i / mg_tensor_columns(tensor)),
                 (long long)(router->experts - 1));
    return mg_tape_status(tape);
  }
  return MG_OK;
}

/* `wanted`, like the ids. */
static mg_status check_wanted(const mg_router *router, mg_tape *tape, const mg_route_output *output) {
  const mg_var *wanted = output->wanted;
  if (!wanted) return MG_OK;
  if (mg_var_dtype(wanted) == MG_I32 && mg_var_rows(wanted) == mg_var_rows(output->ids) &&
      mg_var_columns(wanted) == mg_var_columns(output->ids))
    return check_ids(router, tape, wanted);
  return refuse_output(router, tape, "wanted", wanted, "i32 of the shape of the ids");
}

static mg_status check_promised(const mg_router *router, mg_tape *tape, uint32_t flag, const mg_var *came,
                                const char *what) {
  if (came || !(mg_router_promises(router) & flag)) return MG_OK;
  mg_tape_fail(tape, MG_PLUGIN, "router %s promises %s and returned none", router->plugin->name, what);
  return mg_tape_status(tape);
}

mg_status mg_router_route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  *output = (mg_route_output){0};
  const mg_status status = router->plugin->route(router, tape, input, output);
  MG_TRY(mg_tape_status(tape));
  if (status != MG_OK) {
    mg_tape_fail(tape, status, "router %s: %s", router->plugin->name, mg_context_message(router->context));
    return status;
  }
  MG_TRY(fill_choices(router, tape, input, output));
  MG_TRY(check_choices(router, tape, input, output));
  MG_TRY(check_ids(router, tape, output->ids));
  MG_TRY(check_wanted(router, tape, output));
  MG_TRY(check_scores(router, tape, input, "probs", output->probs));
  MG_TRY(check_scores(router, tape, input, "logits", output->logits));
  MG_TRY(check_scores(router, tape, input, "load", output->load));
  MG_TRY(check_promised(router, tape, MG_ROUTER_GIVES_PROBS, output->probs, "probs"));
  MG_TRY(check_promised(router, tape, MG_ROUTER_GIVES_LOGITS, output->logits, "logits"));
  MG_TRY(check_promised(router, tape, MG_ROUTER_GIVES_LOAD, output->load, "load"));
  if (output->loss && mg_tensor_count(mg_var_tensor(output->loss)) != 1)
    return refuse_output(router, tape, "loss", output->loss, "one real number");
  return check_promised(router, tape, MG_ROUTER_GIVES_LOSS, output->loss, "loss");
}
