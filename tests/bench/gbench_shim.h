/* Google Benchmark for C: the few calls that the benchmarks need. */
#ifndef MG_GBENCH_SHIM_H
#define MG_GBENCH_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gbench_state gbench_state;
typedef void (*gbench_function)(gbench_state *state, const void *argument);

/* Adds a benchmark; `argument` must live until the program ends. Time is that of the wall clock. */
void gbench_register(const char *name, gbench_function function, const void *argument);
/* The same with a fixed number of iterations, each of which states its own time. */
void gbench_register_rounds(const char *name, gbench_function function, const void *argument, int32_t rounds);
void gbench_round_took(gbench_state *state, double seconds);
/* True while another timed iteration is due. */
bool gbench_keep_running(gbench_state *state);
/* `per_iteration` of something is done each iteration; printed per second. */
void gbench_rate(gbench_state *state, const char *name, double per_iteration);
/* A number that is printed as it is. */
void gbench_number(gbench_state *state, const char *name, double value);
/* Reports the benchmark as failed, with a reason. */
void gbench_skip(gbench_state *state, const char *reason);
/* A line of the context that stands above the results. */
void gbench_context(const char *key, const char *value);
/* Parses --benchmark_* options, runs what they name, and returns the exit code. */
int gbench_main(int argc, char **argv);

#ifdef __cplusplus
}
#endif
#endif
