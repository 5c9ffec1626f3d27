/* Checks that put the router into a whole layer, and the one of its cost. */
#include <math.h>
#include <string.h>

#include "base/counters.h"
#include "measure/router_suite_internal.h"
#include "tensor/tape_work.h"

/* ---- capacity ---------------------------------------------------------------------------------------------- */

typedef struct policy {
  const char *name, *order;
  double factor;
} policy;

static const policy policies[] = {
    {"none", "position", 1}, {"drop", "position", 0.75}, {"drop", "priority", 0.75}, {"drop", "batch_priority", 0.75},
    {"pad", "position", 1},  {"reroute", "position", 1}, {"drop", "position", 100},  {"reroute", "position", 100}};

/* What a pass left behind, on the host. */
typedef struct pass {
  mg_moe_counts counts;
  double *demand, *kept;
  int64_t capacity;
  bool own_limit; /* the router drops by itself */
} pass;

static mg_status run_layer(suite_subject *subject, mg_moe *moe, pass *out) {
  suite_room *room = subject->room;
  const suite_input input = mg__router_suite_input(subject, 4 * subject->experts);
  const int64_t shape[] = {input.tokens, subject->width};
  out->demand = mg_arena_alloc(room->arena, (size_t)subject->experts * sizeof(double));
  out->kept = mg_arena_alloc(room->arena, (size_t)subject->experts * sizeof(double));
  if (!input.x || !input.token_ids || !out->demand || !out->kept) return MG_MEMORY;
  mg_tape_reset(room->tape);
  const mg_moe_input in = {.x = mg_tape_upload(room->tape, MG_F64, 2, shape, input.x),
                           .token_ids = mg_tape_upload(room->tape, MG_I32, 1, &input.tokens, input.token_ids),
                           .sequence_tokens = input.tokens};
  mg_moe_record record;
  if (!mg_moe_forward(moe, room->tape, &in, &record)) return mg_tape_status(room->tape);
  out->capacity = record.capacity;
  out->own_limit = record.route.wanted != NULL;
  return mg_moe_count(moe, room->tape, &record, out->demand, out->kept, &out->counts);
}

static mg_status judge(const policy *rule, const suite_subject *subject, const pass *p, mg_router_row *row) {
  double demand = 0, kept = 0;
  for (int64_t e = 0; e < subject->experts; e++) {
    demand += p->demand[e];
    kept += p->kept[e];
    if (p->capacity && p->kept[e] > (double)p->capacity)
      return mg__router_suite_failed(row, "policy %s: expert %lld keeps %g choices, beyond its capacity of %lld",
                                     rule->name, (long long)e, p->kept[e], (long long)p->capacity);
  }
  if (demand != (double)p->counts.demand || kept != (double)p->counts.kept || p->counts.dropped < 0)
    return mg__router_suite_failed(row, "policy %s: %g choices asked for, %g kept, %lld dropped do not add up",
                                   rule->name, demand, kept, (long long)p->counts.dropped);
  if ((!p->capacity || rule->factor > 10) && p->counts.dropped && !p->own_limit)
    return mg__router_suite_failed(row, "policy %s: %lld choices are lost although there is room for all", rule->name,
                                   (long long)p->counts.dropped);
  return MG_OK;
}

static mg_status check_policy(suite_subject *subject, const policy *rule, mg_router_row *row) {
  suite_room *room = subject->room;
  json_t *spec = json_pack("{s:i, s:i, s:O, s:{s:s, s:f, s:s}}", "experts", (int)subject->experts, "width", 3, "router",
                           room->spec, "capacity", "policy", rule->name, "factor", rule->factor, "order", rule->order);
  if (!spec) return MG_MEMORY;
  mg_params *params;
  mg_moe *moe = NULL;
  pass p = {0};
  mg_status status = mg_params_create(room->backend, MG_F64, &params);
  const mg_moe_place place = {.width = subject->width, .vocabulary = SUITE_VOCABULARY, .prefix = "layer.", .seed = 5};
  if (status == MG_OK) status = mg_moe_create(room->context, room->registry, spec, place, params, &moe);
  if (status == MG_OK) status = run_layer(subject, moe, &p);
  if (status == MG_OK) status = judge(rule, subject, &p, row);
  mg_tape_reset(room->tape);
  mg_moe_destroy(moe);
  mg_params_destroy(params);
  json_decref(spec);
  return status;
}

