/* Bilinear interpolation on a rectangular grid. */
#include "cluster/step_cost.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { AXIS_MAX = 4096, WHERE_BYTES = 96 };

typedef struct axis {
  double *values;
  int64_t count;
} axis;

struct mg_step_cost {
  mg_context *context;
  char where[WHERE_BYTES];
  axis tokens, contexts;
  double *seconds; /* [tokens, contexts] */
};

static mg_status check_axis(const mg_step_cost *cost, const char *name, const double *values, int64_t count) {
  if (count < 1 || count > AXIS_MAX)
    return mg_fail(cost->context, MG_USAGE, "%s: '%s' must be a list of 1 to %d numbers", cost->where, name, AXIS_MAX);
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(values[i]) || values[i] < 0 || (i > 0 && values[i] <= values[i - 1]))
      return mg_fail(cost->context, MG_USAGE, "%s: '%s' must ascend from 0 or more; entry %lld is %g", cost->where,
                     name, (long long)i + 1, values[i]);
  return MG_OK;
}

static mg_status check_seconds(const mg_step_cost *cost, const double *seconds, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(seconds[i]) || seconds[i] < 0)
      return mg_fail(cost->context, MG_USAGE, "%s: 'seconds' must be 0 or more; one of them is %g", cost->where,
                     seconds[i]);
  return MG_OK;
}

static double *copy_of(mg_context *context, const double *values, int64_t count) {
  double *copy = mg_alloc(context, (size_t)count * sizeof *copy);
  if (copy) memcpy(copy, values, (size_t)count * sizeof *copy);
  return copy;
}

mg_status mg_step_cost_create(mg_context *context, const char *where, const double *tokens, int64_t tokens_count,
                              const double *contexts, int64_t contexts_count, const double *seconds,
                              mg_step_cost **out) {
  *out = NULL;
  mg_step_cost *cost = mg_alloc(context, sizeof *cost);
  if (!cost) return MG_MEMORY;
  cost->context = context;
  snprintf(cost->where, sizeof cost->where, "%s", where);
  mg_status status = check_axis(cost, "tokens", tokens, tokens_count);
  if (status == MG_OK) status = check_axis(cost, "context", contexts, contexts_count);
  if (status == MG_OK) status = check_seconds(cost, seconds, tokens_count * contexts_count);
  if (status == MG_OK) {
    cost->tokens = (axis){copy_of(context, tokens, tokens_count), tokens_count};
    cost->contexts = (axis){copy_of(context, contexts, contexts_count), contexts_count};
    cost->seconds = copy_of(context, seconds, tokens_count * contexts_count);
    if (!cost->tokens.values || !cost->contexts.values || !cost->seconds) status = MG_MEMORY;
  }
  if (status == MG_OK)
    *out = cost;
  else
    mg_step_cost_destroy(cost);
  return status;
}

void mg_step_cost_destroy(mg_step_cost *cost) {
  if (!cost) return;
  const size_t tokens = (size_t)cost->tokens.count, contexts = (size_t)cost->contexts.count;
  mg_free(cost->context, cost->tokens.values, cost->tokens.values ? tokens * sizeof(double) : 0);
  mg_free(cost->context, cost->contexts.values, cost->contexts.values ? contexts * sizeof(double) : 0);
  mg_free(cost->context, cost->seconds, cost->seconds ? tokens * contexts * sizeof(double) : 0);
  mg_free(cost->context, cost, sizeof *cost);
}

/* ---- from JSON ---------------------------------------------------------------------------------------------- */

/* The numbers of a list into `out` [count]. */
static mg_status read_numbers(mg_context *context, const char *where, const char *name, const json_t *list,
                              int64_t count, double *out) {
  if (!json_is_array(list) || (int64_t)json_array_size(list) != count)
    return mg_fail(context, MG_USAGE, "%s: '%s' must be a list of %lld numbers", where, name, (long long)count);
  for (int64_t i = 0; i < count; i++) {
    const json_t *value = json_array_get(list, (size_t)i);
    if (!json_is_number(value))
      return mg_fail(context, MG_USAGE, "%s: entry %lld of '%s' is not a number", where, (long long)i + 1, name);
    out[i] = json_number_value(value);
  }
  return MG_OK;
}

