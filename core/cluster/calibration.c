/* Coefficients as JSON and back, and the one place where a time is predicted. */
#include "cluster/calibration.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"

/* Values that lie beyond a range by less are taken as inside: products are rounded differently. */
static const double tolerance = 0.01;

/* ---- to JSON -------------------------------------------------------------------------------------------------- */

static json_t *fit_json(const mg_form *form, const mg_fit *fit) {
  json_t *coefficients = json_object(), *range = json_object();
  for (int f = 0; form->features[f].name; f++)
    json_object_set_new(coefficients, form->features[f].name, json_real(fit->coefficients[f]));
  for (int v = 0; form->variables[v]; v++)
    json_object_set_new(range, form->variables[v], json_pack("[f, f]", fit->least[v], fit->most[v]));
  return json_pack("{s:o, s:o, s:I, s:f, s:f, s:f, s:f}", "coefficients", coefficients, "range", range, "rows",
                   (json_int_t)fit->rows, "median_residual", fit->median_residual, "worst_residual",
                   fit->worst_residual, "median_left_out", fit->median_left_out, "worst_left_out", fit->worst_left_out);
}

static json_t *collectives_json(const mg_collective_table *table) {
  json_t *all = json_object();
  for (size_t i = 0; i < table->count; i++) {
    const mg_collective_point *p = &table->points[i];
    char ranks[24];
    snprintf(ranks, sizeof ranks, "%lld", (long long)p->ranks);
    const char *name = mg_collective_names[p->collective];
    if (!json_object_get(all, name)) json_object_set_new(all, name, json_object());
    json_t *by_ranks = json_object_get(all, name);
    if (!json_object_get(by_ranks, ranks)) json_object_set_new(by_ranks, ranks, json_array());
    json_array_append_new(json_object_get(by_ranks, ranks), json_pack("[f, f]", p->bytes, p->seconds));
  }
  return all;
}

static mg_status add_collectives(mg_context *context, const mg_collective_table *table, json_t *json) {
  double median, worst;
  if (table->count == 0) return MG_OK;
  MG_TRY(mg_collective_errors(context, table, &median, &worst));
  json_object_set_new(json, "collectives", collectives_json(table));
  json_object_set_new(json, "collective_errors",
                      json_pack("{s:I, s:f, s:f}", "points", (json_int_t)table->count, "median_left_out", median,
                                "worst_left_out", worst));
  return MG_OK;
}

mg_status mg_calibration_fit(mg_context *context, const mg_accelerator *accelerator, const mg_measurements *data,
                             json_t **out) {
  json_t *forms = json_object(), *json = json_pack("{s:O}", "forms", forms);
  mg_status status = MG_OK;
  for (int kind = 0; kind < MG_FORM_COUNT && status == MG_OK; kind++) {
    mg_fit fit;
    if (data->data[kind].count == 0) continue;
    status = mg_fit_form(context, accelerator, &data->data[kind], &fit);
    if (status == MG_OK) json_object_set_new(forms, mg_forms[kind].name, fit_json(&mg_forms[kind], &fit));
  }
  if (status == MG_OK) status = add_collectives(context, &data->collectives, json);
  if (status == MG_OK && json_object_size(forms) == 0 && data->collectives.count == 0)
    status = mg_fail(context, MG_USAGE, "fit: no row is left to fit");
  json_decref(forms);
  *out = status == MG_OK ? json : NULL;
  if (status != MG_OK) json_decref(json);
  return status;
}

/* ---- from JSON ------------------------------------------------------------------------------------------------ */

static bool read_pair(const json_t *pair, double *first, double *second) {
  if (!json_is_number(json_array_get(pair, 0)) || !json_is_number(json_array_get(pair, 1))) return false;
  *first = json_number_value(json_array_get(pair, 0));
  *second = json_number_value(json_array_get(pair, 1));
  return isfinite(*first) && isfinite(*second);
}

