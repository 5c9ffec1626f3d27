/* Minimises sum ((predicted - measured) / measured)^2 over coefficients >= 0.
 *
 * Which feature decides a term depends on the coefficients. So the decision is fixed, the linear problem solved by
 * coordinate descent (each coefficient in turn to its best value, or 0), the decision made anew, and so on until it
 * stays; the best round is kept. The start is the hardware's peak, every coefficient 1 and every constant
 * 0; a coefficient that never decides a term stays there. */
#include "cluster/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/vector.h"

enum { ROUNDS = 40, SWEEPS = 400, P = MG_FORM_FEATURES_MAX };

mg_status mg_fit_data_add(mg_context *context, mg_fit_data *data, const double *variables, double seconds) {
  const size_t wanted = (data->count + 1) * MG_FORM_VARIABLES_MAX;
  MG_TRY(MG_VECTOR_RESERVE(context, data->variables, data->room, wanted));
  MG_TRY(MG_VECTOR_RESERVE(context, data->seconds, data->seconds_room, data->count + 1));
  memcpy(data->variables + data->count * MG_FORM_VARIABLES_MAX, variables, MG_FORM_VARIABLES_MAX * sizeof *variables);
  data->seconds[data->count++] = seconds;
  return MG_OK;
}

void mg_fit_data_free(mg_context *context, mg_fit_data *data) {
  MG_VECTOR_FREE(context, data->variables, data->room);
  MG_VECTOR_FREE(context, data->seconds, data->seconds_room);
  *data = (mg_fit_data){.kind = data->kind};
}

/* Features divided by the measured time, so that the wanted value is 1 everywhere. */
typedef struct problem {
  const mg_form *form;
  int features;
  size_t rows;
  size_t left_out; /* rows = none */
  const double *x; /* [rows, P] */
} problem;

/* True for the features that decide their terms in this row. */
static void decide(const problem *p, const double *c, const double *x, bool decides[P]) {
  for (int f = 0; f < p->features;) {
    const int term = p->form->features[f].term;
    int largest = f;
    for (int g = f; g < p->features && p->form->features[g].term == term; g++)
      if (c[g] * x[g] > c[largest] * x[largest]) largest = g;
    for (; f < p->features && p->form->features[f].term == term; f++) decides[f] = f == largest;
  }
}

/* Normal equations over the deciding features. */
static void accumulate(const problem *p, const double *c, double a[P][P], double b[P]) {
  memset(a, 0, P * sizeof *a);
  memset(b, 0, P * sizeof *b);
  for (size_t row = 0; row < p->rows; row++) {
    if (row == p->left_out) continue;
    const double *x = p->x + row * P;
    bool decides[P] = {false};
    decide(p, c, x, decides);
    for (int f = 0; f < p->features; f++) {
      if (!decides[f]) continue;
      b[f] += x[f];
      for (int g = 0; g < p->features; g++)
        if (decides[g]) a[f][g] += x[f] * x[g];
    }
  }
}

/* A coefficient that no row decides keeps its value. */
static void descend(int features, double a[P][P], const double b[P], double *c) {
  for (int sweep = 0; sweep < SWEEPS; sweep++)
    for (int f = 0; f < features; f++) {
      if (a[f][f] <= 0) continue;
      double rest = b[f];
      for (int g = 0; g < features; g++)
        if (g != f) rest -= a[f][g] * c[g];
      c[f] = fmax(0, rest / a[f][f]);
    }
}

static double squares(const problem *p, const double *c) {
  double sum = 0;
  for (size_t row = 0; row < p->rows; row++) {
    if (row == p->left_out) continue;
    const double error = mg_form_value(p->form, c, p->x + row * P) - 1;
    sum += error * error;
  }
  return sum;
}

/* True if no other feature shares its term. */
static bool alone(const problem *p, int feature) {
  for (int f = 0; f < p->features; f++)
    if (f != feature && p->form->features[f].term == p->form->features[feature].term) return false;
  return true;
}

