/* What this machine can do at most, measured in this process: arithmetic in registers and memory bandwidth. Figures of
 * a benchmark are stated as a share of these. */
#ifndef MG_MEASURE_PEAK_H
#define MG_MEASURE_PEAK_H

#include "moegauge/context.h"

typedef struct mg_peak {
  int32_t threads;
  const char *f32_instruction; /* "avx512 fma" */
  double f32_flops;            /* per second, all threads: fused multiply-adds in registers, 2 each */
  double bf16_flops;           /* VDPBF16PS in registers, 4 per lane; 0 where there is none */
  double amx_flops;            /* TDPBF16PS on loaded tiles, 16384 each; 0 where there is none */
  double read_bytes;           /* per second: reading memory beyond the caches */
  double copy_bytes;           /* per second: memcpy beyond the caches, bytes read plus bytes written */
} mg_peak;

/* Measures with `threads` threads (0 = all processors that this process may use); takes about a second. Each figure is
 * the best of several short runs, because other work on the machine can only make it smaller. MG_MEMORY. */
mg_status mg_peak_measure(mg_context *context, int32_t threads, mg_peak *out);

#endif
