/* moegauge env: everything about this build and this machine that a bug report or a result should carry. */
#include <stdio.h>

#include "cli/commands.h"
#include "measure/provenance.h"

typedef struct env_options {
  bool json;
} env_options;

static const mg_option options[] = {MG_OPTION_BOOL(env_options, json, false, "print JSON and nothing else"),
                                    MG_OPTION_END};

static const mg_example examples[] = {
    {"moegauge env", "for a bug report"}, {"moegauge env --json", "the same for a script"}, MG_EXAMPLE_END};

static void print_value(const char *key, json_t *value) {
  const char *name;
  json_t *member;
  if (json_is_object(value)) {
    json_object_foreach(value, name, member) {
      char path[128];
      snprintf(path, sizeof path, "%s.%s", key, name);
      print_value(path, member);
    }
  } else if (json_is_string(value)) {
    printf("%-18s %s\n", key, json_string_value(value));
  } else if (json_is_integer(value)) {
    printf("%-18s %lld\n", key, (long long)json_integer_value(value));
  } else if (json_is_boolean(value)) {
    printf("%-18s %s\n", key, json_is_true(value) ? "yes" : "no");
  }
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const env_options *set = option_values;
  (void)words;
  json_t *facts;
  MG_TRY(mg_provenance(cli->context, &facts));
  if (set->json) return mg_cli_print_json(cli, facts);
  const char *key;
  json_t *value;
  json_object_foreach(facts, key, value) print_value(key, value);
  json_decref(facts);
  return MG_OK;
}

const mg_command mg__command_env = {.name = "env",
                                    .words = "",
                                    .summary = "print version, compiler, processor, memory and libraries",
                                    .details = "Every stored result carries the same facts. Neither the name of the "
                                               "machine nor that of its user is among them.",
                                    .options = options,
                                    .options_size = sizeof(env_options),
                                    .examples = examples,
                                    .run = run};
