/* Released models are counted from their configurations to the last parameter, every bad configuration is refused with the
 * file, the key and the rule. */
#include "support/testing.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "lua/engine.h"

static mg_context *context;
static mg_registry *registry;
static mg_engine *engine;
static char folder[] = "/tmp/moegauge-inspect-XXXXXX", file[128];

static int open_world(void **state) {
  (void)state;
  char scripts[4096];
  snprintf(scripts, sizeof scripts, "%s/scripts", getenv("MOEGAUGE_SOURCE"));
  if (!mkdtemp(folder)) return 1;
  snprintf(file, sizeof file, "%s/config.json", folder);
  if (mg_context_create(NULL, &context) != MG_OK || mg_registry_create(context, &registry) != MG_OK) return 1;
  if (mg_testing_register(registry) != MG_OK) return 1;
  const mg_engine_settings settings = {.registry = registry, .scripts = scripts};
  return mg_engine_create(context, &settings, &engine) == MG_OK ? 0 : 1;
}

static int close_world(void **state) {
  (void)state;
  unlink(file);
  rmdir(folder);
  mg_engine_destroy(engine);
  mg_registry_destroy(registry);
  mg_context_destroy(context);
  return 0;
}

static void write_config(const char *text, size_t bytes) {
  assert_ok(context, mg_file_write_atomic(context, file, text, bytes));
}

static mg_status inspect(const char *path, json_t **out) {
  json_t *answer;
  const mg_status status = mg_engine_inspect(engine, path, 4096, &answer);
  if (out) *out = json_incref(json_object_get(answer, "result"));
  json_decref(answer);
  return status;
}

/* ---- counts -------------------------------------------------------------------------------------------------- */

static void every_known_number_is_counted_again(void **state) {
  (void)state;
  char golden[4096];
  json_t *answer, *model;
  size_t index, checkpoints = 0;
  snprintf(golden, sizeof golden, "%s/tests/golden/models.json", getenv("MOEGAUGE_SOURCE"));
  assert_ok(context, mg_engine_counts(engine, golden, &answer));
  const json_t *models = json_object_get(json_object_get(answer, "result"), "models");
  json_array_foreach(models, index, model) {
    const char *name = json_string_value(json_object_get(model, "name"));
    char *rows = json_dumps(json_object_get(model, "differences"), JSON_COMPACT);
    if (strcmp(rows, "[]") != 0) fail_msg("%s: %s", name, rows);
    free(rows);
    const json_t *checkpoint = json_object_get(model, "checkpoint");
    if (!checkpoint) continue;
    if (json_integer_value(json_object_get(checkpoint, "difference")) != 0)
      fail_msg("%s: the checkpoint is counted as %lld", name,
               (long long)json_integer_value(json_object_get(checkpoint, "counted")));
    checkpoints++;
  }
  assert_int_equal(json_array_size(models), 37);
  assert_int_equal(checkpoints, 19);
  assert_int_equal(json_integer_value(json_object_get(answer, "different")), 0);
  assert_non_null(strstr(json_string_value(json_object_get(answer, "text")), "no convention; the nearest is"));
  json_decref(answer);
}

/* A wrong number in the file is seen. */
static void a_wrong_number_is_a_difference(void **state) {
  (void)state;
  char golden[4096];
  json_error_t error;
  json_t *answer;
  snprintf(golden, sizeof golden, "%s/tests/golden/models.json", getenv("MOEGAUGE_SOURCE"));
  json_t *models = json_load_file(golden, 0, &error);
  json_t *first = json_array_get(json_object_get(models, "models"), 0);
  json_object_set_new(json_object_get(first, "expected"), "active", json_integer(1));
  json_object_set_new(first, "checkpoint_parameters", json_integer(2));
  char *text = json_dumps(models, 0);
  write_config(text, strlen(text));
  assert_ok(context, mg_engine_counts(engine, file, &answer));
  assert_int_equal(json_integer_value(json_object_get(answer, "different")), 2);
  json_decref(answer);
  json_decref(models);
  free(text);
}

/* ---- bad configurations -------------------------------------------------------------------------------------- */

static const char sound[] =
    "{\"model_type\": \"mixtral\", \"vocab_size\": 32, \"hidden_size\": 16, \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 24, \"num_local_experts\": 4,"
    " \"num_experts_per_tok\": 2, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0}";

/* Sets a key of the sound configuration to `value` (JSON), or removes it when NULL. */
static void write_changed(const char *key, const char *value) {
  json_t *config = json_loads(sound, 0, NULL);
  if (value) {
    json_t *new = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(new);
    json_object_set_new(config, key, new);
  } else {
    json_object_del(config, key);
  }
  char *text = json_dumps(config, 0);
  write_config(text, strlen(text));
  free(text);
  json_decref(config);
}

