/* GGUF files that llama.cpp's converter wrote compute what transformers computes from the weights they were made from: logits
 * in f32 within 1e-4 of the largest, whether rows were permuted, latents split, experts in Q8_0 or MXFP4; their vocabulary
 * reads text; and what a file lacks or says otherwise is named. */
#include "support/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "lua/engine.h"
#include "model/checkpoint_vocabulary.h"

static void assert_logits(mg_golden *golden, int64_t prompt, double tolerance) {
  mg_world *world = golden->world;
  int64_t tokens;
  int32_t *ids = mg_golden_ids(golden, prompt, "tokens", &tokens);
  const mg_model_batch batch = {.inputs = ids, .sequences = 1, .sequence_tokens = tokens};
  mg_model_output out;
  assert_ok(world->context, mg_model_forward(golden->model, world->tape, &batch, &out));
  mg_golden_array due = mg_golden_floats(golden, true, "%lld.logits", (long long)prompt);
  assert_int_equal(mg_var_columns(out.logits), due.columns);
  double largest = 0, worst = 0;
  for (int64_t i = 0; i < due.rows * due.columns; i++) {
    const double off = fabs(mg_world_value(world, out.logits, i) - (double)due.values[i]);
    largest = fmax(largest, fabs((double)due.values[i]));
    if (!(off <= worst)) worst = off;
  }
  if (!(worst <= tolerance * largest))
    fail_msg("%s: logits of prompt %lld are off by %g of %g", mg_checkpoint_path(golden->weights), (long long)prompt,
             worst, largest);
  mg_golden_free(golden, &due);
  mg_golden_free_ids(golden, ids, tokens);
  mg_tape_reset(world->tape);
}

static void check(const char *backend, const char *name, mg_dtype compute, int64_t prompts, double tolerance) {
  mg_world world;
  mg_golden golden;
  mg_world_open(&world, backend, compute);
  mg_golden_open_gguf(&golden, &world, name, compute);
  mg_tape_set_recording(world.tape, false);
  for (int64_t p = 0; p < prompts; p++) assert_logits(&golden, p, tolerance);
  mg_golden_close(&golden);
  mg_world_close(&world);
}

static void logits_equal_those_of_the_original(void **state) {
  check("cpu", *state, MG_F32, MG_GOLDEN_PROMPTS, 1e-4);
}

static void logits_equal_those_of_the_original_on_the_reference(void **state) {
  check("reference", *state, MG_F32, MG_GOLDEN_PROMPTS, 1e-4);
}

/* One token: no choice of experts that rounding turns in a later one. */
static void logits_in_bf16_are_near(void **state) {
  check("cpu", *state, MG_BF16, 1, 0.06);
}

/* ---- vocabularies -------------------------------------------------------------------------------------------- */

static void the_vocabulary_of_the_file_reads_text(void **state) {
  (void)state;
  static const char text[] = "The owl";
  mg_world world;
  mg_tokenizer *own, *other;
  mg_token_list a = {0}, b = {0};
  char path[1100];
  mg_world_open(&world, "reference", MG_F32);
  snprintf(path, sizeof path, "%s/tests/golden/gguf/olmoe.gguf", getenv("MOEGAUGE_SOURCE"));
  assert_ok(world.context, mg_model_tokenizer(world.context, path, &own));
  snprintf(path, sizeof path, "%s/tests/golden/models/mixtral", getenv("MOEGAUGE_SOURCE"));
  assert_ok(world.context, mg_model_tokenizer(world.context, path, &other));
  assert_ok(world.context, mg_tokenizer_encode(own, text, strlen(text), 0, &a));
  assert_ok(world.context, mg_tokenizer_encode(other, text, strlen(text), 0, &b));
  assert_int_equal(a.count, strlen(text));
  assert_int_equal(a.count, b.count);
  assert_memory_equal(a.ids, b.ids, a.count * sizeof *a.ids);
  mg_token_list_free(world.context, &a);
  mg_token_list_free(world.context, &b);
  mg_tokenizer_destroy(own);
  mg_tokenizer_destroy(other);
  mg_world_close(&world);
}

/* ---- what is refused ----------------------------------------------------------------------------------------- */

static char changed_path[] = "/tmp/moegauge-gguf-XXXXXX.gguf";

static int make_path(void **state) {
  (void)state;
  const int file = mkstemps(changed_path, 5);
  if (file >= 0) close(file);
  return file < 0;
}

static int remove_path(void **state) {
  (void)state;
  return unlink(changed_path);
}

/* Writes NAME.gguf with the first `old` after `after` replaced by as many other bytes. */
static void write_changed(const char *name, const char *after, const void *old, const void *new, size_t count) {
  char path[1100];
  mg_context *context;
  char *bytes;
  size_t size;
  assert_int_equal(mg_context_create(NULL, &context), MG_OK);
  snprintf(path, sizeof path, "%s/tests/golden/gguf/%s.gguf", getenv("MOEGAUGE_SOURCE"), name);
  assert_ok(context, mg_file_read(context, path, 1 << 24, &bytes, &size));
  char *start = memmem(bytes, size, after, strlen(after));
  assert_non_null(start);
  char *at = memmem(start, size - (size_t)(start - bytes), old, count);
  assert_non_null(at);
  memcpy(at, new, count);
  assert_ok(context, mg_file_write_atomic(context, changed_path, bytes, size));
  mg_free(context, bytes, size + 1);
  mg_context_destroy(context);
}

