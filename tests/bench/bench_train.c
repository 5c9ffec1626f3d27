/* One training step of the quickstart's model on random tokens: 2048 tokens in 8 sequences; 4 layers of width 128 with
 * 4 heads, vocabulary 4096, 16 SwiGLU experts of width 256, top-2 with a balance loss; forward, backward, gradient norm
 * and AdamW. */
#include <stdio.h>

#include "bench.h"
#include "train/run.h"

enum { SEQUENCES = 8, LENGTH = 256, STEP_TOKENS = SEQUENCES * LENGTH, VOCABULARY = 4096 };
enum { WARM_UP_STEPS = 3 }; /* until the tape asks for no more memory and all of it has been touched */

typedef struct train_case {
  const char *name;
  mg_dtype compute;
} train_case;

static const train_case cases[] = {{"training_step/bf16", MG_BF16}, {"training_step/f32", MG_F32}};

static const char model_text[] =
    "{'layers': 4, 'width': 128, 'heads': 4, 'vocabulary': 4096, 'feed_forward': {'kind': 'moe', 'experts': 16,"
    " 'width': 256, 'router': {'name': 'topk', 'k': 2}, 'losses': [{'kind': 'balance', 'weight': 0.01}]}}";

typedef struct train_state {
  mg_context *context;
  mg_model *model;
  mg_tape *tape;
  mg__optimiser optimiser;
  int32_t inputs[STEP_TOKENS], targets[STEP_TOKENS];
  int64_t step;
} train_state;

static json_t *model_spec(void) {
  char text[sizeof model_text];
  for (size_t i = 0; i < sizeof text; i++) text[i] = model_text[i] == '\'' ? '"' : model_text[i];
  return json_loads(text, 0, NULL);
}

static mg_status open_state(train_state *s, mg_dtype compute) {
  const bench_world *world = bench_world_get();
  s->context = world->context;
  json_t *spec = model_spec();
  const mg_status status = mg_model_create(world->context, world->registry, world->backend, spec, MG_F32, 1, &s->model);
  json_decref(spec);
  MG_TRY(status);
  MG_TRY(mg_tape_create(world->backend, compute, &s->tape));
  MG_TRY(mg__optimiser_create(world->context, s->tape, mg_model_params(s->model), &s->optimiser));
  const mg_stream stream = mg_stream_named(1, "benchmark tokens", 0, 0);
  for (uint64_t i = 0; i < STEP_TOKENS; i++) {
    s->inputs[i] = (int32_t)mg_random_below(stream, 2 * i, VOCABULARY);
    s->targets[i] = (int32_t)mg_random_below(stream, 2 * i + 1, VOCABULARY);
  }
  return mg_params_zero_gradients(mg_model_params(s->model));
}

static void close_state(train_state *s) {
  mg__optimiser_destroy(&s->optimiser);
  if (s->tape) mg_tape_destroy(s->tape);
  if (s->model) mg_model_destroy(s->model);
}

static mg_status train_step(train_state *s) {
  mg_model_output output;
  double norm;
  mg__train_settings settings = {0};
  settings.beta1 = 0.9;
  settings.beta2 = 0.95;
  settings.epsilon = 1e-8;
  settings.decay = 0.1;
  const mg_model_batch batch = {.inputs = s->inputs,
                                .targets = s->targets,
                                .sequences = SEQUENCES,
                                .sequence_tokens = LENGTH,
                                .training = true,
                                .number = (uint64_t)s->step};
  mg_tape_reset(s->tape);
  MG_TRY(mg_model_forward(s->model, s->tape, &batch, &output));
  MG_TRY(mg_tape_backward(s->tape, output.total));
  MG_TRY(mg__optimiser_norm(&s->optimiser, &norm));
  s->step++;
  MG_TRY(mg__optimiser_step(&s->optimiser, &settings, 1e-3, norm > 1.0 ? 1.0 / norm : 1.0, s->step));
  return mg_params_zero_gradients(mg_model_params(s->model));
}

static void run_train(gbench_state *state, const void *argument) {
  static train_state s; /* too large for the stack */
  const train_case *c = argument;
  s = (train_state){0};
  mg_status status = open_state(&s, c->compute);
  for (int32_t i = 0; i < WARM_UP_STEPS && status == MG_OK; i++) status = train_step(&s);
  while (status == MG_OK && gbench_keep_running(state)) status = train_step(&s);
  if (status != MG_OK) {
    gbench_skip(state, mg_context_message(s.context));
  } else {
    double part[MG_PART_COUNT], flops = 0;
    mg_model_flops_per_token(s.model, LENGTH, part);
    for (int32_t i = 0; i < MG_PART_COUNT; i++) flops += part[i];
    bench_flops(state, c->compute, 3.0 * flops * STEP_TOKENS);
    gbench_rate(state, "tokens/s", STEP_TOKENS);
  }
  close_state(&s);
}

void bench_register_train(void) {
  for (size_t i = 0; i < MG_COUNT(cases); i++) gbench_register(cases[i].name, run_train, &cases[i]);
}
