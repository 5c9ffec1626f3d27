/* A model's gradients are those of finite differences, its FLOPs are those of the closed form, its attention sees no
 * future, and its parameters are counted to the last one. */
#include "support/world.h"

#include <jansson.h>
#include <math.h>

#include "model/model.h"
#include "tensor/tape_work.h"

enum { VOCABULARY = 13, SEQUENCES = 2, LENGTH = 5, TOKENS = SEQUENCES * LENGTH };

typedef struct world {
  mg_world base;
  mg_model *model;
  int32_t inputs[TOKENS], targets[TOKENS];
} world;

/* A model of `text` (a specification in JSON) on the reference backend, which computes in `dtype`. */
static void open_world(world *w, const char *text, mg_dtype dtype) {
  memset(w, 0, sizeof *w);
  mg_world_open(&w->base, "reference", dtype);
  json_error_t error;
  json_t *spec = json_loads(text, 0, &error);
  if (!spec) fail_msg("%s: %s", text, error.text);
  assert_ok(w->base.context,
            mg_model_create(w->base.context, w->base.registry, w->base.backend, spec, dtype, 7, &w->model));
  json_decref(spec);
  const mg_stream stream = mg_stream_named(3, "tokens", 0, 0);
  for (int i = 0; i < TOKENS; i++) {
    w->inputs[i] = (int32_t)mg_random_below(stream, (uint64_t)i, VOCABULARY);
    w->targets[i] = i % 7 == 6 ? -1 : (int32_t)mg_random_below(stream, (uint64_t)(100 + i), VOCABULARY);
  }
}

static void close_world(world *w) {
  mg_model_destroy(w->model);
  mg_world_close(&w->base);
}

static mg_model_batch batch_of(const world *w) {
  return (mg_model_batch){
      .inputs = w->inputs, .targets = w->targets, .sequences = SEQUENCES, .sequence_tokens = LENGTH, .training = true};
}

/* Loss with auxiliary losses, in f64, without gradients. */
static double total_loss(world *w) {
  double total = 0.0;
  mg_model_output output;
  const mg_model_batch batch = batch_of(w);
  mg_tape_reset(w->base.tape);
  assert_ok(w->base.context, mg_model_forward(w->model, w->base.tape, &batch, &output));
  assert_ok(w->base.context, mg_tape_download(w->base.tape, output.total, &total, sizeof total));
  return total;
}

static double moved_loss(world *w, double *element, double value) {
  const double kept = *element;
  *element = value;
  const double loss = total_loss(w);
  *element = kept;
  return loss;
}

/* Three elements of every parameter: |analytic - (f(p + h) - f(p - h)) / 2h| within 1e-6 of the larger of 1e-3 and it.
 * The reference backend keeps tensors in host memory, so the test moves them in place. */
static void check_gradients(world *w) {
  static const double step = 1e-5;
  mg_model_output output;
  const mg_model_batch batch = batch_of(w);
  mg_params *params = mg_model_params(w->model);
  assert_ok(w->base.context, mg_params_zero_gradients(params));
  assert_ok(w->base.context, mg_model_forward(w->model, w->base.tape, &batch, &output));
  assert_ok(w->base.context, mg_tape_backward(w->base.tape, output.total));
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    mg_param *param = mg_params_at(params, i);
    if (!param->gradient.data) continue;
    const uint64_t count = (uint64_t)mg_tensor_count(&param->value);
    for (uint64_t j = 0; j < 3; j++) {
      const uint64_t at = mg_random_below(mg_stream_named(5, param->name, 0, 0), j, count);
      double *element = (double *)param->value.data + at;
      const double analytic = ((double *)param->gradient.data)[at];
      const double numeric =
          (moved_loss(w, element, *element + step) - moved_loss(w, element, *element - step)) / (2.0 * step);
      if (fabs(analytic - numeric) > 1e-6 * fmax(fabs(analytic), 1e-3) + 1e-10)
        fail_msg("%s[%llu]: gradient %.12g, finite difference %.12g", param->name, (unsigned long long)at, analytic,
                 numeric);
    }
  }
}

