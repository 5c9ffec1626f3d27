/* The world of one router. */
#include "support/router_world.h"

#include <stdio.h>
#include <string.h>

void router_world_open(router_world *r, const char *spec, int64_t experts, double deviation) {
  double numbers[ROUTER_EXPERTS_MAX * ROUTER_WIDTH];
  memset(r, 0, sizeof *r);
  moe_world_open(&r->world, MG_F64);
  r->experts = experts;
  json_t *json = moe_json(spec);
  const mg_router_place place = {.width = ROUTER_WIDTH, .experts = experts, .vocabulary = ROUTER_VOCABULARY};
  assert_ok(r->world.context,
            mg_router_create(r->world.context, r->world.registry, json, place, r->world.params, "r.", 1, &r->router));
  json_decref(json);
  for (int64_t i = 0; i < mg_params_count(r->world.params); i++) {
    const mg_param *param = mg_params_at(r->world.params, i);
    const int64_t count = mg_tensor_count(&param->value);
    moe_normal((uint64_t)i + 20, numbers, count);
    for (int64_t j = 0; j < count; j++) numbers[j] *= deviation;
    moe_set_param(&r->world, param->name, numbers, count);
  }
  moe_normal(19, r->x, ROUTER_TOKENS * ROUTER_WIDTH);
  const mg_stream words = mg_stream_named(19, "words", 0, 0);
  for (uint64_t t = 0; t < ROUTER_TOKENS; t++) r->token_ids[t] = (int32_t)mg_random_below(words, t, ROUTER_VOCABULARY);
  r->sequence_tokens = ROUTER_TOKENS;
}

void router_world_close(router_world *r) {
  mg_router_destroy(r->router);
  moe_world_close(&r->world);
}

void router_world_route(router_world *r, bool training, mg_stream noise) {
  const mg_route_input input = {.x = moe_upload(&r->world, r->x, ROUTER_TOKENS, ROUTER_WIDTH),
                                .token_ids = moe_upload_ids(&r->world, r->token_ids, ROUTER_TOKENS, 1),
                                .tokens = ROUTER_TOKENS,
                                .sequence_tokens = r->sequence_tokens,
                                .training = training,
                                .noise = noise};
  assert_ok(r->world.context, mg_router_route(r->router, r->world.tape, &input, &r->out));
}

void router_world_param(router_world *r, const char *name, double *out, int64_t count) {
  char full[MG_PARAM_NAME_BYTES];
  snprintf(full, sizeof full, "r.%s", name);
  const int64_t index = mg_params_find(r->world.params, full);
  if (index < 0) fail_msg("there is no parameter %s", full);
  moe_read(&r->world, mg_params_var(r->world.params, r->world.tape, index), out, count);
}

void assert_router_refused(const char *spec, int64_t experts, const char *words) {
  moe_world world;
  moe_world_open(&world, MG_F64);
  json_t *json = moe_json(spec);
  const mg_router_place place = {.width = ROUTER_WIDTH, .experts = experts};
  assert_refused(world.context, MG_USAGE, words, mg_router_check_spec(world.context, world.registry, json, place));
  json_decref(json);
  moe_world_close(&world);
}
