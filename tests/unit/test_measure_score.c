/* Scores are those of transformers' logits, and a trace holds what the model routed, whole or not at all. */
#include "measure/score.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "measure/trace.h"
#include "model/generate.h"
#include "support/golden.h"

static mg_world world;
static mg_golden golden;
static char path[] = "/tmp/moegauge-trace-XXXXXX";

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "cpu", MG_F32);
  mg_golden_open(&golden, &world, "qwen2_moe", MG_F32);
  mg_tape_set_recording(world.tape, false);
  const int file = mkstemp(path);
  if (file >= 0) close(file);
  return file < 0;
}

static int close_world(void **state) {
  (void)state;
  unlink(path);
  mg_golden_close(&golden);
  mg_world_close(&world);
  return 0;
}

/* ln p of the token after row t, and whether it is the row's largest, from the golden logits. */
static double expected_of(const mg_golden_array *logits, int64_t t, int32_t token, bool *greedy) {
  const float *row = logits->values + t * logits->columns;
  double sum = 0;
  *greedy = true;
  for (int64_t v = 0; v < logits->columns; v++) {
    sum += exp((double)row[v]);
    *greedy &= v == token || row[v] < row[token];
  }
  return (double)row[token] - log(sum);
}

static void scores_are_those_of_the_logits(void **state) {
  (void)state;
  int64_t count;
  int32_t *ids = mg_golden_ids(&golden, 2, "tokens", &count);
  mg_golden_array logits = mg_golden_floats(&golden, true, "2.logits");
  for (int64_t from = 1; from < count; from += 7) {
    mg_score score;
    double expected = 0;
    int64_t greedy = 0;
    for (int64_t t = from - 1; t + 1 < count; t++) {
      bool best;
      expected += expected_of(&logits, t, ids[t + 1], &best);
      greedy += best;
    }
    assert_ok(world.context, mg_score_tokens(golden.model, world.tape, ids, count, from, &score));
    assert_int_equal(score.tokens, count - from);
    assert_int_equal(score.greedy, greedy);
    assert_near(score.log_likelihood, expected, 1e-4 * fabs(expected));
  }
  mg_score score;
  assert_refused(world.context, MG_USAGE, "the first has none before it",
                 mg_score_tokens(golden.model, world.tape, ids, count, 0, &score));
  assert_refused(world.context, MG_USAGE, "were asked for",
                 mg_score_tokens(golden.model, world.tape, ids, count, count, &score));
  mg_golden_free(&golden, &logits);
  mg_golden_free_ids(&golden, ids, count);
}

typedef struct story {
  int32_t ids[32];
  int64_t count;
} story;

static bool append(void *user, int32_t id) {
  story *t = user;
  t->ids[t->count++] = id;
  return true;
}

/* What a model writes when it takes the likeliest tokens is what it predicts, but for one that is changed afterwards. */
static void a_model_predicts_its_own_text(void **state) {
  (void)state;
  enum { PROMPT = 8, WRITTEN = 12 };
  int64_t count;
  int32_t *ids = mg_golden_ids(&golden, 2, "tokens", &count);
  story t = {.count = PROMPT};
  memcpy(t.ids, ids, PROMPT * sizeof *ids);
  mg_golden_free_ids(&golden, ids, count);
  const mg_generate_settings settings = {.tokens = WRITTEN, .top_p = 1, .each = append, .user = &t};
  assert_ok(world.context, mg_generate(golden.model, world.tape, MG_F32, t.ids, PROMPT, &settings));
  assert_int_equal(t.count, PROMPT + WRITTEN);
  mg_score score;
  assert_ok(world.context, mg_score_tokens(golden.model, world.tape, t.ids, t.count, PROMPT, &score));
  assert_int_equal(score.tokens, WRITTEN);
  assert_int_equal(score.greedy, WRITTEN);
  t.ids[t.count - 1] = (t.ids[t.count - 1] + 1) % 8;
  assert_ok(world.context, mg_score_tokens(golden.model, world.tape, t.ids, t.count, PROMPT, &score));
  assert_int_equal(score.greedy, WRITTEN - 1);
}

