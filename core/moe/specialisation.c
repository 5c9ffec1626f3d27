/* Specialisation of experts (Muennighoff et al. 2024, arXiv 2409.02060, eqs 5-8; Jiang et al. 2024, arXiv 2401.04088,
 * table 5). */
#include "moe/specialisation.h"

#include <math.h>
#include <string.h>

static const int32_t *choices_of(const mg_choices *chosen, int64_t token) {
  return chosen->ids + token * (chosen->stride ? chosen->stride : chosen->choices);
}

static bool has(const mg_choices *chosen, int64_t token, int32_t expert) {
  const int32_t *ids = choices_of(chosen, token);
  for (int64_t s = 0; s < chosen->choices; s++)
    if (ids[s] == expert) return true;
  return false;
}

static double ratio(double part, double whole) {
  return whole > 0 ? part / whole : (double)NAN;
}

mg_choices mg_first_choices(mg_choices chosen) {
  if (!chosen.stride) chosen.stride = chosen.choices;
  chosen.choices = 1;
  return chosen;
}

void mg_choices_per_token(mg_choices chosen, double *out) {
  memset(out, 0, (size_t)(chosen.choices + 1) * sizeof *out);
  for (int64_t t = 0; t < chosen.tokens; t++) {
    const int32_t *ids = choices_of(&chosen, t);
    int64_t made = 0;
    for (int64_t s = 0; s < chosen.choices; s++) made += ids[s] >= 0;
    out[made]++;
  }
  for (int64_t n = 0; n <= chosen.choices; n++) out[n] = ratio(out[n], (double)chosen.tokens);
}

double mg_choices_mean(mg_choices chosen) {
  double made = 0;
  for (int64_t t = 0; t < chosen.tokens; t++)
    for (int64_t s = 0; s < chosen.choices; s++) made += choices_of(&chosen, t)[s] >= 0;
  return ratio(made, (double)chosen.tokens);
}

/* ---- co-activation ----------------------------------------------------------------------------------------- */

void mg_coactivation(mg_choices chosen, double *out) {
  const int64_t experts = chosen.experts;
  memset(out, 0, (size_t)(experts * experts) * sizeof *out);
  for (int64_t t = 0; t < chosen.tokens; t++) {
    const int32_t *ids = choices_of(&chosen, t);
    for (int64_t a = 0; a < chosen.choices; a++)
      for (int64_t b = 0; b < chosen.choices; b++)
        if (ids[a] >= 0 && ids[b] >= 0) out[ids[a] * experts + ids[b]]++;
  }
  for (int64_t i = 0; i < experts; i++) {
    const double tokens = out[i * experts + i];
    for (int64_t j = 0; j < experts; j++) out[i * experts + j] = ratio(out[i * experts + j], tokens);
  }
}

/* ---- saturation -------------------------------------------------------------------------------------------- */

static double saturation(const mg_choices *earlier, const mg_choices *final, bool by_position) {
  double total = 0;
  int64_t counted = 0;
  for (int64_t t = 0; t < final->tokens; t++) {
    const int32_t *ids = choices_of(final, t), *before = choices_of(earlier, t);
    int64_t size = 0, common = 0;
    for (int64_t s = 0; s < final->choices; s++) {
      if (ids[s] < 0) continue;
      size++;
      common += by_position ? before[s] == ids[s] : has(earlier, t, ids[s]);
    }
    if (size == 0) continue;
    total += (double)common / (double)size;
    counted++;
  }
  return ratio(total, (double)counted);
}

double mg_saturation(mg_choices earlier, mg_choices final) {
  return saturation(&earlier, &final, false);
}

double mg_saturation_by_position(mg_choices earlier, mg_choices final) {
  return saturation(&earlier, &final, true);
}

double mg_saturation_chance(int64_t experts, int64_t k) {
  return ratio((double)k, (double)experts);
}

/* ---- domains and vocabulary -------------------------------------------------------------------------------- */

