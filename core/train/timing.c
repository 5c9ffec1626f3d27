/* Where the time of a step goes: after the run, a few forward and backward passes on training batches during which the
 * tape waits for each call. Nothing is learned from them, and they do not count in the throughput. */
#include "train/run.h"

#include <stdio.h>

enum { TIMED_MAX = 64 };

typedef struct part_times {
  double forward[MG_PART_COUNT][TIMED_MAX], whole[MG_PART_COUNT][TIMED_MAX]; /* ns per token */
} part_times;

static void note(const mg__run *run, double (*times)[TIMED_MAX], int64_t pass) {
  const mg_counters *counters = mg_tape_counters(run->tape);
  for (int part = 0; part < MG_PART_COUNT; part++)
    times[part][pass] = (double)counters->time_ns[part] / (double)run->batch_tokens;
}

static mg_status timed_pass(mg__run *run, part_times *times, int64_t pass) {
  int64_t filled;
  mg_model_output output;
  MG_TRY(mg__run_fill_batch(run, MG_SPLIT_TRAIN, pass, &filled));
  mg_tape_reset(run->tape);
  *mg_tape_counters(run->tape) = (mg_counters){0};
  const mg_model_batch batch = mg__run_model_batch(run, filled, true, pass);
  MG_TRY(mg_params_zero_gradients(mg_model_params(run->model)));
  MG_TRY(mg_model_forward(run->model, run->tape, &batch, &output));
  note(run, times->forward, pass);
  MG_TRY(mg_tape_backward(run->tape, output.total));
  note(run, times->whole, pass);
  return MG_OK;
}

/* The medians of all passes but the first, which warms up. The router's time is scoring and choosing. */
static void report(part_times *times, int64_t passes, json_t *metrics) {
  char name[64];
  double router = 0.0;
  for (int part = 0; part < MG_PART_COUNT; part++) {
    const double forward = mg__median(times->forward[part] + 1, passes);
    const double whole = mg__median(times->whole[part] + 1, passes);
    if (whole == 0.0) continue;
    snprintf(name, sizeof name, "forward_ns_per_token_%s", mg_part_name((mg_part)part));
    json_object_set_new(metrics, name, mg__number(forward));
    snprintf(name, sizeof name, "ns_per_token_%s", mg_part_name((mg_part)part));
    json_object_set_new(metrics, name, mg__number(whole));
    if (part == MG_PART_GATE || part == MG_PART_SELECTION) router += whole;
  }
  if (router > 0.0) json_object_set_new(metrics, "gate_ns_per_token", mg__number(router));
}

mg_status mg__timing_measure(mg__run *run, json_t *metrics) {
  const int64_t passes = run->settings.timing_steps;
  if (passes == 0) return MG_OK;
  part_times *times = mg_alloc(run->context, sizeof *times);
  if (!times) return MG_MEMORY;
  mg_status status = MG_OK;
  mg_tape_set_timing(run->tape, true);
  for (int64_t pass = 0; pass <= passes && status == MG_OK; pass++) status = timed_pass(run, times, pass);
  mg_tape_set_timing(run->tape, false);
  if (status == MG_OK) report(times, passes, metrics);
  mg_free(run->context, times, sizeof *times);
  return status;
}