static bool settled(const double before[P], const double c[P]) {
  for (int f = 0; f < P; f++)
    if (before[f] != c[f]) return false;
  return true;
}

static void solve(const problem *p, double best[P]) {
  double c[P] = {0}, least = INFINITY;
  for (int f = 0; f < p->features; f++) c[f] = alone(p, f) && p->form->features[f].empirical ? 0 : 1;
  for (int round = 0; round < ROUNDS; round++) {
    double a[P][P], b[P], before[P];
    memcpy(before, c, sizeof before);
    accumulate(p, c, a, b);
    descend(p->features, a, b, c);
    const double sum = squares(p, c);
    if (sum < least) {
      least = sum;
      memcpy(best, c, sizeof c);
    }
    if (settled(before, c)) break;
  }
}

/* ---- errors --------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void summarise(double *errors, size_t count, double *median, double *worst) {
  qsort(errors, count, sizeof *errors, ascending);
  *median = count % 2 ? errors[count / 2] : (errors[count / 2 - 1] + errors[count / 2]) / 2;
  *worst = errors[count - 1];
}

static double error_of(const problem *p, const double *c, size_t row) {
  return fabs(mg_form_value(p->form, c, p->x + row * P) - 1);
}

static void judge(problem *p, double *errors, mg_fit *out) {
  for (size_t row = 0; row < p->rows; row++) errors[row] = error_of(p, out->coefficients, row);
  summarise(errors, p->rows, &out->median_residual, &out->worst_residual);
  for (size_t row = 0; row < p->rows; row++) {
    double c[P] = {0};
    p->left_out = row;
    solve(p, c);
    errors[row] = error_of(p, c, row);
  }
  summarise(errors, p->rows, &out->median_left_out, &out->worst_left_out);
}

static void note_ranges(const mg_fit_data *data, int variables, mg_fit *out) {
  for (int v = 0; v < variables; v++) {
    out->least[v] = INFINITY;
    out->most[v] = -INFINITY;
    for (size_t row = 0; row < data->count; row++) {
      const double value = data->variables[row * MG_FORM_VARIABLES_MAX + (size_t)v];
      out->least[v] = fmin(out->least[v], value);
      out->most[v] = fmax(out->most[v], value);
    }
  }
}

static void evaluate_all(const mg_accelerator *accelerator, const mg_fit_data *data, double *x) {
  const mg_form *form = &mg_forms[data->kind];
  for (size_t row = 0; row < data->count; row++) {
    form->evaluate(accelerator, data->variables + row * MG_FORM_VARIABLES_MAX, x + row * P);
    for (int f = 0; f < P; f++) x[row * P + (size_t)f] /= data->seconds[row];
  }
}

mg_status mg_fit_form(mg_context *context, const mg_accelerator *accelerator, const mg_fit_data *data, mg_fit *out) {
  const mg_form *form = &mg_forms[data->kind];
  const int features = mg_form_features(form);
  *out = (mg_fit){.rows = (int64_t)data->count};
  if (data->count <= (size_t)features)
    return mg_fail(context, MG_USAGE, "fit: form '%s' has %d coefficients and needs more rows than that, not %zu",
                   form->name, features, data->count);
  double *x = mg_alloc(context, data->count * P * sizeof *x), *errors = mg_alloc(context, data->count * sizeof *errors);
  if (x && errors) {
    evaluate_all(accelerator, data, x);
    problem p = {.form = form, .features = features, .rows = data->count, .left_out = data->count, .x = x};
    solve(&p, out->coefficients);
    judge(&p, errors, out);
    note_ranges(data, mg_form_variables(form), out);
  }
  const bool good = x && errors;
  mg_free(context, x, data->count * P * sizeof *x);
  mg_free(context, errors, data->count * sizeof *errors);
  return good ? MG_OK : MG_MEMORY;
}
