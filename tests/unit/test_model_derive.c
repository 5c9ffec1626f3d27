/* The same weights under another routing: a derived model computes what it should from the memory of the other, experts that
 * are listed anew keep their work, fitted trees of one level are the flat gate, and only what is asked for gets gradients. */
#include "support/golden.h"

#include <math.h>
#include <stdlib.h>

#include "model/fit.h"

enum { TOKENS = 21, LAYERS = 3, EXPERTS = 8, WIDTH = 32 };

static mg_world world;
static mg_golden golden;
static int32_t *ids;
static int64_t ids_count;

static int open_golden(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F32);
  mg_golden_open(&golden, &world, "mixtral", MG_F32);
  ids = mg_golden_ids(&golden, 2, "tokens", &ids_count);
  return ids_count == TOKENS ? 0 : 1;
}

static int close_golden(void **state) {
  (void)state;
  mg_golden_free_ids(&golden, ids, ids_count);
  mg_golden_close(&golden);
  mg_world_close(&world);
  return 0;
}

/* The golden model's specification with another router, and `experts` of them. */
static json_t *spec_with(const char *router, int64_t experts) {
  json_t *spec = json_deep_copy(mg_model_spec(golden.model)), *layers = json_object_get(spec, "feed_forward");
  json_t *read = json_loads(router, 0, NULL);
  assert_non_null(read);
  for (size_t i = 0; i < (json_is_array(layers) ? json_array_size(layers) : 1); i++) {
    json_t *layer = json_is_array(layers) ? json_array_get(layers, i) : layers;
    json_object_set(layer, "router", read);
    json_object_set_new(layer, "experts", json_integer((json_int_t)experts));
  }
  json_decref(read);
  return spec;
}

/* The same list for each mixture. */
static json_t *lists_of(const int64_t *list, int64_t count) {
  json_t *lists = json_array();
  for (int64_t l = 0; l < LAYERS; l++) {
    json_t *numbers = json_array();
    for (int64_t i = 0; i < count; i++) json_array_append_new(numbers, json_integer((json_int_t)list[i]));
    json_array_append_new(lists, numbers);
  }
  return lists;
}

static mg_status derive(const char *router, int64_t experts, const json_t *lists, mg_routers routers, mg_model **out) {
  json_t *spec = spec_with(router, experts);
  const mg_model_change change = {.spec = spec, .experts = lists, .routers = routers, .seed = 5};
  const mg_status status = mg_model_derive(golden.model, &change, out);
  json_decref(spec);
  return status;
}

static mg_model *must_derive(const char *router, int64_t experts, const json_t *lists, mg_routers routers) {
  mg_model *model;
  const mg_status status = derive(router, experts, lists, routers, &model);
  assert_ok(world.context, status);
  return model;
}

static void run(mg_model *model, const int32_t *targets, mg_model_output *out) {
  const mg_model_batch batch = {.inputs = ids, .targets = targets, .sequences = 1, .sequence_tokens = TOKENS};
  mg_tape_reset(world.tape);
  assert_ok(world.context, mg_model_forward(model, world.tape, &batch, out));
}

/* The logits of a pass, to be freed. */
static float *logits_of(mg_model *model, size_t *count) {
  mg_model_output out;
  run(model, NULL, &out);
  *count = (size_t)mg_tensor_count(mg_var_tensor(out.logits));
  float *logits = malloc(*count * sizeof *logits);
  assert_non_null(logits);
  assert_ok(world.context, mg_tape_download(world.tape, out.logits, logits, *count * sizeof *logits));
  return logits;
}

/* The two models' logits differ by no more than this share of the largest. */
static void assert_same_logits(mg_model *a, mg_model *b, double tolerance) {
  size_t count, other;
  float *x = logits_of(a, &count), *y = logits_of(b, &other);
  double largest = 0, worst = 0;
  assert_int_equal(count, other);
  for (size_t i = 0; i < count; i++) {
    largest = fmax(largest, fabs((double)x[i]));
    worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
  }
  if (!(worst <= tolerance * largest)) fail_msg("logits differ by %g of %g", worst, largest);
  free(x);
  free(y);
}

/* As released: softmax over the two best. */
static const char released_router[] = "{\"name\": \"topk\", \"k\": 2, \"order\": \"after\"}";

/* ---- the same routing ------------------------------------------------------------------------------------------- */

static void the_released_settings_give_the_same_bits_from_the_same_memory(void **state) {
  (void)state;
  mg_model *model = must_derive(released_router, EXPERTS, NULL, MG_ROUTERS_KEEP);
  assert_same_logits(golden.model, model, 0);
  const mg_params *old = mg_model_description(golden.model), *new = mg_model_description(model);
  assert_int_equal(mg_params_count(old), mg_params_count(new));
  for (int64_t i = 0; i < mg_params_count(new); i++) {
    const mg_param *param = mg_params_look(new, i);
    assert_ptr_equal(param->value.data, mg_params_look(old, mg_params_find(old, param->name))->value.data);
  }
  mg_model_destroy(model);
}

