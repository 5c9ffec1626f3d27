/* moegauge bench: starts the benchmark program that lies beside this one. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"

static const mg_example examples[] = {
    {"moegauge bench", "every benchmark"},
    {"moegauge bench matmul", "those whose name holds a match of the expression"},
    {"moegauge bench matmul -- --benchmark_repetitions=9", "with an option of Google Benchmark"},
    MG_EXAMPLE_END};

/* The path of moegauge-bench in the folder of the running program. */
static mg_status find_bench(mg_cli *cli, char path[PATH_MAX]) {
  static const char name[] = "moegauge-bench";
  snprintf(path, PATH_MAX, "%s", cli->program);
  char *slash = strrchr(path, '/');
  const size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
  if (folder + sizeof name > PATH_MAX) return mg_fail(cli->context, MG_FILE, "%s: the path is too long", path);
  memcpy(path + folder, name, sizeof name);
  if (access(path, X_OK) == 0) return MG_OK;
  return mg_fail(cli->context, MG_NOTHING,
                 "%s is not there: the benchmarks were not built; install libbenchmark-dev, libdnnl-dev and "
                 "libopenblas-openmp-dev, configure with -DMG_BENCH=ON, and build again",
                 path);
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  (void)option_values;
  char path[PATH_MAX], filter[1024];
  MG_TRY(find_bench(cli, path));
  const size_t bytes = ((size_t)words->count + 2) * sizeof(char *);
  char **arguments = mg_alloc(cli->context, bytes);
  if (!arguments) return MG_MEMORY;
  arguments[0] = path;
  for (int64_t i = 0; i < words->count; i++) {
    const char *word = words->word[i];
    if (i == 0 && word[0] != '-') {
      snprintf(filter, sizeof filter, "--benchmark_filter=%s", word);
      word = filter;
    }
    arguments[i + 1] = (char *)(uintptr_t)word; /* execv does not write to them */
  }
  fflush(stdout);
  execv(path, arguments);
  mg_free(cli->context, arguments, bytes);
  return mg_fail(cli->context, MG_FILE, "%s: could not be started: %s", path, strerror(errno));
}

static const char *const no_words[] = {NULL};

const mg_command mg__command_bench = {
    .name = "bench",
    .words = "[FILTER] [-- ARGUMENT ...]",
    .summary = "run the benchmarks of operations, gating and training",
    .details = "FILTER is a regular expression over benchmark names. What follows -- goes to Google Benchmark.",
    .words_least = 0,
    .words_most = INT32_MAX,
    .first_words = no_words,
    .examples = examples,
    .run = run};
