/* Balance metrics over the load of E experts (assignments each kept or demanded). core/moe/README.md gives each
 * formula, denominator and a hand-worked vector. All functions take counts >= 0 and return 0 for an empty or all-zero
 * load where the formula has no value, except that max/mean and effective experts then return 0 too. */
#ifndef MG_MOE_BALANCE_H
#define MG_MOE_BALANCE_H

#include <stdbool.h>
#include <stdint.h>

double mg_balance_cv(const double *load, int64_t experts);            /* population deviation / mean */
double mg_balance_cv_sample(const double *load, int64_t experts);     /* n - 1 in the denominator */
double mg_balance_max_over_mean(const double *load, int64_t experts); /* 1 + MaxVio */
double mg_balance_max_violation(const double *load, int64_t experts); /* MaxVio, Wang et al. 2024 */
double mg_balance_entropy(const double *load, int64_t experts);       /* nats */
double mg_balance_gini(const double *load, int64_t experts);
double mg_balance_effective_experts(const double *load, int64_t experts); /* E / (1 + CV^2) */
int64_t mg_balance_dead_experts(const double *load, int64_t experts);     /* that got nothing */

/* Load of `groups` equal runs of consecutive experts (the nodes of one tree level, devices) into out [groups]; any
 * metric then applies to it. False if the experts do not divide into that many. */
bool mg_balance_group(const double *load, int64_t experts, int64_t groups, double *out);

typedef struct mg_balance_floor {
  double cv, max_violation;
} mg_balance_floor;
/* What uniform random routing of `tokens` tokens with k distinct choices among E experts gives on average over `runs`
 * draws: no router can be shown better balanced than this on so many tokens. Zeros when k > experts or
 * experts > 4096. */
mg_balance_floor mg_balance_random_floor(int64_t experts, int64_t k, int64_t tokens, int64_t runs, uint64_t seed);

/* The share of choices lost to a capacity when each of `tokens` tokens chooses a given expert with probability `share`,
 * independently of the others: E[max(X - capacity, 0)] / E[X] for binomial X. 0 when nothing is chosen. */
double mg_balance_random_drop(double share, int64_t tokens, int64_t capacity);

#endif
