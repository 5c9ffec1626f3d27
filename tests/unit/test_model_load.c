/* Loading a checkpoint: what is missing, misshapen or left over is named with the file and both shapes; weights that lie as
 * they are needed are used in place, the rest takes no more than the file, and a saved model holds the same tensors. */
#include "model/save.h"
#include "support/golden.h"
#include "support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static mg_world world;
static mg_scratch scratch;
static const char *const path = scratch.path;

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "cpu", MG_F32);
  return mg_scratch_open(&scratch, "a.safetensors");
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  return mg_scratch_close(&scratch);
}

/* Writes the family's file to `path` with one text of its header, of the same length, for another. */
static void write_changed(const mg_golden *golden, const char *old, const char *new) {
  const size_t length = strlen(old);
  assert_int_equal(length, strlen(new));
  char name[1100];
  snprintf(name, sizeof name, "%s/model.safetensors", golden->folder);
  FILE *in = fopen(name, "rb"), *out = fopen(path, "wb");
  assert_non_null(in);
  assert_non_null(out);
  struct stat stat;
  assert_int_equal(fstat(fileno(in), &stat), 0);
  char *bytes = malloc((size_t)stat.st_size);
  assert_int_equal(fread(bytes, 1, (size_t)stat.st_size, in), stat.st_size);
  char *at = memmem(bytes, (size_t)stat.st_size, old, length);
  assert_non_null(at);
  memcpy(at, new, length);
  assert_int_equal(fwrite(bytes, 1, (size_t)stat.st_size, out), stat.st_size);
  free(bytes);
  fclose(in);
  assert_int_equal(fclose(out), 0);
}

static mg_status load(const mg_golden *golden, mg_checkpoint *checkpoint, mg_dtype precision, mg_model **model) {
  const json_t *f = golden->family;
  return mg_model_load(world.context, world.registry, world.backend, json_object_get(f, "spec"),
                       json_object_get(f, "tensors"), json_object_get(f, "ignored"), checkpoint, precision, model);
}

/* Loading must fail with the file's path and these words. */
static void assert_changed_is_refused(const mg_golden *golden, const char *old, const char *new, const char *words) {
  mg_checkpoint *checkpoint;
  mg_model *model;
  write_changed(golden, old, new);
  assert_ok(world.context, mg_checkpoint_open(world.context, path, NULL, &checkpoint));
  assert_refused(world.context, MG_FILE, words, load(golden, checkpoint, MG_F32, &model));
  assert_non_null(strstr(mg_context_message(world.context), path));
  assert_null(model);
  mg_checkpoint_close(checkpoint);
}

static void wrong_tensors_are_named(void **state) {
  (void)state;
  mg_golden golden;
  mg_golden_open(&golden, &world, "mixtral", MG_F32);
  assert_changed_is_refused(&golden, "\"model.norm.weight\"", "\"model.gnome.weigh\"",
                            "tensor model.norm.weight is missing; parameter final_norm.scale [32] is made from it");
  assert_changed_is_refused(&golden, "experts.3.w2.weight", "experts.9.w2.weight", "experts.3.w2.weight");
  assert_changed_is_refused(&golden, "\"shape\":[24,32]", "\"shape\":[32,24]",
                            "is [32, 24], but [24, 32] was expected");
  assert_changed_is_refused(&golden, "\"shape\":[8,32]", "\"shape\":[4,64]", "is [4, 64], but [8, 32] was expected");
  mg_golden_close(&golden);
}

/* A model of two layers leaves the tensors of the third over. */
static void a_tensor_that_nothing_needs_is_named(void **state) {
  (void)state;
  mg_golden golden;
  mg_golden_open(&golden, &world, "mixtral", MG_F32);
  json_t *spec = json_object_get(golden.family, "spec");
  json_object_set_new(spec, "layers", json_integer(2));
  mg_model *model;
  assert_refused(world.context, MG_FILE, "tensor model.layers.2.", load(&golden, golden.weights, MG_F32, &model));
  assert_non_null(strstr(mg_context_message(world.context), "left over"));
  mg_golden_close(&golden);
}