static mg_status read_grid(mg_context *context, const char *where, const json_t *json, double *tokens,
                           int64_t tokens_count, double *contexts, int64_t contexts_count, double *seconds,
                           mg_step_cost **out) {
  MG_TRY(read_numbers(context, where, "tokens", json_object_get(json, "tokens"), tokens_count, tokens));
  MG_TRY(read_numbers(context, where, "context", json_object_get(json, "context"), contexts_count, contexts));
  const json_t *rows = json_object_get(json, "seconds");
  if (!json_is_array(rows) || (int64_t)json_array_size(rows) != tokens_count)
    return mg_fail(context, MG_USAGE, "%s: 'seconds' must have one list for each of the %lld values of 'tokens'", where,
                   (long long)tokens_count);
  for (int64_t t = 0; t < tokens_count; t++)
    MG_TRY(read_numbers(context, where, "seconds", json_array_get(rows, (size_t)t), contexts_count,
                        &seconds[t * contexts_count]));
  return mg_step_cost_create(context, where, tokens, tokens_count, contexts, contexts_count, seconds, out);
}

mg_status mg_step_cost_from_json(mg_context *context, const char *where, const json_t *json, mg_step_cost **out) {
  *out = NULL;
  const size_t tokens = json_array_size(json_object_get(json, "tokens")),
               contexts = json_array_size(json_object_get(json, "context"));
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)json, key,
                      value) if (strcmp(key, "tokens") != 0 && strcmp(key, "context") != 0 &&
                                 strcmp(key, "seconds") !=
                                     0) return mg_fail(context, MG_USAGE,
                                                       "%s: unknown key '%s'; known keys: tokens, context, seconds",
                                                       where, key);
  if (tokens < 1 || tokens > AXIS_MAX || contexts < 1 || contexts > AXIS_MAX)
    return mg_fail(context, MG_USAGE,
                   "%s: a table {tokens = {...}, context = {...}, seconds = {{...}, ...}} was expected", where);
  const size_t count = tokens + contexts + tokens * contexts;
  double *numbers = mg_alloc(context, count * sizeof *numbers);
  if (!numbers) return MG_MEMORY;
  const mg_status status = read_grid(context, where, json, numbers, (int64_t)tokens, numbers + tokens,
                                     (int64_t)contexts, numbers + tokens + contexts, out);
  mg_free(context, numbers, count * sizeof *numbers);
  return status;
}

/* ---- interpolation ------------------------------------------------------------------------------------------ */

/* The cell of `value` and how far into it, from 0 to 1; false outside the axis. */
static bool locate(const axis *a, double value, int64_t *cell, double *share) {
  *cell = 0;
  *share = 0;
  if (a->count == 1) return true;
  if (!(value >= a->values[0] && value <= a->values[a->count - 1])) return false;
  int64_t low = 0, high = a->count - 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (a->values[middle] <= value)
      low = middle;
    else
      high = middle;
  }
  *cell = low;
  *share = (value - a->values[low]) / (a->values[high] - a->values[low]);
  return true;
}

static mg_status refuse(const mg_step_cost *cost, double tokens, double mean_context) {
  const axis *t = &cost->tokens, *c = &cost->contexts;
  return mg_fail(cost->context, MG_USAGE,
                 "%s: a step of %.6g tokens with a mean context of %.6g lies outside the table (%.6g to %.6g tokens, "
                 "context %.6g to %.6g); widen the table or limit the step",
                 cost->where, tokens, mean_context, t->values[0], t->values[t->count - 1], c->values[0],
                 c->values[c->count - 1]);
}

double mg_step_cost_most_tokens(const mg_step_cost *cost) {
  return cost->tokens.count > 1 ? cost->tokens.values[cost->tokens.count - 1] : INFINITY;
}

mg_status mg_step_cost_seconds(const mg_step_cost *cost, double tokens, double mean_context, double *seconds) {
  int64_t row, column;
  double down, right;
  if (!locate(&cost->tokens, tokens, &row, &down) || !locate(&cost->contexts, mean_context, &column, &right))
    return refuse(cost, tokens, mean_context);
  const int64_t width = cost->contexts.count, next_row = cost->tokens.count > 1 ? width : 0, next = width > 1;
  const double *at = &cost->seconds[row * width + column];
  const double above = at[0] + right * (at[next] - at[0]);
  const double below = at[next_row] + right * (at[next_row + next] - at[next_row]);
  *seconds = above + down * (below - above);
  return MG_OK;
}
