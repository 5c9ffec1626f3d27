/* One layer on two backends: outputs, choices and gradients on `cpu`, or the backend that the program's argument names,
 * are those of `reference`, under every router and policy. */
#include "support/moe_world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *tested_backend = "cpu";

enum { T = 40, D = 24, VOCABULARY = 13, OUT_MAX = 1 << 18 };

typedef struct outcome {
  int64_t count; /* of numbers: y, loss, then the gradients of all parameters */
  float numbers[OUT_MAX];
  int32_t ids[T * 8];
} outcome;

static void append(outcome *out, const mg_backend *backend, const mg_tensor *tensor) {
  const int64_t count = mg_tensor_count(tensor);
  assert_true(out->count + count <= OUT_MAX);
  assert_int_equal(backend->plugin->download((mg_backend *)(uintptr_t)backend, out->numbers + out->count, tensor->data,
                                             mg_tensor_bytes(tensor)),
                   MG_OK);
  out->count += count;
}

static void step(mg_context *context, mg_tape *tape, mg_moe *moe, mg_params *params, outcome *out) {
  double numbers[T * D];
  float x[T * D];
  moe_normal(21, numbers, T * D);
  for (int i = 0; i < T * D; i++) x[i] = (float)numbers[i];
  const int64_t shape[] = {T, D};
  int32_t words[T];
  for (int32_t t = 0; t < T; t++) words[t] = t * t % VOCABULARY;
  const mg_moe_input input = {.x = mg_tape_upload(tape, MG_F32, 2, shape, x),
                              .token_ids = mg_tape_upload(tape, MG_I32, 1, shape, words),
                              .sequence_tokens = T / 2,
                              .training = true,
                              .noise = {4, 4}};
  mg_moe_record record;
  mg_var *y = mg_moe_forward(moe, tape, &input, &record);
  mg_var *total = mg_add(tape, mg_mean(tape, mg_square(tape, y)), record.loss);
  assert_ok(context, mg_params_zero_gradients(params));
  assert_ok(context, mg_tape_backward(tape, total));
  append(out, mg_tape_backend(tape), mg_var_tensor(y));
  append(out, mg_tape_backend(tape), mg_var_tensor(record.loss));
  for (int64_t i = 0; i < mg_params_count(params); i++)
    if (!mg_params_at(params, i)->fixed) append(out, mg_tape_backend(tape), &mg_params_at(params, i)->gradient);
  assert_ok(context, mg_tape_download(tape, record.ids, out->ids, mg_tensor_bytes(mg_var_tensor(record.ids))));
}

static void run(const char *name, const char *text, mg_dtype compute, outcome *out) {
  mg_context *context;
  mg_registry *registry;
  mg_backend *backend;
  mg_tape *tape;
  mg_params *params;
  mg_moe *moe;
  memset(out, 0, sizeof *out);
  assert_int_equal(mg_context_create(NULL, &context), MG_OK);
  assert_ok(context, mg_registry_create(context, &registry));
  assert_ok(context, mg_testing_register(registry));
  assert_ok(context, mg_backend_open(context, registry, name, NULL, &backend));
  assert_ok(context, mg_tape_create(backend, compute, &tape));
  assert_ok(context, mg_params_create(backend, MG_F32, &params));
  json_t *spec = moe_json(text);
  const mg_moe_place place = {.width = D, .vocabulary = VOCABULARY, .prefix = "ffn.", .seed = 3};
  assert_ok(context, mg_moe_create(context, registry, spec, place, params, &moe));
  step(context, tape, moe, params, out);
  json_decref(spec);
  mg_moe_destroy(moe);
  mg_params_destroy(params);
  mg_tape_destroy(tape);
  mg_backend_close(backend);
  mg_registry_destroy(registry);
  mg_context_destroy(context);
}

/* Largest difference as a share of the largest number. */
static double difference(const outcome *a, const outcome *b) {
  double worst = 0, largest = 0;
  assert_int_equal(a->count, b->count);
  for (int64_t i = 0; i < a->count; i++) {
    assert_true(isfinite(b->numbers[i]));
    worst = fmax(worst, fabs((double)a->numbers[i] - (double)b->numbers[i]));
    largest = fmax(largest, fabs((double)a->numbers[i]));
  }
  return worst / largest;
}

typedef struct subject {
  const char *router;
  int experts;
  bool probs; /* gives them, for the balance loss and re-routing */
  bool slots; /* has no capacity */
} subject;

