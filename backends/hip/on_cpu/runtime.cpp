// HIP-CPU's runtime behind the interface in C of runtime.h.
#include "runtime.h"

#include <hip/hip_runtime.h>

static hipStream_t stream_of(void *stream) {
  return static_cast<hipStream_t>(stream);
}

static hipEvent_t event_of(void *event) {
  return static_cast<hipEvent_t>(event);
}

const char *hip_on_cpu_error_text(hip_on_cpu_error error) {
  return hipGetErrorString(static_cast<hipError_t>(error));
}
hip_on_cpu_error hip_on_cpu_last_error(void) {
  return hipGetLastError();
}
hip_on_cpu_error hip_on_cpu_device_count(int *count) {
  return hipGetDeviceCount(count);
}

hip_on_cpu_error hip_on_cpu_malloc(void **out, size_t bytes) {
  return hipMalloc(out, bytes);
}
hip_on_cpu_error hip_on_cpu_free(void *pointer) {
  return hipFree(pointer);
}
hip_on_cpu_error hip_on_cpu_copy(void *to, const void *from, size_t bytes, void *stream) {
  return hipMemcpyAsync(to, from, bytes, hipMemcpyDefault, stream_of(stream));
}
hip_on_cpu_error hip_on_cpu_set(void *to, int value, size_t bytes, void *stream) {
  return hipMemsetAsync(to, value, bytes, stream_of(stream));
}

hip_on_cpu_error hip_on_cpu_stream_create(void **out) {
  hipStream_t stream = nullptr;
  const hipError_t error = hipStreamCreateWithFlags(&stream, hipStreamNonBlocking);
  *out = stream;
  return error;
}
hip_on_cpu_error hip_on_cpu_stream_destroy(void *stream) {
  return hipStreamDestroy(stream_of(stream));
}
hip_on_cpu_error hip_on_cpu_stream_wait(void *stream) {
  return hipStreamSynchronize(stream_of(stream));
}

hip_on_cpu_error hip_on_cpu_event_create(void **out) {
  hipEvent_t event = nullptr;
  const hipError_t error = hipEventCreate(&event);
  *out = event;
  return error;
}
hip_on_cpu_error hip_on_cpu_event_destroy(void *event) {
  return hipEventDestroy(event_of(event));
}
hip_on_cpu_error hip_on_cpu_event_record(void *event, void *stream) {
  return hipEventRecord(event_of(event), stream_of(stream));
}
hip_on_cpu_error hip_on_cpu_event_wait(void *event) {
  return hipEventSynchronize(event_of(event));
}
hip_on_cpu_error hip_on_cpu_event_milliseconds(float *out, void *start, void *stop) {
  return hipEventElapsedTime(out, event_of(start), event_of(stop));
}
