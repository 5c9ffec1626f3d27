/* moegauge model: what a released model is, costs, and can do. */
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "cli/check.h"
#include "cli/commands.h"
#include "cli/model_tokenize.h"
#include "cli/session.h"

typedef struct model_options {
  bool json, plain;
  int64_t context, stride, limit, precision, threads;
  int64_t prompt, generate, depth, repeats;
  int64_t tokens, top_k, seed;
  double temperature, top_p;
  char text[MG_OPTION_STRING_MAX], choices[MG_OPTION_STRING_MAX], output[MG_OPTION_STRING_MAX];
  char backend[MG_OPTION_STRING_MAX], set[MG_OPTION_STRING_MAX];
} model_options;

static const char *const precisions[] = {"bf16", "f32", NULL};

static const mg_option options[] = {
    MG_OPTION_BOOL(model_options, json, false, "print JSON and nothing else"),
    MG_OPTION_INT(model_options, context, 4096, 1, 1 << 30, "tokens of the context: of the costs, or of a pass"),
    MG_OPTION_STRING(model_options, text, "", "eval, trace, generate, tokenize: the text file"),
    MG_OPTION_STRING(model_options, choices, "", "eval: a file of questions, one JSON object a line"),
    MG_OPTION_STRING(model_options, output, "", "trace: the file to write"),
    MG_OPTION_INT(model_options, stride, 0, 0, 1 << 30, "eval: tokens that each pass moves on; 0 = half the context"),
    MG_OPTION_INT(model_options, limit, 0, 0, 1 << 30, "eval, trace: so many tokens or questions at most; 0 = all"),
    MG_OPTION_CHOICE(model_options, precision, 0, precisions,
                     "eval, trace, generate, bench: how products are computed"),
    MG_OPTION_STRING(model_options, backend, "",
                     "eval, trace, generate, bench: the backend; default: cpu where there is one"),
    MG_OPTION_STRING(model_options, set, "",
                     "eval, trace, generate, bench: KEY=VALUE, an option of the backend that --backend names"),
    MG_OPTION_INT(model_options, threads, 0, 0, 4096,
                  "eval, trace, generate, bench: threads of the backend; 0 = its default"),
    MG_OPTION_INT(model_options, prompt, 512, 0, 1 << 24, "bench: tokens read in one pass; 0 = none"),
    MG_OPTION_INT(model_options, generate, 64, 0, 1 << 24, "bench: tokens then written one by one; 0 = none"),
    MG_OPTION_INT(model_options, depth, 512, 0, 1 << 24, "bench: tokens in the cache before the first one written"),
    MG_OPTION_INT(model_options, repeats, 5, 1, 10000, "bench: rounds, after some passes that are not counted"),
    MG_OPTION_INT(model_options, tokens, 64, 1, 1 << 24, "generate: tokens to write at most"),
    MG_OPTION_FLOAT(model_options, temperature, 0, 0, 1e6,
                    "generate: divides the logits before a token is drawn; 0 = the likeliest"),
    MG_OPTION_INT(model_options, top_k, 0, 0, 1 << 24, "generate: draw from so many of the likeliest; 0 = all"),
    MG_OPTION_FLOAT(model_options, top_p, 1, 1e-9, 1, "generate: of those, from the fewest that hold this share"),
    MG_OPTION_INT(model_options, seed, 1, 0, 1LL << 53, "generate: of the draws"),
    MG_OPTION_BOOL(model_options, plain, false, "tokenize: leave out what the model puts around a text"),
    MG_OPTION_END};

static const char generate[] = "generate", tokenize[] = "tokenize";
static const char *const actions[] = {"inspect", "check", "counts",   "eval", "generate",
                                      "trace",   "bench", "tokenize", NULL};

static const mg_example examples[] = {
    {"moegauge model inspect models/OLMoE-1B-7B", "parameters, FLOPs and bytes of the model in a folder"},
    {"moegauge model inspect config.json --context 32768 --json", "the same at a long context, for a script"},
    {"moegauge model check models/OLMoE-1B-7B", "are all weights finite numbers?"},
    {"moegauge model counts tests/golden/models.json", "counted against known parameters"},
    {"moegauge model eval models/OLMoE-1B-7B --text book.txt", "perplexity and bits per byte on a text"},
    {"moegauge model eval models/OLMoE-1B-7B --choices arc.jsonl --limit 500", "multiple choice: acc and acc_norm"},
    {"moegauge model generate models/OLMoE-1B-7B 'The owl' --temperature 0.8 --top-p 0.95", "what it writes next"},
    {"moegauge model trace models/OLMoE-1B-7B --text book.txt --output book.trace", "where each token was routed"},
    {"moegauge model bench models/OLMoE-1B-7B --threads 2", "tokens per second, reading a prompt and writing"},
    {"moegauge model bench models/OLMoE-1B-7B --backend cuda --set graphs=true", "with an option of the backend"},
    {"moegauge model tokenize models/OLMoE-1B-7B 'The owl'", "the ids of a text"},
    MG_EXAMPLE_END};

static mg_status run_tokenize(mg_cli *cli, const model_options *set, const mg_cli_words *words) {
  return mg__model_tokenize(cli, &(mg__tokenize_request){.path = words->word[1],
                                                         .text = words->count > 2 ? words->word[2] : NULL,
                                                         .file = set->text,
                                                         .plain = set->plain,
                                                         .json = set->json});
}

