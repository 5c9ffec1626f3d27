/* Fits the coefficients of a form to measurements, and says how far they can be trusted. */
#ifndef MG_CLUSTER_FIT_H
#define MG_CLUSTER_FIT_H

#include <jansson.h>

#include "cluster/forms.h"

/* Measurements of one form. */
typedef struct mg_fit_data {
  mg_form_kind kind;
  size_t count, room, seconds_room;
  double *variables; /* [count, MG_FORM_VARIABLES_MAX] */
  double *seconds;   /* [count] */
} mg_fit_data;

mg_status mg_fit_data_add(mg_context *context, mg_fit_data *data, const double *variables, double seconds);
void mg_fit_data_free(mg_context *context, mg_fit_data *data);

typedef struct mg_fit {
  double coefficients[MG_FORM_FEATURES_MAX];
  double least[MG_FORM_VARIABLES_MAX], most[MG_FORM_VARIABLES_MAX]; /* ranges of the variables */
  int64_t rows;
  /* Relative errors |predicted / measured - 1|: of the fit, and of each row predicted from all others. */
  double median_residual, worst_residual, median_left_out, worst_left_out;
} mg_fit;

/* Least squares of relative errors. MG_USAGE if there are fewer rows than coefficients. */
mg_status mg_fit_form(mg_context *context, const mg_accelerator *accelerator, const mg_fit_data *data, mg_fit *out);

#endif
