/* The finite-difference check of gradients. */
#include "support/gradient.h"

#include <math.h>

static const double step = 1e-5, tolerance = 1e-6;
static const double smallest_scale = 1e-2; /* below it, the absolute error counts */

/* One scalar function of several tensors: how to build it on the tape, and what it depends on. */
typedef struct problem {
  mg_world *world;
  const char *name;
  mg_var *(*build)(struct problem *problem);
  const mg_gradient_case *gradient_case;
  mg_tensor *values[64], *gradients[64];
  int count;
  mg_var *(*param_function)(mg_world *world, void *user);
  void *param_user;
} problem;

/* The sum of the output's elements, each times a fixed random number. */
static mg_var *loss_of(problem *p) {
  mg_tape *tape = p->world->tape;
  mg_var *out = mg_cast(tape, p->build(p), MG_F64);
  if (!out) return NULL;
  const mg_tensor *shape = mg_var_tensor(out);
  const mg_stream stream = mg_stream_named(1, "gradient.loss", 0, 0);
  mg_var *factors = mg_random(tape, MG_F64, shape->dims, shape->shape, MG_RANDOM_UNIFORM, stream, 0.5, 1.5);
  return mg_sum(tape, mg_mul(tape, out, factors));
}

static double loss_value(problem *p) {
  mg_tape_set_recording(p->world->tape, false);
  const double loss = mg_world_value(p->world, loss_of(p), 0);
  mg_tape_set_recording(p->world->tape, true);
  mg_tape_reset(p->world->tape);
  return loss;
}

static void check_element(problem *p, int leaf, int64_t i) {
  double *x = (double *)p->values[leaf]->data + i;
  const double analytic = ((const double *)p->gradients[leaf]->data)[i], before = *x;
  *x = before + step;
  const double above = loss_value(p);
  *x = before - step;
  const double below = loss_value(p);
  *x = before;
  const double numeric = (above - below) / (2.0 * step);
  const double scale = fmax(fmax(fabs(numeric), fabs(analytic)), smallest_scale);
  if (!(fabs(numeric - analytic) <= tolerance * scale))
    fail_msg("%s: element %lld of leaf %d: gradient %.9g, by differences %.9g", p->name, (long long)i, leaf, analytic,
             numeric);
}

static void check(problem *p) {
  mg_tape *tape = p->world->tape;
  assert_true(p->world->backend->plugin->host_memory);
  mg_tape_reset(tape);
  assert_ok(p->world->context, (mg_tape_backward(tape, loss_of(p)), mg_tape_status(tape)));
  mg_tape_reset(tape);
  for (int leaf = 0; leaf < p->count; leaf++) {
    for (int64_t i = 0; i < mg_tensor_count(p->values[leaf]); i++) check_element(p, leaf, i);
  }
}

/* ---- leaves -------------------------------------------------------------------------------------------------- */

static mg_var *build_from_leaves(problem *p) {
  mg_var *leaves[MG_GRADIENT_LEAVES_MAX] = {0};
  for (int i = 0; i < p->count; i++) leaves[i] = mg_tape_leaf(p->world->tape, p->values[i], p->gradients[i]);
  return p->gradient_case->function(p->world, leaves, p->gradient_case->user);
}

static mg_tensor random_tensor(mg_world *world, const mg_gradient_leaf *leaf, int index) {
  mg_tensor tensor = mg_world_tensor(world, MG_F64, leaf->dims, leaf->shape, NULL);
  const mg_stream stream = mg_stream_named(1, "gradient.leaf", (uint64_t)index, 0);
  for (int64_t i = 0; i < mg_tensor_count(&tensor); i++)
    ((double *)tensor.data)[i] = leaf->low + (leaf->high - leaf->low) * mg_random_uniform(stream, (uint64_t)i);
  return tensor;
}

void mg_check_gradients(mg_world *world, const mg_gradient_case *gradient_case) {
  problem p = {.world = world, .name = gradient_case->name, .build = build_from_leaves, .gradient_case = gradient_case};
  mg_tensor values[MG_GRADIENT_LEAVES_MAX], gradients[MG_GRADIENT_LEAVES_MAX];
  for (int i = 0; i < MG_GRADIENT_LEAVES_MAX && gradient_case->leaves[i].dims; i++) {
    const mg_gradient_leaf *leaf = &gradient_case->leaves[i];
    values[i] = random_tensor(world, leaf, i);
    gradients[i] = mg_world_tensor(world, MG_F64, leaf->dims, leaf->shape, NULL);
    p.values[i] = &values[i];
    p.gradients[i] = &gradients[i];
    p.count++;
  }
  check(&p);
  for (int i = 0; i < p.count; i++) {
    mg_world_release(world, &values[i]);
    mg_world_release(world, &gradients[i]);
  }
}

/* ---- parameters ---------------------------------------------------------------------------------------------- */

static mg_var *build_from_params(problem *p) {
  return p->param_function(p->world, p->param_user);
}

void mg_check_param_gradients(mg_world *world, const char *name, mg_params *params,
                              mg_var *(*function)(mg_world *world, void *user), void *user) {
  problem p = {
      .world = world, .name = name, .build = build_from_params, .param_function = function, .param_user = user};
  assert_ok(world->context, mg_params_zero_gradients(params));
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    mg_param *param = mg_params_at(params, i);
    if (!param->gradient.data) continue;
    assert_true((size_t)p.count < MG_COUNT(p.values));
    p.values[p.count] = &param->value;
    p.gradients[p.count++] = &param->gradient;
  }
  check(&p);
}
