/* Normalisation and rotary positions. The formulas stand in backends/reference. */
#include "kernels.h"

enum { ROW_BLOCKS = 16 }; /* gradients of scale and shift add so many partial sums in order, whatever the threads */

typedef struct norm_sums {
  float mean, inverse;
} norm_sums;

static norm_sums norm_statistics(const float *x, int64_t n, bool centred, float epsilon) {
  float sum = 0.0f, square = 0.0f;
  if (centred) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i];
  }
  const float mean = sum / (float)n;
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
  return (norm_sums){mean, 1.0f / sqrtf(square / (float)n + epsilon)};
}

/* The tensor as f32 [n], or `fallback` in every place where there is none. */
static const float *row_or(const mg_tensor *tensor, float fallback, int64_t n, float *buffer) {
  if (tensor) return cpu_read(tensor, 0, n, buffer);
  for (int64_t i = 0; i < n; i++) buffer[i] = fallback;
  return buffer;
}

mg_status CPU_NAME(norm)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  float *statistics = call->out[1]->data;
  const int64_t columns = mg_tensor_columns(x), work = mg_tensor_count(x), rows = columns ? work / columns : 0;
  const bool centred = call->attributes.norm.kind == MG_NORM_LAYER;
  const float epsilon = (float)call->attributes.norm.epsilon;
  float *shared =
      mg__cpu_scratch(backend, (size_t)(cpu_state_of(backend)->threads + 2) * (size_t)(columns + 16) * sizeof(float));
  if (!shared) return MG_MEMORY;
  const float *scale = row_or(call->in[1], 1.0f, columns, shared);
  const float *shift = row_or(call->in[2], 0.0f, columns, shared + columns);
  float *buffers = shared + 2 * (columns + 16);
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, columns);
    const float *values = cpu_read(x, row * columns, columns, buffer);
    const norm_sums s = norm_statistics(values, columns, centred, epsilon);
    float *target = cpu_write_begin(out, row * columns, buffer);
#pragma omp simd
    for (int64_t c = 0; c < columns; c++) target[c] = (values[c] - s.mean) * s.inverse * scale[c] + shift[c];
    cpu_write_end(out, row * columns, columns, buffer);
    statistics[2 * row] = s.mean;
    statistics[2 * row + 1] = s.inverse;
  }
  return MG_OK;
}

typedef struct norm_backward_work {
  const mg_op_call *call;
  const float *scale;
  int64_t columns;
  bool centred;
} norm_backward_work;

/* One row: dx, and its terms added to dscale and dshift (f32 sums). `buffer` holds 3 rows. */
static void norm_backward_row(const norm_backward_work *w, int64_t row, float *buffer, float *dscale, float *dshift) {
  const int64_t n = w->columns;
  const mg_tensor *dx = w->call->out[0];
  const float *statistics = w->call->in[2]->data, *scale = w->scale;
  const float mean = statistics[2 * row], inverse = statistics[2 * row + 1];
  const float *x = cpu_read(w->call->in[0], row * n, n, buffer);
  const float *dout = cpu_read(w->call->in[3], row * n, n, buffer + n);
  float sum = 0.0f, dot = 0.0f;
#pragma omp simd reduction(+ : sum, dot)
  for (int64_t i = 0; i < n; i++) {
    const float normalised = (x[i] - mean) * inverse, g = dout[i] * scale[i];
    sum += g;
    dot += g * normalised;
    dscale[i] += dout[i] * normalised;
    dshift[i] += dout[i];
  }
  const float mean_g = w->centred ? sum / (float)n : 0.0f, mean_dot = dot / (float)n;
  float *target = cpu_write_begin(dx, row * n, buffer + 2 * n);
#pragma omp simd
  for (int64_t i = 0; i < n; i++)
    target[i] = (dout[i] * scale[i] - mean_g - (x[i] - mean) * inverse * mean_dot) * inverse;
  cpu_write_end(dx, row * n, n, buffer + 2 * n);
}

static void add_blocks(const mg_tensor *out, const float *partial, int64_t columns) {
  if (!out) return;
  for (int64_t c = 0; c < columns; c++) {
    double sum = 0.0;
    for (int64_t b = 0; b < ROW_BLOCKS; b++) sum += (double)partial[2 * b * columns + c];
    cpu_set(out, c, (float)sum);
  }
}

mg_status CPU_NAME(norm_backward)(mg_backend *backend, const mg_op_call *call) {
  const int64_t columns = mg_tensor_columns(call->in[0]), work = mg_tensor_count(call->in[0]);
  const int64_t rows = columns ? work / columns : 0, block = cpu_max(1, cpu_ceil_div(rows, ROW_BLOCKS));
  const int64_t threads = cpu_state_of(backend)->threads;
  float *scratch =
      mg__cpu_scratch(backend, (size_t)((2 * ROW_BLOCKS + 1) * columns + threads * (3 * columns + 16)) * sizeof(float));
  if (!scratch) return MG_MEMORY;
  float *partial = scratch + columns, *buffers = partial + 2 * ROW_BLOCKS * columns;
  const norm_backward_work w = {.call = call,
                                .scale = row_or(call->in[1], 1.0f, columns, scratch),
                                .columns = columns,
                                .centred = call->attributes.norm.kind == MG_NORM_LAYER};
  CPU_PARALLEL(backend, work)
  for (int64_t b = 0; b < ROW_BLOCKS; b++) {
    float *dscale = partial + 2 * b * columns, *dshift = dscale + columns;
    memset(dscale, 0, 2 * (size_t)columns * sizeof(float));
    for (int64_t row = b * block; row < cpu_min(rows, (b + 1) * block); row++)
      norm_backward_row(&w, row, cpu_row_buffer(buffers, 3 * columns), dscale, dshift);
  }
  add_blocks(call->out[1], partial, columns);
  add_blocks(call->out[2], partial + columns, columns);
  return MG_OK;
}

