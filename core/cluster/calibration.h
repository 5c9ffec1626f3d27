/* Calibrated costs: coefficients with their errors and ranges as JSON, and times predicted from them. */
#ifndef MG_CLUSTER_CALIBRATION_H
#define MG_CLUSTER_CALIBRATION_H

#include "cluster/measurements.h"

typedef struct mg_calibration {
  bool known[MG_FORM_COUNT];
  mg_fit fit[MG_FORM_COUNT];
  mg_collective_table collectives;
} mg_calibration;

/* Every form that there is data for, as JSON:
 * {"forms": {NAME: {"coefficients": {FEATURE: c}, "range": {VARIABLE: [least, most]}, "rows", "median_residual",
 * "worst_residual", "median_left_out", "worst_left_out"}}, "collectives": {NAME: {"RANKS": [[bytes, seconds], ...]}},
 * "collective_errors": {"points", "median_left_out", "worst_left_out"}}. New reference. */
mg_status mg_calibration_fit(mg_context *context, const mg_accelerator *accelerator, const mg_measurements *data,
                             json_t **out);
/* The same JSON read back; keys "source" and "about" are for people. A form may give coefficients without errors and
 * ranges, where they were published and not fitted. MG_USAGE names what is wrong. */
mg_status mg_calibration_read(mg_context *context, const json_t *json, mg_calibration *out);
void mg_calibration_free(mg_context *context, mg_calibration *calibration);

/* What times are computed from, and where that was beyond the data. */
typedef struct mg_costs {
  mg_context *context;
  const mg_accelerator *accelerator;
  const mg_calibration *calibration; /* NULL: every coefficient 1, every constant 0, the roofline */
  bool extrapolate;                  /* else a variable outside its range is refused */
  /* Per form and variable: the farthest value outside, as a multiple of the end of the range; 0 = none. */
  double outside[MG_FORM_COUNT][MG_FORM_VARIABLES_MAX];
  bool collective_outside;    /* the same of bytes between measured sizes */
  bool collective_unmeasured; /* no such group of ranks was measured: the ring at the links' peak */
} mg_costs;

/* Seconds of one operation. MG_USAGE: the calibration lacks the form, or a variable lies outside its range. */
mg_status mg_cost(mg_costs *costs, mg_form_kind kind, const double *variables, double *seconds);
/* Seconds of a collective of `bytes` a rank (all-gather, reduce-scatter: of the whole) over `ranks` ranks that lie among
 * `span` consecutive ones: measured inside a node, else the ring at the peak of the links, over NICs where the span is more
 * than a node. MG_USAGE as mg_cost: a calibrated cost outside what was measured, a ring too, needs `extrapolate`. */
mg_status mg_collective_cost(mg_costs *costs, mg_collective collective, int64_t ranks, int64_t span, double bytes,
                             double *seconds);
/* [{"form", "variable", "factor"}, ...]: what was extrapolated. New reference. */
json_t *mg_costs_outside(const mg_costs *costs);

#endif
