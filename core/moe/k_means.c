/* Balanced k-means (Lloyd 1982 with groups of equal size) on inner products alone: with G = X X^T and a group S of n rows,
 *
 *   |x_i - mean of S|^2 = G_ii - (2 / n) sum_{j in S} G_ij + (1 / n^2) sum_{j, k in S} G_jk
 *
 * Groups start from rows drawn far apart (k-means++, Arthur and Vassilvitskii 2007). Rows are then assigned in the order of
 * their distances, each to its nearest group with room, until that no longer helps. Then pairs are exchanged while that
 * lowers the sum of all distances, which an exchange of i in S and j in R changes, means and all, by
 *
 *   d(i, R) + d(j, S) - d(i, S) - d(j, R) - (2 / n) |x_i - x_j|^2
 *
 * The best of a few starts counts. */
#include "moe/k_means.h"

#include <stdlib.h>
#include <string.h>

#include "moegauge/rng.h"

enum { STARTS = 4, ROUNDS = 50 };

typedef struct candidate {
  double distance;
  int32_t row, group;
} candidate;

/* The division of `count` rows into `groups`; rows are numbered from 0 within it. */
typedef struct division {
  const double *gram; /* [all, all] */
  int64_t all;
  const int32_t *member; /* [count] rows of gram */
  int64_t count, groups;
  int32_t *of, *best;    /* [count] the group of each row; -1 = none */
  double *distance;      /* [count, groups], squared */
  double *within;        /* [groups] */
  int64_t *size;         /* [groups] */
  candidate *candidates; /* [count * groups] */
} division;

static double product(const division *d, int64_t i, int64_t j) {
  return d->gram[d->member[i] * d->all + d->member[j]];
}

/* ---- distances ------------------------------------------------------------------------------------------------ */

static void sum_products(const division *d) {
  memset(d->distance, 0, (size_t)(d->count * d->groups) * sizeof *d->distance);
  memset(d->within, 0, (size_t)d->groups * sizeof *d->within);
  memset(d->size, 0, (size_t)d->groups * sizeof *d->size);
  for (int64_t j = 0; j < d->count; j++) {
    if (d->of[j] < 0) continue;
    d->size[d->of[j]]++;
    for (int64_t i = 0; i < d->count; i++) d->distance[i * d->groups + d->of[j]] += product(d, i, j);
  }
  for (int64_t i = 0; i < d->count; i++)
    if (d->of[i] >= 0) d->within[d->of[i]] += d->distance[i * d->groups + d->of[i]];
}

/* Squared distances of all rows from the means of all groups that have any. */
static void measure(const division *d) {
  sum_products(d);
  for (int64_t i = 0; i < d->count; i++)
    for (int64_t g = 0; g < d->groups; g++) {
      const double n = d->size[g] ? (double)d->size[g] : 1.0;
      double *distance = &d->distance[i * d->groups + g];
      *distance = product(d, i, i) - 2.0 * *distance / n + d->within[g] / (n * n);
    }
}

