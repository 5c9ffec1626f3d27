/* The check of another backend: in f32 it must choose the reference's experts and give its weights. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "measure/router_suite_internal.h"

/* Both sum in at least f32, in other orders; weights are of the order of 1. */
static const double allowed = 1e-4;
static const uint64_t seed = 20240607;

/* One router in f32 on one backend. */
typedef struct stage {
  suite_room *room;
  mg_backend *backend;
  mg_tape *tape;
  mg_params *params;
  mg_router *router;
} stage;

/* What it gave, on the host: ids, then the numbers. */
typedef struct delivery {
  int64_t choices, numbers_count;
  int32_t *ids;
  float *numbers;
} delivery;

static mg_status randomise(stage *s) {
  for (int64_t i = 0; i < mg_params_count(s->params); i++) {
    mg_param *param = mg_params_at(s->params, i);
    const int64_t count = mg_tensor_count(&param->value);
    float *numbers = mg_arena_alloc(s->room->arena, (size_t)(count + 1) * sizeof *numbers);
    if (!numbers) return MG_MEMORY;
    const mg_stream stream = mg_stream_named(seed, "parameter", (uint64_t)i, 0);
    for (int64_t j = 0; j < count; j++) numbers[j] = (float)(0.7 * mg_random_normal(stream, (uint64_t)j));
    if (param->fixed || count == 0) continue;
    MG_TRY(s->backend->plugin->upload(s->backend, param->value.data, numbers, mg_tensor_bytes(&param->value)));
  }
  return MG_OK;
}

static mg_status open_stage(suite_subject *subject, mg_backend *backend, stage *s) {
  suite_room *room = subject->room;
  *s = (stage){.room = room, .backend = backend};
  const mg_router_place place = {.width = subject->width, .experts = subject->experts, .vocabulary = SUITE_VOCABULARY};
  MG_TRY(mg_tape_create(backend, MG_F32, &s->tape));
  MG_TRY(mg_params_create(backend, MG_F32, &s->params));
  MG_TRY(mg_router_create(room->context, room->registry, room->spec, place, s->params, "router.", seed, &s->router));
  MG_TRY(randomise(s));
  return mg__router_suite_prepare(s->router, s->tape);
}

static void close_stage(stage *s) {
  mg_router_destroy(s->router);
  if (s->params) mg_params_destroy(s->params);
  if (s->tape) mg_tape_destroy(s->tape);
}

/* Appends an output, in f32, to the numbers. */
static mg_status append(stage *s, mg_var *x, delivery *out) {
  if (!x) return MG_OK;
  mg_var *narrow = mg_cast(s->tape, x, MG_F32);
  MG_TRY(mg_tape_status(s->tape));
  const int64_t count = mg_tensor_count(mg_var_tensor(narrow));
  MG_TRY(mg_tape_download(s->tape, narrow, out->numbers + out->numbers_count, (size_t)count * sizeof(float)));
  out->numbers_count += count;
  return MG_OK;
}

static mg_status perform(stage *s, const suite_input *input, bool training, delivery *out) {
  const int64_t experts = s->router->experts, width = s->router->width, shape[] = {input->tokens, width};
  const int64_t slots = mg_router_slots(s->router), most = input->tokens * experts * (5 + 2 * slots);
  float *x = mg_arena_alloc(s->room->arena, (size_t)(input->tokens * width) * sizeof *x);
  out->ids = mg_arena_alloc(s->room->arena, (size_t)(input->tokens * experts) * sizeof *out->ids);
  out->numbers = mg_arena_alloc(s->room->arena, (size_t)most * sizeof *out->numbers);
  if (!x || !out->ids || !out->numbers || !input->x || !input->token_ids) return MG_MEMORY;
  for (int64_t i = 0; i < input->tokens * width; i++) x[i] = (float)input->x[i];
  const mg_route_input in = {.x = mg_tape_upload(s->tape, MG_F32, 2, shape, x),
                             .token_ids = mg_tape_upload(s->tape, MG_I32, 1, &input->tokens, input->token_ids),
                             .tokens = input->tokens,
                             .sequence_tokens = input->tokens,
                             .training = training,
                             .noise = {seed, 7}};
  mg_route_output routed;
  MG_TRY(mg_tape_status(s->tape));
  MG_TRY(mg_router_route(s->router, s->tape, &in, &routed));
  out->choices = mg_var_columns(routed.ids);
  MG_TRY(mg_tape_download(s->tape, routed.ids, out->ids, mg_tensor_bytes(mg_var_tensor(routed.ids))));
  MG_TRY(append(s, routed.weights, out));
  MG_TRY(append(s, routed.dispatch, out));
  MG_TRY(append(s, routed.combine, out));
  MG_TRY(append(s, routed.probs, out));
  return append(s, routed.logits, out);
}

static mg_status deliver(suite_subject *subject, mg_backend *backend, bool training, delivery *out) {
  stage s;
  *out = (delivery){0};
  const suite_input input = mg__router_suite_input(subject, SUITE_TOKENS);
  mg_status status = open_stage(subject, backend, &s);
  if (status == MG_OK) status = perform(&s, &input, training, out);
  close_stage(&s);
  return status;
}

static mg_status compare(const delivery *one, const delivery *two, const char *name, mg_router_row *row) {
  for (int64_t i = 0; i < SUITE_TOKENS * one->choices; i++)
    if (one->choices != two->choices || one->ids[i] != two->ids[i])
      return mg__router_suite_failed(row, "choice %lld of token %lld is expert %d on the reference and %d on %s",
                                     (long long)(i % one->choices), (long long)(i / one->choices), one->ids[i],
                                     two->ids[i], name);
  for (int64_t i = 0; i < one->numbers_count; i++) {
    const double a = (double)one->numbers[i], b = (double)two->numbers[i];
    if (!(fabs(a - b) <= allowed * fmax(1, fabs(a))))
      return mg__router_suite_failed(row, "a weight or score is %.7g on the reference and %.7g on %s", a, b, name);
  }
  return MG_OK;
}

mg_status mg__check_backend_agrees(suite_subject *subject, mg_router_row *row) {
  mg_backend *other = subject->room->other;
  if (!other) return mg__router_suite_not_applicable(row, "no other backend was named");
  for (int training = 0; training < 2 && row->verdict == MG_ROUTER_PASSED; training++) {
    delivery reference, measured;
    MG_TRY(deliver(subject, subject->room->backend, training, &reference));
    MG_TRY(deliver(subject, other, training, &measured));
    MG_TRY(compare(&reference, &measured, other->plugin->name, row));
  }
  return MG_OK;
}
