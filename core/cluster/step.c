/* One or two batches through all layers, and what their messages add up to. */
#include "cluster/step.h"

#include <math.h>

/* Sums over ranks and layers; every expert layer of the model repeats its traced layer. */
static mg_status add_messages(mg_context *context, const mg_step_request *q, const mg_traffic *t, mg_step *step) {
  const mg_shape *shape = q->work.shape;
  const double width = (double)shape->width;
  const double bytes = mg_message_bytes(width, q->work.element_bytes) + mg_message_bytes(width, 2);
  double *near_sum = mg_alloc(context, (size_t)(2 * t->ranks) * sizeof *near_sum), *far_sum = near_sum + t->ranks;
  if (!near_sum) return MG_MEMORY;
  for (int64_t j = 0; j < shape->layers - shape->dense_layers; j++) {
    const int64_t layer = j % t->layers;
    for (int64_t r = 0; r < t->ranks; r++) {
      near_sum[r] += bytes * mg_traffic_of(t, layer, MG_TRAFFIC_NEAR_SENT)[r];
      far_sum[r] += bytes * mg_traffic_of(t, layer, MG_TRAFFIC_FAR_SENT)[r];
    }
    step->assigned += t->assigned[layer];
    step->dropped += t->dropped[layer];
  }
  double most_near = 0, most_far = 0;
  for (int64_t r = 0; r < t->ranks; r++) {
    step->near_bytes += near_sum[r];
    step->far_bytes += far_sum[r];
    most_near = fmax(most_near, near_sum[r]);
    most_far = fmax(most_far, far_sum[r]);
  }
  step->most_near_bytes += most_near;
  step->most_far_bytes += most_far;
  mg_free(context, near_sum, (size_t)(2 * t->ranks) * sizeof *near_sum);
  return MG_OK;
}

static double rows_max_over_mean(const mg_traffic *t) {
  double total = 0;
  for (int64_t layer = 0; layer < t->layers; layer++) {
    const double *rows = mg_traffic_of(t, layer, MG_TRAFFIC_ROWS);
    double sum = 0, most = 0;
    for (int64_t r = 0; r < t->ranks; r++) {
      sum += rows[r];
      most = fmax(most, rows[r]);
    }
    total += sum > 0 ? most * (double)t->ranks / sum : 0;
  }
  return total / (double)t->layers;
}

static mg_status make_traffic(mg_context *context, const mg_step_request *q, int64_t first, int64_t count,
                              mg_traffic **out) {
  const mg_traffic_request request = {.routing = q->routing,
                                      .placement = q->placement,
                                      .tokens = q->tokens,
                                      .first = first,
                                      .count = count,
                                      .offset = q->offset,
                                      .deduplicate = q->work.kernels == MG_KERNELS_NORMAL,
                                      .capacity = q->capacity};
  mg_traffic *counted;
  MG_TRY(mg_traffic_create(context, &request, &counted));
  *out = counted;
  if (!q->balanced) return MG_OK;
  const mg_status status = mg_traffic_balanced(counted, out);
  mg_traffic_destroy(counted);
  return status;
}

static double head_rows(const mg_layer_work *w, double tokens) {
  return w->kind == MG_STEP_PREFILL ? tokens / (double)w->context : tokens;
}

static mg_status add_batch(mg_context *context, const mg_step_request *q, int32_t index, int64_t first, int64_t count,
                           mg_step *step) {
  mg_traffic *traffic;
  MG_TRY(make_traffic(context, q, first, count, &traffic));
  const mg_batch_work batch = {.work = &q->work,
                               .traffic = traffic,
                               .tokens = (double)count,
                               .batch = index,
                               .last_layer = q->work.shape->layers,
                               .head_rows = head_rows(&q->work, (double)count),
                               .heads = 1};
  mg_status status = mg_batch_forward(context, &batch, &step->schedule);
  if (status == MG_OK) status = add_messages(context, q, traffic, step);
  if (status == MG_OK) step->rows_max_over_mean += rows_max_over_mean(traffic) / (q->two_batch ? 2 : 1);
  mg_traffic_destroy(traffic);
  return status;
}

static mg_status run(mg_context *context, const mg_step_request *q, mg_step *step) {
  const int64_t half = q->tokens / 2;
  if (q->two_batch) {
    MG_TRY(add_batch(context, q, 0, 0, half, step));
    MG_TRY(add_batch(context, q, 1, half, q->tokens - half, step));
  } else {
    MG_TRY(add_batch(context, q, 0, 0, q->tokens, step));
  }
  mg_schedule_run(&step->schedule, q->two_batch ? mg_copying_tax(&q->work) : 1);
  return MG_OK;
}

mg_status mg_step_run(mg_context *context, const mg_step_request *q, mg_step *out) {
  *out = (mg_step){0};
  if (q->tokens < (q->two_batch ? 2 : 1))
    return mg_fail(context, MG_USAGE, "cluster: %lld tokens of a rank are too few", (long long)q->tokens);
  mg_schedule_open(context, q->placement->ranks, &out->schedule);
  const mg_status status = run(context, q, out);
  if (status != MG_OK) mg_step_close(out);
  return status;
}

void mg_step_close(mg_step *step) {
  mg_schedule_close(&step->schedule);
}
