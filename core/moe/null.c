/* Null experts: the last experts of a layer compute nothing of their own (Jin et al. 2024, MoE++, arXiv 2410.07348).
 *
 *   zero      E(x) = 0
 *   copy      E(x) = x
 *   constant  E(x) = a1 x + a2 v,  [a1, a2] = softmax(W x)
 *
 * They stand behind the feed-forwards in this order. Routers see them as experts like any other; they hold no rows of
 * the assignment and have no capacity. */
#include <stdio.h>

#include "moe/internal.h"

int64_t mg__null_experts(const mg__moe_spec *spec) {
  return spec->null.zero + spec->null.copy + spec->null.constant;
}

int64_t mg__computing_experts(const mg__moe_spec *spec) {
  return spec->experts - mg__null_experts(spec);
}

/* The share of choices that balanced feed-forwards get under the weighted balance loss: tau F / (tau F + N). */
double mg__computing_share(const mg__moe_spec *spec) {
  const double weighted = spec->null.tau * (double)mg__computing_experts(spec);
  return mg__null_experts(spec) ? weighted / (weighted + (double)mg__null_experts(spec)) : 1;
}

double mg__null_flops(const mg_moe *moe) {
  return 2.0 * (double)moe->width * 3 * (double)moe->spec.null.constant;
}

int64_t mg__null_parameters(const mg_moe *moe) {
  return 3 * moe->width * moe->spec.null.constant;
}

mg_var *mg__null_row(const mg_moe *moe, mg_tape *tape, mg_dtype dtype) {
  const int64_t shape[] = {1, moe->spec.experts};
  mg_var *numbers = mg_cumsum(tape, mg_fill(tape, dtype, 2, shape, 1));
  return mg_unary_op(tape, MG_UNARY_STEP, mg_affine(tape, numbers, 1, -0.5 - (double)mg__computing_experts(&moe->spec)),
                     0, 0);
}

mg_var *mg__computing_ids(const mg_moe *moe, mg_tape *tape, mg_var *ids) {
  if (!mg__null_experts(&moe->spec)) return ids;
  mg_var *numbers = mg_cast(tape, ids, MG_F32);
  const double first = (double)mg__computing_experts(&moe->spec);
  mg_var *computes = mg_unary_op(tape, MG_UNARY_STEP, mg_affine(tape, numbers, -1, first - 0.5), 0, 0);
  return mg_ids_where(tape, computes, numbers);
}

/* Weights of the constant experts [T,n] -> what they add to x, and to `own`, the weight of x itself [T,1]. */
static mg_var *constants(mg_moe *moe, mg_tape *tape, mg_var *x, mg_var *weights, mg_var **own) {
  const int64_t tokens = mg_var_rows(x), count = moe->spec.null.constant;
  mg_var *mix = mg_linear(tape, x, mg_params_var(moe->params, tape, moe->null_mix)); /* [T,2n] */
  mix = mg_softmax(tape, mg_reshape2(tape, mix, tokens * count, 2));
  mg_var *kept = mg_mul(tape, weights, mg_reshape2(tape, mg_slice(tape, mix, 0, 1), tokens, count));
  mg_var *given = mg_mul(tape, weights, mg_reshape2(tape, mg_slice(tape, mix, 1, 1), tokens, count));
  kept = mg_sum_columns(tape, kept);
  *own = *own ? mg_add(tape, *own, kept) : kept;
  return mg_matmul(tape, given, false, mg_params_var(moe->params, tape, moe->null_value), false);
}

mg_var *mg__null_output(mg_moe *moe, mg_tape *tape, mg_var *x, const mg_moe_record *record) {
  const mg__null *null = &moe->spec.null;
  if (null->copy + null->constant == 0) return NULL;
  mg_var *all = mg_scatter_columns(tape, record->weights, record->ids, moe->spec.experts);
  all = mg_cast(tape, all, mg_var_dtype(x));
  const int64_t first = mg__computing_experts(&moe->spec) + null->zero;
  mg_var *own = null->copy ? mg_sum_columns(tape, mg_slice(tape, all, first, null->copy)) : NULL, *added = NULL;
  if (null->constant) added = constants(moe, tape, x, mg_slice(tape, all, first + null->copy, null->constant), &own);
  mg_var *copied = mg_mul(tape, x, mg_cast(tape, own, mg_var_dtype(x)));
  return added ? mg_add(tape, copied, added) : copied;
}
