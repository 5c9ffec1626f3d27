/* One call of a case on a backend. Outputs stand between guard bytes and inputs are compared afterwards, so that a
 * kernel which writes where it must not is caught on any device. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "measure/op_suite_internal.h"
#include "tensor/stopwatch.h"

enum { GUARD_BYTES = 256, GUARD_VALUE = 0x6b };

/* An operand in device memory: `guard` bytes, the tensor, `guard` bytes. */
typedef struct placed {
  void *start;
  size_t bytes; /* of all */
  size_t guard;
  mg_tensor tensor;
} placed;

typedef struct stage {
  mg_backend *backend;
  mg_context *context;
  placed in[MG_OP_INPUTS_MAX], out[MG_OP_OUTPUTS_MAX];
  mg_op_call call;
} stage;

static mg_status place(stage *s, const mg_tensor *host, size_t guard, placed *out) {
  *out = (placed){.guard = guard, .tensor = *host};
  out->tensor.data = NULL;
  const size_t content = mg_tensor_bytes(host), bytes = content + 2 * guard;
  if (bytes == 0) return MG_OK;
  MG_TRY(s->backend->plugin->allocate(s->backend, bytes, &out->start));
  out->bytes = bytes;
  out->tensor.data = (char *)out->start + guard;
  char *image = mg_alloc(s->context, bytes);
  if (!image) return MG_MEMORY;
  memset(image, GUARD_VALUE, bytes);
  if (content) memcpy(image + guard, host->data, content);
  const mg_status status = s->backend->plugin->upload(s->backend, out->start, image, bytes);
  mg_free(s->context, image, bytes);
  return status;
}

static mg_status place_all(stage *s, const suite_data *data) {
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++) {
    if (data->in[i].dims == 0) continue;
    MG_TRY(place(s, &data->in[i], 0, &s->in[i]));
    s->call.in[i] = &s->in[i].tensor;
  }
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    if (data->out[i].dims == 0) continue;
    MG_TRY(place(s, &data->out[i], GUARD_BYTES, &s->out[i]));
    s->call.out[i] = &s->out[i].tensor;
  }
  return MG_OK;
}

static void release_all(stage *s) {
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (s->in[i].start) s->backend->plugin->release(s->backend, s->in[i].start, s->in[i].bytes);
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++)
    if (s->out[i].start) s->backend->plugin->release(s->backend, s->out[i].start, s->out[i].bytes);
}

static mg_status check_guard(const stage *s, const char *bytes, const char *side, int output) {
  for (int i = 0; i < GUARD_BYTES; i++)
    if (bytes[i] != GUARD_VALUE)
      return mg_fail(s->context, MG_PLUGIN, "the kernel wrote outside output %d: %d bytes %s it", output,
                     side[0] == 'b' ? GUARD_BYTES - i : i + 1, side);
  return MG_OK;
}

/* Copies output i back and looks at its guards. */
static mg_status collect_output(stage *s, int i, const mg_tensor *result) {
  const placed *from = &s->out[i];
  char *image = mg_alloc(s->context, from->bytes);
  if (!image) return MG_MEMORY;
  mg_status status = s->backend->plugin->download(s->backend, image, from->start, from->bytes);
  if (status == MG_OK) status = check_guard(s, image, "before", i);
  if (status == MG_OK) status = check_guard(s, image + from->bytes - GUARD_BYTES, "after", i);
  if (status == MG_OK && result->data) memcpy(result->data, image + GUARD_BYTES, mg_tensor_bytes(result));
  mg_free(s->context, image, from->bytes);
  return status;
}

static mg_status check_input(stage *s, int i, const mg_tensor *host) {
  const placed *from = &s->in[i];
  char *image = mg_alloc(s->context, from->bytes);
  if (!image) return MG_MEMORY;
  mg_status status = s->backend->plugin->download(s->backend, image, from->start, from->bytes);
  if (status == MG_OK && memcmp(image, host->data, from->bytes) != 0)
    status = mg_fail(s->context, MG_PLUGIN, "the kernel changed input %d", i);
  mg_free(s->context, image, from->bytes);
  return status;
}

static mg_status collect(stage *s, const suite_data *data, mg_tensor *results) {
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++)
    if (s->out[i].start) MG_TRY(collect_output(s, i, &results[i]));
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (s->in[i].start) MG_TRY(check_input(s, i, &data->in[i]));
  return MG_OK;
}

/* The call as a step of its own, so that what a backend keeps back and submits later is looked at too. */
static mg_status step(stage *s) {
  const mg_backend_plugin *plugin = s->backend->plugin;
  if (plugin->step_begin) MG_TRY(plugin->step_begin(s->backend));
  const mg_status status = plugin->kernels[s->call.op](s->backend, &s->call);
  const mg_status end = plugin->step_begin ? plugin->step_end(s->backend) : MG_OK;
  return status == MG_OK ? end : status;
}

static mg_status call_kernel(stage *s) {
  const mg_backend_plugin *plugin = s->backend->plugin;
  mg_status status = step(s);
  if (status == MG_OK) status = plugin->synchronize(s->backend);
  if (status != MG_OK && s->backend->context != s->context)
    return mg_fail(s->context, status, "%s", mg_context_message(s->backend->context));
  return status;
}

mg_status mg__suite_run(mg_backend *backend, const suite_data *data, mg_tensor *results) {
  stage s = {.backend = backend, .context = data->context, .call = {.op = data->op, .attributes = data->attributes}};
  mg_status status = place_all(&s, data);
  if (status == MG_OK) status = call_kernel(&s);
  if (status == MG_OK) status = collect(&s, data, results);
  release_all(&s);
  return status;
}

/* ---- timing --------------------------------------------------------------------------------------------------- */

enum { SAMPLES_MAX = 1000 };

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static mg_status take_samples(stage *s, int64_t least_ns, double *samples, int64_t *count) {
  MG_TRY(call_kernel(s));
  const int64_t begin_ns = mg_clock_ns();
  for (*count = 0; *count < SAMPLES_MAX;) {
    mg_stopwatch watch = {0};
    int64_t time_ns;
    MG_TRY(mg_stopwatch_start(s->backend, &watch));
    MG_TRY(s->backend->plugin->kernels[s->call.op](s->backend, &s->call));
    MG_TRY(mg_stopwatch_stop(s->backend, &watch, &time_ns));
    samples[(*count)++] = (double)time_ns;
    if (mg_clock_ns() - begin_ns >= least_ns) break;
  }
  return MG_OK;
}

mg_status mg__suite_time(mg_backend *backend, const suite_data *data, int64_t least_ns, double *median_ns,
                         int64_t *calls) {
  stage s = {.backend = backend, .context = data->context, .call = {.op = data->op, .attributes = data->attributes}};
  double samples[SAMPLES_MAX];
  mg_status status = place_all(&s, data);
  if (status == MG_OK) status = take_samples(&s, least_ns, samples, calls);
  if (status == MG_OK) {
    qsort(samples, (size_t)*calls, sizeof samples[0], by_value);
    *median_ns = samples[*calls / 2];
  }
  release_all(&s);
  return status;
}
