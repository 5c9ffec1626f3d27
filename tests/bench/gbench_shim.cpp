// The C face of Google Benchmark.
#include "gbench_shim.h"

#include <benchmark/benchmark.h>

static benchmark::State &state_of(gbench_state *state) {
  return *reinterpret_cast<benchmark::State *>(state);
}

void gbench_register(const char *name, gbench_function function, const void *argument) {
  benchmark::RegisterBenchmark(
      name, [=](benchmark::State &state) { function(reinterpret_cast<gbench_state *>(&state), argument); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

void gbench_register_rounds(const char *name, gbench_function function, const void *argument, int32_t rounds) {
  benchmark::RegisterBenchmark(
      name, [=](benchmark::State &state) { function(reinterpret_cast<gbench_state *>(&state), argument); })
      ->UseManualTime()
      ->Iterations(rounds)
      ->Unit(benchmark::kMillisecond);
}

void gbench_round_took(gbench_state *state, double seconds) {
  state_of(state).SetIterationTime(seconds);
}

bool gbench_keep_running(gbench_state *state) {
  return state_of(state).KeepRunning();
}

void gbench_rate(gbench_state *state, const char *name, double per_iteration) {
  state_of(state).counters[name] = benchmark::Counter(per_iteration, benchmark::Counter::kIsIterationInvariantRate);
}

void gbench_number(gbench_state *state, const char *name, double value) {
  state_of(state).counters[name] = benchmark::Counter(value);
}

void gbench_skip(gbench_state *state, const char *reason) {
  state_of(state).SkipWithError(reason);
}

void gbench_context(const char *key, const char *value) {
  benchmark::AddCustomContext(key, value);
}

int gbench_main(int argc, char **argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const size_t matched = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return matched > 0 ? 0 : 4; // nothing to run
}