static void every_wrong_key_is_named_with_its_rule(void **state) {
  (void)state;
  static const struct {
    const char *key, *value, *words;
  } cases[] = {
      {"model_type", NULL, "'model_type': is missing"},
      {"model_type", "7", "'model_type': must be a text"},
      {"model_type", "\"mixtrel\"", "the nearest is 'mixtral'"},
      {"model_type", "\"\"", "there is no family ''"},
      {"vocab_size", NULL, "'vocab_size': is missing; an integer from 1 to 16777216"},
      {"vocab_size", "\"32\"", "'vocab_size': must be an integer from 1 to 16777216, not the text '32'"},
      {"vocab_size", "null", "'vocab_size': is missing"},
      {"vocab_size", "0", "not 0"},
      {"vocab_size", "-5", "not -5"},
      {"vocab_size", "32.5", "not 32.5"},
      {"vocab_size", "true", "not true"},
      {"vocab_size", "[32]", "not a list"},
      {"vocab_size", "{\"a\": 1}", "not a table"},
      {"vocab_size", "9223372036854775807", "from 1 to 16777216"},
      {"hidden_size", NULL, "'hidden_size': is missing"},
      {"hidden_size", "65537", "'hidden_size': must be an integer from 1 to 65536"},
      {"hidden_size", "18", "must divide hidden_size = 18, not be 4"},
      {"num_hidden_layers", NULL, "'num_hidden_layers': is missing"},
      {"num_hidden_layers", "0", "'num_hidden_layers': must be an integer from 1 to 1024"},
      {"num_hidden_layers", "1e9", "'num_hidden_layers': must be an integer"},
      {"num_attention_heads", NULL, "'num_attention_heads': is missing"},
      {"num_attention_heads", "5000", "from 1 to 4096"},
      {"num_key_value_heads", "3", "'num_key_value_heads': must divide the 4 heads, not be 3"},
      {"head_dim", "-1", "'head_dim': must be"},
      {"intermediate_size", NULL, "'intermediate_size': is missing"},
      {"intermediate_size", "99999999999", "from 1 to 16777216"},
      {"num_local_experts", NULL, "'num_local_experts': is missing"},
      {"num_local_experts", "70000", "from 1 to 65536"},
      {"num_local_experts", "1", "'num_experts_per_tok': must be at most the 1 experts, not 2"},
      {"num_experts", "5", "says 5, but 'num_local_experts' says 4"},
      {"num_experts_per_tok", NULL, "'num_experts_per_tok': is missing"},
      {"num_experts_per_tok", "5", "must be at most the 4 experts, not 5"},
      {"num_experts_per_tok", "1", "router topk: with k = 1"},
      {"rms_norm_eps", "\"tiny\"", "'rms_norm_eps': must be a number from 0 to 1"},
      {"rms_norm_eps", "-1e-5", "'rms_norm_eps'"},
      {"rope_theta", "0", "'rope_theta': must be a number from 1"},
      {"rope_scaling", "3", "'rope_scaling': must be a table"},
      {"rope_scaling", "{\"type\": \"twisted\"}", "'rope_scaling.type': must be one of"},
      {"rope_scaling", "{\"rope_type\": \"yarn\"}", "'rope_scaling.factor': is missing"},
      {"rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8}", "original_max_position_embeddings': is missing"},
      {"rope_scaling", "{\"type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1, 1]}",
       "a list of 2 numbers"},
      {"rope_scaling", "{\"type\": \"longrope\", \"short_factor\": [1, -1], \"long_factor\": [1, 1]}",
       "a list of 2 numbers"},
      {"rope_parameters", "{\"rope_theta\": \"x\"}", "'rope_parameters.rope_theta'"},
      {"partial_rotary_factor", "2", "'partial_rotary_factor': must be a number from 0 to 1"},
      {"sliding_window", "-4", "'sliding_window': must be"},
      {"hidden_act", "\"softplus\"", "'hidden_act': must be one of"},
      {"tie_word_embeddings", "1", "'tie_word_embeddings': must be true or false, not 1"},
      {"quantization_config", "\"fp8\"", "'quantization_config': must be a table"},
      {"quantization_config", "{\"weight_block_size\": [128, 0]}", "two integers above 0"},
      {"expert_choice", "true", "'expert_choice': is unknown, and its name says that it changes the mixture"},
      {"num_local_expert", "4", "the nearest known key is 'num_local_experts'"},
      {"router_temperature", "2", "'router_temperature': is unknown"},
      {"moe_layer_offset", "null", "'moe_layer_offset': is unknown"},
      {"n_group", "4", "'n_group': is unknown"},
      {"topk_method", "\"greedy\"", "'topk_method': is unknown"},
      {"shared_expert_intermediate_size", "8", "'shared_expert_intermediate_size': is unknown"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    write_changed(cases[i].key, cases[i].value);
    assert_refused(context, MG_FILE, cases[i].words, inspect(file, NULL));
    if (!strstr(mg_context_message(context), file)) fail_msg("no file in: %s", mg_context_message(context));
  }
}

static void what_is_no_configuration_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *words;
  } cases[] = {
      {"", "not the JSON of a configuration"},
      {"{", "line 1"},
      {"{\"model_type\": \"mixtral\",}", "line 1"},
      {"[]", "is a JSON object"},
      {"[1, 2]", "is a JSON object"},
      {"\"mixtral\"", "not the JSON"},
      {"{\"model_type\": \"mixtral\", \"model_type\": \"olmoe\"}", "duplicate"},
      {"{\"vocab_size\": NaN, \"model_type\": \"mixtral\"}", "line 1"},
      {"{\"vocab_size\": 123456789012345678901234567890, \"model_type\": \"mixtral\"}", "too big"},
      {"{\"model_type\": \"mixtral\"} {}", "line 1"},
      {"{\"model_type\": \"\xff\"}", "line 1"},
      {"\xef\xbb\xbf{}", "line 1"},
      {"{}", "'model_type': is missing"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    write_config(cases[i].text, strlen(cases[i].text));
    assert_refused(context, MG_FILE, cases[i].words, inspect(file, NULL));
    if (!strstr(mg_context_message(context), file)) fail_msg("no file in: %s", mg_context_message(context));
  }
  write_config(sound, sizeof sound); /* with the NUL behind it */
  assert_refused(context, MG_FILE, "line 1", inspect(file, NULL));
}

