/* Rotary frequencies f_i = base^(-2i/d) and their scaling to more positions than a model was trained on:
 *   linear    f_i / factor                                     Chen et al. 2023, arXiv 2306.15595
 *   yarn      f_i / factor where a pair turns fewer than beta_slow times over the training positions, f_i where it turns
 *             more than beta_fast times, a ramp over i between; rotated columns times 0.1 ln(factor) + 1
 *                                                              Peng et al. 2023, arXiv 2309.00071
 *   llama3    the same idea with the ramp over the number of turns      Llama team 2024, arXiv 2407.21783
 *   longrope  f_i / (a searched factor of each pair); rotated columns times sqrt(1 + ln(factor) / ln(training positions))
 *                                                              Ding et al. 2024, arXiv 2402.13753 */
#include "model/rope.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

static double plain(const mg__rope *rope, int64_t i) {
  return pow(rope->base, -2.0 * (double)i / (double)rope->columns);
}

static double clamp(double x, double low, double high) {
  return x < low ? low : x > high ? high : x;
}

/* ---- yarn ---------------------------------------------------------------------------------------------------- */

/* The pair, as a real number, that turns `rotations` times over the training positions. */
static double pair_of(const mg__rope *rope, double rotations) {
  const double turns = (double)rope->scaling.original_positions / (rotations * 2.0 * pi);
  return (double)rope->columns * log(turns) / (2.0 * log(rope->base));
}

/* The share of the plain frequency in pair i. */
static double yarn_share(const mg__rope *rope, int64_t i) {
  const mg__scaling *s = &rope->scaling;
  double low = pair_of(rope, s->beta_fast), high = pair_of(rope, s->beta_slow);
  if (s->truncate) {
    low = floor(low);
    high = ceil(high);
  }
  low = fmax(low, 0.0);
  high = fmin(high, (double)(rope->columns - 1));
  if (low == high) high += 0.001;
  return 1.0 - clamp(((double)i - low) / (high - low), 0.0, 1.0);
}

static double yarn_factor(double factor, double weight) {
  return factor <= 1.0 ? 1.0 : 0.1 * weight * log(factor) + 1.0;
}

/* ---- one frequency ------------------------------------------------------------------------------------------- */

static double llama3(const mg__rope *rope, int64_t i) {
  const mg__scaling *s = &rope->scaling;
  const double f = plain(rope, i), turns = (double)s->original_positions * f / (2.0 * pi);
  if (turns <= s->low_frequency) return f / s->factor;
  if (turns >= s->high_frequency) return f;
  const double share = (turns - s->low_frequency) / (s->high_frequency - s->low_frequency);
  return (1.0 - share) * f / s->factor + share * f;
}

static bool beyond_training(const mg__scaling *s, int64_t positions) {
  return positions > s->original_positions;
}

static double longrope(const mg__rope *rope, int64_t i, int64_t positions) {
  const mg__scaling *s = &rope->scaling;
  const json_t *factors = beyond_training(s, positions) ? s->long_factors : s->short_factors;
  return plain(rope, i) / json_number_value(json_array_get(factors, (size_t)i));
}

static double frequency(const mg__rope *rope, int64_t i, int64_t positions) {
  const double factor = rope->scaling.factor;
  switch ((mg__scaling_kind)rope->scaling.kind) {
  case MG__SCALING_NONE: return plain(rope, i);
  case MG__SCALING_LINEAR: return plain(rope, i) / factor;
  case MG__SCALING_YARN: {
    const double share = yarn_share(rope, i);
    return plain(rope, i) * (share + (1.0 - share) / factor);
  }
  case MG__SCALING_LLAMA3: return llama3(rope, i);
  case MG__SCALING_LONGROPE: return longrope(rope, i, positions);
  }
  return 0.0;
}

/* ---- factors ------------------------------------------------------------------------------------------------- */

static double columns_factor(const mg__scaling *s, int64_t positions) {
  const bool beyond = s->kind == MG__SCALING_LONGROPE && beyond_training(s, positions);
  if (beyond && s->long_attention_factor > 0.0) return s->long_attention_factor;
  if (s->attention_factor > 0.0) return s->attention_factor;
  if (s->kind == MG__SCALING_YARN && s->mscale > 0.0 && s->mscale_all_dim > 0.0)
    return yarn_factor(s->factor, s->mscale) / yarn_factor(s->factor, s->mscale_all_dim);
  if (s->kind == MG__SCALING_YARN) return yarn_factor(s->factor, 1.0);
  if (s->kind == MG__SCALING_LONGROPE && s->factor > 1.0)
    return sqrt(1.0 + log(s->factor) / log((double)s->original_positions));
  return 1.0;
}

double mg__rope_table(const mg__rope *rope, int64_t positions, float *frequencies) {
  for (int64_t i = 0; i < rope->columns / 2; i++) frequencies[i] = (float)frequency(rope, i, positions);
  return columns_factor(&rope->scaling, positions);
}

bool mg__rope_turns(const mg__rope *rope, int64_t positions, int64_t others) {
  const mg__scaling *s = &rope->scaling;
  return s->kind == MG__SCALING_LONGROPE && beyond_training(s, positions) != beyond_training(s, others);
}

double mg__rope_score_factor(const mg__rope *rope) {
  const mg__scaling *s = &rope->scaling;
  if (s->kind != MG__SCALING_YARN || s->mscale_all_dim <= 0.0) return 1.0;
  const double factor = yarn_factor(s->factor, s->mscale_all_dim);
  return factor * factor;
}

/* ---- sharing ------------------------------------------------------------------------------------------------- */

static bool same_list(const json_t *a, const json_t *b) {
  return a == b || (a && b && json_equal(a, b));
}

bool mg__rope_same(const mg__rope *a, const mg__rope *b) {
  const mg__scaling *s = &a->scaling, *t = &b->scaling;
  return a->base == b->base && a->columns == b->columns && s->kind == t->kind && s->factor == t->factor &&
         s->original_positions == t->original_positions && s->attention_factor == t->attention_factor &&
         s->long_attention_factor == t->long_attention_factor && s->beta_fast == t->beta_fast &&
         s->beta_slow == t->beta_slow && s->mscale == t->mscale && s->mscale_all_dim == t->mscale_all_dim &&
         s->low_frequency == t->low_frequency && s->high_frequency == t->high_frequency && s->truncate == t->truncate &&
         same_list(s->short_factors, t->short_factors) && same_list(s->long_factors, t->long_factors);
}
