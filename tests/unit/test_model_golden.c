/* Every runnable family computes what transformers computes from the same weights: hidden states after each block, router
 * logits, chosen experts, their weights, and logits, in f32 within 1e-4 of the largest value; in bf16 logits within 4 %
 * (root mean square of a token's) up to the first token whose experts rounding turned. Decoding token by token gives what one pass over the prompt gives, and a
 * batch what its sequences give alone: on the reference to the bit, but for latent attention, whose sums have another
 * order then. */
#include "support/golden.h"

#include <stdio.h>
#include <stdlib.h>

/* What a comparison may be off, as a share of the largest expected value. */
static const double f32_tolerance = 1e-4;

static void assert_close(mg_golden *golden, const mg_var *x, const mg_golden_array *expected, int64_t first_row,
                         double tolerance, const char *what) {
  double largest = 0, worst = 0;
  assert_ok(golden->world->context, mg_tape_status(golden->world->tape));
  assert_int_equal(mg_var_columns(x), expected->columns);
  for (int64_t i = 0; i < expected->rows * expected->columns; i++)
    largest = fmax(largest, fabs((double)expected->values[i]));
  for (int64_t i = 0; i < mg_var_rows(x) * expected->columns; i++) {
    const double off =
        mg_world_value(golden->world, x, i) - (double)expected->values[first_row * expected->columns + i];
    if (!(fabs(off) <= worst)) worst = fabs(off);
  }
  if (!(worst <= tolerance * largest)) fail_msg("%s: %s is off by %g of %g", golden->folder, what, worst, largest);
}

/* ---- one pass against transformers ---------------------------------------------------------------------------- */

/* The choices of token t in ascending order of expert, as the golden file has them. */
static void sorted_choices(mg_golden *golden, const mg_moe_record *record, int64_t t, int64_t choices, int64_t *experts,
                           double *weights) {
  for (int64_t s = 0; s < choices; s++) {
    const int64_t expert = (int64_t)mg_world_value(golden->world, record->ids, t * choices + s);
    const double weight = mg_world_value(golden->world, record->weights, t * choices + s);
    int64_t at = s;
    for (; at > 0 && experts[at - 1] > expert; at--) {
      experts[at] = experts[at - 1];
      weights[at] = weights[at - 1];
    }
    experts[at] = expert;
    weights[at] = weight;
  }
}

static void check_routing(mg_golden *golden, const mg_moe_record *record, const char *base, double tolerance) {
  mg_golden_array logits = mg_golden_floats(golden, true, "%slogits", base);
  mg_golden_array experts = mg_golden_floats(golden, true, "%sexperts", base);
  mg_golden_array weights = mg_golden_floats(golden, true, "%sweights", base);
  assert_close(golden, record->route.logits, &logits, 0, tolerance, base);
  for (int64_t t = 0; t < experts.rows; t++) {
    int64_t chosen[16];
    double weighed[16];
    assert_int_equal(mg_var_columns(record->ids), experts.columns);
    sorted_choices(golden, record, t, experts.columns, chosen, weighed);
    for (int64_t s = 0; s < experts.columns; s++) {
      const int64_t i = t * experts.columns + s;
      if (chosen[s] != (int64_t)experts.values[i])
        fail_msg("%s: %s token %lld chose expert %lld, not %g", golden->folder, base, (long long)t,
                 (long long)chosen[s], (double)experts.values[i]);
      if (fabs(weighed[s] - (double)weights.values[i]) > tolerance * fmax(1, fabs((double)weights.values[i])))
        fail_msg("%s: %s token %lld weighs %g, not %g", golden->folder, base, (long long)t, weighed[s],
                 (double)weights.values[i]);
    }
  }
  mg_golden_free(golden, &logits);
  mg_golden_free(golden, &experts);
  mg_golden_free(golden, &weights);
}

