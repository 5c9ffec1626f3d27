/* One router in the suite's room: made with random parameters, run on host arrays. */
#include <string.h>

#include "measure/router_suite_internal.h"

static const uint64_t suite_seed = 20240607;
enum { SUITE_TEXT = 1000 };

/* ---- subjects ---------------------------------------------------------------------------------------------- */

/* Normal parameters, so that nothing hides behind an initial zero; buffers keep what they start as. */
static void randomise(mg_params *params) {
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    mg_param *param = mg_params_at(params, i);
    const mg_stream stream = mg_stream_named(suite_seed, "parameter", (uint64_t)i, 0);
    double *value = param->value.data;
    for (int64_t j = 0; !param->fixed && j < mg_tensor_count(&param->value); j++)
      value[j] = 0.7 * mg_random_normal(stream, (uint64_t)j);
  }
}

/* Token counts as a training would tell them, frequent low ids and some that never occur, and a text. */
mg_status mg__router_suite_prepare(mg_router *router, mg_tape *tape) {
  int64_t counts[SUITE_VOCABULARY];
  for (int64_t id = 0; id < SUITE_VOCABULARY; id++) counts[id] = 1000 / (id + 1) - 30;
  for (int64_t id = 0; id < SUITE_VOCABULARY; id++) counts[id] = counts[id] < 0 ? 0 : counts[id];
  const mg_stream words = mg_stream_named(suite_seed, "text", 0, 0);
  int32_t ids[SUITE_TEXT];
  for (int64_t i = 0; i < SUITE_TEXT; i++)
    ids[i] = i % 100 == 99 ? -1 : (int32_t)mg_random_below(words, (uint64_t)i, SUITE_VOCABULARY);
  const mg_router_text text = {.counts = counts, .ids = ids, .length = SUITE_TEXT};
  const mg_status status = mg_router_prepare(router, tape, &text);
  mg_tape_reset(tape);
  return status;
}

mg_status mg__router_suite_open_subject(suite_room *room, const json_t *spec, int64_t experts, int64_t width,
                                        suite_subject *out) {
  *out = (suite_subject){.room = room, .experts = experts, .width = width};
  const mg_router_place place = {.width = width, .experts = experts, .vocabulary = SUITE_VOCABULARY};
  MG_TRY(mg_params_create(room->backend, MG_F64, &out->params));
  mg_status status =
      mg_router_create(room->context, room->registry, spec, place, out->params, "router.", suite_seed, &out->router);
  if (status == MG_OK) {
    randomise(out->params);
    status = mg__router_suite_prepare(out->router, room->tape);
  }
  if (status != MG_OK) {
    mg__router_suite_close_subject(out);
    return status;
  }
  out->promises = mg_router_promises(out->router);
  return MG_OK;
}

void mg__router_suite_close_subject(suite_subject *subject) {
  mg_tape_reset(subject->room->tape);
  mg_router_destroy(subject->router);
  mg_params_destroy(subject->params);
  subject->router = NULL;
  subject->params = NULL;
}

suite_input mg__router_suite_input(suite_subject *subject, int64_t tokens) {
  const size_t count = (size_t)(tokens * subject->width);
  suite_input input = {.tokens = tokens,
                       .x = mg_arena_alloc(subject->room->arena, (count + 1) * sizeof(double)),
                       .token_ids = mg_arena_alloc(subject->room->arena, (size_t)(tokens + 1) * sizeof(int32_t))};
  const mg_stream states = mg_stream_named(suite_seed, "states", 0, 0),
                  words = mg_stream_named(suite_seed, "words", 0, 0);
  for (size_t i = 0; input.x && i < count; i++) input.x[i] = mg_random_normal(states, i);
  for (int64_t t = 0; input.token_ids && t < tokens; t++)
    input.token_ids[t] = (int32_t)mg_random_below(words, (uint64_t)t, SUITE_VOCABULARY);
  return input;
}

/* ---- runs -------------------------------------------------------------------------------------------------- */