static const char dense_text[] =
    "{\"layers\": 2, \"width\": 8, \"heads\": 4, \"kv_heads\": 2, \"head_width\": 6, \"vocabulary\": 13,"
    " \"norm\": \"layer\", \"qk_norm\": true, \"biases\": true, \"rotary\": 4, \"rope_interleaved\": true,"
    " \"window\": [0, 3], \"tie_embeddings\": false, \"embedding_scale\": 3,"
    " \"feed_forward\": [{\"kind\": \"dense\", \"width\": 10},"
    "                    {\"kind\": \"dense\", \"width\": 9, \"gated\": false, \"activation\": \"gelu\"}]}";

static const char moe_text[] =
    "{\"layers\": 2, \"width\": 8, \"heads\": 2, \"vocabulary\": 13, \"embedding_scale\": 40,"
    " \"feed_forward\": [{\"kind\": \"dense\", \"width\": 10},"
    "  {\"kind\": \"moe\", \"experts\": 4, \"width\": 6, \"router\": {\"name\": \"topk\", \"k\": 2},"
    "   \"shared\": {\"experts\": 1, \"width\": 5},"
    "   \"losses\": [{\"kind\": \"balance\", \"weight\": 0.1}, {\"kind\": \"z\", \"weight\": 0.01}]}]}";

/* What a released decoder may add to the plain one: sinks, norms of whole projections and of branches, scales, clipped
 * projections, value heads of another width, some biases, layers without rotation, branches left out, a feed-forward
 * beside the experts. */
static const char wide_text[] =
    "{\"layers\": 3, \"width\": 8, \"vocabulary\": 13, \"norm\": \"layer\", \"norm_shift\": false, \"post_norms\": "
    "true,"
    " \"head_bias\": true, \"embedding_scale\": 40, \"residual_scale\": 0.7, \"logit_scale\": 0.5,"
    " \"attention\": [{\"heads\": 4, \"kv_heads\": 2, \"head_width\": 6, \"value_width\": 5, \"qk_norm\": \"whole\","
    "                  \"biases\": \"qkv\", \"sinks\": true, \"scale\": 0.3, \"window\": 3, \"clip\": 2},"
    "                 {\"heads\": 2, \"rope\": {\"columns\": 0}}, {\"kind\": \"none\"}],"
    " \"feed_forward\": [{\"width\": 10}, {\"kind\": \"none\"},"
    "  {\"kind\": \"moe\", \"experts\": 4, \"width\": 6, \"capacity\": {\"tokens\": 9},"
    "   \"parallel\": {\"width\": 5}, \"router\": {\"name\": \"topk\", \"bias\": true}}]}";

/* Null experts, and logits that pass from one mixture to the next. */
static const char residual_text[] =
    "{\"layers\": 2, \"width\": 8, \"heads\": 2, \"vocabulary\": 13, \"embedding_scale\": 40,"
    " \"feed_forward\": {\"kind\": \"moe\", \"experts\": 6, \"width\": 6, \"null\": {},"
    "  \"router\": {\"name\": \"residual\", \"k\": 3}, \"losses\": [{\"weight\": 0.1}]}}";

static void gradients_of_a_dense_model_are_finite_differences(void **state) {
  (void)state;
  world w;
  open_world(&w, dense_text, MG_F64);
  check_gradients(&w);
  close_world(&w);
}

static void gradients_of_a_released_shape_are_finite_differences(void **state) {
  (void)state;
  world w;
  open_world(&w, wide_text, MG_F64);
  check_gradients(&w);
  close_world(&w);
}

static void gradients_of_a_moe_model_are_finite_differences(void **state) {
  (void)state;
  world w;
  open_world(&w, moe_text, MG_F64);
  check_gradients(&w);
  close_world(&w);
}

static void gradients_of_moe_plus_plus_are_finite_differences(void **state) {
  (void)state;
  world w;
  double most = 0.0;
  open_world(&w, residual_text, MG_F64);
  check_gradients(&w);
  mg_params *params = mg_model_params(w.model);
  const mg_model_size size = mg_model_count(w.model);
  assert_int_equal(size.total, mg_params_elements(params));
  assert_int_equal(size.part[MG_MODEL_ROUTED], 2 * (2 * 3 * 6 * 8 + 2 * 3 * 8));
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_at(params, i);
    const double *gradient = strstr(param->name, "router.residual") ? param->gradient.data : NULL;
    for (int64_t j = 0; gradient && j < mg_tensor_count(&param->value); j++) most = fmax(most, fabs(gradient[j]));
  }
  assert_true(most > 1e-9);
  close_world(&w);
}

