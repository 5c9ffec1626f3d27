/* Tokens are drawn as their logits say, from those that the settings leave; and a text goes on as passes over all of it
 * would have it. */
#include "model/generate.h"

#include <math.h>

#include "support/world.h"

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

/* ---- drawing --------------------------------------------------------------------------------------------------- */

/* Weights 1, 2, 3, 4 at temperature 1. */
static int32_t draw(double temperature, int64_t top_k, double top_p, double uniform) {
  const float logits[] = {0.0f, logf(2), logf(3), logf(4)};
  const mg_generate_settings settings = {.temperature = temperature, .top_k = top_k, .top_p = top_p};
  int32_t id;
  assert_ok(world.context, mg_generate_draw(world.context, logits, 4, &settings, uniform, &id));
  return id;
}

/* Shares 0.1, 0.2, 0.3, 0.4, in the order of ids; squares 1, 4, 9, 16 of 30 at half the temperature. */
static void weights_are_those_of_the_logits(void **state) {
  (void)state;
  static const struct {
    double temperature, uniform;
    int32_t id;
  } rows[] = {{1, 1e-9, 0},      {1, 0.0999, 0},    {1, 0.1001, 1},    {1, 0.2999, 1},      {1, 0.3001, 2},
              {1, 0.5999, 2},    {1, 0.6001, 3},    {1, 1 - 1e-9, 3},  {0.5, 0.0333, 0},    {0.5, 0.0334, 1},
              {0.5, 0.1666, 1},  {0.5, 0.1667, 2},  {0.5, 0.4666, 2},  {0.5, 0.4667, 3},    {0, 1e-9, 3},
              {1e-300, 1e-9, 3}, {1e300, 0.249, 0}, {1e300, 0.251, 1}, {1e300, 1 - 1e-9, 3}};
  for (size_t i = 0; i < MG_COUNT(rows); i++)
    assert_int_equal(draw(rows[i].temperature, 0, 1, rows[i].uniform), rows[i].id);
}

/* Those that are left come in order of weight: of two, 4 and 3 of 7; of the fewest that hold 0.71, 4, 3 and 2 of 9. */
static void only_the_likeliest_are_drawn_from(void **state) {
  (void)state;
  assert_int_equal(draw(1, 1, 1, 1 - 1e-9), 3);
  assert_int_equal(draw(1, 2, 1, 0.5714), 3);
  assert_int_equal(draw(1, 2, 1, 0.5715), 2);
  assert_int_equal(draw(1, 2, 1, 1 - 1e-9), 2);
  assert_int_equal(draw(1, 4, 1, 1 - 1e-9), draw(1, 9, 1, 1 - 1e-9));
  assert_int_equal(draw(1, 0, 0.39, 1 - 1e-9), 3);
  assert_int_equal(draw(1, 0, 0.41, 1 - 1e-9), 2);
  assert_int_equal(draw(1, 0, 0.71, 0.4444), 3);
  assert_int_equal(draw(1, 0, 0.71, 0.4445), 2);
  assert_int_equal(draw(1, 0, 0.71, 0.7778), 1);
  assert_int_equal(draw(1, 0, 0.71, 1 - 1e-9), 1);
  assert_int_equal(draw(1, 0, 0.91, 1 - 1e-9), 0);
  assert_int_equal(draw(1, 0, 1e-9, 1 - 1e-9), 3);
  /* the share is of the weight that top_k leaves: 4 of 7 reach 0.57 */
  assert_int_equal(draw(1, 2, 0.57, 1 - 1e-9), 3);
  assert_int_equal(draw(1, 2, 0.58, 1 - 1e-9), 2);
}

static void equals_are_told_apart_by_their_ids(void **state) {
  (void)state;
  const float logits[] = {-INFINITY, 2, 1, 2, 2, -INFINITY};
  const mg_generate_settings settings[] = {
      {.temperature = 0, .top_p = 1}, {.temperature = 1, .top_k = 1, .top_p = 1}, {.temperature = 1, .top_p = 0.2}};
  int32_t id;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    assert_ok(world.context, mg_generate_draw(world.context, logits, 6, &settings[i], 1 - 1e-9, &id));
    assert_int_equal(id, 1);
  }
  const mg_generate_settings all = {.temperature = 1, .top_p = 1};
  assert_ok(world.context, mg_generate_draw(world.context, logits, 6, &all, 1e-12, &id));
  assert_int_equal(id, 1);
  assert_ok(world.context, mg_generate_draw(world.context, logits, 6, &all, 1 - 1e-12, &id));
  assert_int_equal(id, 4);
}

static void logits_that_are_no_numbers_are_refused(void **state) {
  (void)state;
  const float bad[] = {NAN, INFINITY};
  const mg_generate_settings settings = {.temperature = 1, .top_p = 1};
  int32_t id;
  for (size_t i = 0; i < MG_COUNT(bad); i++) {
    const float logits[] = {0, bad[i], 1};
    assert_refused(world.context, MG_NUMERIC, "the logit of token 1 is",
                   mg_generate_draw(world.context, logits, 3, &settings, 0.5, &id));
  }
}

/* ---- going on -------------------------------------------------------------------------------------------------- */

enum { VOCABULARY = 11, MOST = 24 };
#define MODEL                                                                                                          \
  "{\"vocabulary\": 11, \"layers\": 2, \"width\": 8, \"heads\": 2, \"window\": [3, 0], \"initial_deviation\": 0.5, "   \
  "\"feed_forward\": {\"kind\": \"moe\", \"experts\": 4, \"width\": 8, \"router\": {\"name\": \"topk\", \"k\": 2}}}"

typedef struct written {
  int32_t ids[MOST];
  int64_t count, most;
} written;

