/* What happened to the choices of one pass: kept, dropped, re-routed, padded, and the FLOPs that each cost. */
#include <string.h>

#include "moe/internal.h"

typedef struct pass {
  int64_t tokens, choices, experts, computing;
  int32_t *router_ids; /* [T,S] as the router asked for */
  int32_t *ids;        /* [T,S] after re-routing */
  int32_t *position;   /* [T,S] */
} pass;

static mg_status read_pass(mg_moe *moe, mg_tape *tape, const mg_moe_record *record, pass *p) {
  const size_t slots = (size_t)(p->tokens * p->choices), bytes = slots * sizeof(int32_t);
  int32_t *memory = mg__moe_scratch(moe, 3 * bytes + 1); /* never a request for nothing */
  if (!memory) return MG_MEMORY;
  p->router_ids = memory;
  p->ids = memory + slots;
  p->position = memory + 2 * slots;
  if (slots == 0) return MG_OK;
  MG_TRY(mg_tape_download(tape, mg__demanded_ids(record), p->router_ids, bytes));
  MG_TRY(mg_tape_download(tape, record->ids, p->ids, bytes));
  return mg_tape_download(tape, record->assignment.position, p->position, bytes);
}

static void count_token(const pass *p, int64_t token, double *demand, double *kept, mg_moe_counts *out) {
  int64_t wanted = 0, got = 0;
  for (int64_t slot = token * p->choices; slot < (token + 1) * p->choices; slot++) {
    if (p->router_ids[slot] < 0) continue;
    wanted++;
    if (demand) demand[p->router_ids[slot]]++;
    const bool null = p->ids[slot] >= p->computing;
    if (p->ids[slot] < 0 || (!null && p->position[slot] < 0)) continue;
    got++;
    out->null += null;
    if (kept) kept[p->ids[slot]]++;
    out->rerouted += p->ids[slot] != p->router_ids[slot];
  }
  out->demand += wanted;
  out->kept += got;
  out->dropped_tokens += wanted > 0 && got == 0;
  out->unrouted_tokens += wanted == 0;
}

mg_status mg_moe_count(mg_moe *moe, mg_tape *tape, const mg_moe_record *record, double *demand, double *kept,
                       mg_moe_counts *out) {
  pass p = {.tokens = record->assignment.tokens, .choices = record->assignment.choices, .experts = moe->spec.experts};
  p.computing = mg__computing_experts(&moe->spec);
  *out = (mg_moe_counts){0};
  if (demand) memset(demand, 0, (size_t)p.experts * sizeof *demand);
  if (kept) memset(kept, 0, (size_t)p.experts * sizeof *kept);
  MG_TRY(read_pass(moe, tape, record, &p));
  for (int64_t t = 0; t < p.tokens; t++) count_token(&p, t, demand, kept, out);
  out->dropped = out->demand - out->kept;
  const int64_t computed = out->kept - out->null;
  if (moe->spec.capacity.policy == MG__POLICY_PAD) out->padded_rows = record->assignment.rows - computed;
  const double flops = mg_moe_describe(moe).expert_flops_per_assignment;
  out->useful_flops = flops * (double)computed;
  out->padded_flops = flops * (double)out->padded_rows;
  out->dropped_flops = flops * (double)out->dropped;
  return MG_OK;
}
