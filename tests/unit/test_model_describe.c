/* A description counts a model of any size without its weights, every kind of part by a formula written here by hand, and
 * what cannot run is described but not created. */
#include "support/world.h"

#include <jansson.h>
#include <math.h>

#include "model/model.h"

static mg_world world;

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F32);
  return 0;
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  return 0;
}

static json_t *parse(const char *text) {
  json_error_t error;
  json_t *spec = json_loads(text, 0, &error);
  if (!spec) fail_msg("%s: %s", text, error.text);
  return spec;
}

static mg_model *describe(const char *text) {
  mg_model *model;
  json_t *spec = parse(text);
  assert_ok(world.context, mg_model_describe(world.context, world.registry, spec, &model));
  json_decref(spec);
  return model;
}

/* DeepSeek-V3's shape: 671 billion parameters (arXiv 2412.19437, section 4.2). */
static const char deepseek_v3[] = "{\"layers\": 4, \"width\": 7168, \"vocabulary\": 129280, \"tie_embeddings\": false,"
                                  " \"attention\": {\"kind\": \"latent\", \"heads\": 128, \"query_rank\": 1536, "
                                  "\"kv_rank\": 512, \"nope_width\": 128,"
                                  "  \"rope_width\": 64}, \"prediction\": {},"
                                  " \"feed_forward\": [{\"width\": 18432}, %s, %s, %s]}";
static const char deepseek_moe[] =
    "{\"kind\": \"moe\", \"experts\": 256, \"width\": 2048, \"shared\": {}, \"router\": {\"name\": \"deepseek\","
    " \"k\": 8, \"groups\": 8, \"groups_kept\": 4}}";

static void latent_attention_and_prediction_modules_are_counted(void **state) {
  (void)state;
  char text[2048];
  snprintf(text, sizeof text, deepseek_v3, deepseek_moe, deepseek_moe, deepseek_moe);
  mg_model *model = describe(text);
  const mg_model_size size = mg_model_count(model);
  const int64_t d = 7168, latent = 1536 * d + 1536 + 128 * 192 * 1536 + 576 * d + 512 + 128 * 256 * 512 + 128 * 128 * d;
  const int64_t expert = 3 * d * 2048, moe = 257 * expert + 256 * d;
  assert_int_equal(size.part[MG_MODEL_ATTENTION], 4 * latent);
  assert_int_equal(size.part[MG_MODEL_ROUTED], 3 * 256 * expert);
  assert_int_equal(size.part[MG_MODEL_SHARED], 3 * expert);
  assert_int_equal(size.part[MG_MODEL_ROUTER], 3 * 256 * d);
  assert_int_equal(size.part[MG_MODEL_DENSE], 3 * d * 18432);
  assert_int_equal(size.part[MG_MODEL_NORM], 9 * d);
  assert_int_equal(size.buffers, 3 * 256);
  assert_int_equal(size.part[MG_MODEL_PREDICTION], latent + moe + 256 + 2 * d * d + 5 * d);
  assert_int_equal(size.total - size.active, 3 * 248 * expert);
  assert_int_equal(mg_model_cache_per_token(model).own, 4 * 576);
  mg_model_destroy(model);
}

static void an_encoder_is_counted_with_cross_attention(void **state) {
  (void)state;
  mg_model *model =
      describe("{\"layers\": 2, \"width\": 8, \"heads\": 2, \"vocabulary\": 13, \"norm\": \"layer\", \"biases\": true,"
               " \"relative_buckets\": 4, \"positions\": \"learned\", \"positions_max\": 6,"
               " \"feed_forward\": {\"width\": 9, \"gated\": false}, \"encoder\": {\"layers\": 3,"
               "  \"feed_forward\": {\"width\": 7, \"gated\": false}}}");
  const mg_model_size size = mg_model_count(model);
  assert_int_equal(size.part[MG_MODEL_EMBEDDING], (13 + 6) * 8);
  assert_int_equal(size.part[MG_MODEL_ATTENTION], (3 + 2 + 2) * 4 * (8 * 8 + 8) + 2 * 4 * 2);
  assert_int_equal(size.part[MG_MODEL_DENSE], 2 * (2 * 8 * 9 + 9 + 8) + 3 * (2 * 8 * 7 + 7 + 8));
  assert_int_equal(size.part[MG_MODEL_NORM], (3 * 2 + 2 * 3 + 2) * 16);
  const mg_model_cache cache = mg_model_cache_per_token(model);
  assert_int_equal(cache.own, 2 * 2 * 8);
  assert_int_equal(cache.cross, 2 * 2 * 8);
  mg_model_destroy(model);
}

static void biased_gated_and_parallel_experts_are_counted(void **state) {
  (void)state;
  mg_model *model =
      describe("{\"layers\": 1, \"width\": 8, \"heads\": 2, \"vocabulary\": 13, \"feed_forward\": {\"kind\": \"moe\","
               " \"experts\": 4, \"width\": 6, \"biases\": true, \"shared\": {\"width\": 5, \"gate\": \"sigmoid\"},"
               " \"parallel\": {\"width\": 3, \"norm\": true}, \"router\": {\"name\": \"topk\", \"bias\": true}}}");
  const mg_model_size size = mg_model_count(model);
  const int64_t expert = 3 * 8 * 6 + 2 * 6 + 8;
  assert_int_equal(size.part[MG_MODEL_ROUTED], 4 * expert);
  assert_int_equal(size.routed_active, 2 * expert);
  assert_int_equal(size.part[MG_MODEL_ROUTER], 4 * 8);
  assert_int_equal(size.part[MG_MODEL_ROUTER_BIAS], 4);
  assert_int_equal(size.part[MG_MODEL_SHARED], 3 * 8 * 5 + 8);
  assert_int_equal(size.part[MG_MODEL_DENSE], 3 * 8 * 3);
  assert_int_equal(size.part[MG_MODEL_NORM], 4 * 8);
  mg_model_destroy(model);
}