static void deep_huge_and_missing_files_are_refused_at_once(void **state) {
  (void)state;
  enum { DEPTH = 100000 };
  const int64_t start = mg_clock_ns();
  char *deep = malloc(2 * DEPTH + 32);
  int length = snprintf(deep, 32, "{\"model_type\": ");
  memset(deep + length, '[', DEPTH);
  memset(deep + length + DEPTH, ']', DEPTH);
  write_config(deep, (size_t)length + 2 * DEPTH);
  free(deep);
  assert_refused(context, MG_FILE, "depth", inspect(file, NULL));
  assert_int_equal(truncate(file, 100 << 20), 0);
  assert_refused(context, MG_FILE, "at most 16777216 are read", inspect(file, NULL));
  unlink(file);
  assert_refused(context, MG_FILE, "config.json: cannot be opened", inspect(folder, NULL));
  assert_refused(context, MG_FILE, "not a regular file", inspect("/dev/null", NULL));
  assert_refused(context, MG_FILE, "must have 1 to", inspect("", NULL));
  assert_int_equal(mkfifo(file, 0600), 0);
  assert_refused(context, MG_FILE, "not a regular file", inspect(file, NULL));
  unlink(file);
  assert_true(mg_clock_ns() - start < 1000000000);
}

/* ---- good ones ----------------------------------------------------------------------------------------------- */

static bool holds(const json_t *list, const char *name) {
  size_t index;
  json_t *entry;
  json_array_foreach(list, index, entry) if (strcmp(json_string_value(entry), name) == 0) return true;
  return false;
}

static void every_field_is_used_ignored_or_unknown(void **state) {
  (void)state;
  json_t *result;
  write_changed("colour", "\"blue\"");
  assert_ok(context, inspect(folder, &result));
  const json_t *fields = json_object_get(result, "fields");
  assert_true(holds(json_object_get(fields, "unknown"), "colour"));
  assert_true(holds(json_object_get(fields, "used"), "num_local_experts"));
  assert_int_equal(
      json_array_size(json_object_get(fields, "used")) + json_array_size(json_object_get(fields, "ignored")), 11);
  assert_true(json_is_true(json_object_get(result, "runs")));
  json_decref(result);
  write_changed("use_cache", "true");
  assert_ok(context, inspect(file, &result));
  assert_true(holds(json_object_get(json_object_get(result, "fields"), "ignored"), "use_cache"));
  json_decref(result);
}

/* The largest that any key allows is refused because its size has no number; a thousand layers are counted. */
static void the_largest_configurations_are_counted_or_refused(void **state) {
  (void)state;
  static const char largest[] =
      "{\"model_type\": \"mixtral\", \"vocab_size\": 16777216, \"hidden_size\": 65536, \"num_hidden_layers\": 1024,"
      " \"num_attention_heads\": 4096, \"num_key_value_heads\": 4096, \"head_dim\": 65536,"
      " \"intermediate_size\": 16777216, \"num_local_experts\": 65536, \"num_experts_per_tok\": 65536}";
  json_t *result;
  write_config(largest, strlen(largest));
  assert_refused(context, MG_FILE, "fit", inspect(file, &result));
  write_changed("num_hidden_layers", "1024");
  assert_ok(context, inspect(file, &result));
  assert_int_equal(json_integer_value(json_object_get(json_object_get(result, "breakdown"), "router")), 1024 * 4 * 16);
  json_decref(result);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_known_number_is_counted_again),
                                     cmocka_unit_test(a_wrong_number_is_a_difference),
                                     cmocka_unit_test(every_wrong_key_is_named_with_its_rule),
                                     cmocka_unit_test(what_is_no_configuration_is_refused),
                                     cmocka_unit_test(deep_huge_and_missing_files_are_refused_at_once),
                                     cmocka_unit_test(every_field_is_used_ignored_or_unknown),
                                     cmocka_unit_test(the_largest_configurations_are_counted_or_refused)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
