/* The cache: windows keep what they need and no more, what does not fit is refused, and rotary tables are those of their
 * papers, worked by hand. (That decoding equals one pass is in test_model_golden.c.) */
#include "support/world.h"

#include <jansson.h>
#include <stdio.h>

#include "model/cache.h"
#include "model/rope.h"
#include "tensor/tape_work.h"

static mg_world world;

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F32);
  mg_tape_set_recording(world.tape, false);
  return 0;
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  return 0;
}

enum { TOKENS = 40 };
static const char windowed[] = "{\"vocabulary\": 11, \"layers\": 2, \"width\": 8, \"heads\": 2, \"window\": [3, 0]}";

static mg_status run(mg_model *model, mg_cache *cache, const int32_t *ids, int64_t tokens, mg_model_output *out) {
  const mg_model_batch batch = {.inputs = ids, .sequences = 1, .sequence_tokens = tokens, .cache = cache};
  mg_tape_reset(world.tape);
  return mg_model_forward(model, world.tape, &batch, out);
}

/* A prompt of ten windows, then passes of 3 and of 1, against one pass over all. */
static void a_window_forgets_and_gives_the_same(void **state) {
  (void)state;
  mg_model *model = mg_world_model(&world, windowed);
  mg_model_output out;
  mg_cache *cache;
  int32_t ids[TOKENS];
  double expected[TOKENS][11];
  for (int t = 0; t < TOKENS; t++) ids[t] = (7 * t + 3) % 11;
  assert_ok(world.context, run(model, NULL, ids, TOKENS, &out));
  for (int t = 0; t < TOKENS; t++)
    for (int v = 0; v < 11; v++) expected[t][v] = mg_world_value(&world, out.logits, t * 11 + v);
  assert_ok(world.context, mg_cache_create(model, MG_F32, 1, TOKENS, &cache));
  /* 4 columns for each of 2 heads, key and value: 9 rows of the windowed layer and 40 of the other */
  assert_int_equal(mg_cache_bytes(cache), (9 + TOKENS) * 2 * 8 * sizeof(float));
  assert_int_equal(mg_cache_step_tokens(cache), 3);
  assert_ok(world.context, run(model, cache, ids, 30, &out));
  for (int t = 30; t < TOKENS;) {
    const int64_t tokens = t < 36 ? 3 : 1;
    assert_ok(world.context, run(model, cache, ids + t, tokens, &out));
    for (int64_t i = 0; i < tokens; i++, t++)
      for (int v = 0; v < 11; v++) assert_true(mg_world_value(&world, out.logits, i * 11 + v) == expected[t][v]);
  }
  assert_int_equal(mg_cache_length(cache), TOKENS);
  mg_cache_destroy(cache);
  mg_tape_reset(world.tape);
  mg_model_destroy(model);
}

static void what_does_not_fit_is_refused(void **state) {
  (void)state;
  mg_model *model = mg_world_model(&world, windowed), *other = mg_world_model(&world, windowed);
  mg_model_output out;
  mg_cache *cache;
  int32_t ids[TOKENS] = {0};
  assert_refused(world.context, MG_USAGE, "at least 1 sequence", mg_cache_create(model, MG_F32, 1, 0, &cache));
  assert_refused(world.context, MG_USAGE, "do not fit memory",
                 mg_cache_create(model, MG_F32, 1, INT64_MAX / 4, &cache));
  assert_ok(world.context, mg_cache_create(model, MG_F32, 1, 20, &cache));
  assert_refused(world.context, MG_USAGE, "another model", run(other, cache, ids, 1, &out));
  assert_refused(world.context, MG_USAGE, "do not fit its 20", run(model, cache, ids, 21, &out));
  assert_ok(world.context, run(model, cache, ids, 12, &out));
  assert_refused(world.context, MG_USAGE, "at most 3 tokens", run(model, cache, ids, 4, &out));
  assert_refused(world.context, MG_USAGE, "cannot keep 13", mg_cache_truncate(cache, 13));
  assert_refused(world.context, MG_USAGE, "a window of 3 has dropped", mg_cache_truncate(cache, 5));
  assert_ok(world.context, mg_cache_truncate(cache, 12));
  assert_ok(world.context, mg_cache_truncate(cache, 0));
  assert_ok(world.context, run(model, cache, ids, 20, &out));
  mg_cache_destroy(cache);
  assert_ok(world.context, mg_cache_create(model, MG_BF16, 1, 20, &cache));
  assert_refused(world.context, MG_USAGE, "it holds bf16", run(model, cache, ids, 1, &out));
  mg_cache_destroy(cache);
  mg_tape_reset(world.tape);
  mg_model_destroy(model);
  mg_model_destroy(other);
}

