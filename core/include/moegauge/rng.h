/* Random numbers by position, not by sequence: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy
 * as 1, 2, 3"), from Random123. The same (seed, stream, index) gives the same bits on every device, in any order and
 * with any number of threads. */
#ifndef MOEGAUGE_RNG_H
#define MOEGAUGE_RNG_H

#include "moegauge/api.h"

/* A stream of random numbers. Give each purpose (initialisation, data order, jitter of layer 3, ...) its own. */
typedef struct mg_stream {
  uint64_t seed;
  uint64_t stream;
} mg_stream;

/* The stream for a purpose: a hash of the name and two numbers (for example layer and step) under `seed`. */
MG_API mg_stream mg_stream_named(uint64_t seed, const char *purpose, uint64_t first, uint64_t second);

/* 32 random bits at `index` of the stream. Element i is word i % 4 of the Philox block with counter
 * {i / 4 low, i / 4 high, stream low, stream high} and key {seed low, seed high}. */
MG_API uint32_t mg_random_bits(mg_stream stream, uint64_t index);

/* Uniform on the open interval (0, 1), also when it is rounded to f32: (bits + 0.5) / 2^32, at most 1 - 2^-24. */
MG_API double mg_random_uniform(mg_stream stream, uint64_t index);

/* Standard normal by Box-Muller from the uniforms at 2 * index and 2 * index + 1: sqrt(-2 ln u0) cos(2 pi u1). */
MG_API double mg_random_normal(mg_stream stream, uint64_t index);

/* An integer in [0, bound), by multiplication of 64-bit draws; `bound` > 0. Uses indices 2 * index and 2 * index + 1. */
MG_API uint64_t mg_random_below(mg_stream stream, uint64_t index, uint64_t bound);

#endif