static const mg_param *param(mg_golden *golden, const char *name) {
  mg_params *params = mg_model_params(golden->model);
  return mg_params_at(params, mg_params_find(params, name));
}

static const void *in_file(mg_golden *golden, const char *name) {
  mg_checkpoint_tensor tensor;
  const void *start;
  assert_ok(world.context, mg_checkpoint_get(golden->weights, name, &tensor));
  assert_ok(world.context, mg_checkpoint_view(golden->weights, &tensor, &start));
  return start;
}

static void weights_are_used_where_they_lie(void **state) {
  (void)state;
  mg_golden golden;
  mg_golden_open(&golden, &world, "dbrx", MG_BF16);
  const mg_param *output = param(&golden, "layers.1.attention.output.weight");
  assert_ptr_equal(output->value.data, in_file(&golden, "transformer.blocks.1.norm_attn_norm.attn.out_proj.weight"));
  assert_int_equal(output->value.dtype, MG_BF16);
  /* query [32], key [16], value [16] rows of 32 columns in one matrix */
  const char *fused = in_file(&golden, "transformer.blocks.1.norm_attn_norm.attn.Wqkv.weight");
  assert_ptr_equal(param(&golden, "layers.1.attention.query.weight")->value.data, fused);
  assert_ptr_equal(param(&golden, "layers.1.attention.key.weight")->value.data, fused + 2 * 32 * 32);
  assert_ptr_equal(param(&golden, "layers.1.attention.value.weight")->value.data, fused + 2 * 48 * 32);
  assert_ptr_equal(param(&golden, "layers.1.feed_forward.experts.up")->value.data,
                   in_file(&golden, "transformer.blocks.1.ffn.experts.mlp.v1"));
  assert_int_equal(param(&golden, "final_norm.scale")->value.dtype, MG_F32);
  mg_golden_close(&golden);
}

/* Experts that are stored apart are gathered once; no parameter is held twice. */
static void all_parameters_together_take_no_more_than_the_file(void **state) {
  (void)state;
  static const char *const families[] = {"mixtral", "olmoe", "deepseek_v3", "granitemoe", "nllb-moe"};
  for (size_t i = 0; i < MG_COUNT(families); i++) {
    mg_golden golden;
    struct stat file;
    char name[1100];
    mg_golden_open(&golden, &world, families[i], MG_BF16);
    snprintf(name, sizeof name, "%s/model.safetensors", golden.folder);
    assert_int_equal(stat(name, &file), 0);
    const mg_params_bytes bytes = mg_params_memory(mg_model_params(golden.model));
    assert_true((double)bytes.values <= 1.1 * (double)file.st_size);
    assert_int_equal(bytes.gradients + bytes.moments, 0);
    mg_golden_close(&golden);
  }
}

/* What is written holds every tensor of the original, with its shape and its numbers. */
static void assert_same_tensors(mg_checkpoint *original) {
  mg_checkpoint *copy;
  assert_ok(world.context, mg_checkpoint_open(world.context, path, NULL, &copy));
  assert_int_equal(mg_checkpoint_count(copy), mg_checkpoint_count(original));
  for (int64_t i = 0; i < mg_checkpoint_count(original); i++) {
    mg_checkpoint_tensor a, b;
    mg_checkpoint_at(original, i, &a);
    assert_ok(world.context, mg_checkpoint_get(copy, a.name, &b));
    assert_int_equal(a.dims, b.dims);
    for (int32_t d = 0; d < a.dims; d++) assert_int_equal(a.shape[d], b.shape[d]);
    const size_t bytes = (size_t)(a.rows * a.columns) * sizeof(float);
    float *x = malloc(bytes), *y = malloc(bytes);
    assert_ok(world.context, mg_checkpoint_read(original, &a, 0, a.rows, MG_F32, x));
    assert_ok(world.context, mg_checkpoint_read(copy, &b, 0, b.rows, MG_F32, y));
    assert_memory_equal(x, y, bytes);
    free(x);
    free(y);
  }
  mg_checkpoint_close(copy);
}

