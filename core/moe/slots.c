/* Slots: experts that compute mixtures of a sequence's tokens (Puigcerver et al. 2023, Soft MoE, arXiv 2308.00951).
 *
 *   slot_s = sum_t dispatch[t,s] x[t]      y[t] = sum_s combine[t,s] expert(s / p)(slot_s)
 *
 * over the tokens of one sequence and its E p slots. To the rest of the layer a slot is a token with one choice of weight
 * 1: the rows of all sequences, [sequences * E p, D], are assigned, computed and counted like tokens. */
#include "moe/internal.h"

/* The expert of every slot. */
mg_status mg__slots_begin(mg_moe *moe, mg_tape *tape, mg_moe_record *record) {
  const int64_t per_sequence = moe->spec.experts * record->slots, count = record->sequences * per_sequence;
  const int64_t shape[] = {count, 1};
  int32_t *experts = mg__moe_scratch(moe, (size_t)(count + 1) * sizeof *experts);
  if (!experts) return MG_MEMORY;
  for (int64_t i = 0; i < count; i++) experts[i] = (int32_t)(i % per_sequence / record->slots);
  record->ids = mg_tape_upload(tape, MG_I32, 2, shape, experts);
  record->weights = mg_fill(tape, mg_var_dtype(record->route.weights), 2, shape, 1);
  return mg_tape_status(tape);
}

mg_status mg__slots_assign(mg_moe *moe, mg_tape *tape, mg_moe_record *record) {
  return mg_assign(tape, mg__computing_ids(moe, tape, record->ids), NULL, mg__computing_experts(&moe->spec), 0,
                   MG_ORDER_POSITION, &record->assignment);
}

/* x [sequences * rows, C] as [sequences, rows, C]; without sequences there may be any number of rows. */
static mg_var *by_sequence(mg_tape *tape, const mg_moe_record *record, mg_var *x, int64_t rows) {
  const int64_t shape[] = {record->sequences, rows, mg_var_columns(x)};
  return mg_reshape(tape, x, 3, shape);
}

static int64_t sequence_tokens(const mg_moe_record *record) {
  return record->sequences ? mg_var_rows(record->route.ids) / record->sequences : 1;
}

/* dispatch or combine, [sequences, tokens, slots], as the layer's activations. */
static mg_var *weights_like(mg_tape *tape, const mg_moe_record *record, mg_var *weights, const mg_var *x) {
  return by_sequence(tape, record, mg_cast(tape, weights, mg_var_dtype(x)), sequence_tokens(record));
}

mg_var *mg__slots_mix(mg_tape *tape, mg_var *x, const mg_moe_record *record) {
  mg_var *dispatch = weights_like(tape, record, record->route.dispatch, x);
  mg_var *tokens = by_sequence(tape, record, x, sequence_tokens(record));
  mg_var *slots = mg_matmul(tape, dispatch, true, tokens, false);
  return mg_reshape2(tape, slots, mg_var_rows(record->ids), mg_var_columns(x));
}

mg_var *mg__slots_spread(mg_tape *tape, mg_var *slots, const mg_moe_record *record) {
  mg_var *combine = weights_like(tape, record, record->route.combine, slots);
  mg_var *rows = by_sequence(tape, record, slots, mg_var_columns(record->route.combine));
  return mg_reshape2(tape, mg_matmul(tape, combine, false, rows, false), mg_var_rows(record->route.ids),
                     mg_var_columns(slots));
}
