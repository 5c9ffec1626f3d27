/* The executor's pretended device: memory with a limit, copies, events, and failures on demand. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor_internal.h"

executor_settings executor__settings = {.memory_bytes = INT64_C(4) << 30};

static struct {
  executor_counts counts;
  executor_error error; /* of launches, until it is asked for */
  char text[200];
} device;

void executor_configure(const executor_settings *settings) {
  executor__settings = *settings;
  device.error = EXECUTOR_OK;
}

executor_counts executor_count(void) {
  return device.counts;
}

executor_counts *executor__counts(void) {
  return &device.counts;
}

bool executor_has_meter(void) {
  return executor__settings.meter;
}

bool executor_has_blas(void) {
  return executor__settings.blas;
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

void executor__fail(executor_error error, const char *text) {
  if (device.error != EXECUTOR_OK) return;
  device.error = error;
  snprintf(device.text, sizeof device.text, "%s", text);
}

bool executor__failed(void) {
  return device.error != EXECUTOR_OK;
}

bool executor__begin_launch(void) {
  device.counts.launches++;
  if (executor__settings.fail == EXECUTOR_FAIL_NO_CODE) executor__fail(EXECUTOR_NO_CODE, "no code for this device");
  if (executor__settings.fail == EXECUTOR_FAIL_LOST) executor__fail(EXECUTOR_LOST, "the device fell off the bus");
  return device.error == EXECUTOR_OK;
}

executor_error executor_last_error(void) {
  const executor_error error = device.error;
  device.error = EXECUTOR_OK;
  return error;
}

const char *executor_error_text(executor_error error) {
  switch (error) {
  case EXECUTOR_OK: return "no error";
  case EXECUTOR_NO_DEVICE: return "the executor was told to have no device";
  case EXECUTOR_NO_MEMORY: return "out of memory";
  case EXECUTOR_NO_CODE:
  case EXECUTOR_BAD_LAUNCH:
  case EXECUTOR_BAD_KERNEL:
  case EXECUTOR_BAD_GRAPH:
  case EXECUTOR_LOST: break;
  }
  return device.text;
}

/* Every call but those for facts fails once the device is lost. */
static executor_error alive(void) {
  return device.error == EXECUTOR_LOST ? EXECUTOR_LOST : EXECUTOR_OK;
}

/* ---- facts ------------------------------------------------------------------------------------------------------ */

executor_error executor_device_count(int *count) {
  *count = executor__settings.fail == EXECUTOR_FAIL_NO_DEVICE ? 0 : 1;
  return *count ? EXECUTOR_OK : EXECUTOR_NO_DEVICE;
}

executor_error executor_device_facts(gpu_device_facts *facts, int warp) {
  *facts = (gpu_device_facts){.multiprocessors = 2, .warp = warp, .memory_bytes = executor__settings.memory_bytes};
  snprintf(facts->name, sizeof facts->name, "executor on the host");
  snprintf(facts->architecture, sizeof facts->architecture, "warp%d", warp);
  snprintf(facts->driver, sizeof facts->driver, "none");
  snprintf(facts->bus, sizeof facts->bus, "none");
  return EXECUTOR_OK;
}

executor_error executor_memory_free(size_t *free_bytes, size_t *total_bytes) {
  *total_bytes = (size_t)executor__settings.memory_bytes;
  *free_bytes = (size_t)(executor__settings.memory_bytes - device.counts.bytes);
  return EXECUTOR_OK;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

/* New memory is all ones (NaN in every real dtype, -1 in i32), so that reading what nobody wrote shows. */
executor_error executor_malloc(void **pointer, size_t bytes) {
  *pointer = NULL;
  const executor_error error = executor__allowed("taking memory");
  if (error != EXECUTOR_OK) return error;
  if ((int64_t)bytes > executor__settings.memory_bytes - device.counts.bytes) return EXECUTOR_NO_MEMORY;
  *pointer = aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!*pointer) return EXECUTOR_NO_MEMORY;
  memset(*pointer, 0xff, bytes);
  device.counts.allocations++;
  device.counts.bytes += (int64_t)malloc_usable_size(*pointer);
  return EXECUTOR_OK;
}

executor_error executor_free(void *pointer) {
  const executor_error error = executor__allowed("giving memory back");
  if (error != EXECUTOR_OK) return error;
  if (pointer) device.counts.bytes -= (int64_t)malloc_usable_size(pointer);
  free(pointer);
  return EXECUTOR_OK;
}

/* A copy, or without a source a setting. */
typedef struct movement {
  void *to;
  const void *from;
  int value;
  size_t bytes;
} movement;

static void move(const void *user) {
  const movement *m = user;
  if (m->from && m->bytes)
    memcpy(m->to, m->from, m->bytes);
  else if (m->bytes)
    memset(m->to, m->value, m->bytes);
}

executor_error executor_copy(void *to, const void *from, size_t bytes) {
  const movement m = {.to = to, .from = from, .bytes = bytes};
  executor_call(move, &m, sizeof m);
  return alive();
}

executor_error executor_set(void *pointer, int value, size_t bytes) {
  const movement m = {.to = pointer, .value = value, .bytes = bytes};
  executor_call(move, &m, sizeof m);
  return alive();
}

/* ---- waiting and time ------------------------------------------------------------------------------------------- */

executor_error executor_wait(void) {
  const executor_error error = executor__allowed("waiting");
  return error == EXECUTOR_OK ? alive() : error;
}

executor_error executor_event_create(double **event) {
  *event = calloc(1, sizeof **event);
  return *event ? EXECUTOR_OK : EXECUTOR_NO_MEMORY;
}

executor_error executor_event_destroy(double *event) {
  free(event);
  return EXECUTOR_OK;
}

executor_error executor_event_record(double *event) {
  struct timespec now;
  const executor_error error = executor__allowed("recording an event");
  if (error != EXECUTOR_OK) return error;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *event = 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
  return alive();
}

executor_error executor_event_milliseconds(float *out, const double *start, const double *end) {
  *out = (float)(*end - *start);
  return EXECUTOR_OK;
}
