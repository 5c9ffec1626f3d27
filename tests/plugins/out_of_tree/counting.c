/* A backend that computes four primitives in f32 on the host and counts its calls.
 *
 * It shows the least that a backend needs. What it lacks it says: a missing kernel is NULL in the table, and `supports`
 * answers for each call, so that a model on it fails with the name of the first primitive that is not there. */
#include <math.h>
#include <moegauge/backend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct counting_state {
  int64_t calls[MG_OP_COUNT];
} counting_state;

static mg_status counting_open(mg_backend *backend) {
  backend->state = mg_alloc(backend->context, sizeof(counting_state));
  return backend->state ? MG_OK : MG_MEMORY;
}

static void counting_close(mg_backend *backend) {
  mg_free(backend->context, backend->state, sizeof(counting_state));
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

static mg_status counting_allocate(mg_backend *backend, size_t bytes, void **out) {
  *out = NULL;
  if (bytes == 0 || posix_memalign(out, 64, bytes) == 0) return MG_OK;
  return mg_fail(backend->context, MG_MEMORY, "%zu bytes were wanted for a tensor and are not there", bytes);
}

static void counting_release(mg_backend *backend, void *pointer, size_t bytes) {
  (void)backend, (void)bytes;
  free(pointer);
}

static mg_status counting_copy(mg_backend *backend, void *to, const void *from, size_t bytes) {
  (void)backend;
  if (bytes) memcpy(to, from, bytes);
  return MG_OK;
}

static mg_status counting_synchronize(mg_backend *backend) {
  (void)backend; /* every call has finished when it returns */
  return MG_OK;
}

/* ---- primitives -------------------------------------------------------------------------------------------- */

static void count(mg_backend *backend, const mg_op_call *call) {
  ((counting_state *)backend->state)->calls[call->op]++;
}

static mg_status fill(mg_backend *backend, const mg_op_call *call) {
  float *out = call->out[0]->data;
  count(backend, call);
  for (int64_t i = 0; i < mg_tensor_count(call->out[0]); i++) out[i] = (float)call->attributes.fill.value;
  return MG_OK;
}

/* out += factor * x */
static mg_status add_scaled(mg_backend *backend, const mg_op_call *call) {
  const float *x = call->in[0]->data;
  float *out = call->out[0]->data;
  count(backend, call);
  for (int64_t i = 0; i < mg_tensor_count(call->out[0]); i++)
    out[i] += (float)call->attributes.add_scaled.factor * x[i];
  return MG_OK;
}

static void softmax_row(const float *x, float *out, int64_t columns) {
  float most = -INFINITY, sum = 0.0f;
  for (int64_t c = 0; c < columns; c++) most = fmaxf(most, x[c]);
  if (most == -INFINITY) { /* a row without any choice has no distribution: all zero */
    memset(out, 0, (size_t)columns * sizeof *out);
    return;
  }
  for (int64_t c = 0; c < columns; c++) sum += out[c] = expf(x[c] - most);
  for (int64_t c = 0; c < columns; c++) out[c] /= sum;
}

static mg_status softmax(mg_backend *backend, const mg_op_call *call) {
  const int64_t columns = mg_tensor_columns(call->in[0]);
  count(backend, call);
  for (int64_t r = 0; r < mg_tensor_rows(call->in[0]); r++)
    softmax_row((const float *)call->in[0]->data + r * columns, (float *)call->out[0]->data + r * columns, columns);
  return MG_OK;
}

/* x [R,C] -> [C,R] */
static mg_status transpose(mg_backend *backend, const mg_op_call *call) {
  const int64_t rows = mg_tensor_rows(call->in[0]), columns = mg_tensor_columns(call->in[0]);
  const float *x = call->in[0]->data;
  float *out = call->out[0]->data;
  count(backend, call);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) out[c * rows + r] = x[r * columns + c];
  return MG_OK;
}

static const mg_kernel kernels[MG_OP_COUNT] = {
    [MG_OP_FILL] = fill, [MG_OP_ADD_SCALED] = add_scaled, [MG_OP_SOFTMAX] = softmax, [MG_OP_TRANSPOSE] = transpose};

static bool counting_supports(const mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  if (!kernels[call->op]) return false;
  if (call->op == MG_OP_TRANSPOSE && call->in[0]->dims != 2) return false;
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (call->in[i] && call->in[i]->dtype != MG_F32) return false;
  return call->out[0]->dtype == MG_F32;
}

static void counting_describe(const mg_backend *backend, char *text, size_t bytes) {
  const counting_state *state = backend->state;
  int64_t primitives = 0, calls = 0;
  for (int op = 0; op < MG_OP_COUNT; op++) {
    primitives += kernels[op] != NULL;
    calls += state->calls[op];
  }
  snprintf(text, bytes, "primitives=%lld/%d dtypes=f32 calls=%lld", (long long)primitives, (int)MG_OP_COUNT,
           (long long)calls);
}

static const mg_backend_plugin plugin = {.abi = MG_ABI,
                                         .size = sizeof(mg_backend_plugin),
                                         .name = "counting",
                                         .summary = "Four primitives in f32 that count their calls; runs no model.",
                                         .host_memory = true,
                                         .open = counting_open,
                                         .close = counting_close,
                                         .allocate = counting_allocate,
                                         .release = counting_release,
                                         .upload = counting_copy,
                                         .download = counting_copy,
                                         .synchronize = counting_synchronize,
                                         .kernels = kernels,
                                         .kernels_count = MG_OP_COUNT,
                                         .supports = counting_supports,
                                         .describe = counting_describe};
MG_BACKEND_PLUGIN(plugin)
