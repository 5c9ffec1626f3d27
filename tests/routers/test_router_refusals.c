/* Bad input of every router, by its own tables: an option out of its range, and a loss or policy that needs a statistic
 * which the router does not give, are refused by name. */
#include "support/moe_world.h"

#include <stdio.h>
#include <string.h>

enum { ROUTERS_MAX = 64 };

typedef struct names {
  char name[ROUTERS_MAX][64];
  size_t count;
} names;

static bool keep_name(void *user, const mg_plugin_entry *entry) {
  names *all = user;
  if (all->count < ROUTERS_MAX) snprintf(all->name[all->count++], sizeof all->name[0], "%s", entry->name);
  return true;
}

static names all_routers(moe_world *world) {
  names all = {.count = 0};
  assert_ok(world->context, mg_registry_each(world->registry, MG_PLUGIN_ROUTER, keep_name, &all));
  assert_true(all.count >= 18);
  return all;
}

/* The option set to a value that its row does not allow; NULL for a row that allows all values. */
static json_t *bad_value(const mg_option *option) {
  switch (option->type) {
  case MG_OPTION_TYPE_INT: return json_integer((json_int_t)option->maximum + 1);
  case MG_OPTION_TYPE_FLOAT: return json_real(option->minimum - 1);
  case MG_OPTION_TYPE_BOOL: return json_integer(2);
  case MG_OPTION_TYPE_CHOICE: return json_string("no such word");
  case MG_OPTION_TYPE_INTS: return json_pack("[i]", (int)option->minimum - 1);
  default: return NULL;
  }
}

static void options_out_of_range_are_refused_by_name(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  const names all = all_routers(&world);
  const mg_router_place place = {.width = 8, .experts = 16, .vocabulary = 50};
  for (size_t i = 0; i < all.count; i++) {
    const mg_router_plugin *plugin;
    assert_ok(world.context, mg_registry_router(world.registry, all.name[i], &plugin));
    for (const mg_option *o = plugin->options; o && o->type != MG_OPTION_TYPE_END; o++) {
      json_t *value = bad_value(o), *spec = json_pack("{s:s}", "name", all.name[i]);
      if (value) json_object_set_new(spec, o->name, value);
      const mg_status status = mg_router_check_spec(world.context, world.registry, spec, place);
      if (value && (status != MG_USAGE || !strstr(mg_context_message(world.context), o->name)))
        fail_msg("router %s, option %s: %s", all.name[i], o->name, mg_context_message(world.context));
      json_decref(spec);
    }
  }
  moe_world_close(&world);
}

/* A spec for a layer of 16 experts, or of one where the router wants that. */
static mg_status check_layer(moe_world *world, const char *router, const char *more) {
  mg_status status = MG_USAGE;
  for (int experts = 16; experts >= 1 && status != MG_OK; experts -= 15) {
    char text[512];
    snprintf(text, sizeof text, "{'experts': %d, 'width': 4, 'router': {'name': '%s'}%s}", experts, router, more);
    json_t *spec = moe_json(text);
    status = mg_moe_check_spec(world->context, world->registry, spec, 8, 50);
    json_decref(spec);
    if (status != MG_OK && strstr(mg_context_message(world->context), " needs ")) return status;
  }
  return status;
}

static void losses_and_policies_without_their_statistic_are_refused_by_name(void **state) {
  (void)state;
  static const struct {
    const char *what, *more;
    uint32_t needs;
  } wishes[] = {{"loss 'balance'", ", 'losses': [{'kind': 'balance'}]", MG_ROUTER_GIVES_PROBS},
                {"loss 'entropy'", ", 'losses': [{'kind': 'entropy'}]", MG_ROUTER_GIVES_PROBS},
                {"loss 'z'", ", 'losses': [{'kind': 'z'}]", MG_ROUTER_GIVES_LOGITS},
                {"loss 'load'", ", 'losses': [{'kind': 'load'}]", MG_ROUTER_GIVES_LOAD},
                {"loss 'importance'", ", 'losses': [{'kind': 'importance'}]", 0}};
  moe_world world;
  moe_world_open(&world, MG_F32);
  const names all = all_routers(&world);
  for (size_t i = 0; i < all.count; i++)
    for (size_t w = 0; w < MG_COUNT(wishes); w++) {
      mg_router *router = NULL;
      json_t *spec = json_pack("{s:s}", "name", all.name[i]);
      mg_router_place place = {.width = 8, .experts = 16, .vocabulary = 50};
      if (mg_router_describe(world.context, world.registry, spec, place, &router) != MG_OK) {
        place.experts = 1;
        assert_ok(world.context, mg_router_describe(world.context, world.registry, spec, place, &router));
      }
      const bool given = (mg_router_promises(router) & wishes[w].needs) == wishes[w].needs;
      mg_router_destroy(router);
      json_decref(spec);
      const mg_status status = check_layer(&world, all.name[i], wishes[w].more);
      const char *message = mg_context_message(world.context);
      if (given != (status == MG_OK)) fail_msg("%s with %s: %s", all.name[i], wishes[w].what, message);
      if (!given && (!strstr(message, wishes[w].what) || !strstr(message, all.name[i])))
        fail_msg("%s with %s: not named in '%s'", all.name[i], wishes[w].what, message);
    }
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(options_out_of_range_are_refused_by_name),
      cmocka_unit_test(losses_and_policies_without_their_statistic_are_refused_by_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
