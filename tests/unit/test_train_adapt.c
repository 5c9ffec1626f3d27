/* A model that is there already: measured in segments that add up, balanced by its routers' own rules, taught to route as
 * another, and trained in part, while nothing else in it moves by a bit. */
#include "support/corpus.h"
#include "support/world.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/adapt.h"

static const char model_text[] = "{\"layers\": 2, \"width\": 16, \"heads\": 2, \"vocabulary\": 24, \"feed_forward\": "
                                 "{\"kind\": \"moe\", \"experts\": 8, \"width\": 16, \"router\": %s}}";
static const char topk[] = "{\"name\": \"topk\", \"k\": 2}";
static const char biased[] = "{\"name\": \"deepseek\", \"k\": 2, \"score\": \"softmax\", \"rate\": 0.0005}";
static const char whole_tree[] = "{\"name\": \"tree\", \"k\": 2, \"branching\": [2, 4], \"beam\": 8}";

static corpus *files;
static mg_world world;
static mg_dataset *data;
static mg_model *model;
static json_t *result;

static mg_model *make(const char *router, uint64_t seed) {
  char text[1024];
  mg_model *made;
  snprintf(text, sizeof text, model_text, router);
  json_t *spec = json_loads(text, 0, NULL);
  assert_non_null(spec);
  assert_ok(world.context, mg_model_draw(world.context, world.registry, world.backend, spec, MG_F32, seed, &made));
  json_decref(spec);
  return made;
}

static int open_all(void **state) {
  if (corpus_setup(state) != 0) return 1;
  files = *state;
  mg_world_open(&world, "cpu", MG_F32);
  assert_ok(files->context, corpus_open(files,
                                        "{\"corpus\": \"synthetic\", \"vocabulary\": 24, \"collect\": {\"domains\": 3, "
                                        "\"documents\": 48, \"document_tokens\": 256}}",
                                        &data));
  return 0;
}

static int close_all(void **state) {
  json_decref(result);
  result = NULL;
  mg_model_destroy(model);
  model = NULL;
  mg_dataset_close(data);
  mg_world_close(&world);
  return corpus_teardown(state);
}

static json_t *spec_of(const char *text) {
  json_t *spec = json_loads(text, 0, NULL);
  if (!spec) fail_msg("not JSON: %s", text);
  return spec;
}

static double metric(const char *name) {
  const json_t *value = json_object_get(json_object_get(result, "metrics"), name);
  if (!json_is_number(value)) fail_msg("metric '%s' is missing", name);
  return json_number_value(value);
}

/* Point `index` of a series, from the end if it is below 0. */
static double point(const char *series, int64_t index) {
  const json_t *points = json_object_get(json_object_get(result, "series"), series);
  const int64_t count = (int64_t)json_array_size(points);
  const json_t *found = json_array_get(points, (size_t)(index < 0 ? count + index : index));
  return json_number_value(json_array_get(found, 1));
}

/* ---- what moves ------------------------------------------------------------------------------------------------- */

typedef struct copies {
  void **values;
  int64_t count;
} copies;

static copies take_copies(mg_model *of) {
  mg_params *params = mg_model_params(of);
  copies c = {.count = mg_params_count(params)};
  c.values = calloc((size_t)c.count, sizeof *c.values);
  for (int64_t i = 0; i < c.count; i++) {
    const mg_tensor *value = &mg_params_look(params, i)->value;
    c.values[i] = malloc(mg_tensor_bytes(value));
    memcpy(c.values[i], value->data, mg_tensor_bytes(value));
  }
  return c;
}

