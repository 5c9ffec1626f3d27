/* Evaluations of the trained weights in other models: another capacity policy, other options of the router, no shared
 * expert. Each has its metrics and tables under its name: "NAME.loss". */
#include <stdio.h>

#include "train/run.h"

static mg_status derive(mg__run *run, const char *name, const json_t *spec, mg_model **model) {
  const mg_model_change change = {.spec = spec};
  const mg_status status = mg_model_derive(run->model, &change, model);
  return status == MG_OK ? MG_OK : mg_fail_where(run->context, status, "train: evaluations.%s", name);
}

mg_status mg__evaluations_check(mg__run *run) {
  const char *name;
  json_t *spec;
  json_object_foreach((json_t *)run->settings.evaluations, name, spec) {
    mg_model *model;
    MG_TRY(derive(run, name, spec, &model));
    mg_model_destroy(model);
  }
  return MG_OK;
}

/* The run as it is, but for the model. */
static mg_status evaluate(const mg__run *run, const char *name, mg_model *model, json_t *metrics) {
  char prefix[64];
  snprintf(prefix, sizeof prefix, "%s.", name);
  mg__run other = *run;
  mg__evaluation evaluation;
  other.model = model;
  mg_status status = mg__evaluate(&other, run->settings.final_tokens, true, &evaluation);
  if (status == MG_OK) status = mg__findings_put(&other, &evaluation, prefix, metrics);
  mg__evaluation_release(&other, &evaluation);
  return status;
}

mg_status mg__evaluations_run(mg__run *run, json_t *metrics) {
  const char *name;
  json_t *spec;
  json_object_foreach((json_t *)run->settings.evaluations, name, spec) {
    mg_model *model;
    MG_TRY(derive(run, name, spec, &model));
    const mg_status status = evaluate(run, name, model, metrics);
    mg_model_destroy(model);
    MG_TRY(status);
  }
  return MG_OK;
}
