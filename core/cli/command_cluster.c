/* moegauge cluster: calibrates the costs of the cluster simulator. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/options.h"
#include "cli/commands.h"
#include "cli/session.h"

enum { FILES_MOST = 64 };

typedef struct cluster_options {
  bool json;
  char accelerator[MG_OPTION_STRING_MAX], where[MG_OPTION_STRING_MAX], output[MG_OPTION_STRING_MAX];
} cluster_options;

static const mg_option options[] = {
    MG_OPTION_STRING(cluster_options, accelerator, "h100", "fit: what was measured on, from the catalogue"),
    MG_OPTION_STRING(cluster_options, where, "", "fit: rows to use, as COLUMN=TEXT, several with commas"),
    MG_OPTION_STRING(cluster_options, output, "", "fit: the Lua file to write the calibration to"),
    MG_OPTION_BOOL(cluster_options, json, false, "print JSON and nothing else"), MG_OPTION_END};

static const char *const actions[] = {"fit", NULL};

static const mg_example examples[] = {
    {"moegauge cluster fit deepep.csv", "coefficients with residuals and leave-one-out errors"},
    {"moegauge cluster fit deepep.csv --where dispatch_sms=20 --json", "the same of some rows, for a script"},
    {"moegauge cluster fit a.csv b.csv --accelerator h200 --output h200.lua", "a calibration for mg.cluster"},
    MG_EXAMPLE_END};

/* The command line as the library wants it. */
static json_t *settings_of(const cluster_options *set, const mg_cli_words *words) {
  json_t *settings = mg_options_to_json(options, set), *files = json_array();
  for (int64_t i = 1; i < words->count; i++) json_array_append_new(files, json_string(words->word[i]));
  json_object_set_new(settings, "files", files);
  return settings;
}

static mg_status fit(mg_cli *cli, const cluster_options *set, const mg_cli_words *words, json_t **answer) {
  mg_session session;
  json_t *settings = settings_of(set, words);
  mg_status status = mg_session_open(cli, &(mg_session_request){0}, &session);
  if (status == MG_OK) status = mg_engine_cluster_fit(session.engine, settings, answer);
  mg_session_close(&session);
  json_decref(settings);
  return status;
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const cluster_options *set = option_values;
  json_t *answer = NULL;
  if (strcmp(words->word[0], actions[0]) != 0)
    return mg_cli_refuse_word(cli, "action of cluster", words->word[0], actions);
  mg_status status = fit(cli, set, words, &answer);
  const char *lua = json_string_value(json_object_get(answer, "lua"));
  if (status == MG_OK && *set->output) status = mg_file_write_atomic(cli->context, set->output, lua, strlen(lua));
  if (status == MG_OK && set->json)
    status = mg_cli_print_json(cli, json_incref(json_object_get(answer, "result")));
  else if (status == MG_OK)
    fputs(json_string_value(json_object_get(answer, "text")), stdout);
  json_decref(answer);
  return status;
}

const mg_command mg__command_cluster = {
    .name = "cluster",
    .words = "fit DATA.csv...",
    .summary = "calibrate the costs of the cluster simulator from measurements",
    .details =
        "Each table is told by its columns: m, n, k, groups, element_bytes, tflops (products of matrices); "
        "moe_ep_size, "
        "latency in ms (expert feed-forward under uniform load); dispatch_avg_t_us, combine_avg_t_us (low-latency "
        "all-to-all); dispatch_transmit_us, combine_transmit_us (normal all-to-all); num_gpus, message_size, latency "
        "in "
        "ms (collectives). For every form it prints the coefficients, the residuals, and the error of each row when it "
        "is predicted from all others. core/cluster/README.md has the forms.",
    .options = options,
    .options_size = sizeof(cluster_options),
    .words_least = 2,
    .words_most = FILES_MOST,
    .first_words = actions,
    .examples = examples,
    .run = run};