/* Two texts; of the three layers the second alone is a mixture. */
static void write_trace(const int32_t *ids, int64_t count) {
  mg_trace *trace;
  assert_ok(world.context, mg_trace_create(golden.model, &trace));
  for (int64_t first = 0; first < count; first += 11) {
    const int64_t here = count - first < 11 ? count - first : 11;
    const mg_model_batch batch = {.inputs = ids + first, .sequences = 1, .sequence_tokens = here};
    mg_model_output output;
    mg_tape_reset(world.tape);
    assert_ok(world.context, mg_model_forward(golden.model, world.tape, &batch, &output));
    assert_ok(world.context, mg_trace_add(trace, world.tape, ids + first, here, &output));
  }
  assert_int_equal(mg_trace_tokens(trace), count);
  json_t *about = json_pack("{s:s}", "model", "golden");
  assert_ok(world.context, mg_trace_write(trace, path, about));
  json_decref(about);
  mg_trace_destroy(trace);
}

static void a_trace_reads_back_and_proves_itself(void **state) {
  (void)state;
  int64_t count;
  int32_t *ids = mg_golden_ids(&golden, 2, "tokens", &count);
  write_trace(ids, count);
  mg_checkpoint *file;
  mg_checkpoint_tensor tensor;
  const char *text;
  assert_ok(world.context, mg_checkpoint_open(world.context, path, NULL, &file));
  assert_ok(world.context, mg_checkpoint_verify(file));
  assert_ok(world.context, mg_checkpoint_text(file, "experts", &text));
  assert_string_equal(text, "1:8");
  int32_t read[64], starts[2];
  assert_ok(world.context, mg_checkpoint_get(file, "tokens", &tensor));
  assert_int_equal(tensor.columns, count);
  assert_ok(world.context, mg_checkpoint_read(file, &tensor, 0, 1, MG_I32, read));
  assert_memory_equal(read, ids, (size_t)count * sizeof *ids);
  assert_ok(world.context, mg_checkpoint_get(file, "starts", &tensor));
  assert_ok(world.context, mg_checkpoint_read(file, &tensor, 0, 1, MG_I32, starts));
  assert_int_equal(starts[0], 0);
  assert_int_equal(starts[1], 11);
  /* The first text is the golden prompt's beginning, so its choices are the golden ones. */
  mg_golden_array experts = mg_golden_floats(&golden, true, "2.router.2.experts");
  assert_ok(world.context, mg_checkpoint_get(file, "layers.1.experts", &tensor));
  assert_ok(world.context, mg_checkpoint_read(file, &tensor, 0, tensor.rows, MG_I32, read));
  for (int64_t t = 0; t < 11; t++) {
    int32_t sum = 0, expected = 0;
    for (int64_t s = 0; s < experts.columns; s++) {
      sum += 1 << read[t * experts.columns + s];
      expected += 1 << (int)experts.values[t * experts.columns + s];
    }
    assert_int_equal(sum, expected);
  }
  mg_golden_free(&golden, &experts);
  mg_checkpoint_close(file);
  FILE *stream = fopen(path, "r+b");
  assert_non_null(stream);
  assert_int_equal(fseek(stream, -1, SEEK_END), 0);
  const int last = fgetc(stream);
  assert_int_equal(fseek(stream, -1, SEEK_END), 0);
  fputc(last ^ 1, stream);
  assert_int_equal(fclose(stream), 0);
  assert_ok(world.context, mg_checkpoint_open(world.context, path, NULL, &file));
  assert_refused(world.context, MG_FILE, path, mg_checkpoint_verify(file));
  mg_checkpoint_close(file);
  mg_golden_free_ids(&golden, ids, count);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(scores_are_those_of_the_logits),
                                     cmocka_unit_test(a_model_predicts_its_own_text),
                                     cmocka_unit_test(a_trace_reads_back_and_proves_itself)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
