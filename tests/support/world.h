/* What most tests start from: a context, a registry of all linked-in plugins, an open backend and a tape on it. */
#ifndef MG_TESTS_SUPPORT_WORLD_H
#define MG_TESTS_SUPPORT_WORLD_H

#include "model/model.h"
#include "support/testing.h"

typedef struct mg_world {
  mg_context *context;
  mg_registry *registry;
  mg_backend *backend;
  mg_tape *tape;
} mg_world;

/* Opens all four; the test fails with the message if one does not open. */
void mg_world_open(mg_world *world, const char *backend, mg_dtype compute);
/* Closes all, and fails the test if any byte of the context is still in use. */
void mg_world_close(mg_world *world);

/* A model of this specification (JSON), in f32, its weights drawn from seed 3. */
mg_model *mg_world_model(mg_world *world, const char *spec);

/* A tensor in the backend's memory with these values (f32, f64 or i32 by dtype); NULL values leave zeros. */
mg_tensor mg_world_tensor(mg_world *world, mg_dtype dtype, int32_t dims, const int64_t *shape, const double *values);
void mg_world_release(mg_world *world, mg_tensor *tensor);
/* A constant on the tape. */
mg_var *mg_world_constant(mg_world *world, mg_dtype dtype, int32_t dims, const int64_t *shape, const double *values);
/* Element `index` of a variable or tensor, as double. */
double mg_world_value(mg_world *world, const mg_var *x, int64_t index);
double mg_world_element(mg_world *world, const mg_tensor *tensor, int64_t index);

#endif
