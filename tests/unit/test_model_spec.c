/* A model's specification is strict: wrong keys, shapes and lists are refused with the way to mend them, and the
 * resolved specification writes every default out. */
#include "support/testing.h"

#include <jansson.h>
#include <string.h>

#include "model/spec.h"

static mg_context *context;
static mg_registry *registry;

static int open_world(void **state) {
  (void)state;
  if (mg_context_create(NULL, &context) != MG_OK) return 1;
  return mg_registry_create(context, &registry) == MG_OK && mg_testing_register(registry) == MG_OK ? 0 : 1;
}

static int close_world(void **state) {
  (void)state;
  mg_registry_destroy(registry);
  mg_context_destroy(context);
  return 0;
}

static mg_status check(const char *text) {
  json_t *spec = json_loads(text, JSON_DECODE_ANY, NULL);
  assert_non_null(spec);
  const mg_status status = mg_model_check_spec(context, registry, spec);
  json_decref(spec);
  return status;
}

static void wrong_specifications_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *words;
  } cases[] = {
      {"{\"vocabulary\": 9, \"layer\": 2}", "did you mean 'layers'"},
      {"{\"vocabulary\": 9, \"feed_foward\": {}}", "did you mean 'feed_forward'"},
      {"{}", "'vocabulary' must be given"},
      {"{\"vocabulary\": 9, \"width\": 10}", "'heads' = 4 does not divide 'width' = 10"},
      {"{\"vocabulary\": 9, \"heads\": 4, \"kv_heads\": 3}", "'kv_heads' must divide"},
      {"{\"vocabulary\": 9, \"rotary\": 3}", "'rotary' must be even"},
      {"{\"vocabulary\": 9, \"rotary\": 64}", "at most the head width 32"},
      {"{\"vocabulary\": 9, \"norm\": \"batch\"}", "one of rms, layer"},
      {"{\"vocabulary\": 9, \"window\": [1, 2]}", "2 entries for 4 layers"},
      {"{\"vocabulary\": 9, \"window\": -1}", "'window' must be an integer"},
      {"{\"vocabulary\": 9, \"window\": 1.5}", "'window' must be an integer"},
      {"{\"vocabulary\": 9, \"feed_forward\": 3}", "'feed_forward' must be a table"},
      {"{\"vocabulary\": 9, \"feed_forward\": {\"kind\": \"mo\"}}", "'dense' or 'moe', not 'mo'"},
      {"{\"vocabulary\": 9, \"feed_forward\": {\"widht\": 3}}", "did you mean 'width'"},
      {"{\"vocabulary\": 9, \"feed_forward\": []}", "0 entries for 4 layers"},
      {"{\"vocabulary\": 9, \"layers\": 0}", "'layers' must be an integer from 1"},
      {"{\"vocabulary\": 9, \"attention\": 3}", "attention: a table was expected"},
      {"{\"vocabulary\": 9, \"attention\": [{}]}", "1 entries for 4 layers"},
      {"{\"vocabulary\": 9, \"attention\": {\"head\": 3}}", "did you mean 'heads'"},
      {"{\"vocabulary\": 9, \"attention\": {\"kind\": \"linear\"}}", "one of grouped, latent, counted, none"},
      {"{\"vocabulary\": 9, \"attention\": {\"kv_heads\": 3}}", "'kv_heads' must divide"},
      {"{\"vocabulary\": 9, \"attention\": {\"heads\": 3}}", "'heads' = 3 does not divide 'width' = 128"},
      {"{\"vocabulary\": 9, \"attention\": {\"kind\": \"latent\"}}", "needs 'kv_rank', 'nope_width'"},
      {"{\"vocabulary\": 9, \"attention\": {\"rope\": {\"columns\": 5}}}", "'columns' must be even"},
      {"{\"vocabulary\": 9, \"attention\": {\"rope\": {\"scaling\": {\"kind\": \"yarn\"}}}}", "'original_positions'"},
      {"{\"vocabulary\": 9, \"attention\": {\"rope\": {\"scaling\": {\"kind\": \"longrope\"}}}}", "16 numbers"},
      {"{\"vocabulary\": 9, \"attention\": {\"counted\": [{\"part\": \"attn\"}]}}", "embedding, head, attention"},
      {"{\"vocabulary\": 9, \"attention\": {\"counted\": [{\"parameters\": 2, \"active\": 3}]}}", "at most that"},
      {"{\"vocabulary\": 9, \"positions\": \"learned\"}", "'positions_max'"},
      {"{\"vocabulary\": 9, \"encoder\": {}}", "encoder: 'layers' must be given"},
      {"{\"vocabulary\": 9, \"encoder\": {\"layers\": 2, \"feed_forward\": [{}]}}", "1 entries for 2 layers"},
      {"{\"vocabulary\": 9, \"prediction\": {\"modules\": 0}}", "'modules' must be an integer from 1"},
      {"{\"vocabulary\": 9, \"feed_forward\": {\"kind\": \"none\", \"width\": 2}}", "no other key"},
      {"{\"vocabulary\": 9, \"feed_forward\": {\"activation\": \"clamped_silu\", \"gated\": false}}", "gated"},
      {"[1]", "model"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) assert_refused(context, MG_USAGE, cases[i].words, check(cases[i].text));
}