static void compare(const subject *s, const char *capacity, mg_dtype compute, double allowed) {
  static outcome reference, tested;
  char text[512];
  if ((!s->probs && strstr(capacity, "reroute")) || (s->slots && !strstr(capacity, "none"))) return;
  snprintf(text, sizeof text,
           "{'experts': %d, 'width': 10, 'router': %s, 'capacity': {'policy': %s}, 'shared': {'width': 6},"
           " 'losses': [%s{'kind': 'importance'}]}",
           s->experts, s->router, capacity, s->probs ? "{'scope': 'sequence'}, " : "");
  run("reference", text, compute, &reference);
  run(tested_backend, text, compute, &tested);
  if (memcmp(reference.ids, tested.ids, sizeof tested.ids) != 0) fail_msg("%s: other experts were chosen", text);
  const double worst = difference(&reference, &tested);
  if (!(worst <= allowed)) fail_msg("%s: differs by %g of the largest number", text, worst);
}

static const subject routers[] = {{"{'name': 'topk', 'k': 2, 'noise': 'learned'}", 8, true, false},
                                  {"{'name': 'soft', 'slots': 3}", 8, false, true},
                                  {"{'name': 'switch'}", 8, true, false},
                                  {"{'name': 'tree', 'k': 3, 'branching': 2, 'beam': 3}", 8, true, false},
                                  {"{'name': 'gshard', 'groups': 2}", 8, true, false},
                                  {"{'name': 'cosine', 'k': 2}", 8, true, false},
                                  {"{'name': 'deepseek', 'k': 3, 'groups': 4, 'groups_kept': 2}", 8, true, false},
                                  {"{'name': 'expert_choice', 'scope': 'sequence'}", 8, true, false},
                                  {"{'name': 'hash', 'k': 2, 'kind': 'bigram'}", 8, false, false},
                                  {"{'name': 'random', 'k': 3, 'scope': 'sequence'}", 8, false, false},
                                  {"{'name': 'top_p', 'p': 0.6, 'most': 4}", 8, true, false},
                                  {"{'name': 'sinkhorn', 'k': 2}", 8, true, false},
                                  {"{'name': 'base'}", 8, false, false},
                                  {"{'name': 'relu', 'active': 2, 'start': 0.1}", 8, false, false},
                                  {"{'name': 'depth', 'capacity': 0.25}", 1, false, false},
                                  {"{'name': 'product_key', 'k': 3}", 9, true, false},
                                  {"{'name': 'quantile', 'k': 2}", 8, true, false},
                                  {"{'name': 'quantile', 'selection': 'threshold'}", 8, true, false}};
static const char *const capacities[] = {"'none'", "'drop', 'factor': 0.8",
                                         "'drop', 'factor': 0.8, 'order': 'priority'", "'pad', 'factor': 1.25",
                                         "'reroute', 'factor': 1"};

static void f32_layers_agree_with_the_reference(void **state) {
  (void)state;
  for (size_t r = 0; r < MG_COUNT(routers); r++)
    for (size_t c = 0; c < MG_COUNT(capacities); c++) compare(&routers[r], capacities[c], MG_F32, 2e-6);
}

/* Kernels of others were wrong at these sizes alone: Qwen3-MoE's and DeepSeek-V3's. */
static void the_sizes_of_released_models_agree(void **state) {
  (void)state;
  static const subject sizes[] = {{"{'name': 'topk', 'k': 8}", 128, true, false},
                                  {"{'name': 'deepseek', 'k': 8, 'groups': 8, 'groups_kept': 4}", 256, true, false}};
  for (size_t i = 0; i < MG_COUNT(sizes); i++) compare(&sizes[i], "'none'", MG_F32, 2e-6);
}

/* Experts in bf16, the router in f32: the choices stay those of f32. */
static void bf16_layers_agree_and_choose_alike(void **state) {
  (void)state;
  for (size_t r = 0; r < MG_COUNT(routers); r++)
    compare(&routers[r], capacities[routers[r].slots ? 0 : 1], MG_BF16, 2e-3);
}

static void precision_of_the_experts_leaves_the_choices_alone(void **state) {
  (void)state;
  static outcome full, low;
  const char *text = "{'experts': 8, 'width': 10, 'router': {'name': 'topk'}, 'losses': [{}]}";
  run("reference", text, MG_F32, &full);
  run("reference", text, MG_BF16, &low);
  assert_memory_equal(full.ids, low.ids, sizeof full.ids);
  assert_close((double)full.numbers[T * D], (double)low.numbers[T * D], 0); /* the balance loss, to the last bit */
  assert_true(difference(&full, &low) > 1e-5);
}

int main(int argc, char **argv) {
  if (argc > 1) tested_backend = argv[1];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(f32_layers_agree_with_the_reference),
      cmocka_unit_test(the_sizes_of_released_models_agree),
      cmocka_unit_test(bf16_layers_agree_and_choose_alike),
      cmocka_unit_test(precision_of_the_experts_leaves_the_choices_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