static void softmax_before_the_selection_is_the_same_when_renormalised(void **state) {
  (void)state;
  mg_model *model = must_derive("{\"name\": \"topk\", \"k\": 2}", EXPERTS, NULL, MG_ROUTERS_KEEP);
  assert_same_logits(golden.model, model, 1e-5);
  mg_model_destroy(model);
}

static void keeping_all_experts_changes_nothing(void **state) {
  (void)state;
  const int64_t all[] = {0, 1, 2, 3, 4, 5, 6, 7};
  json_t *lists = lists_of(all, EXPERTS);
  mg_model *model = must_derive(released_router, EXPERTS, lists, MG_ROUTERS_KEEP);
  assert_same_logits(golden.model, model, 0);
  mg_model_destroy(model);
  json_decref(lists);
}

static void experts_in_another_order_do_the_same_work(void **state) {
  (void)state;
  const int64_t order[] = {7, 2, 5, 0, 6, 1, 4, 3};
  json_t *lists = lists_of(order, EXPERTS);
  mg_model *model = must_derive(released_router, EXPERTS, lists, MG_ROUTERS_KEEP);
  assert_same_logits(golden.model, model, 1e-5);
  mg_model_destroy(model);
  json_decref(lists);
}

/* ---- another routing --------------------------------------------------------------------------------------------- */

static mg_var *slice_of(mg_model *model, const char *name, int64_t expert) {
  const mg_params *params = mg_model_description(model);
  mg_tensor slice = mg_params_look(params, mg_params_find(params, name))->value;
  slice.dims = 2;
  slice.shape[0] = slice.shape[1];
  slice.shape[1] = slice.shape[2];
  slice.data = (char *)slice.data + (size_t)expert * mg_tensor_bytes(&slice);
  static mg_tensor kept[4 * EXPERTS];
  static size_t next;
  mg_tensor *here = &kept[next++ % MG_COUNT(kept)];
  *here = slice;
  return mg_tape_leaf(world.tape, here, NULL);
}

/* sum_e softmax(x W)_e down_e(silu(gate_e x) * up_e x), one expert after the other. */
static mg_var *dense_mixture(mg_model *model, mg_var *x) {
  mg_params *params = mg_model_params(model);
  mg_tape *tape = world.tape;
  mg_var *gate = mg_params_var(params, tape, mg_params_find(params, "layers.0.feed_forward.router.gate"));
  mg_var *share = mg_softmax(tape, mg_linear(tape, x, gate)), *sum = NULL;
  for (int64_t e = 0; e < EXPERTS; e++) {
    mg_var *up = mg_linear(tape, x, slice_of(model, "layers.0.feed_forward.experts.up", e));
    mg_var *act = mg_linear(tape, x, slice_of(model, "layers.0.feed_forward.experts.gate", e));
    mg_var *hidden = mg_glu(tape, MG_GLU_SILU, act, up);
    mg_var *y = mg_linear(tape, hidden, slice_of(model, "layers.0.feed_forward.experts.down", e));
    y = mg_mul(tape, y, mg_reshape2(tape, mg_slice(tape, share, e, 1), TOKENS, 1));
    sum = sum ? mg_add(tape, sum, y) : y;
  }
  return sum;
}

static void all_experts_are_the_dense_mixture(void **state) {
  (void)state;
  mg_model *model = must_derive("{\"name\": \"topk\", \"k\": 8}", EXPERTS, NULL, MG_ROUTERS_KEEP);
  mg_model_output out;
  mg_moe_record record;
  run(model, NULL, &out);
  mg_var *x = out.records[0].x;
  const mg_moe_input input = {.x = x, .sequence_tokens = TOKENS};
  mg_var *y = mg_moe_forward(mg_model_moe(model, 0), world.tape, &input, &record);
  mg_var *due = dense_mixture(model, x);
  assert_ok(world.context, mg_tape_status(world.tape));
  for (int64_t i = 0; i < TOKENS * WIDTH; i++)
    assert_float_equal((float)mg_world_value(&world, y, i), (float)mg_world_value(&world, due, i), 2e-5f);
  mg_model_destroy(model);
}