static void the_resolved_specification_writes_every_default_out(void **state) {
  (void)state;
  mg__model_spec first, second;
  json_t *spec = json_loads("{\"vocabulary\": 99, \"layers\": 2, \"window\": [0, 8]}", 0, NULL);
  assert_ok(context, mg__model_spec_read(context, registry, spec, &first));
  assert_int_equal(json_integer_value(json_object_get(first.resolved, "kv_heads")), 4);
  assert_int_equal(json_integer_value(json_object_get(first.resolved, "head_width")), 32);
  assert_int_equal(json_integer_value(json_object_get(first.resolved, "rotary")), 32);
  for (const mg_option *o = mg_model_options(); o->type != MG_OPTION_TYPE_END; o++)
    if (!json_object_get(first.resolved, o->name)) fail_msg("'%s' is not written out", o->name);
  const json_t *feed = json_array_get(json_object_get(first.resolved, "feed_forward"), 1);
  assert_int_equal(json_integer_value(json_object_get(feed, "width")), 352); /* 8/3 of 128, up to a multiple of 16 */
  assert_int_equal(first.decoder.layers[1].attention.window, 8);
  assert_ok(context, mg__model_spec_read(context, registry, first.resolved, &second));
  assert_true(json_equal(first.resolved, second.resolved));
  mg__model_spec_release(context, &first);
  mg__model_spec_release(context, &second);
  json_decref(spec);
}

/* Reading what was written out gives the same again, whatever the kinds. */
static void every_kind_reads_back(void **state) {
  (void)state;
  static const char *const texts[] = {
      "{\"vocabulary\": 9, \"layers\": 2, \"attention\": [{\"kind\": \"latent\", \"kv_rank\": 8, \"nope_width\": 4,"
      " \"rope_width\": 2, \"rope\": {\"scaling\": {\"kind\": \"yarn\", \"factor\": 40, \"original_positions\": 64}}},"
      " {\"kind\": \"counted\", \"cache\": 3, \"counted\": [{\"part\": \"routed\", \"parameters\": 7, \"active\": "
      "2}]}],"
      " \"prediction\": {}}",
      "{\"vocabulary\": 9, \"layers\": 1, \"attention\": {\"heads\": 2, \"head_width\": 4, \"rope\": {\"scaling\":"
      " {\"kind\": \"longrope\", \"original_positions\": 9, \"short_factors\": [1, 2], \"long_factors\": [2, 3.5]}}},"
      " \"encoder\": {\"layers\": 2, \"feed_forward\": [{}, {\"kind\": \"none\"}]}, \"relative_buckets\": 4}",
      "{\"vocabulary\": 9, \"layers\": 1, \"feed_forward\": {\"kind\": \"moe\", \"experts\": 4, \"width\": 3,"
      " \"biases\": true, \"activation\": \"clamped_silu\", \"shared\": {\"gate\": \"sigmoid\"}, \"scale_inputs\": "
      "true,"
      " \"parallel\": {\"width\": 5, \"norm\": true}, \"router\": {\"name\": \"topk\", \"bias\": true}}}"};
  for (size_t i = 0; i < MG_COUNT(texts); i++) {
    mg__model_spec first, second;
    json_t *spec = json_loads(texts[i], 0, NULL);
    assert_non_null(spec);
    assert_ok(context, mg__model_spec_read(context, registry, spec, &first));
    assert_ok(context, mg__model_spec_read(context, registry, first.resolved, &second));
    assert_true(json_equal(first.resolved, second.resolved));
    mg__model_spec_release(context, &first);
    mg__model_spec_release(context, &second);
    json_decref(spec);
  }
}

/* The short form and the same words inside "attention" are one model. */
static void the_short_form_is_the_long_one(void **state) {
  (void)state;
  mg__model_spec brief, full;
  json_t *a = json_loads("{\"vocabulary\": 9, \"heads\": 8, \"kv_heads\": 2, \"qk_norm\": true, \"biases\": true,"
                         " \"rotary\": 4, \"rope_base\": 500, \"window\": 5}",
                         0, NULL);
  json_t *b =
      json_loads("{\"vocabulary\": 9, \"biases\": true, \"attention\": {\"heads\": 8, \"kv_heads\": 2, \"qk_norm\":"
                 " \"head\", \"biases\": \"all\", \"window\": 5, \"rope\": {\"base\": 500, \"columns\": 4}}}",
                 0, NULL);
  assert_ok(context, mg__model_spec_read(context, registry, a, &brief));
  assert_ok(context, mg__model_spec_read(context, registry, b, &full));
  assert_true(json_equal(json_object_get(brief.resolved, "attention"), json_object_get(full.resolved, "attention")));
  mg__model_spec_release(context, &brief);
  mg__model_spec_release(context, &full);
  json_decref(a);
  json_decref(b);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_specifications_are_refused),
                                     cmocka_unit_test(every_kind_reads_back),
                                     cmocka_unit_test(the_short_form_is_the_long_one),
                                     cmocka_unit_test(the_resolved_specification_writes_every_default_out)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