static double total(const division *d) {
  double sum = 0.0;
  for (int64_t i = 0; i < d->count; i++) sum += d->distance[i * d->groups + d->of[i]];
  return sum;
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

/* The row at the share `u` of the distances from the nearest of the groups begun. */
static int64_t draw_far(const division *d, int64_t begun, double u) {
  double sum = 0.0, nearest;
  for (int pass = 0; pass < 2; pass++) {
    double reached = 0.0;
    for (int64_t i = 0; i < d->count; i++) {
      nearest = d->distance[i * d->groups];
      for (int64_t g = 1; g < begun; g++)
        if (d->distance[i * d->groups + g] < nearest) nearest = d->distance[i * d->groups + g];
      if (d->of[i] < 0 && nearest > 0.0) reached += nearest;
      if (pass == 1 && d->of[i] < 0 && reached > u * sum) return i;
    }
    sum = reached;
  }
  for (int64_t i = 0; i < d->count; i++) /* all that are left lie on a group */
    if (d->of[i] < 0) return i;
  return 0;
}

static void start(const division *d, mg_stream stream) {
  for (int64_t i = 0; i < d->count; i++) d->of[i] = -1;
  for (int64_t g = 0; g < d->groups; g++) {
    const double u = mg_random_uniform(stream, (uint64_t)g);
    const int64_t row = g ? draw_far(d, g, u) : (int64_t)(u * (double)d->count) % d->count;
    d->of[row] = (int32_t)g;
    measure(d);
  }
}

static int by_distance(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
  if (x->row != y->row) return x->row < y->row ? -1 : 1;
  return (x->group > y->group) - (x->group < y->group);
}

/* Each row, nearest first, to the nearest group with room. */
static void assign(const division *d) {
  const int64_t most = d->count / d->groups, all = d->count * d->groups;
  for (int64_t c = 0; c < all; c++)
    d->candidates[c] = (candidate){d->distance[c], (int32_t)(c / d->groups), (int32_t)(c % d->groups)};
  qsort(d->candidates, (size_t)all, sizeof *d->candidates, by_distance);
  memset(d->size, 0, (size_t)d->groups * sizeof *d->size);
  for (int64_t i = 0; i < d->count; i++) d->of[i] = -1;
  for (int64_t c = 0; c < all; c++) {
    const candidate *next = &d->candidates[c];
    if (d->of[next->row] >= 0 || d->size[next->group] == most) continue;
    d->of[next->row] = next->group;
    d->size[next->group]++;
  }
}

/* What exchanging two rows of different groups does to the sum of all distances. */
static double gain(const division *d, int64_t i, int64_t j) {
  const int32_t a = d->of[i], b = d->of[j];
  const double *from_i = &d->distance[i * d->groups], *from_j = &d->distance[j * d->groups];
  const double apart = product(d, i, i) + product(d, j, j) - 2.0 * product(d, i, j);
  return from_i[b] + from_j[a] - from_i[a] - from_j[b] - 2.0 * apart / (double)d->size[a];
}

/* Exchanges one pair that lowers the sum; false if there is none. */
static bool exchange(const division *d) {
  const double least = -1e-9 * total(d);
  for (int64_t i = 0; i < d->count; i++)
    for (int64_t j = i + 1; j < d->count; j++) {
      const int32_t a = d->of[i], b = d->of[j];
      if (a == b || gain(d, i, j) >= least) continue;
      d->of[i] = b;
      d->of[j] = a;
      return true;
    }
  return false;
}

static double divide_once(const division *d, mg_stream stream) {
  start(d, stream);
  double before = 0.0, now = 0.0;
  for (int round = 0; round < ROUNDS && (round < 2 || now < before); round++) {
    before = now;
    assign(d);
    measure(d);
    now = total(d);
  }
  for (int64_t i = 0; i < ROUNDS * d->count && exchange(d); i++) measure(d);
  return total(d);
}

/* ---- levels ------------------------------------------------------------------------------------------------------- */

/* The best division's rows, group after group, in the order they had within a group, back into `member`. */
static void sort_members(const division *d, int32_t *member, int32_t *scratch) {
  int64_t next = 0;
  for (int64_t g = 0; g < d->groups; g++)
    for (int64_t i = 0; i < d->count; i++)
      if (d->best[i] == g) scratch[next++] = member[i];
  memcpy(member, scratch, (size_t)d->count * sizeof *member);
}

static void divide(division *d, int32_t *member, int32_t *scratch, uint64_t seed, uint64_t place) {
  double least = 0.0;
  d->member = member;
  for (uint64_t s = 0; s < STARTS; s++) {
    const double cost = divide_once(d, mg_stream_named(seed, "k-means", place, s));
    if (s > 0 && cost >= least) continue;
    least = cost;
    memcpy(d->best, d->of, (size_t)d->count * sizeof *d->best);
  }
  sort_members(d, member, scratch);
}

static void divide_levels(division *d, const int64_t *branching, int64_t levels, uint64_t seed, int32_t *order,
                          int32_t *scratch) {
  uint64_t place = 0;
  d->count = d->all;
  for (int64_t l = 0; l < levels && d->count > 1; l++) {
    d->groups = branching[l];
    for (int64_t first = 0; first < d->all; first += d->count) divide(d, order + first, scratch, seed, place++);
    d->count /= branching[l];
  }
}

static void fill_gram(const float *rows, int64_t count, int64_t width, double *gram) {
  for (int64_t i = 0; i < count; i++)
    for (int64_t j = 0; j <= i; j++) {
      double sum = 0.0;
      for (int64_t k = 0; k < width; k++) sum += (double)rows[i * width + k] * (double)rows[j * width + k];
      gram[i * count + j] = gram[j * count + i] = sum;
    }
}

mg_status mg_k_means_tree(mg_context *context, const float *rows, int64_t count, int64_t width,
                          const int64_t *branching, int64_t levels, uint64_t seed, int32_t *order) {
  int64_t most = 1;
  for (int64_t l = 0; l < levels; l++)
    if (branching[l] > most) most = branching[l];
  const size_t n = (size_t)count, cells = n * (size_t)most;
  const size_t bytes = n * n * sizeof(double) + cells * (sizeof(double) + sizeof(candidate)) +
                       (size_t)most * (sizeof(double) + sizeof(int64_t)) + 3 * n * sizeof(int32_t);
  char *memory = mg_alloc(context, bytes), *at = memory;
  if (!memory) return MG_MEMORY;
  double *gram = (double *)(void *)at;
  division d = {.gram = gram, .all = count};
  at += n * n * sizeof *gram;
  d.distance = (double *)(void *)at;
  at += cells * sizeof *d.distance;
  d.within = (double *)(void *)at;
  at += (size_t)most * sizeof *d.within;
  d.size = (int64_t *)(void *)at;
  at += (size_t)most * sizeof *d.size;
  d.candidates = (candidate *)(void *)at;
  at += cells * sizeof *d.candidates;
  d.of = (int32_t *)(void *)at;
  d.best = d.of + n;
  fill_gram(rows, count, width, gram);
  for (int32_t i = 0; i < (int32_t)count; i++) order[i] = i;
  divide_levels(&d, branching, levels, seed, order, d.best + n);
  mg_free(context, memory, bytes);
  return MG_OK;
}