/* The parameters whose names hold `part` have changed, each of them, and no other has; NULL = none has. Frees the copies. */
static void assert_only_changed(mg_model *of, copies c, const char *part) {
  mg_params *params = mg_model_params(of);
  for (int64_t i = 0; i < c.count; i++) {
    const mg_param *param = mg_params_look(params, i);
    const bool same = memcmp(c.values[i], param->value.data, mg_tensor_bytes(&param->value)) == 0;
    const bool due = part && strstr(param->name, part);
    if (same == due) fail_msg("%s has %schanged", param->name, same ? "not " : "");
    free(c.values[i]);
  }
  free(c.values);
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static void evaluate(const char *text) {
  json_decref(result);
  json_t *spec = spec_of(text);
  assert_ok(world.context, mg_evaluate(world.context, model, data, spec, &result));
  json_decref(spec);
}

static void segments_add_up_to_the_whole(void **state) {
  (void)state;
  model = make(topk, 3);
  copies before = take_copies(model);
  evaluate("{\"tokens\": 256, \"batch\": 2, \"sequence\": 32, \"segment\": 1, \"precision\": \"f32\"}");
  const double first = metric("loss") * metric("evaluated_tokens"), first_tokens = metric("evaluated_tokens");
  evaluate("{\"tokens\": 256, \"batch\": 2, \"sequence\": 32, \"segment\": 2, \"precision\": \"f32\"}");
  const double second = metric("loss") * metric("evaluated_tokens"), second_tokens = metric("evaluated_tokens");
  assert_true(first / first_tokens != second / second_tokens);
  evaluate("{\"tokens\": 512, \"batch\": 2, \"sequence\": 32, \"precision\": \"f32\"}");
  assert_true(fabs(metric("loss") - (first + second) / (first_tokens + second_tokens)) < 1e-9);
  assert_true(metric("evaluated_tokens") == first_tokens + second_tokens);
  assert_true(metric("forward_tokens_per_second") > 0 && metric("cv") > 0 && metric("random_floor_cv") > 0);
  assert_only_changed(model, before, NULL);
}

/* The FLOPs that were counted are the analytic ones, but for what the latter leave out (core/model/README.md). */
static void counted_flops_are_the_predicted_ones(void **state) {
  (void)state;
  double due[MG_PART_COUNT];
  model = make(topk, 3);
  evaluate("{\"tokens\": 256, \"batch\": 2, \"sequence\": 32, \"precision\": \"f32\"}");
  mg_model_flops_per_token(model, 32, due);
  assert_float_equal((float)metric("flops_per_token_routed"), (float)due[MG_PART_ROUTED], 1e-3f);
  assert_float_equal((float)metric("flops_per_token_attention"), (float)due[MG_PART_ATTENTION], 1e-3f);
  assert_float_equal((float)metric("flops_per_token_head"), (float)due[MG_PART_HEAD], 1e-3f);
}

static void a_segment_beyond_the_text_is_refused(void **state) {
  (void)state;
  model = make(topk, 3);
  json_t *spec = spec_of("{\"segment\": 1000, \"sequence\": 32}");
  assert_refused(world.context, MG_USAGE, "from number", mg_evaluate(world.context, model, data, spec, &result));
  json_decref(spec);
  spec = spec_of("{\"tokens\": 64, \"sgement\": 2}");
  assert_refused(world.context, MG_USAGE, "did you mean 'segment'",
                 mg_evaluate(world.context, model, data, spec, &result));
  json_decref(spec);
  assert_null(result);
}

static mg_status compare(mg_model *other) {
  json_decref(result);
  json_t *spec = spec_of("{\"tokens\": 256, \"batch\": 2, \"sequence\": 32, \"precision\": \"f32\"}");
  const mg_status status = mg_compare_routing(world.context, model, other, data, spec, &result);
  json_decref(spec);
  return status;
}

static double flips_of_layer(size_t layer) {
  const json_t *flips = json_object_get(json_object_get(result, "tables"), "flips");
  return json_number_value(json_array_get(json_object_get(flips, "values"), layer));
}

/* The two best of negated scores are the two worst: a gate with its sign changed flips every token of its own layer, and
 * none of the layer before. */
static void flips_are_tokens_whose_experts_differ(void **state) {
  (void)state;
  model = make(topk, 3);
  mg_model *twin = make(topk, 3);
  assert_ok(world.context, compare(twin));
  assert_true(metric("flip_rate") == 0 && metric("loss") == metric("other_loss") && metric("evaluated_tokens") > 200);

  mg_params *params = mg_model_params(twin);
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_look(params, i);
    float *gate = param->value.data;
    if (!strstr(param->name, "layers.1.") || !strstr(param->name, ".router.")) continue;
    for (int64_t j = 0; j < mg_tensor_count(&param->value); j++) gate[j] = -gate[j];
  }
  assert_ok(world.context, compare(twin));
  assert_true(flips_of_layer(0) == 0 && flips_of_layer(1) == 1 && metric("flip_rate") == 0.5);
  assert_true(metric("loss") != metric("other_loss"));
  mg_model_destroy(twin);
}

