/* A model made here, written in the form of a released family and loaded again, computes the same logits; a
 * specification that no family can say names, for each, what stands in the way. */
#include "model/load.h"
#include "model/save.h"
#include "support/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lua/engine.h"

enum { TOKENS = 12, VOCABULARY = 60 };

static char path[] = "/tmp/moegauge-form-XXXXXX";

static int make_path(void **state) {
  (void)state;
  const int file = mkstemp(path);
  if (file >= 0) close(file);
  return file < 0;
}

static int remove_path(void **state) {
  (void)state;
  return unlink(path);
}

/* What form.of makes of a specification written in Lua: {family, tensors, the spec resolved and as read back, reason}. */
static json_t *form_of(mg_world *world, const char *spec) {
  char scripts[1024], text[4096];
  mg_engine *engine;
  json_t *found;
  snprintf(scripts, sizeof scripts, "%s/scripts", getenv("MOEGAUGE_SOURCE"));
  const mg_engine_settings settings = {.registry = world->registry, .scripts = scripts};
  assert_ok(world->context, mg_engine_create(world->context, &settings, &engine));
  snprintf(
      text, sizeof text,
      "local own = require('moegauge.core').describe(%s, 1, false).spec\n"
      "local found, reason = require('moegauge.form').of(own)\n"
      "if not found then return { reason = reason } end\n"
      "local names = {} for name in pairs(found.config) do names[#names + 1] = name end\n"
      "local read = require('moegauge.families').read { file = 'config.json', config = found.config, names = names }\n"
      "return { family = found.family.name, tensors = found.tensors, own = own, spec = read.spec }",
      spec);
  assert_ok(world->context, mg_engine_run_text(engine, text, "=form", &found));
  mg_engine_destroy(engine);
  return found;
}

static void compute(mg_world *world, mg_model *model, float logits[TOKENS * VOCABULARY]) {
  int32_t ids[TOKENS];
  mg_model_output out;
  for (int i = 0; i < TOKENS; i++) ids[i] = (i * 17 + 5) % VOCABULARY;
  const mg_model_batch batch = {.inputs = ids, .sequences = 1, .sequence_tokens = TOKENS};
  assert_ok(world->context, mg_model_forward(model, world->tape, &batch, &out));
  for (int i = 0; i < TOKENS * VOCABULARY; i++) logits[i] = (float)mg_world_value(world, out.logits, i);
  mg_tape_reset(world->tape);
}

#define SPEC(rest) "{ vocabulary = 60, layers = 2, width = 32, heads = 4, initial_deviation = 0.3, " rest " }"
#define MOE(rest) "{ kind = 'moe', experts = 8, width = 16, " rest " }"

static const struct {
  const char *family, *spec;
} cases[] = {
    {"mixtral", SPEC("feed_forward = " MOE("router = { name = 'topk', k = 2 }, losses = { { kind = 'balance' } }"))},
    {"mixtral", SPEC("kv_heads = 2, tie_embeddings = false, window = 5, rope_base = 5000, feed_forward = " MOE(
                    "activation = 'gelu', router = { name = 'topk', k = 3, order = 'after' }"))},
    {"qwen2_moe", SPEC("feed_forward = " MOE("router = { name = 'topk', k = 1, renormalise = false }"))},
    {"qwen2_moe",
     SPEC("feed_forward = { { kind = 'dense', width = 48 }, " MOE(
         "router = { name = 'topk', k = 2 }, shared = { experts = 2, width = 8, gate = 'sigmoid' }") " }")},
    {"qwen3_moe", SPEC("qk_norm = true, head_width = 12, feed_forward = " MOE("router = { name = 'topk', k = 2 }"))},
    {"olmoe", SPEC("attention = { heads = 4, qk_norm = 'whole', clip = 2 }, feed_forward = " MOE(
                  "router = { name = 'topk', k = 3, renormalise = false }"))},
    {"granitemoe", SPEC("residual_scale = 0.5, embedding_scale = 3, logit_scale = 0.25, feed_forward = " MOE(
                       "router = { name = 'topk', k = 2 }"))},
    {"glm4_moe",
     SPEC("rotary = 4, feed_forward = { { kind = 'dense', width = 48 }, " MOE(
         "router = { name = 'deepseek', k = 2, groups = 4, groups_kept = 2, scale = 1.5 }, shared = {}") " }")},
    {"deepseek_v3", SPEC("attention = { kind = 'latent', heads = 4, query_rank = 12, kv_rank = 8, nope_width = 6, "
                         "rope_width = 4, value_width = 5, rope = { interleaved = true } }, feed_forward = " MOE(
                             "router = { name = 'deepseek', k = 2 }, shared = { experts = 2 }"))},
};

