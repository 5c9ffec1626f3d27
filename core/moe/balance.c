/* Balance metrics of a load vector x_1..x_E with sum S and mean m = S / E.
 *
 *   CV = sqrt(sum (x - m)^2 / E) / m        effective experts = E / (1 + CV^2) = S^2 / sum x^2
 *   max/mean = max x / m = 1 + MaxVio       entropy = - sum p ln p, p = x / S
 *   Gini = sum_i sum_j |x_i - x_j| / (2 E S), computed from how many are below and above each */
#include "moe/balance.h"

#include <math.h>
#include <string.h>

#include "moegauge/rng.h"

static double sum(const double *load, int64_t experts) {
  double total = 0;
  for (int64_t e = 0; e < experts; e++) total += load[e];
  return total;
}

static double squared_deviations(const double *load, int64_t experts, double mean) {
  double total = 0;
  for (int64_t e = 0; e < experts; e++) total += (load[e] - mean) * (load[e] - mean);
  return total;
}

static double cv(const double *load, int64_t experts, double denominator) {
  const double total = sum(load, experts), mean = total / (double)experts;
  if (experts < 1 || total <= 0 || denominator < 1) return 0;
  return sqrt(squared_deviations(load, experts, mean) / denominator) / mean;
}

double mg_balance_cv(const double *load, int64_t experts) {
  return cv(load, experts, (double)experts);
}

double mg_balance_cv_sample(const double *load, int64_t experts) {
  return cv(load, experts, (double)(experts - 1));
}

double mg_balance_max_over_mean(const double *load, int64_t experts) {
  const double total = sum(load, experts);
  if (total <= 0) return 0;
  double most = 0;
  for (int64_t e = 0; e < experts; e++) most = fmax(most, load[e]);
  return most * (double)experts / total;
}

double mg_balance_max_violation(const double *load, int64_t experts) {
  const double ratio = mg_balance_max_over_mean(load, experts);
  return ratio > 0 ? ratio - 1 : 0;
}

double mg_balance_entropy(const double *load, int64_t experts) {
  const double total = sum(load, experts);
  double entropy = 0;
  for (int64_t e = 0; e < experts; e++)
    if (load[e] > 0) entropy -= load[e] / total * log(load[e] / total);
  return entropy;
}

/* sum over i of x_i * (how many are smaller - how many are larger) is half of all absolute differences. */
double mg_balance_gini(const double *load, int64_t experts) {
  const double total = sum(load, experts);
  if (total <= 0) return 0;
  double differences = 0;
  for (int64_t i = 0; i < experts; i++)
    for (int64_t j = 0; j < experts; j++) differences += load[i] * ((load[j] < load[i]) - (load[j] > load[i]));
  return differences / ((double)experts * total);
}

double mg_balance_effective_experts(const double *load, int64_t experts) {
  const double spread = mg_balance_cv(load, experts);
  return sum(load, experts) > 0 ? (double)experts / (1 + spread * spread) : 0;
}

int64_t mg_balance_dead_experts(const double *load, int64_t experts) {
  int64_t dead = 0;
  for (int64_t e = 0; e < experts; e++) dead += load[e] <= 0;
  return dead;
}

bool mg_balance_group(const double *load, int64_t experts, int64_t groups, double *out) {
  if (groups < 1 || experts % groups != 0) return false;
  memset(out, 0, (size_t)groups * sizeof *out);
  for (int64_t e = 0; e < experts; e++) out[e / (experts / groups)] += load[e];
  return true;
}

/* ---- the floor under random routing ------------------------------------------------------------------------ */

enum { FLOOR_EXPERTS_MAX = 4096 };

/* k distinct experts of one token: the j-th is drawn among those left, by partial shuffling. */
static void draw_token(mg_stream stream, uint64_t *draw, int64_t experts, int64_t k, int32_t *order, double *load) {
  for (int64_t j = 0; j < k; j++) {
    const int64_t other = j + (int64_t)mg_random_below(stream, (*draw)++, (uint64_t)(experts - j));
    const int32_t taken = order[other];
    order[other] = order[j];
    order[j] = taken;
    load[taken]++;
  }
}

mg_balance_floor mg_balance_random_floor(int64_t experts, int64_t k, int64_t tokens, int64_t runs, uint64_t seed) {
  mg_balance_floor mean = {0};
  if (experts < 1 || experts > FLOOR_EXPERTS_MAX || k < 1 || k > experts || tokens < 1 || runs < 1) return mean;
  int32_t order[FLOOR_EXPERTS_MAX];
  double load[FLOOR_EXPERTS_MAX];
  for (int64_t e = 0; e < experts; e++) order[e] = (int32_t)e;
  for (int64_t run = 0; run < runs; run++) {
    const mg_stream stream = mg_stream_named(seed, "balance floor", (uint64_t)run, 0);
    uint64_t draw = 0;
    memset(load, 0, (size_t)experts * sizeof *load);
    for (int64_t t = 0; t < tokens; t++) draw_token(stream, &draw, experts, k, order, load);
    mean.cv += mg_balance_cv(load, experts) / (double)runs;
    mean.max_violation += mg_balance_max_violation(load, experts) / (double)runs;
  }
  return mean;
}

/* Probabilities by their recurrence p(x + 1) / p(x) = (n - x) / (x + 1) * share / (1 - share), in logarithms. */
double mg_balance_random_drop(double share, int64_t tokens, int64_t capacity) {
  const double n = (double)tokens, room = (double)capacity;
  if (share <= 0 || tokens < 1 || capacity < 0) return 0;
  if (share >= 1) return fmax(n - room, 0) / n;
  double chance = n * log1p(-share), lost = 0;
  for (double x = 1; x <= n; x++) {
    chance += log((n - x + 1) / x) + log(share) - log1p(-share);
    if (x > room) lost += (x - room) * exp(chance);
  }
  return lost / (n * share);
}
