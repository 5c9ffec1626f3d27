/* Auxiliary losses, each a value of its own that any router composes with; E experts, T tokens.
 *
 *   balance     sum_e f_e P_e, f_e = E * count_e / sum(count), P_e = mean over tokens of probs[t,e]; 1 when uniform.
 *               Fedus et al. 2021, eq. 4 is this (K = 1); core/moe/README.md has the factor of every paper. Counted of
 *               first choices alone it is that of Lepikhin et al. 2020; over groups of experts, with the groups' sums of
 *               f and P, the device-level loss of Dai et al. 2024, eqs 15-17.
 *   z           mean over tokens of (log sum exp of the logits)^2                       Zoph et al. 2022, eq. 5
 *   importance  CV^2 of I_e = sum over tokens of the combine weights given to e         Shazeer et al. 2017, eq. 7
 *               or of probs[t,e]                                                       Riquelme et al. 2021, appendix A.2
 *   load        CV^2 of L_e = sum over tokens of the probability that e is chosen       Shazeer et al. 2017, eq. 11
 *   entropy     mean over tokens of - sum_e probs log probs                             Huang et al. 2024, L_d
 *
 * A router may add a loss of its own (mg_route_output), already weighted. CV is the population deviation over the mean.
 * Counts are constants; gradients flow through P, I, L, probs and the logits. */
#include <string.h>

#include "moe/internal.h"

/* ---- balance ----------------------------------------------------------------------------------------------- */

/* The newest window - 1 batches before this one, and this one: [1,E]. */
static mg_var *windowed_counts(mg_moe *moe, mg_tape *tape, const mg__loss *loss, mg_var *counts) {
  if (loss->window <= 1 || moe->window < 0) return counts;
  const int64_t experts = moe->spec.experts, rows = loss->window - 1;
  mg_var *window = mg_cast(tape, mg_params_var(moe->params, tape, moe->window), MG_F32); /* [longest - 1, E] */
  mg_var *newest = mg_slice(tape, mg_reshape2(tape, window, 1, -1), 0, rows * experts);
  mg_var *earlier = mg_sum_rows(tape, mg_reshape2(tape, newest, rows, experts));
  return mg_add(tape, counts, mg_reshape2(tape, earlier, 1, experts));
}

/* The tokens of the batch in an order drawn by the layer's stream: i32 [T]; NULL after a failure. */
static mg_var *shuffled_tokens(mg_moe *moe, mg_tape *tape, const mg_moe_input *input) {
  const int64_t tokens = mg_var_rows(input->x);
  int32_t *order = mg__moe_scratch(moe, (size_t)tokens * sizeof *order);
  if (!order) return NULL;
  for (int64_t t = 0; t < tokens; t++) order[t] = (int32_t)t;
  const mg_stream stream = mg_stream_named(input->noise.seed, "balance shuffle", input->noise.stream, 0);
  for (int64_t t = tokens - 1; t > 0; t--) {
    const uint64_t other = mg_random_below(stream, (uint64_t)t, (uint64_t)t + 1);
    const int32_t moved = order[t];
    order[t] = order[other];
    order[other] = moved;
  }
  return mg_tape_upload(tape, MG_I32, 1, &tokens, order);
}

/* The choices that the loss counts: i32 [T, all or the first few]. */
static mg_var *counted_ids(mg_tape *tape, const mg__loss *loss, const mg_moe_record *record) {
  mg_var *ids = mg__demanded_ids(record);
  if (loss->choices == 0 || loss->choices >= mg_var_columns(ids)) return ids;
  return mg_cast(tape, mg_slice(tape, mg_cast(tape, ids, MG_F32), 0, loss->choices), MG_I32);
}

/* Load per segment [segments, E]: one segment, or one per sequence. */
static mg_var *segment_counts(mg_moe *moe, mg_tape *tape, const mg__loss *loss, const mg_moe_record *record,
                              int64_t segments) {
  if (loss->scope == MG__SCOPE_SEQUENCE || loss->choices > 0)
    return mg_histogram(tape, counted_ids(tape, loss, record), moe->spec.experts, segments);
  return loss->scope == MG__SCOPE_GLOBAL ? windowed_counts(moe, tape, loss, record->demand) : record->demand;
}