/* Blocks of one stack: `place` is "" or "encoder.". Returns the MoE layers it has. */
static int64_t check_stack(mg_golden *golden, int64_t prompt, const char *place, mg_var *const *hidden,
                           const mg_moe_record *records, double tolerance) {
  int64_t moe = 0;
  for (int64_t l = 0;; l++) {
    char base[64];
    mg_golden_array expected =
        mg_golden_floats(golden, l == 0, "%lld.%shidden.%lld", (long long)prompt, place, (long long)l);
    if (!expected.values) return moe;
    snprintf(base, sizeof base, "hidden %s%lld", place, (long long)l);
    assert_close(golden, hidden[l], &expected, 0, tolerance, base);
    mg_golden_free(golden, &expected);
    snprintf(base, sizeof base, "%lld.%srouter.%lld.", (long long)prompt, place, (long long)l);
    mg_golden_array logits = mg_golden_floats(golden, false, "%slogits", base);
    if (logits.values) check_routing(golden, &records[moe++], base, tolerance);
    mg_golden_free(golden, &logits);
  }
}

static void check_prompt(mg_golden *golden, int64_t prompt, double tolerance) {
  mg_world *world = golden->world;
  int64_t tokens, source_tokens;
  int32_t *ids = mg_golden_ids(golden, prompt, "tokens", &tokens);
  int32_t *source = mg_golden_ids(golden, prompt, "source", &source_tokens);
  const mg_model_batch batch = {
      .inputs = ids, .sequences = 1, .sequence_tokens = tokens, .source = source, .source_tokens = source_tokens};
  mg_model_output out;
  assert_ok(world->context, mg_model_forward(golden->model, world->tape, &batch, &out));
  const mg_moe_record *records = out.records;
  if (source) {
    records += check_stack(golden, prompt, "encoder.", out.encoder_hidden, records, tolerance);
    mg_golden_array output = mg_golden_floats(golden, true, "%lld.encoder.output", (long long)prompt);
    assert_close(golden, out.encoder_output, &output, 0, tolerance, "the encoder's output");
    mg_golden_free(golden, &output);
  }
  records += check_stack(golden, prompt, "", out.hidden, records, tolerance);
  assert_int_equal(records - out.records, out.records_count);
  mg_golden_array logits = mg_golden_floats(golden, true, "%lld.logits", (long long)prompt);
  assert_close(golden, out.logits, &logits, 0, tolerance, "the logits");
  mg_golden_free(golden, &logits);
  mg_golden_free_ids(golden, ids, tokens);
  mg_golden_free_ids(golden, source, source_tokens);
  mg_tape_reset(world->tape);
}

static void check_family(const char *backend, const char *family, mg_dtype compute, double tolerance) {
  mg_world world;
  mg_golden golden;
  mg_world_open(&world, backend, compute);
  mg_golden_open(&golden, &world, family, compute);
  mg_tape_set_recording(world.tape, false);
  for (int64_t p = 0; p < MG_GOLDEN_PROMPTS; p++) check_prompt(&golden, p, tolerance);
  mg_golden_close(&golden);
  mg_world_close(&world);
}

static void a_pass_equals_transformers_on_the_reference(void **state) {
  check_family("reference", *state, MG_F32, f32_tolerance);
}

static void a_pass_equals_transformers_on_cpu(void **state) {
  check_family("cpu", *state, MG_F32, f32_tolerance);
}

/* ---- bf16 ----------------------------------------------------------------------------------------------------- */

/* The root mean square error of a token's logits relative to theirs. */
static double row_error(mg_world *world, const mg_var *logits, const mg_golden_array *expected, int64_t row) {
  double squares = 0, errors = 0;
  for (int64_t v = 0; v < expected->columns; v++) {
    const int64_t i = row * expected->columns + v;
    const double due = (double)expected->values[i], off = mg_world_value(world, logits, i) - due;
    squares += due * due;
    errors += off * off;
  }
  return sqrt(errors / squares);
}

