/* What tests of routers and layers stand on: a context, all linked plugins, the reference backend, a tape and an empty
 * parameter store. */
#ifndef MG_TESTS_SUPPORT_MOE_WORLD_H
#define MG_TESTS_SUPPORT_MOE_WORLD_H

#include "support/testing.h"

#include <jansson.h>

#include "moe/layer.h"

typedef struct moe_world {
  mg_context *context;
  mg_registry *registry;
  mg_backend *backend;
  mg_tape *tape;
  mg_params *params;
} moe_world;

/* `dtype` is MG_F32, or MG_F64 for gradient checks. */
void moe_world_open(moe_world *world, mg_dtype dtype);
void moe_world_close(moe_world *world);

/* JSON written with single quotes; fails the test if it does not parse. The caller releases it. */
json_t *moe_json(const char *text);

/* Fails the test unless |a - b| <= tolerance. */
void assert_close(double a, double b, double tolerance);

/* A real variable as doubles, or ids as integers; fails the test when the sizes differ. */
void moe_read(moe_world *world, const mg_var *x, double *out, int64_t count);
void moe_read_ids(moe_world *world, const mg_var *x, int32_t *out, int64_t count);

/* x [rows, columns] of numbers, in the dtype of the parameters. */
mg_var *moe_upload(moe_world *world, const double *numbers, int64_t rows, int64_t columns);
mg_var *moe_upload_ids(moe_world *world, const int32_t *ids, int64_t rows, int64_t columns);
/* Sets a parameter's elements. */
void moe_set_param(moe_world *world, const char *name, const double *numbers, int64_t count);
/* Standard normal numbers. */
void moe_normal(uint64_t seed, double *out, int64_t count);

#endif
