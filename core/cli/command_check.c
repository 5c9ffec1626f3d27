/* moegauge check: does a plugin keep its promises? */
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "cli/check.h"
#include "cli/commands.h"

static const char *const modes[] = {"check", "perf", "support", NULL};

static const mg_option options[] = {
    MG_OPTION_BOOL(mg_check_options, json, false, "print JSON and nothing else"),
    MG_OPTION_CHOICE(mg_check_options, mode, MG_CHECK_CHECK, modes,
                     "of a backend: compare with the reference, measure speed, or ask what is supported"),
    MG_OPTION_STRING(mg_check_options, filter, "", "primitives or checks whose name holds this text"),
    MG_OPTION_STRING(mg_check_options, backend, "cpu", "of a router: the backend that must route like the reference"),
    MG_OPTION_STRING(mg_check_options, set, "", "KEY=VALUE, an option of the plugin"),
    MG_OPTION_BOOL(mg_check_options, sandbox, false,
                   "for a Lua file that you have not read: no network, no programs, few files, limits"),
    MG_OPTION_END};

static const char *const kinds[] = {"backend", "router", NULL};

static const mg_example examples[] = {
    {"moegauge check backend cpu", "compare every primitive with the reference"},
    {"moegauge check backend cpu --filter matmul --mode perf", "time the matrix products"},
    {"moegauge check router tree --set branching=4 --set k=3", "every check of a router under these options"},
    {"moegauge check router experiments/lua_routers.lua", "the routers that a Lua file defines"},
    {"moegauge check router downloaded.lua --sandbox", "routers that nobody here has read"},
    {"moegauge check backend reference --mode support --json", "which dtypes each primitive takes, for a script"},
    MG_EXAMPLE_END};

mg_status mg__check_settings(mg_cli *cli, const mg_option *table, size_t options_size, const mg_cli_words *words,
                             const char *where, json_t **out) {
  *out = NULL;
  if (words->repeated_count == 0) return MG_OK;
  void *values = options_size ? mg_alloc(cli->context, options_size) : NULL;
  if (options_size && !values) return MG_MEMORY;
  mg_options_defaults(table, values);
  mg_status status = MG_OK;
  for (int64_t i = 0; i < words->repeated_count && status == MG_OK; i++) {
    char key[MG_OPTION_STRING_MAX];
    const char *equals = strchr(words->repeated[i], '=');
    snprintf(key, sizeof key, "%.*s", equals ? (int)(equals - words->repeated[i]) : 0, words->repeated[i]);
    status = equals ? mg_options_from_text(cli->context, table, key, equals + 1, where, values)
                    : mg_fail(cli->context, MG_USAGE, "--set needs KEY=VALUE, not '%s'", words->repeated[i]);
  }
  if (status == MG_OK && !(*out = mg_options_to_json(table, values)))
    status = mg_fail(cli->context, MG_MEMORY, "out of host memory while reading options");
  mg_free(cli->context, values, options_size);
  return status;
}

static mg_status check_backend(mg_cli *cli, const mg_check_options *set, const mg_cli_words *words) {
  mg_registry *registry;
  const mg_backend_plugin *plugin;
  json_t *settings;
  char where[128];
  MG_TRY(mg_cli_registry(cli, &registry));
  MG_TRY(mg_registry_backend(registry, words->word[1], &plugin));
  snprintf(where, sizeof where, "backend %s", plugin->name);
  MG_TRY(mg__check_settings(cli, plugin->options, plugin->options_size, words, where, &settings));
  const mg_status status = mg__check_backend(cli, set, words->word[1], settings);
  json_decref(settings);
  return status;
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  if (strcmp(words->word[0], "backend") == 0) return check_backend(cli, option_values, words);
  if (strcmp(words->word[0], "router") == 0) return mg__check_router(cli, option_values, words->word[1], words);
  return mg_cli_refuse_word(cli, "check of", words->word[0], kinds);
}

const mg_command mg__command_check = {
    .name = "check",
    .words = "backend|router NAME|FILE",
    .summary = "hold a plugin to its promises",
    .details =
        "A backend is compared with the reference backend, primitive by primitive, on many shapes, dtypes and "
        "edge cases. A call that the backend does not support is counted, not failed; a wrong result ends with "
        "exit code 5. A router is held to its contract and to the promises it makes under its options: "
        "gradients, distinct experts, order of tokens and experts, causality, capacity, cost; and the backend of "
        "--backend must route as the reference does.",
    .options = options,
    .options_size = sizeof(mg_check_options),
    .repeats = "set",
    .words_least = 2,
    .words_most = 2,
    .first_words = kinds,
    .examples = examples,
    .run = run};