static mg_status read_form(mg_context *context, const mg_form *form, const json_t *json, mg_fit *fit) {
  const json_t *coefficients = json_object_get(json, "coefficients"), *range = json_object_get(json, "range");
  for (int f = 0; form->features[f].name; f++) {
    const json_t *value = json_object_get(coefficients, form->features[f].name);
    fit->coefficients[f] = json_number_value(value);
    if (!json_is_number(value) || !(fit->coefficients[f] >= 0) || !isfinite(fit->coefficients[f]))
      return mg_fail(context, MG_USAGE, "calibration: form '%s' needs the coefficient '%s', a number from 0 up",
                     form->name, form->features[f].name);
  }
  for (int v = 0; form->variables[v]; v++) {
    fit->least[v] = -INFINITY;
    fit->most[v] = INFINITY;
    const json_t *pair = json_object_get(range, form->variables[v]);
    if (pair && !read_pair(pair, &fit->least[v], &fit->most[v]))
      return mg_fail(context, MG_USAGE, "calibration: form '%s': the range of '%s' must be two numbers", form->name,
                     form->variables[v]);
  }
  return MG_OK;
}

static mg_status find_form(mg_context *context, const char *name, mg_form_kind *out) {
  const char *names[MG_FORM_COUNT];
  for (int kind = 0; kind < MG_FORM_COUNT; kind++) {
    names[kind] = mg_forms[kind].name;
    *out = (mg_form_kind)kind;
    if (strcmp(name, mg_forms[kind].name) == 0) return MG_OK;
  }
  const char *nearest = mg_nearest_name(name, names, MG_FORM_COUNT);
  return mg_fail(context, MG_USAGE, "calibration: there is no form '%s'%s%s%s", name, nearest ? "; did you mean '" : "",
                 nearest ? nearest : "", nearest ? "'?" : "");
}

static mg_status read_points(mg_context *context, mg_collective collective, const char *ranks, const json_t *points,
                             mg_collective_table *table) {
  size_t index;
  json_t *pair;
  json_array_foreach(points, index, pair) {
    mg_collective_point point = {.collective = collective, .ranks = strtoll(ranks, NULL, 10)};
    if (!read_pair(pair, &point.bytes, &point.seconds) || !(point.bytes > 0) || !(point.seconds > 0) || point.ranks < 2)
      return mg_fail(context, MG_USAGE,
                     "calibration: collectives.%s.%s: points are [bytes, seconds], both above 0, under a number of "
                     "ranks from 2",
                     mg_collective_names[collective], ranks);
    MG_TRY(mg_collective_add(context, table, &point));
  }
  return MG_OK;
}

static mg_status read_collectives(mg_context *context, const json_t *json, mg_collective_table *table) {
  const char *ranks;
  json_t *points;
  for (int c = 0; c < MG_COLLECTIVE_COUNT; c++) {
    json_t *by_ranks = json_object_get(json, mg_collective_names[c]);
    json_object_foreach(by_ranks, ranks, points) {
      MG_TRY(read_points(context, (mg_collective)c, ranks, points, table));
    }
  }
  mg_collective_sort(table);
  return MG_OK;
}

static mg_status read_all(mg_context *context, const json_t *json, mg_calibration *out) {
  const char *name;
  json_t *form;
  json_object_foreach(json_object_get(json, "forms"), name, form) {
    mg_form_kind kind;
    MG_TRY(find_form(context, name, &kind));
    MG_TRY(read_form(context, &mg_forms[kind], form, &out->fit[kind]));
    out->known[kind] = true;
  }
  return read_collectives(context, json_object_get(json, "collectives"), &out->collectives);
}

mg_status mg_calibration_read(mg_context *context, const json_t *json, mg_calibration *out) {
  *out = (mg_calibration){0};
  const mg_status status = read_all(context, json, out);
  if (status != MG_OK) mg_calibration_free(context, out);
  return status;
}

void mg_calibration_free(mg_context *context, mg_calibration *calibration) {
  mg_collective_free(context, &calibration->collectives);
}

/* ---- times ---------------------------------------------------------------------------------------------------- */

/* How far a value lies outside [least, most], as a multiple of the nearer end; 0 inside. */
static double distance(double value, double least, double most) {
  if (value > most * (1 + tolerance)) return most > 0 ? value / most : INFINITY;
  if (value < least * (1 - tolerance)) return value > 0 ? least / value : INFINITY;
  return 0;
}

