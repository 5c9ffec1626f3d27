/* Sorted points, searched in a line: a table has a few hundred. */
#include "cluster/interpolation.h"

#include <math.h>
#include <stdlib.h>

#include "base/vector.h"

const char *const mg_collective_names[] = {"all_reduce", "all_gather", "reduce_scatter", "alltoall", NULL};

mg_status mg_collective_add(mg_context *context, mg_collective_table *t, const mg_collective_point *point) {
  MG_TRY(MG_VECTOR_RESERVE(context, t->points, t->room, t->count + 1));
  t->points[t->count++] = *point;
  return MG_OK;
}

void mg_collective_free(mg_context *context, mg_collective_table *t) {
  MG_VECTOR_FREE(context, t->points, t->room);
  *t = (mg_collective_table){0};
}

static bool same_place(const mg_collective_point *a, const mg_collective_point *b) {
  return a->collective == b->collective && a->ranks == b->ranks;
}

static int by_place(const void *left, const void *right) {
  const mg_collective_point *a = left, *b = right;
  if (a->collective != b->collective) return a->collective < b->collective ? -1 : 1;
  if (a->ranks != b->ranks) return a->ranks < b->ranks ? -1 : 1;
  if (a->bytes < b->bytes || a->bytes > b->bytes) return a->bytes < b->bytes ? -1 : 1;
  return (a->seconds > b->seconds) - (a->seconds < b->seconds);
}

void mg_collective_sort(mg_collective_table *t) {
  size_t kept = 0;
  if (t->count == 0) return;
  qsort(t->points, t->count, sizeof *t->points, by_place);
  for (size_t i = 1; i < t->count; i++) {
    const mg_collective_point *last = &t->points[kept];
    const bool again = same_place(last, &t->points[i]) && !(last->bytes < t->points[i].bytes);
    if (!again) t->points[++kept] = t->points[i];
  }
  t->count = kept + 1;
}

bool mg_collective_time(const mg_collective_table *t, size_t left_out, mg_collective collective, int64_t ranks,
                        double bytes, double *seconds) {
  const mg_collective_point wanted = {.collective = collective, .ranks = ranks}, *below = NULL, *above = NULL;
  *seconds = 0;
  for (size_t i = 0; i < t->count; i++) {
    const mg_collective_point *p = &t->points[i];
    if (i == left_out || !same_place(p, &wanted)) continue;
    if (p->bytes <= bytes) below = p;
    if (p->bytes >= bytes && !above) above = p;
  }
  if (!below || !above) {
    const mg_collective_point *nearest = below ? below : above;
    if (nearest) *seconds = nearest->seconds * fmax(1, bytes / nearest->bytes);
    return false;
  }
  const double whole = log(above->bytes / below->bytes), part = log(bytes / below->bytes);
  *seconds = whole > 0 ? below->seconds * pow(above->seconds / below->seconds, part / whole) : below->seconds;
  return true;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

mg_status mg_collective_errors(mg_context *context, const mg_collective_table *t, double *median, double *worst) {
  *median = *worst = 0;
  if (t->count == 0) return MG_OK;
  double *errors = mg_alloc(context, t->count * sizeof *errors);
  size_t count = 0;
  if (!errors) return MG_MEMORY;
  for (size_t i = 0; i < t->count; i++) {
    const mg_collective_point *p = &t->points[i];
    double predicted;
    if (mg_collective_time(t, i, p->collective, p->ranks, p->bytes, &predicted))
      errors[count++] = fabs(predicted / p->seconds - 1);
  }
  qsort(errors, count, sizeof *errors, ascending);
  if (count > 0) {
    *median = count % 2 ? errors[count / 2] : (errors[count / 2 - 1] + errors[count / 2]) / 2;
    *worst = errors[count - 1];
  }
  mg_free(context, errors, t->count * sizeof *errors);
  return MG_OK;
}