/* Sums of what a formula gives elsewhere, and branches that are not there. */
static void counted_parts_go_where_they_say(void **state) {
  (void)state;
  mg_model *model = describe(
      "{\"layers\": 2, \"width\": 8, \"vocabulary\": 13, \"feed_forward\": [{\"kind\": \"none\"}, {\"width\": 4}],"
      " \"attention\": [{\"kind\": \"counted\", \"cache\": 5, \"scores\": 11, \"work\": 6, \"counted\":"
      "  [{\"part\": \"routed\", \"parameters\": 100, \"active\": 30}, {\"parameters\": 7, \"products\": false}]},"
      "  {\"kind\": \"none\"}]}");
  const mg_model_size size = mg_model_count(model);
  double causal[MG_PART_COUNT], full[MG_PART_COUNT];
  assert_int_equal(size.part[MG_MODEL_ROUTED], 100);
  assert_int_equal(size.part[MG_MODEL_OTHER], 7);
  assert_int_equal(size.part[MG_MODEL_NORM], 3 * 8);
  assert_int_equal(size.total - size.active, 70);
  assert_int_equal(mg_model_cache_per_token(model).own, 5);
  mg_model_flops_per_token(model, 9, causal);
  mg_model_flops_per_token_full(model, 9, full);
  assert_true(causal[MG_PART_ATTENTION] == 2 * (11 * 5 + 6));
  assert_true(full[MG_PART_ATTENTION] == 2 * (11 * 9 + 6));
  assert_true(causal[MG_PART_ROUTED] == 2 * 30);
  mg_model_destroy(model);
}

/* 10 tokens in runs of 4, 4 and 2 see 1+2+3+4 twice and 1+2; with 3 selected keys 1+2+3+3 twice and 1+2. */
static void chunks_and_selected_keys_limit_what_is_seen(void **state) {
  (void)state;
  static const char *const limits[] = {"\"chunk\": 4", "\"chunk\": 4, \"selected\": 3", "\"window\": 10"};
  static const double pairs[] = {23, 21, 55};
  double rest = 0;
  for (size_t i = 0; i < MG_COUNT(limits); i++) {
    char text[256];
    double flops[MG_PART_COUNT];
    snprintf(text, sizeof text, "{\"layers\": 1, \"width\": 8, \"vocabulary\": 13, \"attention\": {\"heads\": 2, %s}}",
             limits[i]);
    mg_model *model = describe(text);
    mg_model_flops_per_token(model, 10, flops);
    const double products = flops[MG_PART_ATTENTION] - 4 * 8 * pairs[i] / 10;
    assert_true(i == 0 || fabs(products - rest) < 1e-9);
    rest = products;
    mg_model_destroy(model);
  }
}

static void what_cannot_run_is_refused_by_name(void **state) {
  (void)state;
  static const struct {
    const char *text, *words;
  } cases[] = {
      {"{\"vocabulary\": 9, \"attention\": {\"kind\": \"counted\"}}", "only counted"},
      {"{\"vocabulary\": 9, \"attention\": {\"chunk\": 8}}", "within chunks"},
      {"{\"vocabulary\": 9, \"attention\": {\"gated\": true}}", "gated output"},
      {"{\"vocabulary\": 9, \"attention\": {\"shares_kv\": true}}", "shares keys and values"},
      {"{\"vocabulary\": 9, \"feed_forward\": {\"kind\": \"moe\", \"experts\": 4, \"width\": 3, \"parallel\":"
       " {\"width\": 5, \"norm\": true}, \"router\": {\"name\": \"topk\"}}}",
       "a 'parallel' feed-forward with a norm of its own"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg_model *model = describe(cases[i].text);
    mg_model_destroy(model);
    json_t *spec = parse(cases[i].text);
    assert_refused(world.context, MG_USAGE, cases[i].words,
                   mg_model_create(world.context, world.registry, world.backend, spec, MG_F32, 1, &model));
    json_decref(spec);
  }
}

static void a_description_has_shapes_and_no_weights(void **state) {
  (void)state;
  mg_model *model = describe("{\"vocabulary\": 9, \"layers\": 1}");
  const mg_params *params = mg_model_description(model);
  const mg_param *embedding = mg_params_look(params, mg_params_find(params, "embedding.weight"));
  assert_int_equal(embedding->value.shape[0], 9);
  assert_int_equal(embedding->value.shape[1], 128);
  assert_null(embedding->value.data);
  assert_int_equal(mg_params_memory(params).values, 0);
  const int32_t token = 0;
  const mg_model_batch batch = {.inputs = &token, .sequences = 1, .sequence_tokens = 1};
  mg_model_output output;
  assert_refused(world.context, MG_BUG, "no weights", mg_model_forward(model, world.tape, &batch, &output));
  mg_model_destroy(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(latent_attention_and_prediction_modules_are_counted),
                                     cmocka_unit_test(an_encoder_is_counted_with_cross_attention),
                                     cmocka_unit_test(biased_gated_and_parallel_experts_are_counted),
                                     cmocka_unit_test(counted_parts_go_where_they_say),
                                     cmocka_unit_test(chunks_and_selected_keys_limit_what_is_seen),
                                     cmocka_unit_test(what_cannot_run_is_refused_by_name),
                                     cmocka_unit_test(a_description_has_shapes_and_no_weights)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