static bool note(void *user, int32_t id) {
  written *w = user;
  w->ids[w->count++] = id;
  return w->count < w->most;
}

static const int32_t prompt[] = {1, 2, 3, 4, 5};
enum { PROMPT = 5 };

static written write(mg_model *model, mg_generate_settings settings, int64_t most) {
  written w = {.most = most};
  settings.each = note;
  settings.user = &w;
  assert_ok(world.context, mg_generate(model, world.tape, MG_F32, prompt, PROMPT, &settings));
  return w;
}

/* The likeliest token after all of a text, in one pass without a cache. */
static int32_t likeliest_after(mg_model *model, const int32_t *ids, int64_t count) {
  const mg_model_batch batch = {.inputs = ids, .sequences = 1, .sequence_tokens = count};
  mg_model_output out;
  int32_t best = 0;
  mg_tape_reset(world.tape);
  assert_ok(world.context, mg_model_forward(model, world.tape, &batch, &out));
  for (int32_t v = 1; v < VOCABULARY; v++)
    if (mg_world_value(&world, out.logits, (count - 1) * VOCABULARY + v) >
        mg_world_value(&world, out.logits, (count - 1) * VOCABULARY + best))
      best = v;
  return best;
}

static void the_likeliest_are_those_of_passes_over_the_whole_text(void **state) {
  (void)state;
  mg_model *model = mg_world_model(&world, MODEL);
  const written w = write(model, (mg_generate_settings){.tokens = MOST, .top_p = 1}, MOST);
  int32_t text[PROMPT + MOST];
  memcpy(text, prompt, sizeof prompt);
  assert_int_equal(w.count, MOST);
  for (int64_t i = 0; i < MOST; i++) {
    assert_int_equal(w.ids[i], likeliest_after(model, text, PROMPT + i));
    text[PROMPT + i] = w.ids[i];
  }
  mg_tape_reset(world.tape);
  mg_model_destroy(model);
}

static void a_seed_decides_what_is_drawn(void **state) {
  (void)state;
  mg_model *model = mg_world_model(&world, MODEL);
  mg_generate_settings settings = {.tokens = MOST, .temperature = 2, .top_p = 1, .seed = 7};
  const written first = write(model, settings, MOST), again = write(model, settings, MOST);
  settings.seed = 8;
  const written other = write(model, settings, MOST);
  assert_memory_equal(first.ids, again.ids, sizeof first.ids);
  assert_memory_not_equal(first.ids, other.ids, sizeof first.ids);
  mg_model_destroy(model);
}

static void a_text_ends_where_it_should(void **state) {
  (void)state;
  mg_model *model = mg_world_model(&world, MODEL);
  mg_generate_settings settings = {.tokens = MOST, .temperature = 2, .top_p = 1, .seed = 7};
  const written all = write(model, settings, MOST);
  assert_int_equal(write(model, settings, 3).count, 3);
  const int32_t ends[] = {VOCABULARY, all.ids[5]};
  int64_t first = 0;
  while (all.ids[first] != all.ids[5]) first++;
  settings.ends = ends;
  settings.ends_count = 2;
  assert_int_equal(write(model, settings, MOST).count, first + 1);
  settings.tokens = 1;
  assert_int_equal(write(model, settings, MOST).count, 1);
  mg_model_destroy(model);
}

static void what_makes_no_sense_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *message;
    int64_t count;
    mg_generate_settings settings;
  } rows[] = {{"the prompt has no token", 0, {.tokens = 1, .top_p = 1}},
              {"0 tokens were asked for", 1, {.tokens = 0, .top_p = 1}},
              {"the temperature", 1, {.tokens = 1, .top_p = 1, .temperature = -1}},
              {"the temperature", 1, {.tokens = 1, .top_p = 1, .temperature = NAN}},
              {"top_k = -1", 1, {.tokens = 1, .top_p = 1, .top_k = -1}},
              {"top_p = 0", 1, {.tokens = 1, .top_p = 0}},
              {"top_p = 1.5", 1, {.tokens = 1, .top_p = 1.5}}};
  mg_model *model = mg_world_model(&world, MODEL);
  written w = {.most = MOST};
  for (size_t i = 0; i < MG_COUNT(rows); i++) {
    mg_generate_settings settings = rows[i].settings;
    settings.each = note;
    settings.user = &w;
    assert_refused(world.context, MG_USAGE, rows[i].message,
                   mg_generate(model, world.tape, MG_F32, prompt, rows[i].count, &settings));
  }
  const mg_generate_settings settings = {.tokens = 1, .top_p = 1, .each = note, .user = &w};
  assert_refused(world.context, MG_USAGE, "input 0 is token 11",
                 mg_generate(model, world.tape, MG_F32, &(int32_t){VOCABULARY}, 1, &settings));
  mg_model_destroy(model);
  model = mg_world_model(
      &world, "{\"layers\": 1, \"width\": 8, \"vocabulary\": 11, \"heads\": 2, \"encoder\": {\"layers\": 1}}");
  assert_refused(world.context, MG_USAGE, "it has an encoder",
                 mg_generate(model, world.tape, MG_F32, prompt, PROMPT, &settings));
  assert_int_equal(w.count, 0);
  mg_model_destroy(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(weights_are_those_of_the_logits),
                                     cmocka_unit_test(only_the_likeliest_are_drawn_from),
                                     cmocka_unit_test(equals_are_told_apart_by_their_ids),
                                     cmocka_unit_test(logits_that_are_no_numbers_are_refused),
                                     cmocka_unit_test(the_likeliest_are_those_of_passes_over_the_whole_text),
                                     cmocka_unit_test(a_seed_decides_what_is_drawn),
                                     cmocka_unit_test(a_text_ends_where_it_should),
                                     cmocka_unit_test(what_makes_no_sense_is_refused)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