/* The first token that a layer sends elsewhere or weighs otherwise than in f32; `tokens` if there is none. */
static int64_t first_turned(mg_golden *golden, const mg_model_output *out, int64_t tokens) {
  static const char *const places[] = {"encoder.", ""};
  const mg_moe_record *record = out->records;
  for (size_t p = 0; p < MG_COUNT(places); p++)
    for (int64_t l = 1; l < 8; l++) {
      mg_golden_array experts = mg_golden_floats(golden, false, "2.%srouter.%lld.experts", places[p], (long long)l);
      if (!experts.values) continue;
      mg_golden_array weights = mg_golden_floats(golden, true, "2.%srouter.%lld.weights", places[p], (long long)l);
      for (int64_t i = 0; i < experts.rows * experts.columns && i / experts.columns < tokens; i++) {
        int64_t chosen[16];
        double weighed[16];
        sorted_choices(golden, record, i / experts.columns, experts.columns, chosen, weighed);
        const int64_t s = i % experts.columns;
        if (chosen[s] != (int64_t)experts.values[i] || fabs(weighed[s] - (double)weights.values[i]) > 0.1)
          tokens = *places[p] ? 0 : i / experts.columns; /* every target token sees all of the source */
      }
      mg_golden_free(golden, &experts);
      mg_golden_free(golden, &weights);
      record++;
    }
  return tokens;
}

/* Rounding may turn a close choice of experts, and then the logits from that token on are others'; up to there they must
 * stay near, over a few tokens at least. */
static void a_pass_in_bf16_stays_near(void **state) {
  static const double allowed = 0.04;
  mg_world world;
  mg_golden golden;
  mg_world_open(&world, "cpu", MG_BF16);
  mg_golden_open(&golden, &world, *state, MG_BF16);
  mg_tape_set_recording(world.tape, false);
  int64_t tokens, source_tokens;
  int32_t *ids = mg_golden_ids(&golden, 2, "tokens", &tokens);
  int32_t *source = mg_golden_ids(&golden, 2, "source", &source_tokens);
  const mg_model_batch batch = {
      .inputs = ids, .sequences = 1, .sequence_tokens = tokens, .source = source, .source_tokens = source_tokens};
  mg_model_output out;
  assert_ok(world.context, mg_model_forward(golden.model, world.tape, &batch, &out));
  mg_golden_array logits = mg_golden_floats(&golden, true, "2.logits");
  const int64_t turned = first_turned(&golden, &out, tokens);
  assert_true(turned >= 3);
  for (int64_t t = 0; t < turned; t++) {
    const double off = row_error(&world, out.logits, &logits, t);
    if (!(off <= allowed)) fail_msg("%s: the logits of token %lld are off by %g", golden.folder, (long long)t, off);
  }
  mg_golden_free(&golden, &logits);
  mg_golden_free_ids(&golden, ids, tokens);
  mg_golden_free_ids(&golden, source, source_tokens);
  mg_golden_close(&golden);
  mg_world_close(&world);
}

/* ---- passes against each other -------------------------------------------------------------------------------- */

/* The logits of `rows` rows from `first` on, on the host. */
static double *take_logits(mg_world *world, const mg_var *logits, int64_t first, int64_t rows, int64_t *count) {
  const int64_t columns = mg_var_columns(logits);
  *count = rows * columns;
  double *values = malloc((size_t)*count * sizeof *values);
  assert_non_null(values);
  for (int64_t i = 0; i < *count; i++) values[i] = mg_world_value(world, logits, first * columns + i);
  return values;
}

static void assert_rows(mg_golden *golden, const mg_var *logits, int64_t first, const double *expected, int64_t count,
                        double tolerance, const char *what) {
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < count; i++) {
    const double off = mg_world_value(golden->world, logits, first * mg_var_columns(logits) + i) - expected[i];
    largest = fmax(largest, fabs(expected[i]));
    if (!(fabs(off) <= worst)) worst = fabs(off);
  }
  if (!(worst <= tolerance * largest)) fail_msg("%s: %s is off by %g of %g", golden->folder, what, worst, largest);
}

typedef struct prompt {
  int32_t *ids, *source;
  int64_t tokens, source_tokens;
  bool last_alone; /* the last block computes no row but the last of each sequence */
} prompt;

static void run_batch(mg_golden *golden, const prompt *p, const int32_t *ids, int64_t sequences, int64_t tokens,
                      mg_cache *cache, mg_model_output *out) {
  const bool first = !cache || mg_cache_length(cache) == 0;
  const mg_model_batch batch = {.inputs = ids,
                                .sequences = sequences,
                                .sequence_tokens = tokens,
                                .last_only = p->last_alone,
                                .logits_only = p->last_alone,
                                .cache = cache,
                                .source = first ? p->source : NULL,
                                .source_tokens = first ? p->source_tokens : 0};
  assert_ok(golden->world->context, mg_model_forward(golden->model, golden->world->tape, &batch, out));
}