/* Counted forward FLOPs equal the closed form, part by part. The gate and the loss also do elementwise work that it
 * does not predict: at most 16 FLOPs per expert or slot, `gates` of them in the model, and that of sums and auxiliary
 * losses. */
static void check_flops(const char *text, int gates) {
  world w;
  double expected[MG_PART_COUNT];
  mg_model_output output;
  open_world(&w, text, MG_F32);
  const mg_model_batch batch = batch_of(&w);
  *mg_tape_counters(w.base.tape) = (mg_counters){0};
  assert_ok(w.base.context, mg_model_forward(w.model, w.base.tape, &batch, &output));
  mg_model_flops_per_token(w.model, LENGTH, expected);
  for (int part = 0; part < MG_PART_COUNT; part++) {
    const double counted = mg_tape_counters(w.base.tape)->flops[part];
    if (part == MG_PART_LOSS || part == MG_PART_GATE) continue;
    if (fabs(counted - TOKENS * expected[part]) > 1e-6)
      fail_msg("%s: counted %.3f FLOPs per token, expected %.3f", mg_part_name((mg_part)part), counted / TOKENS,
               expected[part]);
  }
  const double *counted = mg_tape_counters(w.base.tape)->flops;
  assert_true(counted[MG_PART_LOSS] >= TOKENS * expected[MG_PART_LOSS]);
  assert_true(counted[MG_PART_GATE] >= TOKENS * expected[MG_PART_GATE]);
  assert_true(counted[MG_PART_GATE] <= TOKENS * (expected[MG_PART_GATE] + 16 * gates));
  close_world(&w);
}

static void counted_flops_are_the_closed_form_for_a_dense_model(void **state) {
  (void)state;
  check_flops(dense_text, 0);
}

static void counted_flops_are_the_closed_form_where_weights_multiply_inputs(void **state) {
  (void)state;
  check_flops("{\"layers\": 1, \"width\": 8, \"heads\": 2, \"vocabulary\": 13, \"feed_forward\": {\"kind\": \"moe\","
              " \"experts\": 4, \"width\": 6, \"scale_inputs\": true, \"router\": {\"name\": \"topk\", \"k\": 2}}}",
              4);
}

static void counted_flops_are_the_closed_form_for_a_released_shape(void **state) {
  (void)state;
  check_flops(wide_text, 4);
}

static void counted_flops_are_the_closed_form_for_a_moe_model(void **state) {
  (void)state;
  check_flops(moe_text, 4);
}

static void counted_flops_are_the_closed_form_for_slots(void **state) {
  (void)state;
  check_flops("{\"layers\": 2, \"width\": 8, \"heads\": 2, \"vocabulary\": 13, \"feed_forward\": {\"kind\": \"moe\","
              " \"experts\": 4, \"width\": 6, \"router\": {\"name\": \"soft\", \"slots\": 2}}}",
              2 * 8 + 3);
}

/* By hand for width 8, 4 heads of 6, 2 key heads, biases, layer norms, vocabulary 13. */
static void parameters_are_counted_by_part(void **state) {
  (void)state;
  world w;
  open_world(&w, dense_text, MG_F32);
  const mg_model_size size = mg_model_count(w.model);
  assert_int_equal(size.part[MG_MODEL_EMBEDDING], 13 * 8);
  assert_int_equal(size.part[MG_MODEL_HEAD], 13 * 8);
  assert_int_equal(size.part[MG_MODEL_ATTENTION], 2 * ((24 * 8 + 24) + 2 * (12 * 8 + 12) + (8 * 24 + 8) + 2 * 12));
  assert_int_equal(size.part[MG_MODEL_DENSE], (2 * (10 * 8 + 10) + 8 * 10 + 8) + (9 * 8 + 9 + 8 * 9 + 8));
  assert_int_equal(size.part[MG_MODEL_NORM], 2 * 2 * 16 + 16);
  assert_int_equal(size.total, mg_params_elements(mg_model_params(w.model)));
  assert_int_equal(size.active, size.total);
  close_world(&w);
  open_world(&w, moe_text, MG_F32);
  const mg_model_size moe = mg_model_count(w.model);
  assert_int_equal(moe.part[MG_MODEL_ROUTED], 4 * 3 * 6 * 8);
  assert_int_equal(moe.part[MG_MODEL_SHARED], 3 * 5 * 8);
  assert_int_equal(moe.part[MG_MODEL_ROUTER], 4 * 8);
  assert_int_equal(moe.total, mg_params_elements(mg_model_params(w.model)));
  assert_int_equal(moe.active, moe.total - 2 * 3 * 6 * 8);
  close_world(&w);
}