/* Logits of the last tokens alone are those of all. */
static void last_logits_are_those_of_all(void **state) {
  (void)state;
  mg_model *model = mg_world_model(&world, windowed);
  const int32_t ids[] = {1, 2, 3, 4, 5, 6};
  mg_model_batch batch = {.inputs = ids, .sequences = 2, .sequence_tokens = 3};
  mg_model_output out;
  double last[2];
  mg_tape_reset(world.tape);
  assert_ok(world.context, mg_model_forward(model, world.tape, &batch, &out));
  for (int b = 0; b < 2; b++) last[b] = mg_world_value(&world, out.logits, (b * 3 + 2) * 11 + 4);
  batch.last_only = true;
  mg_tape_reset(world.tape);
  assert_ok(world.context, mg_model_forward(model, world.tape, &batch, &out));
  assert_int_equal(mg_var_rows(out.logits), 2);
  for (int b = 0; b < 2; b++) assert_true(mg_world_value(&world, out.logits, b * 11 + 4) == last[b]);
  mg_tape_reset(world.tape);
  mg_model_destroy(model);
}

/* The FLOPs of a pass of which nothing but the last logits is wanted, and of one that keeps hidden states too; the logits
 * are the same. */
static double flops_of_last(const char *text, double *of_all) {
  mg_model *model = mg_world_model(&world, text);
  const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
  mg_model_batch batch = {.inputs = ids, .sequences = 2, .sequence_tokens = 4, .last_only = true};
  mg_model_output out;
  double expected[22], flops[2];
  for (int alone = 0; alone < 2; alone++) {
    batch.logits_only = alone;
    mg_tape_reset(world.tape);
    const mg_counters before = *mg_tape_counters(world.tape);
    assert_ok(world.context, mg_model_forward(model, world.tape, &batch, &out));
    flops[alone] = 0;
    for (int part = 0; part < MG_PART_COUNT; part++)
      flops[alone] += mg_tape_counters(world.tape)->flops[part] - before.flops[part];
    for (int i = 0; i < 22; i++) {
      const double value = mg_world_value(&world, out.logits, i);
      if (alone)
        assert_true(value == expected[i]);
      else
        expected[i] = value;
    }
  }
  mg_tape_reset(world.tape);
  mg_model_destroy(model);
  *of_all = flops[0];
  return flops[1];
}

#define MOE(router)                                                                                                    \
  "{\"vocabulary\": 11, \"layers\": 2, \"width\": 8, \"heads\": 2, \"feed_forward\": {\"kind\": \"moe\", "             \
  "\"experts\": 4,"                                                                                                    \
  " \"width\": 16, \"router\": " router "}}"

/* What the last of two blocks does not compute for three of four tokens: more than a quarter of both blocks' work where a
 * token's feed-forward depends on that token alone, nothing where a limit of experts or a table of others decides. */
static void the_last_block_computes_the_last_rows_alone(void **state) {
  (void)state;
  static const char *const shortened[] = {
      windowed, MOE("{\"name\": \"topk\", \"k\": 2}"), MOE("{\"name\": \"residual\", \"k\": 2}"),
      MOE("{\"name\": \"hash\"}"), MOE("{\"name\": \"topk\", \"k\": 2}, \"shared\": {\"experts\": 1, \"width\": 8}")};
  static const char *const whole[] = {
      MOE("{\"name\": \"random\", \"k\": 2}"), MOE("{\"name\": \"expert_choice\"}"), MOE("{\"name\": \"soft\"}"),
      MOE("{\"name\": \"topk\", \"k\": 2}, \"capacity\": {\"policy\": \"drop\", \"factor\": 0.5}")};
  double all;
  for (size_t i = 0; i < MG_COUNT(shortened); i++) assert_true(flops_of_last(shortened[i], &all) < 0.75 * all);
  for (size_t i = 0; i < MG_COUNT(whole); i++) assert_true(flops_of_last(whole[i], &all) >= all);
}