static void routings_of_other_experts_are_not_compared(void **state) {
  (void)state;
  model = make(topk, 3);
  json_t *spec = spec_of("{\"layers\": 1, \"width\": 16, \"heads\": 2, \"vocabulary\": 24}");
  mg_model *dense;
  assert_ok(world.context, mg_model_draw(world.context, world.registry, world.backend, spec, MG_F32, 3, &dense));
  json_decref(spec);
  assert_refused(world.context, MG_USAGE, "as many mixtures of as many experts", compare(dense));
  assert_null(result);
  mg_model_destroy(dense);
}

/* ---- calibration ---------------------------------------------------------------------------------------------------- */

static void calibrate(const char *text) {
  json_decref(result);
  json_t *spec = spec_of(text);
  assert_ok(world.context, mg_calibrate(world.context, model, data, spec, &result));
  json_decref(spec);
}

static void a_bias_balances_and_nothing_else_moves(void **state) {
  (void)state;
  model = make(biased, 3);
  copies before = take_copies(model);
  calibrate("{\"tokens\": 16384, \"batch\": 4, \"sequence\": 64, \"precision\": \"f32\"}");
  assert_true(point("calibration_cv", -1) < 0.6 * point("calibration_cv", 0));
  assert_only_changed(model, before, ".router.bias");
}

static void counting_the_load_moves_nothing(void **state) {
  (void)state;
  double all = 0;
  model = make(biased, 3);
  copies before = take_copies(model);
  calibrate("{\"tokens\": 1000, \"batch\": 4, \"sequence\": 32, \"fit\": false, \"precision\": \"f32\"}");
  const json_t *values = json_object_get(json_object_get(json_object_get(result, "tables"), "load"), "values");
  for (size_t e = 0; e < 8; e++) all += json_number_value(json_array_get(json_array_get(values, 1), e));
  assert_true(all == 2 * 1024);
  assert_only_changed(model, before, NULL);
}

static void a_router_without_buffers_is_not_calibrated(void **state) {
  (void)state;
  model = make(topk, 3);
  json_t *spec = json_object();
  assert_refused(world.context, MG_USAGE, "no router of the model has a buffer",
                 mg_calibrate(world.context, model, data, spec, &result));
  json_decref(spec);
}

/* ---- distillation ----------------------------------------------------------------------------------------------------- */

static mg_status distil(mg_model *teacher, const json_t *experts, const char *text) {
  json_decref(result);
  json_t *spec = spec_of(text);
  const mg_status status = mg_distil(world.context, teacher, model, experts, data, spec, &result);
  json_decref(spec);
  return status;
}

static void the_student_learns_and_only_its_gates_move(void **state) {
  (void)state;
  static const char *const losses[] = {"kl", "mse"};
  mg_model *teacher = make("{\"name\": \"topk\", \"k\": 2}", 3);
  for (size_t i = 0; i < MG_COUNT(losses); i++) {
    char text[256];
    snprintf(
        text, sizeof text,
        "{\"tokens\": 16384, \"batch\": 4, \"sequence\": 32, \"rate\": 0.02, \"loss\": \"%s\", \"precision\": \"f32\"}",
        losses[i]);
    mg_model_destroy(model);
    model = make(whole_tree, 4);
    copies before = take_copies(model), of_teacher = take_copies(teacher);
    const mg_status status = distil(teacher, NULL, text);
    assert_ok(world.context, status);
    assert_true(metric("distillation_loss") < 0.7 * metric("distillation_loss_first"));
    assert_only_changed(model, before, ".router.level");
    assert_only_changed(teacher, of_teacher, NULL);
    const mg_params_bytes bytes = mg_params_memory(mg_model_params(model));
    assert_int_equal(bytes.gradients + bytes.moments, 0);
  }
  mg_model_destroy(teacher);
}