/* Changing the last token of a sequence changes no logit before it. */
static void attention_sees_no_future(void **state) {
  (void)state;
  world w;
  float before[TOKENS * VOCABULARY], after[TOKENS * VOCABULARY];
  mg_model_output output;
  open_world(&w, dense_text, MG_F32);
  const mg_model_batch batch = batch_of(&w);
  assert_ok(w.base.context, mg_model_forward(w.model, w.base.tape, &batch, &output));
  assert_ok(w.base.context, mg_tape_download(w.base.tape, output.logits, before, sizeof before));
  w.inputs[LENGTH - 1] = (w.inputs[LENGTH - 1] + 1) % VOCABULARY;
  mg_tape_reset(w.base.tape);
  assert_ok(w.base.context, mg_model_forward(w.model, w.base.tape, &batch, &output));
  assert_ok(w.base.context, mg_tape_download(w.base.tape, output.logits, after, sizeof after));
  const size_t row = VOCABULARY * sizeof(float);
  for (int t = 0; t < TOKENS; t++) {
    const bool same = memcmp(before + t * VOCABULARY, after + t * VOCABULARY, row) == 0;
    assert_int_equal(same, t != LENGTH - 1);
  }
  close_world(&w);
}

/* Fresh small weights: the loss is near ln(vocabulary); it is a mean over the targets that are not -1. */
static void the_loss_is_the_mean_over_targets(void **state) {
  (void)state;
  world w;
  float losses[TOKENS], loss;
  mg_model_output output;
  open_world(&w, moe_text, MG_F32);
  const mg_model_batch batch = batch_of(&w);
  assert_ok(w.base.context, mg_model_forward(w.model, w.base.tape, &batch, &output));
  assert_ok(w.base.context, mg_tape_download(w.base.tape, output.token_loss, losses, sizeof losses));
  assert_ok(w.base.context, mg_tape_download(w.base.tape, output.loss, &loss, sizeof loss));
  double sum = 0.0;
  int count = 0;
  for (int t = 0; t < TOKENS; t++) {
    if (w.targets[t] < 0) assert_true(losses[t] == 0.0f);
    sum += (double)losses[t];
    count += w.targets[t] >= 0;
  }
  assert_true(fabs(sum / count - (double)loss) < 1e-5);
  assert_true(fabs((double)loss - log(VOCABULARY)) < 0.2);
  assert_int_equal(output.records_count, 1);
  assert_non_null(output.records[0].loss);
  close_world(&w);
}

static void logits_of(world *w, const mg_model_batch *batch, float logits[TOKENS * VOCABULARY], size_t *peak_bytes) {
  mg_tape *tape;
  mg_model_output output;
  assert_ok(w->base.context, mg_tape_create(w->base.backend, MG_BF16, &tape));
  mg_tape_set_recording(tape, false);
  for (int pass = 0; pass < 2; pass++) { /* the second runs in memory that the first has left */
    mg_tape_reset(tape);
    assert_ok(w->base.context, mg_model_forward(w->model, tape, batch, &output));
    assert_ok(w->base.context, mg_tape_download(tape, output.logits, logits, TOKENS * VOCABULARY * sizeof *logits));
  }
  assert_true(!output.hidden == batch->logits_only && (output.records_count == 0 || !batch->logits_only));
  *peak_bytes = mg_tape_peak_bytes(tape);
  mg_tape_destroy(tape);
}