/* The last token alone of the whole prompt, and of the three that follow those in the cache. */
static void decode_last_alone(mg_golden *golden, const prompt *p, mg_cache *cache, const double *expected,
                              int64_t columns, double tolerance) {
  mg_model_output out;
  prompt last = *p;
  last.last_alone = true;
  mg_tape_reset(golden->world->tape);
  run_batch(golden, &last, p->ids, 1, p->tokens, NULL, &out);
  assert_int_equal(mg_var_rows(out.logits), 1);
  assert_rows(golden, out.logits, 0, expected, columns, tolerance, "the last token alone");
  mg_tape_reset(golden->world->tape);
  assert_ok(golden->world->context, mg_cache_truncate(cache, p->tokens - 3));
  run_batch(golden, &last, p->ids + p->tokens - 3, 1, 3, cache, &out);
  assert_rows(golden, out.logits, 0, expected, columns, tolerance, "the last of three tokens alone");
}

/* Half of the prompt in one pass, then one token at a time, then the cache cut back and the last three at once. */
static void decode(mg_golden *golden, const prompt *p, double tolerance) {
  mg_world *world = golden->world;
  mg_model_output out;
  mg_cache *cache;
  int64_t count;
  const int64_t half = p->tokens / 2;
  run_batch(golden, p, p->ids, 1, p->tokens, NULL, &out);
  const int64_t columns = mg_var_columns(out.logits);
  double *expected = take_logits(world, out.logits, 0, p->tokens, &count);
  mg_tape_reset(world->tape);
  assert_ok(world->context, mg_cache_create(golden->model, MG_F32, 1, p->tokens + 3, &cache));
  run_batch(golden, p, p->ids, 1, half, cache, &out);
  assert_rows(golden, out.logits, 0, expected, half * columns, tolerance, "the prefill");
  for (int64_t t = half; t < p->tokens; t++) {
    mg_tape_reset(world->tape);
    run_batch(golden, p, p->ids + t, 1, 1, cache, &out);
    assert_rows(golden, out.logits, 0, expected + t * columns, columns, tolerance, "a decoded token");
  }
  assert_int_equal(mg_cache_length(cache), p->tokens);
  mg_tape_reset(world->tape);
  assert_ok(world->context, mg_cache_truncate(cache, p->tokens - 3));
  run_batch(golden, p, p->ids + p->tokens - 3, 1, 3, cache, &out);
  assert_rows(golden, out.logits, 0, expected + (p->tokens - 3) * columns, 3 * columns, tolerance, "three tokens");
  decode_last_alone(golden, p, cache, expected + (p->tokens - 1) * columns, columns, tolerance);
  mg_cache_destroy(cache);
  free(expected);
}

static bool is_latent(const char *family) {
  return strstr(family, "deepseek_v") != NULL;
}

static void check_decode(const char *backend, const char *family, double tolerance) {
  mg_world world;
  mg_golden golden;
  prompt p = {0};
  mg_world_open(&world, backend, MG_F32);
  mg_golden_open(&golden, &world, family, MG_F32);
  mg_tape_set_recording(world.tape, false);
  p.ids = mg_golden_ids(&golden, 2, "tokens", &p.tokens);
  p.source = mg_golden_ids(&golden, 2, "source", &p.source_tokens);
  decode(&golden, &p, tolerance);
  mg_golden_free_ids(&golden, p.ids, p.tokens);
  mg_golden_free_ids(&golden, p.source, p.source_tokens);
  mg_golden_close(&golden);
  mg_world_close(&world);
}

static void decoding_equals_one_pass_on_the_reference(void **state) {
  check_decode("reference", *state, is_latent(*state) ? 2e-6 : 0);
}

static void decoding_equals_one_pass_on_cpu(void **state) {
  check_decode("cpu", *state, 1e-5);
}

