/* Monotonic time and resource use of this process. */
#ifndef MG_BASE_CLOCK_H
#define MG_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds since an arbitrary point; never goes back. */
int64_t mg_clock_ns(void);

/* Seconds since 1970-01-01 UTC. */
int64_t mg_clock_unix_seconds(void);

/* The most resident memory this process has had, in bytes; 0 if the system does not tell. */
int64_t mg_process_peak_bytes(void);

/* Starts the peak anew at today's resident size, where the system allows it. */
void mg_process_reset_peak(void);

#endif