/* ---- rotary tables -------------------------------------------------------------------------------------------- */

/* base 100 and 4 columns: plain frequencies 1 and 0.1. */
static void tables_follow_their_papers(void **state) {
  (void)state;
  float f[2];
  mg__rope rope = {.base = 100, .columns = 4, .scaling = {.kind = MG__SCALING_NONE}};
  assert_near(mg__rope_table(&rope, 8, f), 1, 0);
  assert_near((double)f[1], 0.1, 1e-8);
  rope.scaling = (mg__scaling){.kind = MG__SCALING_LINEAR, .factor = 4};
  mg__rope_table(&rope, 8, f);
  assert_near((double)f[0], 0.25, 1e-8);
  assert_near((double)f[1], 0.025, 1e-9);
  /* 200 positions: pair 0 turns 200 / 2 pi = 31.83 times, pair 1 3.183 times; between 1 and 4 turns the share of the plain
   * frequency is (3.183099 - 1) / 3 = 0.727700, so 0.1 (0.272300 / 4 + 0.727700). */
  rope.scaling = (mg__scaling){
      .kind = MG__SCALING_LLAMA3, .factor = 4, .original_positions = 200, .low_frequency = 1, .high_frequency = 4};
  mg__rope_table(&rope, 8, f);
  assert_near((double)f[0], 1, 1e-7);
  assert_near((double)f[1], 0.07957747, 1e-7);
  /* The pair that turns b times is 4 ln(200 / (2 pi b)) / (2 ln 100): 1.0 for b = 3.1831 and 0.0 for 31.831, so that
   * without truncation a ramp from 0 to 1 leaves pair 0 as it is and divides pair 1. */
  rope.scaling = (mg__scaling){.kind = MG__SCALING_YARN,
                               .factor = 4,
                               .original_positions = 200,
                               .beta_fast = 31.830988618,
                               .beta_slow = 3.1830988618};
  assert_near(mg__rope_table(&rope, 8, f), 0.1 * log(4.0) + 1, 1e-12);
  assert_near((double)f[0], 1, 1e-7);
  assert_near((double)f[1], 0.025, 1e-7);
  assert_near(mg__rope_score_factor(&rope), 1, 0);
  rope.scaling.mscale = rope.scaling.mscale_all_dim = 0.5;
  assert_near(mg__rope_table(&rope, 8, f), 1, 1e-12);
  assert_near(mg__rope_score_factor(&rope), pow(0.05 * log(4.0) + 1, 2), 1e-12);
}

static void longrope_takes_the_factors_of_the_length(void **state) {
  (void)state;
  float f[2];
  json_t *near = json_pack("[f, f]", 1.0, 2.0), *far = json_pack("[f, f]", 4.0, 5.0);
  mg__rope rope = {.base = 100,
                   .columns = 4,
                   .scaling = {.kind = MG__SCALING_LONGROPE,
                               .factor = 4,
                               .original_positions = 16,
                               .short_factors = near,
                               .long_factors = far}};
  assert_near(mg__rope_table(&rope, 16, f), sqrt(1 + log(4.0) / log(16.0)), 1e-12);
  assert_near((double)f[1], 0.05, 1e-8);
  rope.scaling.long_attention_factor = 1.5;
  assert_near(mg__rope_table(&rope, 17, f), 1.5, 0);
  assert_near((double)f[0], 0.25, 1e-8);
  assert_near((double)f[1], 0.02, 1e-8);
  json_decref(near);
  json_decref(far);
}

