/* The memory of a run: what the process held at most, beside what we can name. */
#include "train/run.h"

#include "base/clock.h"

typedef struct account {
  size_t parameters, gradients, moments, activations, data, backend;
} account;

static account take(mg__run *run) {
  const mg_params_bytes params = mg_params_memory(mg_model_params(run->model));
  return (account){.parameters = params.values,
                   .gradients = params.gradients,
                   .moments = params.moments,
                   .activations = run->tape ? mg_tape_peak_bytes(run->tape) : 0};
}

void mg__account_begin(mg__run *run) {
  const account now = take(run);
  mg_process_reset_peak();
  run->baseline_bytes = mg_process_peak_bytes() - (int64_t)(now.parameters + now.gradients + now.data);
}

mg_status mg__account_report(mg__run *run, json_t *metrics) {
  const account a = take(run);
  const struct {
    const char *name;
    size_t bytes;
  } rows[] = {{"accounted_bytes_parameters", a.parameters},
              {"accounted_bytes_gradients", a.gradients},
              {"accounted_bytes_moments", a.moments},
              {"accounted_bytes_activations", a.activations},
              {"accounted_bytes_data", a.data},
              {"accounted_bytes_backend", a.backend}};
  double total = 0.0;
  for (size_t i = 0; i < MG_COUNT(rows); i++) {
    total += (double)rows[i].bytes;
    json_object_set_new(metrics, rows[i].name, json_real((double)rows[i].bytes));
  }
  const double peak = (double)mg_process_peak_bytes();
  json_object_set_new(metrics, "accounted_bytes", json_real(total));
  json_object_set_new(metrics, "peak_bytes", json_real(peak));
  json_object_set_new(metrics, "baseline_bytes", json_real((double)run->baseline_bytes));
  json_object_set_new(metrics, "peak_over_accounted", mg__number((peak - (double)run->baseline_bytes) / total));
  return MG_OK;
}