void mg_domain_specialisation(mg_choices chosen, const int32_t *domain, int64_t domains, double *out) {
  memset(out, 0, (size_t)(chosen.experts * domains) * sizeof *out);
  for (int64_t t = 0; t < chosen.tokens; t++) {
    if (domain[t] < 0 || domain[t] >= domains) continue;
    const int32_t *ids = choices_of(&chosen, t);
    for (int64_t s = 0; s < chosen.choices; s++)
      if (ids[s] >= 0) out[ids[s] * domains + domain[t]]++;
  }
  for (int64_t d = 0; d < domains; d++) {
    double tokens = 0;
    for (int64_t t = 0; t < chosen.tokens; t++) tokens += domain[t] == d;
    for (int64_t e = 0; e < chosen.experts; e++) out[e * domains + d] = ratio(out[e * domains + d], tokens);
  }
}

double mg_domain_largest(const double *shares, int64_t experts, int64_t domains) {
  double total = 0, counted = 0;
  for (int64_t d = 0; d < domains; d++) {
    if (isnan(shares[d])) continue; /* a domain without tokens */
    double most = 0;
    for (int64_t e = 0; e < experts; e++) most = fmax(most, shares[e * domains + d]);
    total += most;
    counted++;
  }
  return ratio(total, counted);
}

/* Row w of the table: how often word w occurs, then how often each expert got it. */
static void count_words(const mg_choices *chosen, const int32_t *words, int64_t vocabulary, int64_t *table) {
  const int64_t columns = chosen->experts + 1;
  memset(table, 0, (size_t)(vocabulary * columns) * sizeof *table);
  for (int64_t t = 0; t < chosen->tokens; t++) {
    if (words[t] < 0 || words[t] >= vocabulary) continue;
    int64_t *row = table + words[t] * columns;
    row[0]++;
    const int32_t *ids = choices_of(chosen, t);
    for (int64_t s = 0; s < chosen->choices; s++)
      if (ids[s] >= 0) row[1 + ids[s]]++;
  }
}

double mg_vocabulary_specialisation(mg_choices chosen, const int32_t *words, int64_t vocabulary, int64_t least,
                                    int64_t *scratch, int64_t *counted) {
  const int64_t columns = chosen.experts + 1;
  count_words(&chosen, words, vocabulary, scratch);
  double total = 0;
  *counted = 0;
  for (int64_t w = 0; w < vocabulary; w++) {
    const int64_t *row = scratch + w * columns;
    if (row[0] < least || row[0] == 0) continue;
    int64_t most = 0;
    for (int64_t e = 1; e < columns; e++) most = row[e] > most ? row[e] : most;
    total += (double)most / (double)row[0];
    (*counted)++;
  }
  return ratio(total, (double)*counted);
}

/* ---- repetition -------------------------------------------------------------------------------------------- */

static bool share_any(const mg_choices *chosen, int64_t token, int64_t other) {
  const int32_t *ids = choices_of(chosen, token);
  for (int64_t s = 0; s < chosen->choices; s++)
    if (ids[s] >= 0 && has(chosen, other, ids[s])) return true;
  return false;
}

mg_repetition mg_consecutive_repetition(mg_choices chosen, int64_t sequence_tokens) {
  double first = 0, any = 0, pairs = 0;
  for (int64_t t = 1; t < chosen.tokens; t++) {
    if (t % sequence_tokens == 0) continue;
    const int32_t here = choices_of(&chosen, t)[0], before = choices_of(&chosen, t - 1)[0];
    first += here >= 0 && here == before;
    any += share_any(&chosen, t, t - 1);
    pairs++;
  }
  return (mg_repetition){ratio(first, pairs), ratio(any, pairs)};
}

mg_repetition mg_consecutive_chance(int64_t experts, int64_t k) {
  double none = 1; /* the chance that k draws all miss the other token's k */
  for (int64_t i = 0; i < k; i++) none *= fmax(0, (double)(experts - k - i)) / (double)(experts - i);
  return (mg_repetition){1 / (double)experts, 1 - none};
}