/* The logits of the last token of a pass against those of the last of `tokens` in one pass without a cache. */
static void assert_last_equals_one_pass(mg_model *model, const mg_model_output *out, int64_t row, const int32_t *ids,
                                        int64_t tokens) {
  double given[11];
  mg_model_output whole;
  for (int v = 0; v < 11; v++) given[v] = mg_world_value(&world, out->logits, row * 11 + v);
  assert_ok(world.context, run(model, NULL, ids, tokens, &whole));
  for (int v = 0; v < 11; v++) assert_near(given[v], mg_world_value(&world, whole.logits, (tokens - 1) * 11 + v), 0);
}

/* Up to 16 tokens the short factors, from 17 on the long ones; keys of the one do not fit queries of the other. */
static void a_cache_does_not_cross_from_short_factors_to_long_ones(void **state) {
  (void)state;
  mg_model *model =
      mg_world_model(&world, "{\"vocabulary\": 11, \"layers\": 1, \"width\": 8, \"heads\": 2, \"attention\": {\"rope\":"
                             " {\"columns\": 4, \"scaling\": {\"kind\": \"longrope\", \"original_positions\": 16,"
                             "  \"short_factors\": [1, 2], \"long_factors\": [4, 5]}}}}");
  mg_cache *cache;
  mg_model_output out;
  int32_t ids[TOKENS];
  for (int t = 0; t < TOKENS; t++) ids[t] = (7 * t + 3) % 11;
  assert_ok(world.context, mg_cache_create(model, MG_F32, 1, TOKENS, &cache));
  assert_ok(world.context, run(model, cache, ids, 15, &out));
  assert_ok(world.context, run(model, cache, ids + 15, 1, &out));
  assert_last_equals_one_pass(model, &out, 0, ids, 16);
  assert_refused(world.context, MG_USAGE, "sequences of 17 tokens are rotated otherwise than those of 16",
                 run(model, cache, ids + 16, 1, &out));
  assert_ok(world.context, mg_cache_truncate(cache, 0));
  assert_ok(world.context, run(model, cache, ids, 17, &out));
  assert_ok(world.context, run(model, cache, ids + 17, 1, &out));
  assert_last_equals_one_pass(model, &out, 0, ids, 18);
  assert_ok(world.context, mg_cache_truncate(cache, 10));
  assert_refused(world.context, MG_USAGE, "longrope changes at 16", run(model, cache, ids + 10, 1, &out));
  mg_cache_destroy(cache);
  mg_model_destroy(model);
}

/* One token after the other from a cache: each is sent somewhere else, not where the first went. */
static void every_pass_over_a_cache_draws_anew(void **state) {
  (void)state;
  mg_model *model =
      mg_world_model(&world, "{\"vocabulary\": 11, \"layers\": 1, \"width\": 8, \"heads\": 2, \"feed_forward\":"
                             " {\"kind\": \"moe\", \"experts\": 4, \"width\": 2,"
                             "  \"router\": {\"name\": \"random\", \"k\": 1}}}");
  int chosen[4] = {0};
  mg_cache *cache;
  mg_model_output out;
  assert_ok(world.context, mg_cache_create(model, MG_F32, 1, TOKENS, &cache));
  for (int32_t t = 0; t < TOKENS; t++) {
    int32_t id;
    assert_ok(world.context, run(model, cache, &(int32_t){t % 11}, 1, &out));
    assert_ok(world.context, mg_tape_download(world.tape, out.records[0].ids, &id, sizeof id));
    chosen[id]++;
  }
  for (int e = 0; e < 4; e++) assert_in_range(chosen[e], 1, TOKENS / 2);
  mg_cache_destroy(cache);
  mg_model_destroy(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_pass_over_a_cache_draws_anew),
                                     cmocka_unit_test(a_window_forgets_and_gives_the_same),
                                     cmocka_unit_test(what_does_not_fit_is_refused),
                                     cmocka_unit_test(last_logits_are_those_of_all),
                                     cmocka_unit_test(the_last_block_computes_the_last_rows_alone),
                                     cmocka_unit_test(tables_follow_their_papers),
                                     cmocka_unit_test(longrope_takes_the_factors_of_the_length),
                                     cmocka_unit_test(a_cache_does_not_cross_from_short_factors_to_long_ones)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