/* The router of a pruned layer chooses the best of the kept experts by the released logits. */
static void a_pruned_layer_chooses_among_the_kept(void **state) {
  (void)state;
  const int64_t kept[] = {1, 4, 6};
  json_t *lists = lists_of(kept, 3);
  mg_model *model = must_derive(released_router, 3, lists, MG_ROUTERS_KEEP);
  mg_model_output out;
  double logits[TOKENS][EXPERTS];
  run(golden.model, NULL, &out);
  for (int64_t i = 0; i < TOKENS * EXPERTS; i++)
    logits[i / EXPERTS][i % EXPERTS] = mg_world_value(&world, out.records[0].route.logits, i);
  run(model, NULL, &out);
  for (int64_t t = 0; t < TOKENS; t++) {
    int64_t worst = 0;
    for (int64_t i = 1; i < 3; i++)
      if (logits[t][kept[i]] < logits[t][kept[worst]]) worst = i;
    for (int64_t s = 0; s < 2; s++) assert_int_not_equal(mg_world_value(&world, out.records[0].ids, 2 * t + s), worst);
  }
  mg_model_destroy(model);
  json_decref(lists);
}

/* ---- fitted trees -------------------------------------------------------------------------------------------------- */

/* A tree over the golden model's experts, its gates fitted; `lists` gets the order. */
static mg_model *fitted_tree(const char *router, const int64_t *branching, int64_t levels) {
  static const char gate[] = "layers.%d.feed_forward.router.gate";
  int32_t order[LAYERS][EXPERTS];
  json_t *lists = json_array();
  for (int l = 0; l < LAYERS; l++) {
    char name[64];
    snprintf(name, sizeof name, gate, l);
    assert_ok(world.context, mg_model_order_experts(golden.model, name, branching, levels, 3, order[l], EXPERTS));
    json_t *list = json_array();
    for (int e = 0; e < EXPERTS; e++) json_array_append_new(list, json_integer(order[l][e]));
    json_array_append_new(lists, list);
  }
  mg_model *model = must_derive(router, EXPERTS, lists, MG_ROUTERS_DRAW_MISSING);
  for (int l = 0; l < LAYERS; l++)
    for (int64_t level = 1; level <= levels; level++) {
      char node[64], name[64];
      snprintf(name, sizeof name, gate, l);
      snprintf(node, sizeof node, "layers.%d.feed_forward.router.level%lld", l, (long long)level);
      assert_ok(world.context, mg_model_set_means(model, node, golden.model, name, order[l], EXPERTS));
    }
  json_decref(lists);
  return model;
}

static void a_fitted_tree_of_one_level_is_the_flat_gate(void **state) {
  (void)state;
  const int64_t branching[] = {EXPERTS};
  mg_model *model = fitted_tree("{\"name\": \"tree\", \"k\": 2, \"depth\": 1}", branching, 1);
  assert_same_logits(golden.model, model, 1e-5);
  mg_model_destroy(model);
}

/* Below the last level the conditional probabilities are those of the flat gate, whatever the nodes above are. */
static void siblings_of_a_fitted_tree_share_as_in_the_flat_gate(void **state) {
  (void)state;
  const int64_t branching[] = {4, 2};
  mg_model *model = fitted_tree("{\"name\": \"tree\", \"k\": 2, \"branching\": [4, 2], \"beam\": 4}", branching, 2);
  mg_params *params = mg_model_params(golden.model);
  mg_model_output out;
  int32_t order[EXPERTS];
  run(model, NULL, &out);
  mg_var *gate = mg_params_var(params, world.tape, mg_params_find(params, "layers.0.feed_forward.router.gate"));
  mg_var *flat = mg_softmax(world.tape, mg_linear(world.tape, out.records[0].x, gate));
  assert_ok(world.context,
            mg_model_order_experts(golden.model, "layers.0.feed_forward.router.gate", branching, 2, 3, order, EXPERTS));
  for (int64_t t = 0; t < TOKENS; t++)
    for (int64_t e = 0; e < EXPERTS; e += 2) {
      const double a = mg_world_value(&world, out.records[0].route.probs, t * EXPERTS + e);
      const double b = mg_world_value(&world, out.records[0].route.probs, t * EXPERTS + e + 1);
      const double p = mg_world_value(&world, flat, t * EXPERTS + order[e]);
      const double q = mg_world_value(&world, flat, t * EXPERTS + order[e + 1]);
      assert_float_equal((float)(a / (a + b)), (float)(p / (p + q)), 1e-5f);
    }
  mg_model_destroy(model);
}

static void experts_that_are_no_such_tree_are_refused(void **state) {
  (void)state;
  const int64_t branching[] = {3, 3};
  int32_t order[EXPERTS];
  assert_refused(
      world.context, MG_USAGE, "8 experts are no tree of that branching",
      mg_model_order_experts(golden.model, "layers.0.feed_forward.router.gate", branching, 2, 1, order, EXPERTS));
  assert_refused(world.context, MG_USAGE, "there is no gate 'layers.9.gate'",
                 mg_model_order_experts(golden.model, "layers.9.gate", branching, 2, 1, order, EXPERTS));
}