static mg_status check_range(mg_costs *costs, mg_form_kind kind, const mg_fit *fit, const double *variables) {
  const mg_form *form = &mg_forms[kind];
  for (int v = 0; form->variables[v]; v++) {
    const double far = distance(variables[v], fit->least[v], fit->most[v]);
    if (far > 0 && !costs->extrapolate)
      return mg_fail(costs->context, MG_USAGE,
                     "cluster: '%s' is calibrated for %s from %g to %g, not %g; measure there, use costs = "
                     "\"roofline\", or accept it with extrapolate = true",
                     form->name, form->variables[v], fit->least[v], fit->most[v], variables[v]);
    costs->outside[kind][v] = fmax(costs->outside[kind][v], far);
  }
  return MG_OK;
}

mg_status mg_cost(mg_costs *costs, mg_form_kind kind, const double *variables, double *seconds) {
  const mg_form *form = &mg_forms[kind];
  double features[MG_FORM_FEATURES_MAX] = {0}, coefficients[MG_FORM_FEATURES_MAX] = {0};
  const double *c = coefficients;
  form->evaluate(costs->accelerator, variables, features);
  if (costs->calibration) {
    if (!costs->calibration->known[kind])
      return mg_fail(costs->context, MG_USAGE,
                     "cluster: the calibration has no coefficients of '%s'; fit them (`moegauge cluster fit`) or use "
                     "costs = \"roofline\"",
                     form->name);
    MG_TRY(check_range(costs, kind, &costs->calibration->fit[kind], variables));
    c = costs->calibration->fit[kind].coefficients;
  } else {
    for (int f = 0; form->features[f].name; f++) coefficients[f] = form->features[f].empirical ? 0 : 1;
  }
  *seconds = mg_form_value(form, c, features);
  return MG_OK;
}

/* Bytes that pass one rank's link in a ring. */
static double ring_bytes(mg_collective collective, int64_t ranks, double bytes) {
  const double share = (double)(ranks - 1) / (double)ranks;
  return (collective == MG_COLLECTIVE_ALL_REDUCE ? 2 : 1) * share * bytes;
}

mg_status mg_collective_cost(mg_costs *costs, mg_collective collective, int64_t ranks, int64_t span, double bytes,
                             double *seconds) {
  const mg_accelerator *a = costs->accelerator;
  const bool near = span <= a->node_ranks;
  *seconds = 0;
  if (ranks <= 1 || bytes <= 0) return MG_OK;
  if (costs->calibration) {
    const mg_collective_table *table = &costs->calibration->collectives;
    if (near && mg_collective_time(table, table->count, collective, ranks, bytes, seconds)) return MG_OK;
    if (!costs->extrapolate)
      return mg_fail(costs->context, MG_USAGE,
                     "cluster: %s of %g bytes over %lld ranks among %lld lies outside what the calibration measured; "
                     "measure there, use costs = \"roofline\", or accept it with extrapolate = true",
                     mg_collective_names[collective], bytes, (long long)ranks, (long long)span);
    const bool measured = *seconds > 0;
    costs->collective_outside |= measured;
    costs->collective_unmeasured |= !measured;
    if (measured) return MG_OK;
  }
  *seconds = ring_bytes(collective, ranks, bytes) / ((near ? a->near_gb_s : a->far_gb_s) * 1e9);
  return MG_OK;
}

json_t *mg_costs_outside(const mg_costs *costs) {
  json_t *list = json_array();
  for (int kind = 0; kind < MG_FORM_COUNT; kind++)
    for (int v = 0; mg_forms[kind].variables[v]; v++)
      if (costs->outside[kind][v] > 0)
        json_array_append_new(list, json_pack("{s:s, s:s, s:f}", "form", mg_forms[kind].name, "variable",
                                              mg_forms[kind].variables[v], "factor",
                                              isfinite(costs->outside[kind][v]) ? costs->outside[kind][v] : -1.0));
  const char *const collective[] = {costs->collective_outside ? "bytes" : NULL,
                                    costs->collective_unmeasured ? "ranks" : NULL};
  for (size_t i = 0; i < MG_COUNT(collective); i++)
    if (collective[i])
      json_array_append_new(
          list, json_pack("{s:s, s:s, s:f}", "form", "collective", "variable", collective[i], "factor", -1.0));
  return list;
}
