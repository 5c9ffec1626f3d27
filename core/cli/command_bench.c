/* moegauge bench: starts the benchmark program that lies beside this one. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "host/registry.h"

typedef struct bench_options {
  char backend[MG_OPTION_STRING_MAX];
  int64_t scale;
} bench_options;

static const mg_option options[] = {
    MG_OPTION_STRING(bench_options, backend, "cpu",
                     "what runs them; a device with memory of its own runs limit/ alone"),
    MG_OPTION_INT(bench_options, scale, 1, 1, 64, "power of two by which the shapes of limit/ are divided"),
    MG_OPTION_END};

static const mg_example examples[] = {
    {"moegauge bench", "every benchmark"},
    {"moegauge bench matmul", "those whose name holds a match of the expression"},
    {"moegauge bench matmul -- --benchmark_repetitions=9", "with an option of Google Benchmark"},
    {"moegauge bench limit/ --backend cuda", "a mixture's work beside the device's limits"},
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

/* Starts the program with its own options, then the words; returns only when it cannot be started. */
static mg_status start(mg_cli *cli, char *path, char *backend, char *scale, const mg_cli_words *words) {
  enum { OWN = 3 };
  char filter[1024];
  const size_t bytes = ((size_t)words->count + OWN + 1) * sizeof(char *);
  char **arguments = mg_alloc(cli->context, bytes);
  if (!arguments) return MG_MEMORY;
  memcpy(arguments, (char *[]){path, backend, scale}, OWN * sizeof *arguments);
  for (int64_t i = 0; i < words->count; i++) {
    const char *word = words->word[i];
    if (i == 0 && word[0] != '-') {
      snprintf(filter, sizeof filter, "--benchmark_filter=%s", word);
      word = filter;
    }
    arguments[i + OWN] = (char *)(uintptr_t)word; /* execv does not write to them */
  }
  fflush(stdout);
  execv(path, arguments);
  mg_free(cli->context, arguments, bytes);
  return mg_fail(cli->context, MG_FILE, "%s: could not be started: %s", path, strerror(errno));
}

/* The program has backends of its own linked in; any other it is given as a file. */
static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const bench_options *set = option_values;
  char path[PATH_MAX], backend[PATH_MAX + 16] = "--backend=cpu", scale[48];
  mg_registry *registry;
  mg_plugin_entry entry;
  MG_TRY(find_bench(cli, path));
  if (strcmp(set->backend, "cpu") != 0) {
    MG_TRY(mg_cli_registry(cli, &registry));
    MG_TRY(mg_registry_entry(registry, MG_PLUGIN_BACKEND, set->backend, &entry));
    snprintf(backend, sizeof backend, "--backend=%s", entry.path);
  }
  snprintf(scale, sizeof scale, "--scale=%lld", (long long)set->scale);
  return start(cli, path, backend, scale, words);
}

static const char *const no_words[] = {NULL};

const mg_command mg__command_bench = {
    .name = "bench",
    .words = "[FILTER] [-- ARGUMENT ...]",
    .summary = "run the benchmarks of operations, gating and training",
    .details = "FILTER is a regular expression over benchmark names. What follows -- goes to Google Benchmark.",
    .options = options,
    .options_size = sizeof(bench_options),
    .words_least = 0,
    .words_most = INT32_MAX,
    .first_words = no_words,
    .examples = examples,
    .run = run};
