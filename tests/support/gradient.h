/* Gradients against central differences: (f(x + h) - f(x - h)) / 2h, in f64 on the reference backend.
 *
 * The function under test may return a tensor of any size: it is multiplied by fixed random numbers and summed, so that
 * an error cannot hide in a sum that is constant (as that of a softmax is). */
#ifndef MG_TESTS_SUPPORT_GRADIENT_H
#define MG_TESTS_SUPPORT_GRADIENT_H

#include "support/world.h"
#include "tensor/params.h"

enum { MG_GRADIENT_LEAVES_MAX = 6 };

/* A leaf whose elements are drawn uniformly from (low, high). dims 0 ends the list. */
typedef struct mg_gradient_leaf {
  int32_t dims;
  int64_t shape[MG_DIMS_MAX];
  double low, high;
} mg_gradient_leaf;

typedef struct mg_gradient_case {
  const char *name;
  mg_gradient_leaf leaves[MG_GRADIENT_LEAVES_MAX];
  mg_var *(*function)(mg_world *world, mg_var *const *leaves, const void *user);
  const void *user;
} mg_gradient_case;

/* Fails the test unless every element of every leaf's gradient has a relative error of at most 1e-6. `world` must have
 * been opened with MG_F64. */
void mg_check_gradients(mg_world *world, const mg_gradient_case *gradient_case);

/* The same for all trained parameters of a store (made with MG_F64): `function` builds what depends on them. */
void mg_check_param_gradients(mg_world *world, const char *name, mg_params *params,
                              mg_var *(*function)(mg_world *world, void *user), void *user);

#endif
