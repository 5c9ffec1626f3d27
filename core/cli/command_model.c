/* moegauge model: what a released model is and costs. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/session.h"

typedef struct model_options {
  bool json;
  int64_t context;
} model_options;

static const mg_option options[] = {
    MG_OPTION_BOOL(model_options, json, false, "print JSON and nothing else"),
    MG_OPTION_INT(model_options, context, 4096, 1, 1 << 30, "tokens of the context that FLOPs and memory are for"),
    MG_OPTION_END};

static const char *const actions[] = {"inspect", NULL};

static const mg_example examples[] = {
    {"moegauge model inspect models/OLMoE-1B-7B", "parameters, FLOPs and bytes of the model in a folder"},
    {"moegauge model inspect config.json --context 32768 --json", "the same at a long context, for a script"},
    MG_EXAMPLE_END};

static mg_status inspect(mg_cli *cli, const model_options *set, const char *path) {
  json_t *answer = NULL;
  mg_session session;
  mg_status status = mg_session_open(cli, &(mg_session_request){0}, &session);
  if (status == MG_OK) status = mg_engine_inspect(session.engine, path, set->context, &answer);
  mg_session_close(&session);
  if (status == MG_OK && set->json)
    status = mg_cli_print_json(cli, json_incref(json_object_get(answer, "result")));
  else if (status == MG_OK)
    fputs(json_string_value(json_object_get(answer, "text")), stdout);
  json_decref(answer);
  return status;
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  if (strcmp(words->word[0], actions[0]) != 0)
    return mg_cli_refuse_word(cli, "action of model", words->word[0], actions);
  return inspect(cli, option_values, words->word[1]);
}

const mg_command mg__command_model = {
    .name = "model",
    .words = "inspect PATH",
    .summary = "show what a released model costs, from its config.json alone",
    .details = "PATH is a config.json or a folder that holds one; no weights are touched. Every field of the "
               "configuration is used or listed; one that is unknown and speaks of experts is an error. `moegauge list "
               "families` shows which models are known.",
    .options = options,
    .options_size = sizeof(model_options),
    .words_least = 2,
    .words_most = 2,
    .first_words = actions,
    .examples = examples,
    .run = run};
