/* Generated routings are distinct, repeatable and as skewed as asked; traffic conserves assignments and messages. */
#include "cluster/traffic.h"

#include "base/file.h"
#include "base/options.h"
#include "cluster/placement.h"
#include "cluster/simulation.h"
#include "moe/balance.h"
#include "support/scratch.h"
#include "support/world.h"

static mg_world world;
static mg_scratch scratch;
static const char *const path = scratch.path;

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F32);
  return mg_scratch_open(&scratch, "routing");
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  return mg_scratch_close(&scratch);
}

static mg_routing *generate(mg_routing_kind kind) {
  mg_routing_recipe recipe;
  mg_routing *routing;
  mg_options_defaults(mg_routing_recipe_options, &recipe);
  recipe.kind = kind;
  recipe.layers = 3;
  recipe.tokens = 2048;
  assert_ok(world.context, mg_routing_generate(world.context, &recipe, &routing));
  return routing;
}

/* Placement of all layers by one policy, on 16 ranks of 4 nodes. */
static mg_placement place(const mg_routing *routing, mg_place_function policy, int64_t slots) {
  mg_placement p;
  assert_ok(world.context, mg_placement_create(world.context, routing->layers, routing->experts, slots, 16, 4, &p));
  for (int64_t layer = 0; layer < routing->layers; layer++) {
    double load[64] = {0};
    mg_routing_load(routing, layer, 0, routing->tokens, load);
    const mg_place_request request = {.load = load,
                                      .experts = routing->experts,
                                      .slots = slots,
                                      .ranks = 16,
                                      .nodes = 4,
                                      .groups = 1,
                                      .layer = layer};
    assert_ok(world.context, mg_place(world.context, policy, NULL, &request, p.expert + layer * slots));
  }
  return p;
}

static double sum(const mg_traffic *traffic, int64_t layer, mg_traffic_kind kind) {
  double total = 0;
  for (int64_t d = 0; d < traffic->ranks; d++) total += mg_traffic_of(traffic, layer, kind)[d];
  return total;
}

static void tokens_choose_distinct_experts(void **state) {
  (void)state;
  for (mg_routing_kind kind = MG_ROUTING_UNIFORM; kind <= MG_ROUTING_GROUP_LIMITED; kind++) {
    mg_routing *routing = generate(kind);
    for (int64_t i = 0; i < routing->layers * routing->tokens; i++) {
      uint64_t seen = 0;
      for (int64_t c = 0; c < routing->choices; c++) {
        const int32_t id = routing->ids[i * routing->choices + c];
        assert_in_range(id, 0, 63);
        assert_false(seen >> id & 1);
        seen |= UINT64_C(1) << id;
      }
    }
    mg_routing_destroy(routing);
  }
}

static double cv_of(const mg_routing *routing, int64_t first, int64_t count) {
  double load[64] = {0};
  mg_routing_load(routing, 0, first, count, load);
  return mg_balance_cv(load, 64);
}

/* Uniform lies at the floor of random routing; skewed kinds far above it; a rotating set is skewed at any moment and
 * even in the long run. */
static void generators_are_as_skewed_as_asked(void **state) {
  (void)state;
  const mg_balance_floor least = mg_balance_random_floor(64, 8, 2048, 32, 1);
  mg_routing *uniform = generate(MG_ROUTING_UNIFORM), *zipf = generate(MG_ROUTING_ZIPF),
             *hot = generate(MG_ROUTING_HOT), *rotating = generate(MG_ROUTING_ROTATING);
  assert_near(cv_of(uniform, 0, 2048), least.cv, 0.5 * least.cv);
  assert_true(cv_of(zipf, 0, 2048) > 10 * least.cv);
  assert_true(cv_of(hot, 0, 2048) > 10 * least.cv);
  assert_true(cv_of(rotating, 0, 256) > 1.5 * cv_of(rotating, 0, 2048));
  mg_routing_destroy(uniform);
  mg_routing_destroy(zipf);
  mg_routing_destroy(hot);
  mg_routing_destroy(rotating);
}

static void a_shift_changes_the_favourites(void **state) {
  (void)state;
  mg_routing *shift = generate(MG_ROUTING_SHIFT);
  double before[64] = {0}, after[64] = {0}, both = 0;
  mg_routing_load(shift, 0, 0, 1024, before);
  mg_routing_load(shift, 0, 1024, 1024, after);
  for (int e = 0; e < 64; e++) both += fmin(before[e], after[e]);
  assert_true(both < 0.8 * 8 * 1024);
  mg_routing_destroy(shift);
}

