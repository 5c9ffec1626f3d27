/* moegauge help: pages of commands, routers and backends. */
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "cli/help.h"

typedef struct help_options {
  bool man, json;
} help_options;

static const mg_option options[] = {
    MG_OPTION_BOOL(help_options, man, false, "print a man page (roff) of the program or of a command"),
    MG_OPTION_BOOL(help_options, json, false, "print the option table of a router or backend as JSON"), MG_OPTION_END};

static const char *const plugin_words[] = {"router", "backend", NULL};

static const mg_example examples[] = {{"moegauge help list", "options and examples of a command"},
                                      {"moegauge help router topk", "options of a router, with defaults and ranges"},
                                      {"moegauge help --man list", "the man page of a command"},
                                      MG_EXAMPLE_END};

static void print_dimension(int64_t dimension) {
  static const char *const word[] = {[1] = "width", [2] = "experts", [3] = "vocabulary", [4] = "by options"};
  if (dimension > 0)
    printf("%lld", (long long)dimension);
  else
    fputs(word[-dimension], stdout);
}

static void print_params(const mg_cli *cli, const mg_param_spec *params) {
  if (!params || !params->name) return;
  mg__help_heading(cli, "Parameters");
  for (const mg_param_spec *p = params; p->name; p++) {
    printf("  %s [", p->name);
    for (int d = 0; d < MG_DIMS_MAX && p->shape[d] != MG_DIM_NONE; d++) {
      if (d) fputs(", ", stdout);
      print_dimension(p->shape[d]);
    }
    printf("]%s\n", p->fixed ? ", not trained" : "");
  }
}

static void print_options(const mg_cli *cli, const mg_option *table) {
  mg__help_heading(cli, "Options");
  if (!table || table->type == MG_OPTION_TYPE_END)
    printf("  none\n");
  else
    mg__help_options(cli, table, "", NULL);
}

static mg_status help_router(mg_cli *cli, const char *name, bool json) {
  mg_registry *registry;
  const mg_router_plugin *plugin;
  MG_TRY(mg_cli_registry(cli, &registry));
  MG_TRY(mg_registry_router(registry, name, &plugin));
  if (json)
    return mg_cli_print_json(cli, json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", plugin->name, "summary",
                                            plugin->summary, "formula", plugin->formula ? plugin->formula : "", "paper",
                                            plugin->paper ? plugin->paper : "", "options",
                                            mg_options_describe(plugin->options)));
  printf("router %s: %s\n", plugin->name, plugin->summary);
  if (plugin->formula) printf("\n  %s\n", plugin->formula);
  if (plugin->paper) printf("\n  %s\n", plugin->paper);
  print_options(cli, plugin->options);
  print_params(cli, plugin->params);
  mg__help_heading(cli, "In an experiment");
  printf("  mg.moe { experts = 16, width = 256, router = mg.router.%s {} }\n", plugin->name);
  return MG_OK;
}

static mg_status help_backend(mg_cli *cli, const char *name, bool json) {
  mg_registry *registry;
  const mg_backend_plugin *plugin;
  MG_TRY(mg_cli_registry(cli, &registry));
  MG_TRY(mg_registry_backend(registry, name, &plugin));
  if (json)
    return mg_cli_print_json(cli, json_pack("{s:s, s:s, s:o}", "name", plugin->name, "summary", plugin->summary,
                                            "options", mg_options_describe(plugin->options)));
  printf("backend %s: %s\n", plugin->name, plugin->summary);
  print_options(cli, plugin->options);
  return MG_OK;
}

static mg_status help_plugin(mg_cli *cli, const mg_cli_words *words, bool json) {
  const bool router = strcmp(words->word[0], "router") == 0;
  if (words->count < 2)
    return mg_fail(cli->context, MG_USAGE, "help: name the %s; 'moegauge list %ss' shows them", words->word[0],
                   words->word[0]);
  return router ? help_router(cli, words->word[1], json) : help_backend(cli, words->word[1], json);
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const help_options *set = option_values;
  const char *first = words->count > 0 ? words->word[0] : NULL;
  if (first && (strcmp(first, "router") == 0 || strcmp(first, "backend") == 0))
    return help_plugin(cli, words, set->json);
  if (words->count > 1) return mg_fail(cli->context, MG_USAGE, "help: '%s' is one argument too many", words->word[1]);
  const mg_command *command = first ? mg__command_find(first) : NULL;
  if (first && !command) return mg__command_refuse(cli, first);
  if (set->json) return mg_fail(cli->context, MG_USAGE, "help: --json needs 'router NAME' or 'backend NAME'");
  if (set->man)
    mg__man_page(command);
  else if (command)
    mg__help_command(cli, command);
  else
    mg__help_overview(cli);
  return MG_OK;
}

const mg_command mg__command_help = {.name = "help",
                                     .words = "[COMMAND | router NAME | backend NAME]",
                                     .summary = "show help for a command, a router or a backend",
                                     .options = options,
                                     .options_size = sizeof(help_options),
                                     .words_least = 0,
                                     .words_most = 2,
                                     .first_words = plugin_words,
                                     .examples = examples,
                                     .run = run};
