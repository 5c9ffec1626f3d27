/* What experts specialise in, from ids that were brought to the host. core/moe/README.md gives each formula and a
 * hand-worked vector. `ids` is [tokens, choices], -1 = no choice. Results are written to the caller's arrays; a ratio
 * with an empty denominator is NAN, because 0 would claim a measurement. */
#ifndef MG_MOE_SPECIALISATION_H
#define MG_MOE_SPECIALISATION_H

#include <stdbool.h>
#include <stdint.h>

typedef struct mg_choices {
  const int32_t *ids;
  int64_t tokens, choices, experts;
  int64_t stride; /* ids from one token to the next; 0 = choices */
} mg_choices;

/* The same tokens with their first choice alone. */
mg_choices mg_first_choices(mg_choices chosen);

/* out[n] = share of the tokens with exactly n choices, n = 0 .. choices. */
void mg_choices_per_token(mg_choices chosen, double *out);

/* Choices per token on average; NAN without tokens. */
double mg_choices_mean(mg_choices chosen);

/* Muennighoff et al. 2024, eq. 6: out[i * E + j] = share of the tokens with expert i that also have expert j; the
 * diagonal is 1. */
void mg_coactivation(mg_choices chosen, double *out);

/* Muennighoff et al. 2024, eq. 5: mean over tokens of |earlier set and final set| / |final set|; tokens whose final set
 * is empty do not count. Both cover the same tokens; `choices` may differ. */
double mg_saturation(mg_choices earlier, mg_choices final);
/* The stricter convention: mean over tokens of the positions at which both sets hold the same expert / |final set|. Both
 * have the same `choices`. */
double mg_saturation_by_position(mg_choices earlier, mg_choices final);
/* Of random routing with k of E experts: k / E by set, 1 / E by position. */
double mg_saturation_chance(int64_t experts, int64_t k);

/* Muennighoff et al. 2024, eq. 7: out[e * domains + d] = share of domain d's tokens that chose expert e. A token whose
 * domain is outside 0 .. domains-1 does not count. */
void mg_domain_specialisation(mg_choices chosen, const int32_t *domain, int64_t domains, double *out);
/* Of such a table: mean over the domains that have tokens of the largest share that one expert got. */
double mg_domain_largest(const double *shares, int64_t experts, int64_t domains);

/* Muennighoff et al. 2024, eq. 8: mean over the vocabulary ids that occur at least `least` times of the share of their
 * tokens sent to the expert that gets most of them; their counts are written to `counted`. `scratch` holds
 * vocabulary * (experts + 1) counts. Word ids outside 0 .. vocabulary-1 do not count. */
double mg_vocabulary_specialisation(mg_choices chosen, const int32_t *words, int64_t vocabulary, int64_t least,
                                    int64_t *scratch, int64_t *counted);

/* Jiang et al. 2024, table 5: share of consecutive tokens of a sequence that agree in their first choice, or in any
 * choice. Of random routing: 1/E, and 1 - C(E-K,K)/C(E,K). */
typedef struct mg_repetition {
  double first, any;
} mg_repetition;
mg_repetition mg_consecutive_repetition(mg_choices chosen, int64_t sequence_tokens);
mg_repetition mg_consecutive_chance(int64_t experts, int64_t k);

#endif