static void group_limited_tokens_use_few_groups(void **state) {
  (void)state;
  mg_routing *limited = generate(MG_ROUTING_GROUP_LIMITED);
  for (int64_t t = 0; t < limited->tokens; t++) {
    unsigned groups = 0;
    for (int64_t c = 0; c < 8; c++) groups |= 1u << limited->ids[t * 8 + c] / 8;
    assert_true(__builtin_popcount(groups) <= 4);
  }
  mg_routing_destroy(limited);
}

static void contradictory_recipes_are_refused(void **state) {
  (void)state;
  mg_routing *routing;
  mg_routing_recipe recipe;
  mg_options_defaults(mg_routing_recipe_options, &recipe);
  recipe.experts = 4;
  assert_refused(world.context, MG_USAGE, "8 choices of 4", mg_routing_generate(world.context, &recipe, &routing));
  recipe.experts = 60;
  recipe.kind = MG_ROUTING_GROUP_LIMITED;
  assert_refused(world.context, MG_USAGE, "do not fit", mg_routing_generate(world.context, &recipe, &routing));
  recipe.experts = 64;
  recipe.groups = 64;
  assert_refused(world.context, MG_USAGE, "too few", mg_routing_generate(world.context, &recipe, &routing));
}

static void a_written_trace_is_read_back(void **state) {
  (void)state;
  mg_routing *routing = generate(MG_ROUTING_ZIPF), *again;
  assert_ok(world.context, mg_routing_write(routing, world.backend, path, NULL));
  assert_ok(world.context, mg_routing_read(world.context, path, &again));
  assert_int_equal(again->tokens, routing->tokens);
  assert_int_equal(again->experts, 64);
  assert_memory_equal(again->ids, routing->ids, 3 * 2048 * 8 * sizeof(int32_t));
  assert_memory_equal(again->weights, routing->weights, 3 * 2048 * 8 * sizeof(float));
  mg_routing_destroy(again);
  mg_routing_destroy(routing);
}

/* Changes one byte of the file, or cuts it there. */
static void damage(size_t at, bool cut) {
  char *bytes;
  size_t count;
  assert_ok(world.context, mg_file_read(world.context, path, 1 << 24, &bytes, &count));
  bytes[at] ^= 1;
  assert_ok(world.context, mg_file_write_atomic(world.context, path, bytes, cut ? at : count));
  mg_free(world.context, bytes, count + 1);
}

static void damaged_traces_are_refused(void **state) {
  (void)state;
  mg_routing *routing = generate(MG_ROUTING_UNIFORM), *again;
  assert_ok(world.context, mg_routing_write(routing, world.backend, path, NULL));
  damage(20000, false);
  assert_refused(world.context, MG_FILE, "checksum", mg_routing_read(world.context, path, &again));
  damage(30000, true);
  assert_int_equal(mg_routing_read(world.context, path, &again), MG_FILE);
  routing->ids[5] = 64;
  assert_ok(world.context, mg_routing_write(routing, world.backend, path, NULL));
  assert_refused(world.context, MG_FILE, "chooses 64", mg_routing_read(world.context, path, &again));
  routing->ids[5] = routing->ids[4];
  assert_ok(world.context, mg_routing_write(routing, world.backend, path, NULL));
  assert_refused(world.context, MG_FILE, "twice", mg_routing_read(world.context, path, &again));
  mg_routing_destroy(routing);
}

static void the_head_says_what_a_trace_holds(void **state) {
  (void)state;
  mg_routing *routing = generate(MG_ROUTING_ZIPF);
  mg_routing_facts facts;
  assert_ok(world.context, mg_routing_write(routing, world.backend, path, NULL));
  assert_ok(world.context, mg_routing_describe(world.context, path, &facts));
  assert_true(facts.tokens == 2048 && facts.texts == 1 && facts.layers == 3 && facts.experts == 64);
  assert_int_equal(facts.choices, 8);
  damage(20000, false);
  assert_refused(world.context, MG_FILE, "checksum", mg_routing_describe(world.context, path, &facts));
  routing->blocks[0] = 1;
  routing->blocks[1] = 0;
  assert_ok(world.context, mg_routing_write(routing, world.backend, path, NULL));
  assert_refused(world.context, MG_FILE, "with rising N", mg_routing_describe(world.context, path, &facts));
  mg_routing_destroy(routing);
}

