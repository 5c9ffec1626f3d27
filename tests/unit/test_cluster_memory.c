/* What a rank holds, reads and exchanges agrees with hand calculation where tensor-parallel ranks share attention, where a
 * stage has both ends of the model, and where replicas meet. */
#include "cluster/memory.h"
#include "cluster/simulation.h"
#include "support/cluster.h"

static mg_context *context;

static int open_context(void **state) {
  (void)state;
  return mg_context_create(NULL, &context) != MG_OK;
}

static int close_context(void **state) {
  void *opened = context;
  (void)state;
  return mg_testing_close_context(&opened);
}

static double simulated(json_t *spec, const char *name) {
  json_t *result;
  assert_ok(context, mg_simulation_run(context, spec, &result));
  const json_t *value = json_object_get(json_object_get(result, "metrics"), name);
  assert_true(json_is_number(value));
  const double number = json_number_value(value);
  json_decref(result);
  json_decref(spec);
  return number;
}

/* Four ranks with 64 sequences of 1000 keys each; `model` is JSON whose keys replace those of the small model. */
static double of_decode(int parallel, const char *model, const char *name) {
  json_t *spec = mg_cluster_specification("decode", 4, "{\"context\": 1000}"), *further = json_loads(model, 0, NULL);
  assert_non_null(further);
  json_object_update(json_object_get(spec, "model"), further);
  json_object_set_new(json_object_get(spec, "accelerator"), "memory_gb", json_real(80));
  json_object_set_new(spec, "tensor_parallel", json_integer(parallel));
  json_decref(further);
  return simulated(spec, name);
}

/* Heads of keys and values are shared out, but each rank has at least one; a latent is on every rank of the group. */
static void caches_of_a_tensor_parallel_group(void **state) {
  (void)state;
  static const char *const two_heads = "{\"kv_heads\": 2}", *const latent = "{\"attention\": \"mla\"}";
  const double token = 4 * 64 * 2, keys = 1000; /* one head's key and value in bf16, four layers */
  assert_near(of_decode(1, two_heads, "memory_cache_bytes"), 64 * keys * 2 * 2 * token, 0);
  assert_near(of_decode(2, two_heads, "memory_cache_bytes"), 2 * 64 * keys * 1 * 2 * token, 0);
  assert_near(of_decode(4, two_heads, "memory_cache_bytes"), 4 * 64 * keys * 1 * 2 * token, 0);
  assert_near(of_decode(1, latent, "memory_cache_bytes"), 64 * keys * 4 * (512 + 64) * 2, 0);
  assert_near(of_decode(4, latent, "memory_cache_bytes"), 4 * 64 * keys * 4 * (512 + 64) * 2, 0);
}

/* With as many heads of keys as ranks, a rank reads of the group's sequences what it would read of its own alone: attention
 * changes by the weights that are shared and the two collectives. */
static void shared_heads_read_no_key_twice(void **state) {
  (void)state;
  const double alone = of_decode(1, "{}", "attention_ms"), shared = of_decode(4, "{}", "attention_ms");
  const double weights = (double)(3 + 1) * 512 * 512 * 2 * (1 - 1.0 / 4); /* queries, keys, values; output */
  const double activations = (double)(4 - 1) * 64 * (512 + 512) * 2;      /* the group's rows of full width */
  const double exchanged = 2 * (3.0 / 4) * (4 * 64) * 512 * 2;            /* gathered, and scattered again */
  const double expected = (activations - weights) / 1e12 + exchanged / 1e11;
  assert_near(shared - alone, 4 * expected * 1e3, 1e-9);
}

static double of_training(int ranks, const char *more, const char *name) {
  json_t *spec = mg_cluster_specification("training", ranks, more);
  json_object_set_new(spec, "context", json_integer(64));
  json_object_set_new(spec, "compare", json_false());
  return simulated(spec, name);
}

/* The one stage of a model without pipeline holds the embedding and the head: 2 x 1000 x 512 beside its blocks. */
static void one_stage_holds_both_ends(void **state) {
  (void)state;
  const double attention = 4 * 512 * 512, gate = 16 * 512, ends = 2 * 1000 * 512;
  assert_near(of_training(1, "{}", "memory_other_bytes"), 2 * (4 * (attention + gate) + ends), 0);
  const double experts = 4 * 16 * 3 * 512 * 256;
  assert_near(of_training(1, "{}", "memory_state_bytes"), (4 + 8) * (experts + 4 * (attention + gate) + ends), 0);
}

/* A shard of attention is held by as many ranks as there are tensor-parallel groups, and its state is divided among those:
 * the gate is whole on each rank. */
static void state_is_divided_among_those_that_hold_the_same(void **state) {
  (void)state;
  const double others = 4 * (4 * 512 * 512 / 2.0 + 16 * 512) + 2 * 1000 * 512 / 2.0, experts = 4 * 4 * 3 * 512 * 256;
  assert_near(of_training(4, "{\"tensor_parallel\": 2, \"replicas\": 3}", "memory_state_bytes"),
              4 * (experts + others) + 8 * (experts / 3 + others / (3 * 4 / 2)), 1e-6);
}

/* Replicas of an expert are one of each group, which fills a node of four: they meet over NICs of 1e10 bytes a second, as
 * do the eight ranks that hold the rest. Gradients are f32, weights bf16; AdamW moves 22 bytes a parameter. */
static void replicas_of_an_expert_meet_over_nics(void **state) {
  (void)state;
  const double experts = 4 * 4 * 3 * 512 * 256, others = 4 * (4 * 512 * 512 + 16 * 512) + 2 * 1000 * 512;
  const double sent = (4 + 2) * (experts / 2 + others * 7 / 8), updated = 22 * (experts / 2 + others / 8);
  assert_near(of_training(4, "{\"replicas\": 2}", "optimiser_ms"), (sent / 1e10 + updated / 1e12) * 1e3, 1e-9);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(caches_of_a_tensor_parallel_group), cmocka_unit_test(shared_heads_read_no_key_twice),
      cmocka_unit_test(one_stage_holds_both_ends), cmocka_unit_test(state_is_divided_among_those_that_hold_the_same),
      cmocka_unit_test(replicas_of_an_expert_meet_over_nics)};
  return cmocka_run_group_tests(tests, open_context, close_context);
}
