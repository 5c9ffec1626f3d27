/* moegauge list: which plugins there are and why one cannot be used, which families of models, metrics and experiments. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/list.h"

enum { DEVICE_BYTES = 256, NAME_COLUMN = 14 };

typedef struct list_options {
  bool json, names, sandbox;
} list_options;

static const mg_option options[] = {
    MG_OPTION_BOOL(list_options, json, false, "print JSON and nothing else"),
    MG_OPTION_BOOL(list_options, names, false, "print the names of what can be used, one per line"),
    MG_OPTION_BOOL(list_options, sandbox, false,
                   "of experiments that you have not read: load each without network, programs or files"),
    MG_OPTION_END};

static const char *const kinds[] = {"routers", "backends", "families", "metrics", "experiments", NULL};

static const mg_example examples[] = {{"moegauge list routers", "every router with its summary"},
                                      {"moegauge list backends --json", "what each device is, for a script"},
                                      {"moegauge list families", "which released models are known, and which run"},
                                      {"moegauge list routers --names", "names alone, one per line"},
                                      {"moegauge list experiments", "the question of every experiment"},
                                      MG_EXAMPLE_END};

typedef struct listing {
  mg_cli *cli;
  mg_registry *registry;
  mg_plugin_kind kind;
  const list_options *options;
  json_t *rows;
  int64_t count;
} listing;

/* Opens a backend to learn what device it found; the reason in `text` if there is none. */
static bool describe_device(const listing *to, const char *name, char text[DEVICE_BYTES]) {
  mg_backend *backend;
  if (mg_backend_open(to->cli->context, to->registry, name, NULL, &backend) != MG_OK) {
    snprintf(text, DEVICE_BYTES, "%s", mg_context_message(to->cli->context));
    return false;
  }
  text[0] = '\0';
  backend->plugin->describe(backend, text, DEVICE_BYTES);
  text[DEVICE_BYTES - 1] = '\0';
  mg_backend_close(backend);
  return true;
}

static json_t *row_to_json(const mg_plugin_entry *entry, const char *device, const char *problem) {
  json_t *row = json_pack("{s:s, s:b, s:s, s:s, s:s}", "name", entry->name, "available", problem == NULL, "summary",
                          entry->summary, "path", entry->path, "hash", entry->hash);
  if (problem) json_object_set_new(row, "problem", json_string(problem));
  if (device) json_object_set_new(row, "device", json_string(device));
  return row;
}

static void print_row(const mg_cli *cli, const mg_plugin_entry *entry, const char *device, const char *problem) {
  const char *faint = cli->colour ? "\033[2m" : "", *off = cli->colour ? "\033[0m" : "";
  printf("%-*s ", NAME_COLUMN - 1, entry->name);
  if (!problem) {
    mg_cli_print_wrapped(stdout, entry->summary, NAME_COLUMN, NAME_COLUMN);
    if (device && *device) printf("%*s%s%s%s\n", NAME_COLUMN, "", faint, device, off);
    return;
  }
  char text[2048];
  snprintf(text, sizeof text, "not available: %s", problem);
  mg_cli_print_wrapped(stdout, text, NAME_COLUMN, NAME_COLUMN);
  if (*entry->path) printf("%*s%s%s%s\n", NAME_COLUMN, "", faint, entry->path, off);
}

static bool visit(void *user, const mg_plugin_entry *entry) {
  listing *to = user;
  char text[DEVICE_BYTES];
  const char *problem = entry->problem, *device = NULL;
  if (!problem && to->kind == MG_PLUGIN_BACKEND) {
    const bool opened = describe_device(to, entry->name, text);
    device = opened ? text : NULL;
    problem = opened ? NULL : text;
  }
  to->count++;
  if (to->options->json)
    json_array_append_new(to->rows, row_to_json(entry, device, problem));
  else if (!to->options->names)
    print_row(to->cli, entry, device, problem);
  else if (!problem)
    puts(entry->name);
  return true;
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const char *what = words->word[0];
  listing to = {.cli = cli, .options = option_values};
  if (strcmp(what, "metrics") == 0) return mg__list_metrics(cli, to.options->json, to.options->names);
  if (strcmp(what, "families") == 0) return mg__list_families(cli, to.options->json, to.options->names);
  if (strcmp(what, "experiments") == 0)
    return mg__list_experiments(cli, to.options->json, to.options->names, to.options->sandbox);
  if (strcmp(what, "routers") != 0 && strcmp(what, "backends") != 0)
    return mg_cli_refuse_word(cli, "list of", what, kinds);
  to.kind = strcmp(what, "routers") == 0 ? MG_PLUGIN_ROUTER : MG_PLUGIN_BACKEND;
  MG_TRY(mg_cli_registry(cli, &to.registry));
  if (to.options->json && !(to.rows = json_array())) return mg_fail(cli->context, MG_MEMORY, "out of host memory");
  mg_status status = mg_registry_each(to.registry, to.kind, visit, &to);
  if (status == MG_OK && to.options->json) return mg_cli_print_json(cli, to.rows);
  json_decref(to.rows);
  if (status == MG_OK && to.count == 0)
    return mg_fail(cli->context, MG_NOTHING, "no %s were found; name a folder that holds some in MOEGAUGE_PLUGIN_PATH",
                   what);
  return status;
}

const mg_command mg__command_list = {
    .name = "list",
    .words = "routers|backends|families|metrics|experiments",
    .summary = "show which routers, backends, families, metrics or experiments there are",
    .details = "Of a plugin that cannot be used it says why. Plugins are looked for in the folders of "
               "MOEGAUGE_PLUGIN_PATH, then beside the library. Backends are "
               "opened, so that the line below each one tells what device it found. Experiments are the Lua files "
               "below experiments/ of the current folder, or else of this moegauge; each is loaded and nothing is run.",
    .options = options,
    .options_size = sizeof(list_options),
    .words_least = 1,
    .words_most = 1,
    .first_words = kinds,
    .examples = examples,
    .run = run};