/* Expert choice leaves a token with as many experts as choose it: the mean counts, not the columns. */
static void missing_choices_lower_the_mean(void **state) {
  (void)state;
  mg_routing *routing = generate(MG_ROUTING_UNIFORM), *again;
  for (int64_t i = 0; i < 3 * 2048 * 8; i += 4) routing->ids[i] = -1;
  assert_ok(world.context, mg_routing_write(routing, world.backend, path, NULL));
  assert_ok(world.context, mg_routing_read(world.context, path, &again));
  assert_near(routing->mean_choices, 8, 0);
  assert_near(again->mean_choices, 6, 1e-12);
  mg_routing_destroy(again);
  mg_routing_destroy(routing);
}

static json_t *specification(int experts, int choices, int layers) {
  return json_pack("{s:s, s:i, s:i, s:s, s:i, s:{s:i, s:i, s:i}, s:{s:f, s:f, s:f, s:f, s:f}, s:{s:s}}", "step",
                   "decode", "ranks", 8, "tokens", 16, "costs", "roofline", "context", 128, "model", "experts", experts,
                   "choices", choices, "layers", layers, "accelerator", "bf16_tflops", 100.0, "memory_gb", 80.0,
                   "memory_gb_s", 1000.0, "near_gb_s", 100.0, "far_gb_s", 10.0, "trace", "path", path);
}

/* More choices than a model's are no trace of it unless tokens leave some out; fewer layers may be traced, not more. */
static void a_trace_of_another_model_is_refused(void **state) {
  (void)state;
  static const struct {
    int experts, choices, layers;
    mg_status head, whole;
  } models[] = {{64, 8, 3, MG_OK, MG_OK},     {64, 8, 9, MG_OK, MG_OK},     {32, 8, 3, MG_FILE, MG_FILE},
                {64, 9, 3, MG_FILE, MG_FILE}, {64, 8, 2, MG_FILE, MG_FILE}, {64, 5, 3, MG_OK, MG_FILE}};
  mg_routing *routing = generate(MG_ROUTING_ZIPF);
  assert_ok(world.context, mg_routing_write(routing, world.backend, path, NULL));
  for (size_t i = 0; i < MG_COUNT(models); i++) {
    json_t *spec = specification(models[i].experts, models[i].choices, models[i].layers), *result = NULL;
    assert_int_equal(mg_simulation_check(world.context, spec), models[i].head);
    assert_int_equal(mg_simulation_run(world.context, spec, &result), models[i].whole);
    if (models[i].whole != MG_OK)
      assert_non_null(strstr(mg_context_message(world.context), "a trace of another model"));
    json_decref(result);
    json_decref(spec);
  }
  mg_routing_destroy(routing);
}

static mg_traffic *count(const mg_routing *routing, const mg_placement *placement, bool deduplicate, double capacity) {
  mg_traffic *traffic;
  const mg_traffic_request request = {.routing = routing,
                                      .placement = placement,
                                      .tokens = 96,
                                      .first = 32,
                                      .count = 64,
                                      .deduplicate = deduplicate,
                                      .capacity = capacity};
  assert_ok(world.context, mg_traffic_create(world.context, &request, &traffic));
  return traffic;
}

static void assignments_and_messages_are_conserved(void **state) {
  (void)state;
  mg_routing *routing = generate(MG_ROUTING_ZIPF);
  mg_placement p = place(routing, mg_place_eplb, 80);
  for (int variant = 0; variant < 4; variant++) {
    mg_traffic *traffic = count(routing, &p, variant & 1, variant & 2 ? 1.25 : 0);
    for (int64_t layer = 0; layer < 3; layer++) {
      assert_near(sum(traffic, layer, MG_TRAFFIC_ROWS) + traffic->dropped[layer], 16 * 64 * 8, 0);
      assert_near(traffic->assigned[layer], 16 * 64 * 8, 0);
      assert_near(sum(traffic, layer, MG_TRAFFIC_NEAR_SENT), sum(traffic, layer, MG_TRAFFIC_NEAR_RECEIVED), 0);
      assert_near(sum(traffic, layer, MG_TRAFFIC_FAR_SENT), sum(traffic, layer, MG_TRAFFIC_FAR_RECEIVED), 0);
      assert_true((traffic->dropped[layer] > 0) == ((variant & 2) != 0));
    }
    mg_traffic_destroy(traffic);
  }
  mg_placement_destroy(world.context, &p);
  mg_routing_destroy(routing);
}