/* A student that is the teacher has nothing to learn; the same gate with its experts turned round has, unless it is told. */
static void the_order_of_experts_is_heeded(void **state) {
  (void)state;
  static const char text[] = "{\"tokens\": 64, \"batch\": 1, \"sequence\": 64, \"rate\": 0, \"precision\": \"f32\"}";
  mg_model *teacher = make(topk, 3), *turned;
  json_t *lists = json_pack("[[i,i,i,i,i,i,i,i],[i,i,i,i,i,i,i,i]]", 7, 6, 5, 4, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0);
  const mg_model_change change = {.spec = mg_model_spec(teacher), .experts = lists};
  model = make(topk, 3);
  assert_ok(world.context, distil(teacher, NULL, text));
  assert_true(fabs(metric("distillation_loss")) < 1e-6);
  mg_model_destroy(model);
  model = NULL;
  assert_ok(world.context, mg_model_derive(teacher, &change, &turned));
  model = turned;
  assert_ok(world.context, distil(teacher, lists, text));
  assert_true(fabs(metric("distillation_loss")) < 1e-6);
  assert_ok(world.context, distil(teacher, NULL, text));
  assert_true(metric("distillation_loss") > 1e-4);
  json_decref(lists);
  mg_model_destroy(model);
  model = NULL;
  mg_model_destroy(teacher);
}

static void routers_without_probabilities_teach_nothing(void **state) {
  (void)state;
  mg_model *teacher = make("{\"name\": \"random\", \"k\": 2}", 3);
  model = make(topk, 3);
  assert_refused(world.context, MG_USAGE, "router random gives no probabilities", distil(teacher, NULL, "{}"));
  mg_model_destroy(teacher);
}

/* ---- training in part -------------------------------------------------------------------------------------------------- */

static void frozen_parameters_stay_when_the_routers_learn(void **state) {
  (void)state;
  model = make(topk, 3);
  mg_params *params = mg_model_params(model);
  copies before = take_copies(model);
  for (int64_t i = 0; i < mg_params_count(params); i++)
    if (strstr(mg_params_look(params, i)->name, ".router.")) assert_ok(world.context, mg_params_train(params, i));
  json_t *spec = spec_of("{\"tokens\": 1024, \"batch\": 4, \"sequence\": 32, \"rate\": 0.02, \"timing_steps\": 0, "
                         "\"evaluate_tokens\": 64, \"final_tokens\": 64, \"precision\": \"f32\"}");
  assert_ok(world.context, mg_train(world.context, model, data, spec, NULL, &result));
  json_decref(spec);
  assert_int_equal((int64_t)metric("accounted_bytes_gradients"), 2 * 8 * 16 * 4);
  assert_int_equal((int64_t)metric("accounted_bytes_moments"), 2 * 2 * 8 * 16 * 4);
  assert_only_changed(model, before, ".router.gate");
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, open_all, close_all)
  const struct CMUnitTest tests[] = {TEST(segments_add_up_to_the_whole),
                                     TEST(counted_flops_are_the_predicted_ones),
                                     TEST(a_segment_beyond_the_text_is_refused),
                                     TEST(flips_are_tokens_whose_experts_differ),
                                     TEST(routings_of_other_experts_are_not_compared),
                                     TEST(a_bias_balances_and_nothing_else_moves),
                                     TEST(counting_the_load_moves_nothing),
                                     TEST(a_router_without_buffers_is_not_calibrated),
                                     TEST(the_student_learns_and_only_its_gates_move),
                                     TEST(the_order_of_experts_is_heeded),
                                     TEST(routers_without_probabilities_teach_nothing),
                                     TEST(frozen_parameters_stay_when_the_routers_learn)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
