/* The calls of HIP's runtime that the host files of backends/gpu make, in C: HIP-CPU's headers are C++ alone. Each is the call
 * of its name; streams and events are HIP-CPU's. */
#ifndef MG_HIP_ON_CPU_RUNTIME_H
#define MG_HIP_ON_CPU_RUNTIME_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int hip_on_cpu_error; /* a hipError_t */

const char *hip_on_cpu_error_text(hip_on_cpu_error error);
hip_on_cpu_error hip_on_cpu_last_error(void);
hip_on_cpu_error hip_on_cpu_device_count(int *count);
hip_on_cpu_error hip_on_cpu_malloc(void **out, size_t bytes);
hip_on_cpu_error hip_on_cpu_free(void *pointer);
hip_on_cpu_error hip_on_cpu_copy(void *to, const void *from, size_t bytes, void *stream);
hip_on_cpu_error hip_on_cpu_set(void *to, int value, size_t bytes, void *stream);
hip_on_cpu_error hip_on_cpu_stream_create(void **out);
hip_on_cpu_error hip_on_cpu_stream_destroy(void *stream);
hip_on_cpu_error hip_on_cpu_stream_wait(void *stream);
hip_on_cpu_error hip_on_cpu_event_create(void **out);
hip_on_cpu_error hip_on_cpu_event_destroy(void *event);
hip_on_cpu_error hip_on_cpu_event_record(void *event, void *stream);
hip_on_cpu_error hip_on_cpu_event_wait(void *event);
hip_on_cpu_error hip_on_cpu_event_milliseconds(float *out, void *start, void *stop);

#ifdef __cplusplus
}
#endif

#endif
