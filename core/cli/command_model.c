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

static const char *const actions[] = {"inspect", "counts", NULL};

static const mg_example examples[] = {
    {"moegauge model inspect models/OLMoE-1B-7B", "parameters, FLOPs and bytes of the model in a folder"},
    {"moegauge model inspect config.json --context 32768 --json", "the same at a long context, for a script"},
    {"moegauge model counts tests/golden/models.json", "counted against known parameters"},
    MG_EXAMPLE_END};

static mg_status ask(mg_cli *cli, const model_options *set, const char *action, const char *path, json_t **answer) {
  mg_session session;
  mg_status status = mg_session_open(cli, &(mg_session_request){0}, &session);
  if (status == MG_OK && strcmp(action, "inspect") == 0)
    status = mg_engine_inspect(session.engine, path, set->context, answer);
  else if (status == MG_OK)
    status = mg_engine_counts(session.engine, path, answer);
  mg_session_close(&session);
  return status;
}

/* Known numbers that were not counted again are a regression. */
static mg_status judge(mg_cli *cli, const json_t *answer) {
  const json_int_t different = json_integer_value(json_object_get(answer, "different"));
  if (different == 0) return MG_OK;
  return mg_fail(cli->context, MG_REGRESSION, "%lld numbers differ from those of the file", (long long)different);
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const model_options *set = option_values;
  const char *action = words->word[0];
  json_t *answer = NULL;
  bool known = false;
  for (const char *const *name = actions; *name; name++) known |= strcmp(*name, action) == 0;
  if (!known) return mg_cli_refuse_word(cli, "action of model", action, actions);
  mg_status status = ask(cli, set, action, words->word[1], &answer);
  if (status == MG_OK && set->json)
    status = mg_cli_print_json(cli, json_incref(json_object_get(answer, "result")));
  else if (status == MG_OK)
    fputs(json_string_value(json_object_get(answer, "text")), stdout);
  if (status == MG_OK) status = judge(cli, answer);
  json_decref(answer);
  return status;
}

const mg_command mg__command_model = {
    .name = "model",
    .words = "inspect|counts PATH",
    .summary = "show what a released model costs, from its config.json alone",
    .details = "PATH is a config.json or a folder that holds one; no weights are touched. Every field of the "
               "configuration is used or listed; one that is unknown and speaks of experts is an error. `moegauge list "
               "families` shows which models are known. counts takes a file of configurations with known numbers and "
               "prints what differs as Markdown; a difference ends it with 7.",
    .options = options,
    .options_size = sizeof(model_options),
    .words_least = 2,
    .words_most = 2,
    .first_words = actions,
    .examples = examples,
    .run = run};