static void a_saved_model_is_the_one_that_was_loaded(void **state) {
  (void)state;
  static const char *const families[] = {
      "mixtral", "olmoe",  "qwen2_moe",  "qwen3_moe", "deepseek", "deepseek_v2", "deepseek_v3",
      "gpt_oss", "phimoe", "granitemoe", "glm4_moe",  "dbrx",     "nllb-moe",    "switch_transformers"};
  for (size_t i = 0; i < MG_COUNT(families); i++) {
    mg_golden golden;
    mg_golden_open(&golden, &world, families[i], MG_BF16);
    assert_ok(world.context, mg_model_save(golden.model, json_object_get(golden.family, "tensors"), MG_F32, path));
    assert_same_tensors(golden.weights);
    mg_golden_close(&golden);
  }
}

/* A parameter's numbers as f32, to be freed. */
static float *numbers_of(const mg_tensor *value) {
  const int64_t count = mg_tensor_count(value);
  float *numbers = malloc((size_t)count * sizeof *numbers);
  if (mg_dtype_is_stored(value->dtype))
    mg_stored_decode(value->dtype, value->data, count, numbers);
  else
    for (int64_t i = 0; i < count; i++)
      numbers[i] =
          value->dtype == MG_F32 ? ((const float *)value->data)[i] : mg_bf16_to_f32(((const uint16_t *)value->data)[i]);
  return numbers;
}

/* Every parameter of `model`, saved and loaded again, has the numbers it had. */
static void assert_comes_back(mg_golden *golden) {
  mg_checkpoint *copy;
  mg_model *again;
  assert_ok(world.context, mg_model_save(golden->model, json_object_get(golden->family, "tensors"), MG_F32, path));
  assert_ok(world.context, mg_checkpoint_open(world.context, path, NULL, &copy));
  assert_ok(world.context, load(golden, copy, MG_F32, &again));
  mg_params *first = mg_model_params(golden->model), *second = mg_model_params(again);
  for (int64_t i = 0; i < mg_params_count(first); i++) {
    const mg_tensor *a = &mg_params_look(first, i)->value, *b = &mg_params_look(second, i)->value;
    float *before = numbers_of(a), *after = numbers_of(b);
    assert_true(mg_tensor_same_shape(a, b));
    assert_memory_equal(before, after, (size_t)mg_tensor_count(a) * sizeof *before);
    free(before);
    free(after);
  }
  mg_model_destroy(again);
  mg_checkpoint_close(copy);
}

static void quantised_weights_are_saved_as_what_they_stand_for(void **state) {
  (void)state;
  static const char *const families[] = {"gpt_oss_mxfp4", "deepseek_v3_fp8"};
  for (size_t i = 0; i < MG_COUNT(families); i++) {
    mg_golden golden;
    mg_golden_open(&golden, &world, families[i], MG_F32);
    assert_comes_back(&golden);
    mg_golden_close(&golden);
  }
}

/* Rules that store what they name in 4 bits alone, or in no tensor. */
static void what_no_rule_stores_is_refused(void **state) {
  (void)state;
  mg_golden golden;
  mg_golden_open(&golden, &world, "mixtral", MG_F32);
  json_t *rules = json_deep_copy(json_object_get(golden.family, "tensors"));
  json_array_remove(rules, 0);
  assert_refused(world.context, MG_UNSUPPORTED, "the family has no tensor for parameter embedding.weight",
                 mg_model_save(golden.model, rules, MG_F32, path));
  json_array_append_new(
      rules, json_pack("[[s, s], s, s]", "embedding_blocks", "embedding_scales", "embedding.weight", "mxfp4"));
  assert_refused(world.context, MG_UNSUPPORTED, "embedding.weight", mg_model_save(golden.model, rules, MG_F32, path));
  json_decref(rules);
  mg_golden_close(&golden);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_tensors_are_named),
                                     cmocka_unit_test(a_saved_model_is_the_one_that_was_loaded),
                                     cmocka_unit_test(quantised_weights_are_saved_as_what_they_stand_for),
                                     cmocka_unit_test(what_no_rule_stores_is_refused),
                                     cmocka_unit_test(a_tensor_that_nothing_needs_is_named),
                                     cmocka_unit_test(weights_are_used_where_they_lie),
                                     cmocka_unit_test(all_parameters_together_take_no_more_than_the_file)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