/* ---- gradients -------------------------------------------------------------------------------------------------------- */

/* Makes all parameters whose names hold `part` trained. */
static void train(mg_model *model, const char *part) {
  mg_params *params = mg_model_params(model);
  for (int64_t i = 0; i < mg_params_count(params); i++)
    if (strstr(mg_params_look(params, i)->name, part)) assert_ok(world.context, mg_params_train(params, i));
}

static void gradients_of(mg_model *model, const int32_t *targets) {
  mg_model_output out;
  run(model, targets, &out);
  assert_ok(world.context, mg_tape_backward(world.tape, out.total));
}

static void only_what_is_asked_for_gets_gradients_and_the_same_ones(void **state) {
  (void)state;
  int32_t targets[TOKENS];
  for (int64_t t = 0; t < TOKENS; t++) targets[t] = ids[(t + 1) % TOKENS];
  mg_model *all = must_derive(released_router, EXPERTS, NULL, MG_ROUTERS_KEEP);
  mg_model *routers = must_derive(released_router, EXPERTS, NULL, MG_ROUTERS_KEEP);
  train(all, "");
  train(routers, ".router.");
  gradients_of(all, targets);
  gradients_of(routers, targets);
  const mg_params *params = mg_model_description(routers);
  int64_t trained = 0;
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_look(params, i), *other = mg_params_look(mg_model_description(all), i);
    assert_int_equal(param->gradient.data != NULL, strstr(param->name, ".router.") != NULL);
    if (!param->gradient.data) continue;
    trained++;
    double sum = 0;
    for (int64_t e = 0; e < mg_tensor_count(&param->gradient); e++) {
      const double due = mg_world_element(&world, &other->gradient, e);
      assert_true(mg_world_element(&world, &param->gradient, e) == due);
      sum += fabs(due);
    }
    assert_true(sum > 0);
  }
  assert_int_equal(trained, LAYERS);
  assert_int_equal(mg_params_memory(params).gradients, LAYERS * EXPERTS * WIDTH * sizeof(float));
  mg_tape_reset(world.tape);
  mg_model_destroy(all);
  mg_model_destroy(routers);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------------- */

static void wrong_lists_and_lacking_parameters_are_refused(void **state) {
  (void)state;
  const int64_t twice[] = {0, 1, 1}, beyond[] = {0, 1, 8}, two[] = {0, 1};
  const struct {
    const int64_t *list;
    int64_t count;
    const char *words;
  } wrong[] = {{twice, 3, "entry 3 of mixture 1 must be the number of an expert, 0 to 7"},
               {beyond, 3, "entry 3 of mixture 1"},
               {two, 2, "mixture 1 has 3 experts, but its list names 2"}};
  mg_model *model;
  for (size_t i = 0; i < MG_COUNT(wrong); i++) {
    json_t *lists = lists_of(wrong[i].list, wrong[i].count);
    assert_refused(world.context, MG_USAGE, wrong[i].words, derive(released_router, 3, lists, MG_ROUTERS_KEEP, &model));
    json_decref(lists);
  }
  assert_refused(
      world.context, MG_USAGE, "there is no trained parameter 'layers.0.feed_forward.router.level1'",
      derive("{\"name\": \"tree\", \"k\": 2, \"branching\": [2, 4]}", EXPERTS, NULL, MG_ROUTERS_KEEP, &model));
  assert_refused(world.context, MG_USAGE, "has the shape [4, 32], and was trained in the shape [8, 32]",
                 derive(released_router, 4, NULL, MG_ROUTERS_KEEP, &model));
  assert_refused(world.context, MG_USAGE, "k = 9 is more than the 8 experts",
                 derive("{\"name\": \"topk\", \"k\": 9}", EXPERTS, NULL, MG_ROUTERS_KEEP, &model));
  assert_null(model);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, open_golden, close_golden)
  const struct CMUnitTest tests[] = {TEST(the_released_settings_give_the_same_bits_from_the_same_memory),
                                     TEST(softmax_before_the_selection_is_the_same_when_renormalised),
                                     TEST(keeping_all_experts_changes_nothing),
                                     TEST(experts_in_another_order_do_the_same_work),
                                     TEST(all_experts_are_the_dense_mixture),
                                     TEST(a_pruned_layer_chooses_among_the_kept),
                                     TEST(a_fitted_tree_of_one_level_is_the_flat_gate),
                                     TEST(siblings_of_a_fitted_tree_share_as_in_the_flat_gate),
                                     TEST(experts_that_are_no_such_tree_are_refused),
                                     TEST(only_what_is_asked_for_gets_gradients_and_the_same_ones),
                                     TEST(wrong_lists_and_lacking_parameters_are_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
