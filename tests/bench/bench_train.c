/* One training step of the quickstart's model on random tokens: 2048 tokens in 8 sequences; 4 layers of width 128 with
 * 4 heads, vocabulary 4096, 16 SwiGLU experts of width 256, top-2 with a balance loss; forward, backward, gradient norm
 * and AdamW. */
#include <stdio.h>

#include "bench.h"
#include "train/run.h"

enum { WARM_UP_STEPS = 3 };

typedef struct train_case {
  const char *name;
  mg_dtype compute;
} train_case;

static const train_case cases[] = {{"training_step/bf16", MG_BF16}, {"training_step/f32", MG_F32}};
static const bench_model quickstart = {.layers = 4,
                                       .width = 128,
                                       .heads = 4,
                                       .vocabulary = 4096,
                                       .experts = 16,
                                       .hidden = 256,
                                       .choices = 2,
                                       .sequences = 8,
                                       .length = 256};

struct bench_trainer {
  mg_context *context;
  const bench_model *shape;
  mg_model *model;
  mg_tape *tape;
  mg__optimiser optimiser;
  int32_t *inputs, *targets; /* in one block */
  int64_t step;
};

static int64_t step_tokens(const bench_model *shape) {
  return (int64_t)shape->sequences * shape->length;
}

static json_t *model_spec(const bench_model *m) {
  json_t *router = json_pack("{s:s, s:i}", "name", "topk", "k", m->choices);
  json_t *losses = json_pack("[{s:s, s:f}]", "kind", "balance", "weight", 0.01);
  json_t *moe = json_pack("{s:s, s:i, s:i, s:o, s:o}", "kind", "moe", "experts", m->experts, "width", m->hidden,
                          "router", router, "losses", losses);
  return json_pack("{s:i, s:i, s:i, s:i, s:o}", "layers", m->layers, "width", m->width, "heads", m->heads, "vocabulary",
                   m->vocabulary, "feed_forward", moe);
}

static mg_status draw_tokens(bench_trainer *t) {
  const int64_t count = step_tokens(t->shape);
  t->inputs = mg_alloc(t->context, (size_t)(2 * count) * sizeof *t->inputs);
  if (!t->inputs) return MG_MEMORY;
  t->targets = t->inputs + count;
  const mg_stream stream = mg_stream_named(1, "benchmark tokens", 0, 0);
  for (int64_t i = 0; i < count; i++) {
    t->inputs[i] = (int32_t)mg_random_below(stream, (uint64_t)(2 * i), (uint64_t)t->shape->vocabulary);
    t->targets[i] = (int32_t)mg_random_below(stream, (uint64_t)(2 * i + 1), (uint64_t)t->shape->vocabulary);
  }
  return MG_OK;
}

static mg_status make_trainer(bench_trainer *t, mg_dtype compute) {
  const bench_world *world = bench_world_get();
  json_t *spec = model_spec(t->shape);
  const mg_status status = mg_model_create(t->context, world->registry, world->backend, spec, MG_F32, 1, &t->model);
  json_decref(spec);
  MG_TRY(status);
  MG_TRY(mg_tape_create(world->backend, compute, &t->tape));
  MG_TRY(mg__optimiser_create(t->context, t->tape, mg_model_params(t->model), &t->optimiser));
  MG_TRY(draw_tokens(t));
  return mg_params_zero_gradients(mg_model_params(t->model));
}

static mg_status train_step(bench_trainer *t) {
  mg_model_output output;
  double norm;
  mg__train_settings settings = {0};
  settings.beta1 = 0.9;
  settings.beta2 = 0.95;
  settings.epsilon = 1e-8;
  settings.decay = 0.1;
  const mg_model_batch batch = {.inputs = t->inputs,
                                .targets = t->targets,
                                .sequences = t->shape->sequences,
                                .sequence_tokens = t->shape->length,
                                .training = true,
                                .number = (uint64_t)t->step};
  mg_tape_reset(t->tape);
  MG_TRY(mg_model_forward(t->model, t->tape, &batch, &output));
  MG_TRY(mg_tape_backward(t->tape, output.total));
  MG_TRY(mg__optimiser_norm(&t->optimiser, &norm));
  t->step++;
  MG_TRY(mg__optimiser_step(&t->optimiser, &settings, 1e-3, norm > 1.0 ? 1.0 / norm : 1.0, t->step));
  return mg_params_zero_gradients(mg_model_params(t->model));
}

bool bench_trainer_step(gbench_state *state, bench_trainer *trainer) {
  if (train_step(trainer) == MG_OK) return true;
  gbench_skip(state, mg_context_message(trainer->context));
  return false;
}

bench_trainer *bench_trainer_open(gbench_state *state, const bench_model *model, mg_dtype compute) {
  mg_context *context = bench_world_get()->context;
  bench_trainer *t = mg_alloc(context, sizeof *t);
  if (!t) {
    gbench_skip(state, mg_context_message(context));
    return NULL;
  }
  *t = (bench_trainer){.context = context, .shape = model};
  mg_status status = make_trainer(t, compute);
  for (int32_t i = 0; i < WARM_UP_STEPS && status == MG_OK; i++) status = train_step(t);
  if (status == MG_OK) return t;
  gbench_skip(state, mg_context_message(context));
  bench_trainer_close(t);
  return NULL;
}

double bench_trainer_flops(const bench_trainer *trainer) {
  double part[MG_PART_COUNT], flops = 0;
  mg_model_flops_per_token(trainer->model, trainer->shape->length, part);
  for (int32_t i = 0; i < MG_PART_COUNT; i++) flops += part[i];
  return 3.0 * flops * (double)step_tokens(trainer->shape);
}

void bench_trainer_close(bench_trainer *trainer) {
  const size_t tokens = (size_t)(2 * step_tokens(trainer->shape));
  mg__optimiser_destroy(&trainer->optimiser);
  mg_free(trainer->context, trainer->inputs, trainer->inputs ? tokens * sizeof *trainer->inputs : 0);
  if (trainer->tape) mg_tape_destroy(trainer->tape);
  if (trainer->model) mg_model_destroy(trainer->model);
  mg_free(trainer->context, trainer, sizeof *trainer);
}

static void run_train(gbench_state *state, const void *argument) {
  const train_case *c = argument;
  bench_trainer *trainer = bench_trainer_open(state, &quickstart, c->compute);
  if (!trainer) return;
  bool going = true;
  while (going && gbench_keep_running(state)) going = bench_trainer_step(state, trainer);
  if (going) bench_flops(state, c->compute, bench_trainer_flops(trainer));
  if (going) gbench_rate(state, "tokens/s", (double)step_tokens(&quickstart));
  bench_trainer_close(trainer);
}

void bench_register_train(void) {
  for (size_t i = 0; i < MG_COUNT(cases); i++) gbench_register(cases[i].name, run_train, &cases[i]);
}