/* Where only logits are wanted they are the same to the bit, and blocks share their memory. */
static void logits_alone_are_the_same_in_less_memory(void **state) {
  (void)state;
  static const char *const texts[] = {dense_text, moe_text, wide_text, residual_text};
  for (size_t i = 0; i < MG_COUNT(texts); i++) {
    world w;
    float all[TOKENS * VOCABULARY], alone[TOKENS * VOCABULARY];
    size_t all_bytes, alone_bytes;
    mg_model_output output;
    open_world(&w, texts[i], MG_F32);
    mg_model_batch batch = {.inputs = w.inputs, .sequences = SEQUENCES, .sequence_tokens = LENGTH};
    logits_of(&w, &batch, all, &all_bytes);
    batch.logits_only = true;
    logits_of(&w, &batch, alone, &alone_bytes);
    assert_memory_equal(all, alone, sizeof all);
    assert_true(alone_bytes < all_bytes * 3 / 4);
    assert_refused(w.base.context, MG_BUG, "what a recording tape must keep",
                   mg_model_forward(w.model, w.base.tape, &batch, &output));
    close_world(&w);
  }
}

/* bf16 keeps 8 bits: every logit is within 2 % of the largest one of f32, and gradients reach every parameter. */
static void bf16_branches_stay_near_f32(void **state) {
  (void)state;
  static const char *const texts[] = {dense_text, moe_text};
  for (size_t i = 0; i < MG_COUNT(texts); i++) {
    world w;
    float exact[TOKENS * VOCABULARY], rounded[TOKENS * VOCABULARY], largest = 0.0f;
    mg_model_output output;
    open_world(&w, texts[i], MG_F32);
    const mg_model_batch batch = batch_of(&w);
    assert_ok(w.base.context, mg_model_forward(w.model, w.base.tape, &batch, &output));
    assert_ok(w.base.context, mg_tape_download(w.base.tape, output.logits, exact, sizeof exact));
    mg_tape_reset(w.base.tape);
    mg_tape_set_compute(w.base.tape, MG_BF16);
    assert_ok(w.base.context, mg_params_zero_gradients(mg_model_params(w.model)));
    assert_ok(w.base.context, mg_model_forward(w.model, w.base.tape, &batch, &output));
    assert_ok(w.base.context, mg_tape_download(w.base.tape, output.logits, rounded, sizeof rounded));
    assert_ok(w.base.context, mg_tape_backward(w.base.tape, output.total));
    for (int t = 0; t < TOKENS * VOCABULARY; t++) largest = fmaxf(largest, fabsf(exact[t]));
    for (int t = 0; t < TOKENS * VOCABULARY; t++) assert_true(fabsf(exact[t] - rounded[t]) <= 0.02f * largest);
    for (int64_t p = 0; p < mg_params_count(mg_model_params(w.model)); p++) {
      const mg_tensor *gradient = &mg_params_at(mg_model_params(w.model), p)->gradient;
      double sum = 0.0;
      for (int64_t e = 0; gradient->data && e < mg_tensor_count(gradient); e++)
        sum += fabs((double)((const float *)gradient->data)[e]);
      assert_true(!gradient->data || sum > 0.0);
    }
    close_world(&w);
  }
}

static void a_token_outside_the_vocabulary_is_refused(void **state) {
  (void)state;
  world w;
  mg_model_output output;
  open_world(&w, dense_text, MG_F32);
  const mg_model_batch batch = batch_of(&w);
  w.inputs[3] = VOCABULARY;
  assert_refused(w.base.context, MG_USAGE, "input 3 is token 13",
                 mg_model_forward(w.model, w.base.tape, &batch, &output));
  w.inputs[3] = 0;
  w.targets[4] = -2;
  assert_refused(w.base.context, MG_USAGE, "target 4 is token -2",
                 mg_model_forward(w.model, w.base.tape, &batch, &output));
  close_world(&w);
}