/* Adds the backend's options that were set, as "options". */
static mg_status add_backend_options(mg_cli *cli, const model_options *set, const mg_cli_words *words,
                                     json_t *settings) {
  mg_registry *registry;
  const mg_backend_plugin *plugin;
  json_t *chosen;
  char where[128];
  if (words->repeated_count == 0) return MG_OK;
  if (!set->backend[0])
    return mg_fail(cli->context, MG_USAGE, "model: --set is an option of a backend; name it with --backend");
  MG_TRY(mg_cli_registry(cli, &registry));
  MG_TRY(mg_registry_backend(registry, set->backend, &plugin));
  snprintf(where, sizeof where, "backend %s", plugin->name);
  MG_TRY(mg__check_settings(cli, plugin->options, plugin->options_size, words, where, &chosen));
  json_object_set_new(settings, "options", chosen);
  return MG_OK;
}

/* The settings of an action that runs a model, with the backend's options and the text that it goes on from. */
static mg_status settings_of(mg_cli *cli, const model_options *set, const mg_cli_words *words, json_t **out) {
  mg_context *context = cli->context;
  *out = mg_options_to_json(options, set);
  if (!*out) return mg_fail(context, MG_MEMORY, "model: no memory for its settings");
  MG_TRY(add_backend_options(cli, set, words, *out));
  if (strcmp(words->word[0], generate) != 0) return MG_OK;
  mg_text text = {0};
  mg_status status = mg__model_text(context, generate, words->count > 2 ? words->word[2] : NULL, set->text, &text);
  json_t *prompt = status == MG_OK ? json_stringn(text.count ? text.bytes : "", text.count) : NULL;
  if (status == MG_OK && !prompt) status = mg_fail(context, MG_FILE, "model generate: the text is not UTF-8");
  if (prompt) json_object_set_new(*out, "prompt_text", prompt);
  mg_text_free(context, &text);
  return status;
}

static mg_status answer_of(mg_cli *cli, mg_engine *engine, const model_options *set, const mg_cli_words *words,
                           json_t **answer) {
  const char *action = words->word[0], *path = words->word[1];
  if (strcmp(action, "inspect") == 0) return mg_engine_inspect(engine, path, set->context, answer);
  if (strcmp(action, "counts") == 0) return mg_engine_counts(engine, path, answer);
  json_t *settings;
  mg_status status = settings_of(cli, set, words, &settings);
  if (status == MG_OK) status = mg_engine_released(engine, action, path, settings, answer);
  json_decref(settings);
  return status;
}

/* Known numbers that were not counted again are a regression. */
static mg_status judge(mg_cli *cli, const json_t *answer) {
  const json_int_t different = json_integer_value(json_object_get(answer, "different"));
  if (different == 0) return MG_OK;
  return mg_fail(cli->context, MG_REGRESSION, "%lld numbers differ from those of the file", (long long)different);
}

static void show(void *user, const char *text) {
  (void)user;
  fputs(text, stdout);
  fflush(stdout);
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const model_options *set = option_values;
  bool known = false;
  for (size_t i = 0; actions[i]; i++) known |= strcmp(words->word[0], actions[i]) == 0;
  if (!known) return mg_cli_refuse_word(cli, "action of model", words->word[0], actions);
  if (strcmp(words->word[0], tokenize) == 0) return run_tokenize(cli, set, words);
  if (words->count > 2 && strcmp(words->word[0], generate) != 0)
    return mg_fail(cli->context, MG_USAGE,
                   "model: '%s' is one argument too many; only generate and tokenize take a text", words->word[2]);
  json_t *answer = NULL;
  mg_session session;
  mg_status status = mg_session_open(cli, &(mg_session_request){.show = show}, &session);
  if (status == MG_OK) status = answer_of(cli, session.engine, set, words, &answer);
  mg_session_close(&session);
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
    .words = "inspect|check|counts|eval|generate|trace|bench|tokenize PATH [TEXT]",
    .summary = "show what a released model costs, or run it: text, questions, routing traces, speed",
    .details =
        "inspect: PATH is a config.json, a GGUF file, or a folder that holds one; no weights are touched. Every field "
        "of the "
        "configuration is used or listed; one that is unknown and speaks of experts is an error. check: reads every "
        "weight and names the tensors that hold NaN or infinities, which ends it with 3. counts: PATH is a "
        "file of configurations with known numbers; what differs is printed as Markdown, and a difference ends "
        "it with 7. eval, generate, trace and bench: "
        "PATH is a folder with config.json and the weights in safetensors, and for texts tokenizer.json, or a GGUF "
        "file. bench reads "
        "random tokens and prints medians with the lowest and highest round. Questions are lines "
        "{\"context\": TEXT, \"choices\": [TEXT, ...], \"answer\": I}. generate goes on from TEXT (- is standard "
        "input) or "
        "from a file, as it stands: no chat template is put around it. tokenize prints the ids of TEXT (- is standard "
        "input), or of a file, in the vocabulary of a tokenizer.json, a folder with one, or a GGUF file; text that "
        "spells a special token is that token. `moegauge list families` shows which "
        "models are known and which run.",
    .options = options,
    .options_size = sizeof(model_options),
    .repeats = "set",
    .words_least = 2,
    .words_most = 3,
    .first_words = actions,
    .examples = examples,
    .run = run};