/* Mean of each run of T/segments rows: [T,E] -> [segments,E], as one small product per run. */
static mg_var *segment_means(mg_tape *tape, mg_var *x, int64_t segments) {
  const int64_t columns = mg_var_columns(x), rows = mg_var_rows(x) / segments;
  if (segments == 1) return mg_reshape2(tape, mg_mean_rows(tape, x), 1, columns);
  const int64_t ones_shape[] = {segments, 1, rows}, run_shape[] = {segments, rows, columns};
  mg_var *mean = mg_fill(tape, mg_var_dtype(x), 3, ones_shape, 1.0 / (double)rows);
  return mg_reshape2(tape, mg_matmul(tape, mean, false, mg_reshape(tape, x, 3, run_shape), false), segments, columns);
}

/* What a balance loss is made of, per segment: [segments,E] each. */
typedef struct balance_terms {
  mg_var *counts, *probs;
} balance_terms;

/* Segments as large as a sequence, of tokens drawn from the whole batch. */
static balance_terms shuffled_terms(mg_moe *moe, mg_tape *tape, const mg__loss *loss, const mg_moe_input *input,
                                    const mg_moe_record *record, int64_t segments) {
  mg_var *probs = record->route.probs, *ids = counted_ids(tape, loss, record);
  mg_var *order = shuffled_tokens(moe, tape, input);
  const int64_t shape[] = {mg_var_rows(ids), mg_var_columns(ids)};
  mg_var *chosen = mg_scatter_columns(tape, mg_fill(tape, mg_var_dtype(probs), 2, shape, 1), ids, moe->spec.experts);
  return (balance_terms){segment_means(tape, mg_gather_rows(tape, chosen, order), segments),
                         segment_means(tape, mg_gather_rows(tape, probs, order), segments)};
}

static balance_terms terms_of(mg_moe *moe, mg_tape *tape, const mg__loss *loss, const mg_moe_input *input,
                              const mg_moe_record *record, int64_t segments) {
  mg_var *probs = record->route.probs;
  if (loss->scope == MG__SCOPE_SHUFFLE) return shuffled_terms(moe, tape, loss, input, record, segments);
  return (balance_terms){mg_cast(tape, segment_counts(moe, tape, loss, record, segments), mg_var_dtype(probs)),
                         segment_means(tape, probs, segments)};
}

/* Sums over equal runs of experts: [segments,E] -> [segments,groups]. */
static mg_var *sum_groups(mg_tape *tape, mg_var *x, int64_t groups) {
  const int64_t segments = mg_var_rows(x), each = mg_var_columns(x) / groups;
  return mg_reshape2(tape, mg_sum_columns(tape, mg_reshape2(tape, x, segments * groups, each)), segments, groups);
}

static mg_var *balance(mg_moe *moe, mg_tape *tape, const mg__loss *loss, const mg_moe_input *input,
                       const mg_moe_record *record) {
  mg_var *probs = record->route.probs;
  const bool whole = loss->scope == MG__SCOPE_BATCH || loss->scope == MG__SCOPE_GLOBAL;
  const int64_t segments = whole ? 1 : mg_var_rows(probs) / input->sequence_tokens;
  const int64_t parts = loss->groups ? loss->groups : moe->spec.experts;
  balance_terms terms = terms_of(moe, tape, loss, input, record, segments);
  if (loss->groups)
    terms = (balance_terms){sum_groups(tape, terms.counts, parts), sum_groups(tape, terms.probs, parts)};
  mg_var *total = mg_unary_op(tape, MG_UNARY_CLAMP, mg_sum_columns(tape, terms.counts), 1e-30, 1e30);
  mg_var *products = mg_mul(tape, terms.probs, mg_div(tape, terms.counts, total));
  if (mg__null_experts(&moe->spec)) {
    mg_var *price = mg_affine(tape, mg__null_row(moe, tape, mg_var_dtype(probs)), moe->spec.null.tau - 1, 1);
    products = mg_mul(tape, products, mg_reshape(tape, price, 1, &moe->spec.experts));
  }
  return mg_scale(tape, mg_sum(tape, products), (double)parts / (double)segments);
}

/* ---- the others -------------------------------------------------------------------------------------------- */