static void weights_depend_on_the_seed_and_their_name_alone(void **state) {
  (void)state;
  world a, b;
  open_world(&a, dense_text, MG_F32);
  open_world(&b, moe_text, MG_F32);
  mg_params *first = mg_model_params(a.model), *second = mg_model_params(b.model);
  const mg_tensor *x = &mg_params_at(first, mg_params_find(first, "embedding.weight"))->value;
  const mg_tensor *y = &mg_params_at(second, mg_params_find(second, "embedding.weight"))->value;
  assert_memory_equal(x->data, y->data, mg_tensor_bytes(x));
  close_world(&a);
  close_world(&b);
}

/* ---- initial weights ------------------------------------------------------------------------------------------ */

/* The root of the mean square of a parameter. */
static double deviation_of(world *w, const char *name) {
  const int64_t index = mg_params_find(mg_model_params(w->model), name);
  if (index < 0) fail_msg("there is no parameter '%s'", name);
  const mg_tensor *value = &mg_params_at(mg_model_params(w->model), index)->value;
  const int64_t count = mg_tensor_count(value);
  double squares = 0.0;
  for (int64_t i = 0; i < count; i++) squares += ((const double *)value->data)[i] * ((const double *)value->data)[i];
  return sqrt(squares / (double)count);
}

static void assert_about(double value, double wanted) {
  if (fabs(value - wanted) > 0.15 * wanted) fail_msg("%g is not about %g", value, wanted);
}

#define MOE_MODEL(more)                                                                                                \
  "{\"layers\": 2, \"width\": 32, \"vocabulary\": 32, \"heads\": 2, " more "\"feed_forward\": {\"kind\": \"moe\", "    \
  "\"experts\": 4, \"width\": 16, \"router\": {\"name\": \"topk\"}, \"shared\": {}}}"

/* Of 512 draws and more, whose deviation is known to 5 %. */
static void weights_start_with_the_deviation_asked_for(void **state) {
  (void)state;
  static const char *const texts[] = {MOE_MODEL(""), MOE_MODEL("\"initial_deviation\": 0.1, ")};
  static const double deviations[] = {0.02, 0.1};
  for (size_t i = 0; i < MG_COUNT(texts); i++) {
    world w;
    open_world(&w, texts[i], MG_F64);
    assert_about(deviation_of(&w, "embedding.weight"), deviations[i]);
    assert_about(deviation_of(&w, "layers.1.attention.query.weight"), deviations[i]);
    assert_about(deviation_of(&w, "layers.1.attention.output.weight"), deviations[i] / 2.0); /* sqrt(2 layers) */
    assert_about(deviation_of(&w, "layers.1.feed_forward.experts.up"), deviations[i]);
    assert_about(deviation_of(&w, "layers.1.feed_forward.experts.down"), deviations[i] / 2.0);
    assert_about(deviation_of(&w, "layers.1.feed_forward.shared.down"), deviations[i] / 2.0);
    close_world(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_of_a_dense_model_are_finite_differences),
                                     cmocka_unit_test(gradients_of_a_released_shape_are_finite_differences),
                                     cmocka_unit_test(counted_flops_are_the_closed_form_where_weights_multiply_inputs),
                                     cmocka_unit_test(counted_flops_are_the_closed_form_for_a_released_shape),
                                     cmocka_unit_test(gradients_of_a_moe_model_are_finite_differences),
                                     cmocka_unit_test(gradients_of_moe_plus_plus_are_finite_differences),
                                     cmocka_unit_test(counted_flops_are_the_closed_form_for_a_dense_model),
                                     cmocka_unit_test(counted_flops_are_the_closed_form_for_a_moe_model),
                                     cmocka_unit_test(counted_flops_are_the_closed_form_for_slots),
                                     cmocka_unit_test(parameters_are_counted_by_part),
                                     cmocka_unit_test(attention_sees_no_future),
                                     cmocka_unit_test(the_loss_is_the_mean_over_targets),
                                     cmocka_unit_test(logits_alone_are_the_same_in_less_memory),
                                     cmocka_unit_test(bf16_branches_stay_near_f32),
                                     cmocka_unit_test(a_token_outside_the_vocabulary_is_refused),
                                     cmocka_unit_test(weights_depend_on_the_seed_and_their_name_alone),
                                     cmocka_unit_test(weights_start_with_the_deviation_asked_for)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