/* The prompt beside itself backwards, in one pass and decoded, against each alone. */
static void a_batch_equals_its_sequences(void **state) {
  mg_world world;
  mg_golden golden;
  mg_model_output out;
  mg_cache *cache;
  prompt p = {0};
  int32_t two[64], sources[64];
  double *expected[2];
  int64_t count;
  mg_world_open(&world, "reference", MG_F32);
  mg_golden_open(&golden, &world, *state, MG_F32);
  mg_tape_set_recording(world.tape, false);
  p.ids = mg_golden_ids(&golden, 2, "tokens", &p.tokens);
  p.source = mg_golden_ids(&golden, 2, "source", &p.source_tokens);
  for (int64_t t = 0; t < p.tokens; t++) two[t] = two[2 * p.tokens - 1 - t] = p.ids[t];
  for (int64_t t = 0; t < p.source_tokens; t++) sources[t] = sources[p.source_tokens + t] = p.source[t];
  for (int b = 0; b < 2; b++) {
    run_batch(&golden, &p, two + b * p.tokens, 1, p.tokens, NULL, &out);
    expected[b] = take_logits(&world, out.logits, 0, p.tokens, &count);
    mg_tape_reset(world.tape);
  }
  prompt both = {.source = p.source ? sources : NULL, .source_tokens = p.source_tokens};
  run_batch(&golden, &both, two, 2, p.tokens, NULL, &out);
  for (int b = 0; b < 2; b++) assert_rows(&golden, out.logits, b * p.tokens, expected[b], count, 0, "a batch");
  mg_tape_reset(world.tape);
  assert_ok(world.context, mg_cache_create(golden.model, MG_F32, 2, p.tokens, &cache));
  int32_t front[64], last[2] = {two[p.tokens - 1], two[2 * p.tokens - 1]};
  for (int64_t t = 0; t < p.tokens - 1; t++) {
    front[t] = two[t];
    front[p.tokens - 1 + t] = two[p.tokens + t];
  }
  run_batch(&golden, &both, front, 2, p.tokens - 1, cache, &out);
  mg_tape_reset(world.tape);
  run_batch(&golden, &both, last, 2, 1, cache, &out);
  const int64_t columns = count / p.tokens;
  const double tolerance = is_latent(*state) ? 2e-6 : 0;
  for (int b = 0; b < 2; b++)
    assert_rows(&golden, out.logits, b, expected[b] + count - columns, columns, tolerance, "a decoded batch");
  both.last_alone = true;
  mg_tape_reset(world.tape);
  run_batch(&golden, &both, two, 2, p.tokens, NULL, &out);
  for (int b = 0; b < 2; b++)
    assert_rows(&golden, out.logits, b, expected[b] + count - columns, columns, 0, "the last tokens of a batch alone");
  mg_cache_destroy(cache);
  for (int b = 0; b < 2; b++) free(expected[b]);
  mg_golden_free_ids(&golden, p.ids, p.tokens);
  mg_golden_free_ids(&golden, p.source, p.source_tokens);
  mg_golden_close(&golden);
  mg_world_close(&world);
}

#define GOLDEN(test, family)                                                                                           \
  { #test " " family, test, NULL, NULL, (void *)(family) }
#define FAMILY(family)                                                                                                 \
  GOLDEN(a_pass_equals_transformers_on_the_reference, family), GOLDEN(a_pass_equals_transformers_on_cpu, family),      \
      GOLDEN(a_pass_in_bf16_stays_near, family), GOLDEN(decoding_equals_one_pass_on_the_reference, family),            \
      GOLDEN(decoding_equals_one_pass_on_cpu, family), GOLDEN(a_batch_equals_its_sequences, family)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAMILY("mixtral"),    FAMILY("olmoe"),         FAMILY("qwen2_moe"),       FAMILY("qwen3_moe"),
      FAMILY("deepseek"),   FAMILY("deepseek_v2"),   FAMILY("deepseek_v3"),     FAMILY("gpt_oss"),
      FAMILY("granitemoe"), FAMILY("phimoe"),        FAMILY("glm4_moe"),        FAMILY("dbrx"),
      FAMILY("solar_open"), FAMILY("gpt_oss_mxfp4"), FAMILY("deepseek_v3_fp8"), FAMILY("switch_transformers"),
      FAMILY("nllb-moe")};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
