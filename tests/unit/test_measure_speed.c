/* Speed is measured over the passes that were asked for: their FLOPs add up, and a decoded token reads what it uses. */
#include "measure/speed.h"

#include "support/world.h"

enum { WIDTH = 8, VOCABULARY = 32, EXPERTS = 6, CHOICES = 2, HIDDEN = 5, LAYERS = 2 };
#define LIMITED(more, limit)                                                                                           \
  "{\"layers\": 2, \"width\": 8, \"vocabulary\": 32, \"heads\": 2, " more "\"feed_forward\": {\"kind\": \"moe\", "     \
  "\"experts\": 6, \"width\": 5, \"router\": {\"name\": \"topk\", \"k\": 2}" limit "}}"
#define MODEL(more) LIMITED(more, "")

static mg_world world;

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "cpu", MG_F32);
  mg_tape_set_recording(world.tape, false);
  return 0;
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  return 0;
}

static mg_speed speed_of(mg_model *model, int64_t prompt, int64_t generate, int64_t depth) {
  const mg_speed_settings settings = {.prompt = prompt, .generate = generate, .depth = depth, .rounds = 2, .seed = 5};
  mg_speed rounds[2];
  assert_ok(world.context, mg_speed_run(model, world.tape, MG_F32, &settings, rounds));
  const mg_speed speed = rounds[0];
  assert_true(rounds[1].prefill_flops == speed.prefill_flops && rounds[1].decode_flops == speed.decode_flops);
  assert_true((speed.prefill_ns > 0) == (prompt > 0) && (speed.decode_ns > 0) == (generate > 0));
  return speed;
}

/* Tokens cost the same one by one as in one pass, but for the final norm (4 for each column) and the head, which a pass
 * computes for its last token alone. With a limit of tokens per expert (here one that is never reached) the last block
 * computes every token too; without one, a prefill costs less. */
static void flops_are_those_of_the_tokens_asked_for(void **state) {
  (void)state;
  mg_model *model = mg_world_model(
      &world, LIMITED("\"tie_embeddings\": false, ", ", \"capacity\": {\"policy\": \"drop\", \"factor\": 6}"));
  const double head = 2.0 * WIDTH * VOCABULARY + 4.0 * WIDTH;
  const mg_speed whole = speed_of(model, 12, 0, 0), part = speed_of(model, 9, 3, 9), apart = speed_of(model, 0, 3, 9);
  assert_near(part.decode_flops, whole.prefill_flops - part.prefill_flops + 3.0 * head, 0.5);
  assert_true(apart.decode_flops == part.decode_flops && apart.prefill_flops == 0.0 && whole.decode_flops == 0.0);
  assert_true(speed_of(model, 0, 12, 0).decode_flops > part.prefill_flops);
  mg_model_destroy(model);
  model = mg_world_model(&world, MODEL("\"tie_embeddings\": false, "));
  assert_true(speed_of(model, 0, 3, 9).decode_flops == part.decode_flops);
  assert_true(speed_of(model, 12, 0, 0).prefill_flops < 0.75 * whole.prefill_flops);
  mg_model_destroy(model);
}

/* All in f32: attention 4 D^2, two norms, the gate, and of the experts those that are chosen; the final norm, the head;
 * for each token in the cache a key and a value in every layer. */
static void a_decoded_token_reads_what_it_uses(void **state) {
  (void)state;
  const double experts = CHOICES * 3.0 * WIDTH * HIDDEN, gate = EXPERTS * WIDTH;
  const double layer = 4.0 * WIDTH * WIDTH + 2.0 * WIDTH + gate + experts, table = VOCABULARY * WIDTH;
  const double used = LAYERS * layer + WIDTH + table, cached = LAYERS * 2.0 * WIDTH;
  static const char *const texts[] = {MODEL("\"tie_embeddings\": false, "), MODEL("\"tie_embeddings\": true, ")};
  for (size_t i = 0; i < MG_COUNT(texts); i++) {
    mg_model *model = mg_world_model(&world, texts[i]);
    assert_near(mg_speed_decode_bytes(model, MG_F32, 0), 4.0 * used, 0.5);
    assert_near(mg_speed_decode_bytes(model, MG_F32, 10), 4.0 * used + 40.0 * cached, 0.5);
    assert_near(mg_speed_decode_bytes(model, MG_BF16, 10), 4.0 * used + 20.0 * cached, 0.5);
    mg_model_destroy(model);
  }
}

static void nothing_to_measure_is_refused(void **state) {
  (void)state;
  mg_model *model = mg_world_model(&world, MODEL(""));
  mg_speed speed;
  assert_refused(world.context, MG_USAGE, "at least one token",
                 mg_speed_run(model, world.tape, MG_F32, &(mg_speed_settings){.depth = 3, .rounds = 1}, &speed));
  assert_refused(world.context, MG_USAGE, "at least one token",
                 mg_speed_run(model, world.tape, MG_F32, &(mg_speed_settings){.prompt = -1, .rounds = 1}, &speed));
  assert_refused(world.context, MG_USAGE, "at least one round",
                 mg_speed_run(model, world.tape, MG_F32, &(mg_speed_settings){.prompt = 3}, &speed));
  mg_model_destroy(model);
  model = mg_world_model(
      &world, "{\"layers\": 1, \"width\": 8, \"vocabulary\": 32, \"heads\": 2, \"encoder\": {\"layers\": 1}}");
  assert_refused(world.context, MG_USAGE, "it has an encoder",
                 mg_speed_run(model, world.tape, MG_F32, &(mg_speed_settings){.prompt = 3, .rounds = 1}, &speed));
  mg_model_destroy(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(flops_are_those_of_the_tokens_asked_for),
                                     cmocka_unit_test(a_decoded_token_reads_what_it_uses),
                                     cmocka_unit_test(nothing_to_measure_is_refused)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