/* Routes on the tape; the caller resets it. */
static mg_status route(suite_subject *subject, const suite_input *input, mg_route_output *out) {
  suite_room *room = subject->room;
  mg_tape *tape = room->tape;
  mg_tape_reset(tape);
  mg_tape_set_compute(tape, MG_F64);
  if (!input->x || !input->token_ids) return MG_MEMORY;
  room->x = (mg_tensor){.data = input->x, .shape = {input->tokens, subject->width}, .dims = 2, .dtype = MG_F64};
  room->x_gradient = room->x;
  room->x_gradient.data = input->x_gradient;
  const mg_route_input in = {.x = mg_tape_leaf(tape, &room->x, input->x_gradient ? &room->x_gradient : NULL),
                             .token_ids = mg_tape_upload(tape, MG_I32, 1, &input->tokens, input->token_ids),
                             .tokens = input->tokens,
                             .sequence_tokens = input->tokens ? input->tokens : 1,
                             .training = input->training,
                             .noise = {suite_seed, 7}};
  MG_TRY(mg_tape_status(tape));
  return mg_router_route(subject->router, tape, &in, out);
}

/* A copy of a variable in the arena; NULL stays NULL. Real dtypes become f64. */
static mg_status copy_out(suite_room *room, mg_var *x, void *out) {
  *(void **)out = NULL;
  if (!x) return MG_OK;
  mg_var *wide = mg_var_dtype(x) == MG_I32 ? x : mg_cast(room->tape, x, MG_F64);
  MG_TRY(mg_tape_status(room->tape));
  const size_t bytes = mg_tensor_bytes(mg_var_tensor(wide));
  void *copy = mg_arena_alloc(room->arena, bytes + 1);
  if (!copy) return MG_MEMORY;
  *(void **)out = copy;
  return bytes ? mg_tape_download(room->tape, wide, copy, bytes) : MG_OK;
}

mg_status mg__router_suite_run(suite_subject *subject, const suite_input *input, suite_outcome *out) {
  suite_room *room = subject->room;
  mg_route_output routed;
  MG_TRY(route(subject, input, &routed));
  *out = (suite_outcome){.tokens = input->tokens, .choices = mg_var_columns(routed.ids), .experts = subject->experts};
  MG_TRY(copy_out(room, routed.ids, &out->ids));
  MG_TRY(copy_out(room, routed.weights, &out->weights));
  MG_TRY(copy_out(room, routed.probs, &out->probs));
  MG_TRY(copy_out(room, routed.logits, &out->logits));
  MG_TRY(copy_out(room, routed.load, &out->load));
  out->slots = mg_var_columns(routed.dispatch);
  MG_TRY(copy_out(room, routed.dispatch, &out->dispatch));
  MG_TRY(copy_out(room, routed.combine, &out->combine));
  mg_tape_reset(room->tape);
  return MG_OK;
}

/* Sum of x's elements, each times a number that depends on its place alone. */
static mg_var *probe(mg_tape *tape, mg_var *x, uint64_t which) {
  const mg_tensor *tensor = mg_var_tensor(x);
  const mg_stream stream = mg_stream_named(suite_seed, "probe", which, 0);
  mg_var *factors = mg_random(tape, MG_F64, tensor->dims, tensor->shape, MG_RANDOM_UNIFORM, stream, 0.5, 1.5);
  return mg_sum(tape, mg_mul(tape, x, factors));
}

/* NULL when the router gives none of the outputs. */
static mg_var *scalar_of(mg_tape *tape, const mg_route_output *routed, suite_scalar of) {
  mg_var *const weights[] = {routed->weights, routed->dispatch, routed->combine, routed->loss};
  mg_var *const statistics[] = {routed->probs, routed->logits, routed->load, routed->loss};
  mg_var *const *outputs = of == SUITE_WEIGHTS ? weights : statistics;
  mg_var *sum = NULL;
  for (size_t i = 0; i < MG_COUNT(statistics); i++) {
    if (!outputs[i]) continue;
    mg_var *part = probe(tape, outputs[i], i);
    sum = sum ? mg_add(tape, sum, part) : part;
  }
  return sum;
}

mg_status mg__router_suite_scalar(suite_subject *subject, const suite_input *input, suite_scalar of, bool backward,
                                  double *value, int32_t **ids) {
  suite_room *room = subject->room;
  mg_route_output routed;
  *value = 0;
  mg_tape_set_recording(room->tape, backward);
  mg_status status = route(subject, input, &routed);
  mg_var *scalar = status == MG_OK ? scalar_of(room->tape, &routed, of) : NULL;
  if (status == MG_OK) status = mg_tape_status(room->tape);
  if (status == MG_OK && ids) status = copy_out(room, routed.ids, ids);
  if (status == MG_OK && scalar) status = mg_tape_download(room->tape, scalar, value, sizeof *value);
  if (status == MG_OK && backward && scalar && mg_var_needs_gradient(scalar))
    status = mg_tape_backward(room->tape, scalar);
  mg_tape_set_recording(room->tape, true);
  mg_tape_reset(room->tape);
  return status;
}