/* Both ways of counting see the same rows; de-duplication sends no more. */
static void deduplication_changes_messages_only(void **state) {
  (void)state;
  mg_routing *routing = generate(MG_ROUTING_HOT);
  mg_placement p = place(routing, mg_place_greedy, 80);
  mg_traffic *plain = count(routing, &p, false, 0), *distinct = count(routing, &p, true, 0);
  for (int64_t layer = 0; layer < 3; layer++) {
    for (int64_t d = 0; d < 16; d++) {
      assert_near(mg_traffic_of(plain, layer, MG_TRAFFIC_ROWS)[d], mg_traffic_of(distinct, layer, MG_TRAFFIC_ROWS)[d],
                  0);
      assert_true(mg_traffic_of(distinct, layer, MG_TRAFFIC_DISTINCT)[d] <=
                  mg_traffic_of(plain, layer, MG_TRAFFIC_ROWS)[d]);
    }
    assert_true(sum(distinct, layer, MG_TRAFFIC_FAR_SENT) < sum(plain, layer, MG_TRAFFIC_FAR_SENT));
  }
  mg_traffic_destroy(plain);
  mg_traffic_destroy(distinct);
  mg_placement_destroy(world.context, &p);
  mg_routing_destroy(routing);
}

/* Two nodes of two ranks, one expert each; token 0 of rank 0 goes to experts 2 and 3, both on the other node. */
static void messages_by_hand(void **state) {
  (void)state;
  mg_routing *routing;
  assert_ok(world.context, mg__routing_create(world.context, 4, 1, 4, 2, 0, &routing));
  static const int32_t ids[] = {2, 3, 1, -1, 2, 0, 3, 2};
  memcpy(routing->ids, ids, sizeof ids);
  mg_placement p;
  assert_ok(world.context, mg_placement_create(world.context, 1, 4, 4, 4, 2, &p));
  for (int32_t s = 0; s < 4; s++) p.expert[s] = s;
  mg_traffic_request request = {.routing = routing, .placement = &p, .tokens = 1, .count = 1};
  mg_traffic *plain, *distinct;
  assert_ok(world.context, mg_traffic_create(world.context, &request, &plain));
  request.deduplicate = true;
  assert_ok(world.context, mg_traffic_create(world.context, &request, &distinct));
  static const double rows[] = {1, 1, 3, 2}, far_sent[] = {2, 0, 1, 0}, near_sent[] = {0, 0, 0, 1};
  static const double far_distinct[] = {1, 0, 1, 0}, near_distinct[] = {0, 0, 1, 1};
  for (int d = 0; d < 4; d++) {
    assert_near(mg_traffic_of(plain, 0, MG_TRAFFIC_ROWS)[d], rows[d], 0);
    assert_near(mg_traffic_of(plain, 0, MG_TRAFFIC_FAR_SENT)[d], far_sent[d], 0);
    assert_near(mg_traffic_of(plain, 0, MG_TRAFFIC_NEAR_SENT)[d], near_sent[d], 0);
    assert_near(mg_traffic_of(distinct, 0, MG_TRAFFIC_FAR_SENT)[d], far_distinct[d], 0);
    assert_near(mg_traffic_of(distinct, 0, MG_TRAFFIC_NEAR_SENT)[d], near_distinct[d], 0);
  }
  mg_traffic_destroy(plain);
  mg_traffic_destroy(distinct);
  mg_placement_destroy(world.context, &p);
  mg_routing_destroy(routing);
}

static void a_placement_of_another_model_is_refused(void **state) {
  (void)state;
  mg_routing *routing = generate(MG_ROUTING_UNIFORM);
  mg_placement p;
  mg_traffic *traffic;
  assert_ok(world.context, mg_placement_create(world.context, 3, 32, 32, 16, 4, &p));
  const mg_traffic_request request = {.routing = routing, .placement = &p, .tokens = 1, .count = 1};
  assert_refused(world.context, MG_USAGE, "different models", mg_traffic_create(world.context, &request, &traffic));
  mg_placement_destroy(world.context, &p);
  mg_routing_destroy(routing);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_choose_distinct_experts),
                                     cmocka_unit_test(generators_are_as_skewed_as_asked),
                                     cmocka_unit_test(a_shift_changes_the_favourites),
                                     cmocka_unit_test(group_limited_tokens_use_few_groups),
                                     cmocka_unit_test(contradictory_recipes_are_refused),
                                     cmocka_unit_test(a_written_trace_is_read_back),
                                     cmocka_unit_test(damaged_traces_are_refused),
                                     cmocka_unit_test(the_head_says_what_a_trace_holds),
                                     cmocka_unit_test(missing_choices_lower_the_mean),
                                     cmocka_unit_test(a_trace_of_another_model_is_refused),
                                     cmocka_unit_test(assignments_and_messages_are_conserved),
                                     cmocka_unit_test(deduplication_changes_messages_only),
                                     cmocka_unit_test(messages_by_hand),
                                     cmocka_unit_test(a_placement_of_another_model_is_refused)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
