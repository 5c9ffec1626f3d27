/* One optimiser step. */
#include "train/run.h"

#include <math.h>

#include "base/clock.h"

mg_status mg__run_fill_batch(mg__run *run, mg_split split, int64_t index, int64_t *filled) {
  const uint64_t seed = split == MG_SPLIT_TRAIN ? (uint64_t)run->settings.seed : 0;
  return mg_dataset_batch(run->data, split, seed, index, &run->batch, filled);
}

mg_model_batch mg__run_model_batch(const mg__run *run, int64_t sequences, bool training, int64_t number) {
  return (mg_model_batch){.inputs = run->batch.inputs,
                          .targets = run->batch.targets,
                          .sequences = sequences,
                          .sequence_tokens = run->batch.sequence_tokens,
                          .training = training,
                          .number = (uint64_t)number};
}

static mg_status refuse_number(const mg__run *run, const char *what, double value) {
  return mg_fail(run->context, MG_NUMERIC,
                 "train: the %s of step %lld of %lld is %f; the parameters are those of the step before. Lower 'rate', "
                 "lengthen 'warmup', set 'clip', or use precision f32",
                 what, (long long)run->step, (long long)run->steps, value);
}

/* Forward and backward over batch `index`; *loss is its mean loss without auxiliary losses. */
static mg_status run_batch(mg__run *run, int64_t index, mg_model_output *output, double *loss) {
  int64_t filled;
  const int64_t start = mg_clock_ns();
  MG_TRY(mg__run_fill_batch(run, MG_SPLIT_TRAIN, index, &filled));
  run->totals.data_seconds += 1e-9 * (double)(mg_clock_ns() - start);
  if (filled < run->settings.batch)
    return mg_fail(
        run->context, MG_USAGE,
        "train: the training split gives %lld of 'batch' = %lld sequences of 'sequence' = %lld tokens; lower "
        "'batch' or 'sequence', or use a larger corpus",
        (long long)filled, (long long)run->settings.batch, (long long)run->settings.sequence);
  mg_tape_reset(run->tape);
  const mg_model_batch batch = mg__run_model_batch(run, filled, true, index);
  MG_TRY(mg_model_forward(run->model, run->tape, &batch, output));
  MG_TRY(mg_tape_backward(run->tape, output->total));
  MG_TRY(mg__load_batch(run));
  float value;
  MG_TRY(mg_tape_download(run->tape, output->loss, &value, sizeof value));
  *loss = (double)value;
  return isfinite(*loss) ? MG_OK : refuse_number(run, "training loss", *loss);
}

/* Clips and applies the gradients that have been summed over the step's batches. */
static mg_status apply(mg__run *run, double rate, double *norm) {
  const mg__train_settings *s = &run->settings;
  const double share = 1.0 / (double)s->accumulate;
  MG_TRY(mg__optimiser_norm(&run->optimiser, norm));
  *norm *= share;
  if (!isfinite(*norm)) return refuse_number(run, "gradient norm", *norm);
  const double clip = s->clip > 0.0 && *norm > s->clip ? s->clip / *norm : 1.0;
  return mg__optimiser_step(&run->optimiser, s, rate, clip * share, run->step);
}

static void count_work(mg__run *run) {
  mg_counters *counters = mg_tape_counters(run->tape);
  for (int part = 0; part < MG_PART_COUNT; part++) {
    run->totals.flops[part] += counters->flops[part];
    run->totals.backward_flops[part] += counters->backward_flops[part];
  }
}

static void note_spike(mg__run *run, double loss) {
  if (mg__spikes_add(&run->spikes, loss))
    mg_log_line(run->context, MG_LOG_WARNING, "step %lld: the loss jumped to %.4f", (long long)run->step, loss);
}

/* All batches of a step, forward and backward; *output is that of the last. */
static mg_status run_batches(mg__run *run, mg_model_output *output, double *loss) {
  const int64_t count = run->settings.accumulate;
  *loss = 0.0;
  for (int64_t i = 0; i < count; i++) {
    double part = 0.0;
    MG_TRY(run_batch(run, (run->step - 1) * count + i, output, &part));
    *loss += part / (double)count;
  }
  return MG_OK;
}

/* False where nothing measures the device's energy. */
static bool read_meter(const mg__run *run, double *joules) {
  mg_backend *backend = mg_tape_backend(run->tape);
  return backend->plugin->energy && backend->plugin->energy(backend, joules) == MG_OK;
}

static void note_energy(mg__run *run, double joules_before) {
  double joules;
  if (!read_meter(run, &joules)) return;
  run->totals.joules += joules - joules_before;
  run->totals.metered_steps += 1.0;
}

static mg_status run_step(mg__run *run) {
  double joules = 0.0;
  const bool metered = read_meter(run, &joules);
  const int64_t start = mg_clock_ns();
  mg_model_output output;
  double loss, norm = 0.0;
  *mg_tape_counters(run->tape) = (mg_counters){0};
  MG_TRY(mg_params_zero_gradients(mg_model_params(run->model)));
  MG_TRY(run_batches(run, &output, &loss));
  const double rate = mg__schedule_rate(&run->settings, run->step, run->steps);
  const int64_t applying = mg_clock_ns();
  MG_TRY(apply(run, rate, &norm));
  mg__load_step(run);
  MG_TRY(mg_model_after_step(run->model, run->tape));
  mg_backend *backend = mg_tape_backend(run->tape);
  MG_TRY(backend->plugin->synchronize(backend));
  run->totals.optimiser_seconds += 1e-9 * (double)(mg_clock_ns() - applying);
  run->last_step_ns = mg_clock_ns() - start;
  if (metered) note_energy(run, joules);
  count_work(run);
  note_spike(run, loss);
  return mg__record_step(run, loss, norm, rate, &output);
}

mg_status mg__run_step(mg__run *run) {
  run->step++;
  const mg_status status = run_step(run);
  if (status != MG_OK) run->step--; /* so that the record tells of whole steps only */
  return status;
}
