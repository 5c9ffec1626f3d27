/* The memory of a run: what the process held at most, beside what we can name. On a backend in host memory every byte
 * comes from the context, so that what is not named one by one is still counted. */
#include "train/run.h"

#include "base/clock.h"

typedef struct account {
  size_t parameters, gradients, moments, activations, other;
} account;

static bool in_host_memory(const mg__run *run) {
  return mg_model_backend(run->model)->plugin->host_memory;
}

static account take(mg__run *run) {
  const mg_params_bytes params = mg_params_memory(mg_model_params(run->model));
  account a = {.parameters = params.values,
               .gradients = params.gradients,
               .moments = params.moments,
               .activations = mg_tape_peak_bytes(run->tape)};
  const size_t named = in_host_memory(run) ? a.parameters + a.gradients + a.moments + a.activations : 0;
  const size_t context = mg_context_bytes(run->context);
  a.other = context > named ? context - named : 0;
  return a;
}

/* What is resident now beside the context's memory: program, libraries, other mapped files. */
void mg__account_begin(mg__run *run) {
  mg_process_reset_peak();
  const int64_t counted = in_host_memory(run) ? (int64_t)mg_context_bytes(run->context) : 0;
  const int64_t beside = mg_process_peak_bytes() - counted;
  run->baseline_bytes = beside > 0 ? beside : 0;
}

void mg__account_report(mg__run *run, json_t *metrics) {
  const account a = take(run);
  const struct {
    const char *name;
    size_t bytes;
  } rows[] = {{"accounted_bytes_parameters", a.parameters},
              {"accounted_bytes_gradients", a.gradients},
              {"accounted_bytes_moments", a.moments},
              {"accounted_bytes_activations", a.activations},
              {"accounted_bytes_other", a.other}};
  double total = 0.0;
  for (size_t i = 0; i < MG_COUNT(rows); i++) {
    total += (double)rows[i].bytes;
    json_object_set_new(metrics, rows[i].name, json_real((double)rows[i].bytes));
  }
  const double peak = (double)mg_process_peak_bytes();
  json_object_set_new(metrics, "accounted_bytes", json_real(total));
  json_object_set_new(metrics, "peak_bytes", json_real(peak));
  json_object_set_new(metrics, "baseline_bytes", json_real((double)run->baseline_bytes));
  if (in_host_memory(run))
    json_object_set_new(metrics, "peak_over_accounted", mg__number((peak - (double)run->baseline_bytes) / total));
}