static void a_saved_model_computes_the_same(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg_world world;
    mg_model *model, *again;
    mg_checkpoint *checkpoint;
    static float before[TOKENS * VOCABULARY], after[TOKENS * VOCABULARY];
    mg_world_open(&world, "reference", MG_F32);
    json_t *form = form_of(&world, cases[i].spec);
    const char *reason = json_string_value(json_object_get(form, "reason"));
    if (reason) fail_msg("case %zu: %s", i, reason);
    assert_string_equal(json_string_value(json_object_get(form, "family")), cases[i].family);
    const json_t *spec = json_object_get(form, "spec"), *tensors = json_object_get(form, "tensors");
    assert_ok(world.context, mg_model_create(world.context, world.registry, world.backend, json_object_get(form, "own"),
                                             MG_F32, 7, &model));
    compute(&world, model, before);
    assert_ok(world.context, mg_model_save(model, tensors, MG_F32, path));
    mg_model_destroy(model);
    assert_ok(world.context, mg_checkpoint_open(world.context, path, NULL, &checkpoint));
    assert_ok(world.context, mg_model_load(world.context, world.registry, world.backend, spec, tensors, NULL,
                                           checkpoint, MG_F32, &again));
    compute(&world, again, after);
    for (int t = 0; t < TOKENS * VOCABULARY; t++)
      if (!(fabsf(before[t] - after[t]) <= 1e-5f))
        fail_msg("case %zu: logit %d is %g, was %g", i, t, after[t], before[t]);
    mg_model_destroy(again);
    mg_checkpoint_close(checkpoint);
    json_decref(form);
    mg_world_close(&world);
  }
}

static void assert_reason(const char *spec, const char *words) {
  mg_world world;
  mg_world_open(&world, "reference", MG_F32);
  json_t *form = form_of(&world, spec);
  const char *reason = json_string_value(json_object_get(form, "reason"));
  assert_non_null(reason);
  if (!strstr(reason, words)) fail_msg("'%s' is not in: %s", words, reason);
  json_decref(form);
  mg_world_close(&world);
}

static void what_no_family_can_say_is_named(void **state) {
  (void)state;
  assert_reason(SPEC("feed_forward = " MOE("capacity = 1.25, router = { name = 'topk', k = 2 }")),
                "mixtral: feed_forward[1].capacity is drop here, nothing there");
  assert_reason(SPEC("feed_forward = " MOE("router = { name = 'cosine', k = 2 }")),
                "mixtral: feed_forward[1].router.name is cosine here, topk there");
  assert_reason(SPEC("feed_forward = " MOE("router = { name = 'top_p' }")), "mixtral: its router is top_p");
  assert_reason(SPEC("norm = 'layer', feed_forward = " MOE("router = { name = 'topk', k = 2 }")),
                "mixtral: norm is layer here, rms there");
  assert_reason(SPEC("feed_forward = { kind = 'dense', width = 16 }"), "mixtral: it has no mixture");
  assert_reason(
      SPEC("feed_forward = { { kind = 'dense', width = 48 }, " MOE(
          "shared = {}, router = { name = 'topk', k = 2 }") " }"),
      "mixtral: feed_forward[1].kind is dense here, moe there; qwen2_moe: feed_forward[2].shared.gate is none "
      "here, sigmoid there");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_saved_model_computes_the_same),
                                     cmocka_unit_test(what_no_family_can_say_is_named)};
  return cmocka_run_group_tests(tests, make_path, remove_path);
}
