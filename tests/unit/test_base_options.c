/* Option tables: defaults, strict keys, types and ranges, and the way back to JSON. */
#include "support/testing.h"

#include "base/options.h"

typedef struct sample {
  bool fast;
  int64_t k;
  double rate;
  int64_t score;
  char name[MG_OPTION_STRING_MAX];
  mg_option_ints shape;
} sample;

static const char *const scores[] = {"softmax", "sigmoid", NULL};
static const mg_option table[] = {MG_OPTION_BOOL(sample, fast, true, "whether to hurry"),
                                  MG_OPTION_INT(sample, k, 2, 1, 8, "experts kept"),
                                  MG_OPTION_FLOAT(sample, rate, 0.5, 0.0, 1.0, "rate"),
                                  MG_OPTION_CHOICE(sample, score, 0, scores, "score"),
                                  MG_OPTION_STRING(sample, name, "none", "name"),
                                  MG_OPTION_INTS(sample, shape, "2,4", 1, 64, "shape"),
                                  MG_OPTION_END};

static mg_context *context;

static int open_context(void **state) {
  (void)state;
  return mg_context_create(NULL, &context) == MG_OK ? 0 : 1;
}

static int close_context(void **state) {
  (void)state;
  mg_context_destroy(context);
  return 0;
}

static mg_status parse(const char *text, sample *out) {
  mg_options_defaults(table, out);
  json_t *object = json_loads(text, 0, NULL);
  assert_non_null(object);
  const mg_status status = mg_options_from_json(context, table, object, "router sample", out);
  json_decref(object);
  return status;
}

static void defaults_fill_every_field(void **state) {
  (void)state;
  sample s;
  mg_options_defaults(table, &s);
  assert_true(s.fast);
  assert_int_equal(s.k, 2);
  assert_near(s.rate, 0.5, 0.0);
  assert_int_equal(s.score, 0);
  assert_string_equal(s.name, "none");
  assert_int_equal(s.shape.count, 2);
  assert_int_equal(s.shape.value[1], 4);
}

static void json_sets_the_named_fields_only(void **state) {
  (void)state;
  sample s;
  assert_ok(context, parse("{\"k\": 3.0, \"score\": \"sigmoid\", \"shape\": [8], \"fast\": false}", &s));
  assert_int_equal(s.k, 3); /* a whole float, as Lua arithmetic gives, is an integer */
  assert_int_equal(s.score, 1);
  assert_int_equal(s.shape.count, 1);
  assert_false(s.fast);
  assert_near(s.rate, 0.5, 0.0);
}

static void an_unknown_key_is_refused_with_the_nearest(void **state) {
  (void)state;
  sample s;
  assert_refused(context, MG_USAGE, "unknown key 'scor'; did you mean 'score'?", parse("{\"scor\": \"softmax\"}", &s));
  assert_refused(context, MG_USAGE, "known keys: fast, k", parse("{\"zzzzzzzzzz\": 1}", &s));
}

static void wrong_values_are_refused_with_the_allowed_ones(void **state) {
  (void)state;
  sample s;
  assert_refused(context, MG_USAGE, "'k' must be an integer from 1 to 8, not 9", parse("{\"k\": 9}", &s));
  assert_refused(context, MG_USAGE, "'k' must be an integer", parse("{\"k\": 2.5}", &s));
  assert_refused(context, MG_USAGE, "'k' must be an integer", parse("{\"k\": \"2\"}", &s));
  assert_refused(context, MG_USAGE, "a number from 0 to 1", parse("{\"rate\": -0.1}", &s));
  assert_refused(context, MG_USAGE, "one of softmax, sigmoid", parse("{\"score\": \"tanh\"}", &s));
  assert_refused(context, MG_USAGE, "true or false", parse("{\"fast\": 1}", &s));
  assert_refused(context, MG_USAGE, "integers from 1 to 64", parse("{\"shape\": [2, 65]}", &s));
  assert_refused(context, MG_USAGE, "router sample", parse("{\"rate\": null}", &s));
}

static void text_from_a_command_line_is_read_by_type(void **state) {
  (void)state;
  sample s;
  mg_options_defaults(table, &s);
  assert_ok(context, mg_options_from_text(context, table, "shape", "3,5,7", "--set", &s));
  assert_int_equal(s.shape.count, 3);
  assert_ok(context, mg_options_from_text(context, table, "fast", "false", "--set", &s));
  assert_false(s.fast);
  assert_refused(context, MG_USAGE, "'rate' must be a number from 0 to 1, not x",
                 mg_options_from_text(context, table, "rate", "x", "--set", &s));
  assert_refused(context, MG_USAGE, "'rate' must be a number from 0 to 1, not 2",
                 mg_options_from_text(context, table, "rate", "2", "--set", &s));
  assert_string_equal(strrchr(mg_context_message(context), ' '), " 2"); /* as typed */
  assert_refused(context, MG_USAGE, "'rate' must be", mg_options_from_text(context, table, "rate", "nan", "--set", &s));
}

static void options_survive_the_way_to_json_and_back(void **state) {
  (void)state;
  sample s, back;
  assert_ok(context, parse("{\"k\": 5, \"rate\": 0.25, \"name\": \"x\\\"y\", \"shape\": [1,2,3]}", &s));
  json_t *object = mg_options_to_json(table, &s);
  assert_non_null(object);
  mg_options_defaults(table, &back);
  assert_ok(context, mg_options_from_json(context, table, object, "again", &back));
  json_decref(object);
  assert_int_equal(back.k, 5);
  assert_near(back.rate, 0.25, 0.0);
  assert_string_equal(back.name, "x\"y");
  assert_int_equal(back.shape.count, 3);
}

static void nearest_names_are_typing_errors_only(void **state) {
  (void)state;
  static const char *const names[] = {"topk", "switch", "tree"};
  assert_string_equal(mg_nearest_name("swich", names, 3), "switch");
  assert_string_equal(mg_nearest_name("tok", names, 3), "topk");
  assert_null(mg_nearest_name("quantile", names, 3));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_fill_every_field),
      cmocka_unit_test(json_sets_the_named_fields_only),
      cmocka_unit_test(an_unknown_key_is_refused_with_the_nearest),
      cmocka_unit_test(wrong_values_are_refused_with_the_allowed_ones),
      cmocka_unit_test(text_from_a_command_line_is_read_by_type),
      cmocka_unit_test(options_survive_the_way_to_json_and_back),
      cmocka_unit_test(nearest_names_are_typing_errors_only),
  };
  return cmocka_run_group_tests(tests, open_context, close_context);
}