/* Squared coefficient of variation of x [E]. */
static mg_var *cv_squared(mg_tape *tape, mg_var *x) {
  mg_var *mean = mg_unary_op(tape, MG_UNARY_CLAMP, mg_mean(tape, x), 1e-30, 1e30);
  return mg_mean(tape, mg_square(tape, mg_affine(tape, mg_div(tape, x, mean), 1, -1)));
}

/* A probability of 0 adds nothing: 0 * log 1e-30. */
static mg_var *entropy(mg_tape *tape, mg_var *probs) {
  mg_var *logs = mg_log(tape, mg_unary_op(tape, MG_UNARY_CLAMP, probs, 1e-30, 1));
  return mg_scale(tape, mg_mean(tape, mg_sum_columns(tape, mg_mul(tape, probs, logs))), -1);
}

/* What each expert is given [E]. */
static mg_var *importance_of(mg_moe *moe, mg_tape *tape, const mg__loss *loss, const mg_route_output *route) {
  return mg_sum_rows(tape, loss->of == MG__OF_PROBS
                               ? route->probs
                               : mg_scatter_columns(tape, route->weights, route->ids, moe->spec.experts));
}

static mg_var *one_loss(mg_moe *moe, mg_tape *tape, const mg__loss *loss, const mg_moe_input *input,
                        const mg_moe_record *record) {
  const mg_route_output *route = &record->route;
  switch ((mg__loss_kind)loss->kind) {
  case MG__LOSS_BALANCE: return balance(moe, tape, loss, input, record);
  case MG__LOSS_Z: return mg_mean(tape, mg_square(tape, mg_log_sum_exp(tape, route->logits)));
  case MG__LOSS_IMPORTANCE: return cv_squared(tape, importance_of(moe, tape, loss, route));
  case MG__LOSS_LOAD: return cv_squared(tape, mg_sum_rows(tape, route->load));
  case MG__LOSS_ENTROPY: return entropy(tape, route->probs);
  }
  return NULL;
}

mg_status mg__losses_apply(mg_moe *moe, mg_tape *tape, const mg_moe_input *input, mg_moe_record *record) {
  static const int64_t one[] = {1};
  const bool empty = mg_var_rows(input->x) == 0;
  for (int64_t i = 0; i < moe->spec.losses_count; i++) {
    const mg__loss *loss = &moe->spec.losses[i];
    record->losses[i] = empty ? mg_fill(tape, MG_F32, 1, one, 0) : one_loss(moe, tape, loss, input, record);
    mg_var *weighted = mg_scale(tape, record->losses[i], loss->weight);
    record->loss = i ? mg_add(tape, record->loss, weighted) : weighted;
  }
  mg_var *own = record->route.loss;
  if (own && !empty) record->loss = record->loss ? mg_add(tape, record->loss, own) : own;
  return mg_tape_status(tape);
}

/* ---- the window of global losses --------------------------------------------------------------------------- */

static void store_number(mg_dtype dtype, void *row, size_t index, float value) {
  if (dtype == MG_F64)
    ((double *)row)[index] = value;
  else if (dtype == MG_BF16)
    ((uint16_t *)row)[index] = mg_bf16_from_f32(value);
  else
    ((float *)row)[index] = value;
}

mg_status mg__losses_remember(mg_moe *moe, mg_tape *tape, const mg_moe_record *record) {
  if (moe->window < 0) return MG_OK;
  mg_backend *backend = mg_tape_backend(tape);
  const mg_tensor *window = &mg_params_at(moe->params, moe->window)->value;
  const size_t experts = (size_t)moe->spec.experts, bytes = mg_tensor_bytes(window);
  const size_t row_bytes = bytes / (size_t)mg_tensor_rows(window);
  char *rows = mg__moe_scratch(moe, row_bytes + bytes + experts * sizeof(float));
  if (!rows) return MG_MEMORY;
  float *demand = (float *)(void *)(rows + row_bytes + bytes);
  MG_TRY(mg_tape_download(tape, record->demand, demand, experts * sizeof *demand));
  /* The newest row goes first and the oldest falls off the end. */
  MG_TRY(backend->plugin->download(backend, rows + row_bytes, window->data, bytes));
  for (size_t e = 0; e < experts; e++) store_number(window->dtype, rows, e, demand[e]);
  return backend->plugin->upload(backend, window->data, rows, bytes);
}