/* mg.load of the changed file must fail as a bad model, in one line with its path and these words. */
static void assert_load_is_refused(const char *words) {
  char scripts[1024], text[256];
  mg_world world;
  mg_engine *engine;
  json_t *value;
  mg_world_open(&world, "cpu", MG_F32);
  snprintf(scripts, sizeof scripts, "%s/scripts", getenv("MOEGAUGE_SOURCE"));
  const mg_engine_settings settings = {.registry = world.registry, .scripts = scripts};
  assert_ok(world.context, mg_engine_create(world.context, &settings, &engine));
  snprintf(text, sizeof text, "require('moegauge').load('%s', { backend = 'cpu' })", changed_path);
  assert_refused(world.context, MG_FILE, words, mg_engine_run_text(engine, text, "=load", &value));
  const char *message = mg_context_message(world.context);
  assert_non_null(strstr(message, changed_path));
  assert_null(strchr(message, '\n'));
  mg_engine_destroy(engine);
  mg_world_close(&world);
}

static void assert_text_change_is_refused(const char *name, const char *old, const char *new, const char *words) {
  assert_int_equal(strlen(old), strlen(new));
  write_changed(name, old, old, new, strlen(old));
  assert_load_is_refused(words);
}

static void names_that_fit_no_family_are_refused(void **state) {
  (void)state;
  write_changed("olmoe", "general.architecture", "olmoe", "gemma", 5);
  assert_load_is_refused("key 'general.architecture': must be one of dbrx, deepseek, deepseek2, glm4moe, gpt-oss, "
                         "granitemoe, llama, olmoe, phimoe, qwen2moe, qwen3moe, not the text 'gemma'");
  assert_text_change_is_refused("olmoe", "blk.1.ffn_norm.weight", "blk.1.ffn_morn.weight",
                                "tensor blk.1.ffn_norm.weight is missing; parameter layers.1.feed_norm.scale [32] is "
                                "made from it");
  assert_text_change_is_refused("deepseek2", "blk.1.attn_v_b.weight", "blk.1.attn_v_c.weight",
                                "tensor 'blk.1.attn_v_b.weight'");
  assert_text_change_is_refused(
      "deepseek2", "deepseek2.expert_shared_count", "deepseek2.expert_shaped_count",
      "key 'deepseek2.expert_shaped_count': is unknown, and its name says that it changes the "
      "mixture of experts; the nearest known key is");
  assert_text_change_is_refused("llama", "llama.expert_count", "llama.expert_c0unt",
                                "key 'llama.expert_count': must be 1 to 65536, not nothing");
}

/* Sizes [16, 32] stand innermost first as 32, 16; a tensor with them the other way has as many bytes. */
static void wrong_shapes_are_named(void **state) {
  (void)state;
  const uint64_t stored[] = {32, 16, 8}, turned[] = {16, 32, 8};
  write_changed("olmoe", "blk.0.ffn_gate_exps.weight", stored, turned, sizeof stored);
  assert_load_is_refused("tensor blk.0.ffn_gate_exps.weight is [8, 32, 16], but [8, 16, 32] was expected for parameter "
                         "layers.0.feed_forward.experts.gate");
}

/* A model of one block leaves the tensors of the second over. */
static void tensors_that_nobody_needs_are_named(void **state) {
  (void)state;
  const uint32_t two[] = {MG_VALUE_U32, 2}, one[] = {MG_VALUE_U32, 1};
  write_changed("olmoe", "olmoe.block_count", two, one, sizeof two);
  assert_load_is_refused("is left over");
}

int main(void) {
#define GGUF(name)                                                                                                     \
  {"logits_equal_those_of_the_original " name, logits_equal_those_of_the_original, NULL, NULL, (void *)(name)},        \
      {"... on_the_reference " name, logits_equal_those_of_the_original_on_the_reference, NULL, NULL, (void *)(name)}, \
  {                                                                                                                    \
    "logits_in_bf16_are_near " name, logits_in_bf16_are_near, NULL, NULL, (void *)(name)                               \
  }
  const struct CMUnitTest tests[] = {GGUF("llama"),
                                     GGUF("olmoe"),
                                     GGUF("olmoe_q8_0"),
                                     GGUF("qwen2moe"),
                                     GGUF("qwen3moe"),
                                     GGUF("deepseek"),
                                     GGUF("deepseek2"),
                                     GGUF("deepseek2_v3"),
                                     GGUF("gpt_oss"),
                                     GGUF("granitemoe"),
                                     GGUF("phimoe"),
                                     GGUF("glm4moe"),
                                     GGUF("dbrx"),
                                     cmocka_unit_test(the_vocabulary_of_the_file_reads_text),
                                     cmocka_unit_test(names_that_fit_no_family_are_refused),
                                     cmocka_unit_test(wrong_shapes_are_named),
                                     cmocka_unit_test(tensors_that_nobody_needs_are_named)};
  return cmocka_run_group_tests(tests, make_path, remove_path);
}