typedef struct rope_work {
  const mg_op_call *call;
  int64_t head, pairs, columns;
  bool interleaved;
} rope_work;

/* cos and sin of one position, times the scale: cosine[0 .. pairs), then sine. */
static void rope_angles(const mg_op_call *call, int64_t position, int64_t pairs, float *cosine) {
  const mg_tensor *frequencies = call->in[2];
  const double scale = call->attributes.rope.scale;
  for (int64_t i = 0; i < pairs; i++) {
    const double angle = (double)position * (double)cpu_at(frequencies, i);
    cosine[i] = (float)(scale * cos(angle));
    cosine[pairs + i] = (float)(scale * sin(angle));
  }
}

/* The angles kept from earlier calls, or NULL where they are of other frequencies or of too few positions. */
static const float *kept_angles(const cpu_angles *angles, const mg_op_call *call, int64_t pairs, int64_t positions) {
  const float *frequencies = angles->memory.aligned;
  if (!frequencies || angles->pairs != pairs || angles->positions < positions ||
      angles->scale != call->attributes.rope.scale)
    return NULL;
  for (int64_t i = 0; i < pairs; i++)
    if (frequencies[i] != cpu_at(call->in[2], i)) return NULL;
  return frequencies + pairs;
}

static const float *make_angles(mg_backend *backend, const mg_op_call *call, int64_t pairs, int64_t positions) {
  cpu_angles *angles = &cpu_state_of(backend)->angles;
  angles->positions = 0;
  float *frequencies = mg__cpu_grow(backend, &angles->memory, (size_t)(pairs + positions * 2 * pairs) * sizeof(float));
  if (!frequencies) return NULL;
  for (int64_t i = 0; i < pairs; i++) frequencies[i] = cpu_at(call->in[2], i);
  const int64_t work = positions * pairs * 32; /* a cosine and a sine take as long as so many multiplications */
  CPU_PARALLEL(backend, work)
  for (int64_t position = 0; position < positions; position++)
    rope_angles(call, position, pairs, frequencies + pairs + position * 2 * pairs);
  angles->positions = positions;
  angles->pairs = pairs;
  angles->scale = call->attributes.rope.scale;
  return frequencies + pairs;
}

/* `turn` is 1, or -1 to rotate back. */
static void rotate_head(const rope_work *w, const float *x, const float *cosine, float turn, float *out) {
  const float *sine = cosine + w->pairs;
  const int64_t pairs = w->pairs, step = w->interleaved ? 2 : 1, other = w->interleaved ? 1 : pairs;
#pragma omp simd
  for (int64_t i = 0; i < pairs; i++) {
    const float a = x[i * step], b = x[i * step + other], s = turn * sine[i];
    out[i * step] = a * cosine[i] - b * s;
    out[i * step + other] = a * s + b * cosine[i];
  }
  for (int64_t c = 2 * pairs; c < w->head; c++) out[c] = x[c];
}

static void rope_row(const rope_work *w, int64_t row, const float *cosine, float *buffer) {
  const mg_tensor *x = w->call->in[0], *out = w->call->out[0];
  const float turn = w->call->attributes.rope.inverse ? -1.0f : 1.0f;
  const float *values = cpu_read(x, row * w->columns, w->columns, buffer);
  float *target = cpu_write_begin(out, row * w->columns, buffer + w->columns);
  for (int64_t first = 0; first < w->columns; first += w->head)
    rotate_head(w, values + first, cosine, turn, target + first);
  cpu_write_end(out, row * w->columns, w->columns, buffer + w->columns);
}

/* Positions repeat from sequence to sequence and from layer to layer: when they are dense, each angle is computed once
 * and kept. */
mg_status CPU_NAME(rope)(mg_backend *backend, const mg_op_call *call) {
  const int32_t *positions = call->in[1]->data;
  const int64_t rows = mg_tensor_count(call->in[1]), columns = mg_tensor_columns(call->in[0]);
  const int64_t pairs = call->attributes.rope.rotary / 2, work = rows * columns;
  const rope_work w = {call, call->attributes.rope.head, pairs, columns, call->attributes.rope.interleaved};
  int64_t highest = -1, lowest = 0;
  for (int64_t row = 0; row < rows; row++) {
    highest = cpu_max(highest, positions[row]);
    lowest = cpu_min(lowest, positions[row]);
  }
  const int64_t stride = 2 * columns + 2 * pairs;
  float *buffers = cpu_row_buffers(backend, stride);
  if (!buffers) return MG_MEMORY;
  const float *angles = lowest < 0 ? NULL : kept_angles(&cpu_state_of(backend)->angles, call, pairs, highest + 1);
  if (!angles && lowest == 0 && highest < rows) {
    angles = make_angles(backend, call, pairs, highest + 1);
    if (!angles) return MG_MEMORY;
  }
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, stride), *own = buffer + 2 * columns;
    if (!angles) rope_angles(call, positions[row], pairs, own);
    rope_row(&w, row, angles ? angles + positions[row] * 2 * pairs : own, buffer);
  }
  return MG_OK;
}