mg_status mg__check_capacity(suite_subject *subject, mg_router_row *row) {
  const bool mixes = mg_router_slots(subject->router) > 0; /* then there is nothing to keep or drop */
  for (size_t i = 0; i < MG_COUNT(policies) && row->verdict == MG_ROUTER_PASSED; i++) {
    if (mixes && strcmp(policies[i].name, "none") != 0) continue;
    if (strcmp(policies[i].name, "reroute") == 0 && !(subject->promises & MG_ROUTER_GIVES_PROBS)) continue;
    MG_TRY(check_policy(subject, &policies[i], row));
  }
  return MG_OK;
}

/* ---- cost -------------------------------------------------------------------------------------------------- */

static mg_status count(suite_subject *subject, int64_t tokens, double *counted) {
  suite_outcome out;
  const suite_input input = mg__router_suite_input(subject, tokens);
  mg_counters *counters = mg_tape_counters(subject->room->tape);
  memset(counters, 0, sizeof *counters);
  MG_TRY(mg__router_suite_run(subject, &input, &out));
  *counted = 0;
  for (int part = 0; part < MG_PART_COUNT; part++) *counted += counters->flops[part];
  return MG_OK;
}

/* Counted forward FLOPs of ten tokens more, which leaves out what is done once for a batch, and the analytic ones. */
static mg_status cost(suite_subject *subject, double *counted, double *analytic) {
  double few, many;
  MG_TRY(count(subject, SUITE_TOKENS, &few));
  MG_TRY(count(subject, 2 * SUITE_TOKENS, &many));
  *counted = many - few;
  *analytic = SUITE_TOKENS * mg_router_gate_flops(subject->router);
  return MG_OK;
}

/* Elementwise work is not part of the analytic cost. It does not grow with the width in most routers, so the growth with
 * the width is compared; 5 % are left for what does. */
mg_status mg__check_flops(suite_subject *subject, mg_router_row *row) {
  suite_subject wide;
  double counted, analytic, wide_counted, wide_analytic;
  MG_TRY(cost(subject, &counted, &analytic));
  MG_TRY(
      mg__router_suite_open_subject(subject->room, subject->room->spec, subject->experts, 4 * subject->width, &wide));
  const mg_status status = cost(&wide, &wide_counted, &wide_analytic);
  mg__router_suite_close_subject(&wide);
  MG_TRY(status);
  const double grew = wide_counted - counted, said = wide_analytic - analytic;
  if (fabs(grew - said) <= 0.05 * fmax(grew, said)) return MG_OK;
  return mg__router_suite_failed(row,
                                 "from width %d to %d the gate grows by %g FLOPs per token; gate_flops says %g: "
                                 "correct or give it",
                                 SUITE_WIDTH, 4 * SUITE_WIDTH, grew / SUITE_TOKENS, said / SUITE_TOKENS);
}

/* What top_k looked at in one call, and what the router says of it. */
static mg_status selection(suite_subject *subject, int64_t tokens, bool training, double *counted, double *analytic) {
  mg_tape *tape = subject->room->tape;
  mg_counters *counters = mg_tape_counters(tape);
  suite_outcome out;
  suite_input input = mg__router_suite_input(subject, tokens);
  const mg_route_input call = {.tokens = tokens, .sequence_tokens = tokens ? tokens : 1, .training = training};
  input.training = training;
  memset(counters, 0, sizeof *counters);
  const mg_part before = mg_tape_set_part(tape, MG_PART_GATE);
  const mg_status status = mg__router_suite_run(subject, &input, &out);
  mg_tape_set_part(tape, before);
  *counted = counters->flops[MG_PART_SELECTION];
  *analytic = mg_router_selection_flops(subject->router, &call);
  return status;
}

mg_status mg__check_selection_flops(suite_subject *subject, mg_router_row *row) {
  static const struct {
    int64_t tokens;
    bool training;
  } calls[] = {{SUITE_TOKENS, false}, {SUITE_TOKENS, true}, {2 * SUITE_TOKENS, false}, {2 * SUITE_TOKENS, true}};
  for (size_t i = 0; i < MG_COUNT(calls); i++) {
    double counted, analytic;
    MG_TRY(selection(subject, calls[i].tokens, calls[i].training, &counted, &analytic));
    if (counted == analytic) continue;
    return mg__router_suite_failed(
        row, "choosing for %lld tokens%s takes %g FLOPs; selection_flops says %g: correct or give it (Lua: selection)",
        (long long)calls[i].tokens, calls[i].training ? " in training" : "", counted, analytic);
  }
  return MG_OK;
}
