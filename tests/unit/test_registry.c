/* The registry takes good tables, refuses bad ones in words, and opens backends with checked options. */
#include <stdlib.h>
#include <string.h>

#include "support/testing.h"

typedef struct sample_options {
  int64_t k;
  double noise;
} sample_options;

static const mg_option sample_table[] = {MG_OPTION_INT(sample_options, k, 2, 1, 8, "experts kept per token"),
                                         MG_OPTION_FLOAT(sample_options, noise, 0.5, 0.0, 1.0, "noise"), MG_OPTION_END};

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  (void)router, (void)tape, (void)input, (void)output;
  return MG_OK;
}

static mg_router_plugin good_router(void) {
  return (mg_router_plugin){.abi = MG_ABI,
                            .size = sizeof(mg_router_plugin),
                            .name = "sample",
                            .summary = "A sample.",
                            .options = sample_table,
                            .options_size = sizeof(sample_options),
                            .route = route};
}

/* ---- a backend that only opens ----------------------------------------------------------------------------- */

static mg_status open_ok(mg_backend *backend) {
  const sample_options *options = backend->options;
  if (options->k == 7) return mg_fail(backend->context, MG_DEVICE, "no device number 7");
  return MG_OK;
}
static void close_ok(mg_backend *backend) {
  backend->state = NULL;
}
static mg_status allocate(mg_backend *backend, size_t bytes, void **out) {
  *out = mg_alloc(backend->context, bytes);
  return *out ? MG_OK : MG_MEMORY;
}
static void release(mg_backend *backend, void *pointer, size_t bytes) {
  mg_free(backend->context, pointer, bytes);
}
static mg_status upload(mg_backend *backend, void *device, const void *host, size_t bytes) {
  (void)backend;
  memcpy(device, host, bytes);
  return MG_OK;
}
static mg_status synchronize(mg_backend *backend) {
  (void)backend;
  return MG_OK;
}
static void describe(const mg_backend *backend, char *text, size_t bytes) {
  (void)backend;
  if (bytes) *text = '\0';
}
static const mg_kernel kernels[1] = {NULL};
static const mg_backend_plugin sample_backend = {.abi = MG_ABI,
                                                 .size = sizeof(mg_backend_plugin),
                                                 .name = "sample",
                                                 .summary = "A sample.",
                                                 .options = sample_table,
                                                 .options_size = sizeof(sample_options),
                                                 .host_memory = true,
                                                 .open = open_ok,
                                                 .close = close_ok,
                                                 .allocate = allocate,
                                                 .release = release,
                                                 .upload = upload,
                                                 .download = upload,
                                                 .synchronize = synchronize,
                                                 .kernels = kernels,
                                                 .kernels_count = 1,
                                                 .describe = describe};

/* ---- the tests --------------------------------------------------------------------------------------------- */

typedef struct world {
  mg_context *context;
  mg_registry *registry;
} world;

static int set_up(void **state) {
  static world w;
  unsetenv("MOEGAUGE_PLUGIN_PATH"); /* only what a test adds is there */
  if (mg_context_create(NULL, &w.context) != MG_OK) return 1;
  *state = &w;
  return mg_registry_create(w.context, &w.registry) != MG_OK;
}

static int tear_down(void **state) {
  world *w = *state;
  mg_registry_destroy(w->registry);
  const size_t left = mg_context_bytes(w->context);
  mg_context_destroy(w->context);
  return left != 0; /* everything that was allocated is freed */
}

static void test_an_added_router_is_found_by_name(void **state) {
  world *w = *state;
  static mg_router_plugin plugin;
  plugin = good_router();
  const mg_router_plugin *found;
  assert_ok(w->context, mg_registry_add_router(w->registry, &plugin));
  assert_ok(w->context, mg_registry_add_router(w->registry, &plugin)); /* the same table again is no clash */
  assert_ok(w->context, mg_registry_router(w->registry, "sample", &found));
  assert_ptr_equal(found, &plugin);
}

static void test_a_taken_name_is_refused(void **state) {
  world *w = *state;
  static mg_router_plugin first, second;
  first = second = good_router();
  assert_ok(w->context, mg_registry_add_router(w->registry, &first));
  assert_refused(w->context, MG_USAGE, "is taken by one added before", mg_registry_add_router(w->registry, &second));
}

static void test_an_unknown_name_offers_the_nearest(void **state) {
  world *w = *state;
  static mg_router_plugin plugin;
  plugin = good_router();
  const mg_router_plugin *found;
  assert_ok(w->context, mg_registry_add_router(w->registry, &plugin));
  assert_refused(w->context, MG_PLUGIN, "did you mean 'sample'?", mg_registry_router(w->registry, "smaple", &found));
  assert_null(found);
}

static void test_an_empty_registry_names_the_variable(void **state) {
  world *w = *state;
  const mg_backend_plugin *found;
  assert_refused(w->context, MG_PLUGIN, "MOEGAUGE_PLUGIN_PATH", mg_registry_backend(w->registry, "cpu", &found));
}

static void test_a_file_is_never_looked_for_in_the_current_folder(void **state) {
  world *w = *state;
  const mg_router_plugin *found;
  assert_refused(w->context, MG_PLUGIN, "there is no router 'sample.so'",
                 mg_registry_router(w->registry, "sample.so", &found));
}

static void test_another_abi_names_both_numbers_and_the_fix(void **state) {
  world *w = *state;
  mg_router_plugin plugin = good_router();
  plugin.abi = MG_ABI + 1;
  assert_refused(w->context, MG_PLUGIN, "has plugin ABI 3, this moegauge " MG_VERSION " has ABI 2; rebuild it",
                 mg_registry_add_router(w->registry, &plugin));
}

static void test_a_smaller_table_reads_as_zero_beyond_its_end(void **state) {
  world *w = *state;
  static mg_router_plugin plugin;
  plugin = good_router();
  plugin.size = offsetof(mg_router_plugin, user);
  plugin.user = &plugin; /* lies beyond the stated size, so it must not be seen */
  const mg_router_plugin *found;
  assert_ok(w->context, mg_registry_add_router(w->registry, &plugin));
  assert_ok(w->context, mg_registry_router(w->registry, "sample", &found));
  assert_ptr_equal(found->route, route);
  assert_null(found->user);
}

static void test_bad_tables_are_refused(void **state) {
  world *w = *state;
  mg_router_plugin plugin = good_router();
#define REFUSED(words) assert_refused(w->context, MG_PLUGIN, words, mg_registry_add_router(w->registry, &plugin))
  plugin.size = 16;
  REFUSED("its table has 16 bytes");
  plugin = good_router(), plugin.route = NULL;
  REFUSED("has no .route");
  plugin = good_router(), plugin.summary = NULL;
  REFUSED("has no .summary");
  plugin = good_router(), plugin.name = "Über";
  REFUSED("has no .name");
  plugin = good_router(), plugin.name = NULL;
  REFUSED("has no .name");
  plugin = good_router(), plugin.options_size = 8;
  REFUSED("option 'noise' lies outside the options struct");
  assert_refused(w->context, MG_PLUGIN, "returned NULL", mg_registry_add_router(w->registry, NULL));
#undef REFUSED
}

static void refused_option(world *w, mg_option row, const char *words) {
  const mg_option table[] = {row, MG_OPTION_END};
  mg_router_plugin plugin = good_router();
  plugin.options = table;
  assert_refused(w->context, MG_PLUGIN, words, mg_registry_add_router(w->registry, &plugin));
}

static void test_bad_option_tables_are_refused(void **state) {
  world *w = *state;
  static const char *const none[] = {NULL};
  static const char *const two[] = {"a", "b", NULL};
  refused_option(w, (mg_option)MG_OPTION_INT(sample_options, k, 9, 1, 8, "k"), "'k' must be an integer from 1 to 8");
  refused_option(w, (mg_option)MG_OPTION_INT(sample_options, k, 9, 1, 8, "k"), "mend its option table");
  refused_option(w, (mg_option)MG_OPTION_INT(sample_options, k, 1.5, 1, 8, "k"),
                 "is an integer but its default is not");
  refused_option(w, (mg_option)MG_OPTION_INT(sample_options, k, 1, 8, 1, "k"), "a minimum above its maximum");
  refused_option(w, (mg_option)MG_OPTION_INT(sample_options, k, 1, 1, 8, NULL), "has no help text");
  refused_option(w, (mg_option)MG_OPTION_CHOICE(sample_options, k, 0, none, "k"), "has no list of choices");
  refused_option(w, (mg_option)MG_OPTION_CHOICE(sample_options, k, 2, two, "k"), "none of its choices");
  refused_option(w, (mg_option){"k", (mg_option_type)77, 0, 0, NULL, 0, 1, NULL, "k"}, "unknown type");
}

static void test_an_unended_option_table_is_refused(void **state) {
  world *w = *state;
  static char names[65][8];
  mg_option table[66] = {{0}};
  for (int i = 0; i < 65; i++) {
    snprintf(names[i], sizeof names[i], "o%d", i);
    table[i] = (mg_option)MG_OPTION_INT(sample_options, k, 1, 1, 8, "k");
    table[i].name = names[i];
  }
  mg_router_plugin plugin = good_router();
  plugin.options = table;
  assert_refused(w->context, MG_PLUGIN, "does its table end with MG_OPTION_END?",
                 mg_registry_add_router(w->registry, &plugin));
}

static void test_a_custom_dimension_needs_its_function(void **state) {
  world *w = *state;
  static const mg_param_spec params[] = {{"gate", {MG_DIM_CUSTOM}, MG_INIT_ZERO, 0.0, false}, MG_PARAM_END};
  mg_router_plugin plugin = good_router();
  plugin.params = params;
  assert_refused(w->context, MG_PLUGIN, "has no .dimension", mg_registry_add_router(w->registry, &plugin));
}

static void test_backend_options_are_defaulted_and_checked(void **state) {
  world *w = *state;
  mg_backend *backend;
  assert_ok(w->context, mg_registry_add_backend(w->registry, &sample_backend));
  assert_ok(w->context, mg_backend_open(w->context, w->registry, "sample", NULL, &backend));
  assert_int_equal(((const sample_options *)backend->options)->k, 2);
  mg_backend_close(backend);
  mg_backend_close(NULL);
  json_t *options = json_pack("{s:i}", "q", 3);
  assert_refused(w->context, MG_USAGE, "backend sample: unknown key 'q'",
                 mg_backend_open(w->context, w->registry, "sample", options, &backend));
  assert_null(backend);
  json_decref(options);
}

static void test_a_device_that_does_not_open_says_why(void **state) {
  world *w = *state;
  mg_backend *backend;
  json_t *options = json_pack("{s:i}", "k", 7);
  assert_ok(w->context, mg_registry_add_backend(w->registry, &sample_backend));
  assert_refused(w->context, MG_DEVICE, "backend sample: no device number 7",
                 mg_backend_open(w->context, w->registry, "sample", options, &backend));
  json_decref(options);
}

static void test_every_missing_backend_function_is_named(void **state) {
  world *w = *state;
  mg_backend_plugin plugin = sample_backend;
  plugin.download = NULL;
  assert_refused(w->context, MG_PLUGIN, "has no .download", mg_registry_add_backend(w->registry, &plugin));
  plugin = sample_backend;
  plugin.kernels_count = 0;
  assert_refused(w->context, MG_PLUGIN, "has no .kernels", mg_registry_add_backend(w->registry, &plugin));
}

static bool count_entry(void *user, const mg_plugin_entry *entry) {
  assert_string_equal(entry->name, "sample");
  assert_null(entry->problem);
  ++*(int *)user;
  return true;
}

static void test_listing_keeps_routers_and_backends_apart(void **state) {
  world *w = *state;
  static mg_router_plugin plugin;
  plugin = good_router();
  int count = 0;
  assert_ok(w->context, mg_registry_add_router(w->registry, &plugin));
  assert_ok(w->context, mg_registry_add_backend(w->registry, &sample_backend));
  assert_ok(w->context, mg_registry_each(w->registry, MG_PLUGIN_ROUTER, count_entry, &count));
  assert_int_equal(count, 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_an_added_router_is_found_by_name),
      TEST(test_a_taken_name_is_refused),
      TEST(test_an_unknown_name_offers_the_nearest),
      TEST(test_an_empty_registry_names_the_variable),
      TEST(test_a_file_is_never_looked_for_in_the_current_folder),
      TEST(test_another_abi_names_both_numbers_and_the_fix),
      TEST(test_a_smaller_table_reads_as_zero_beyond_its_end),
      TEST(test_bad_tables_are_refused),
      TEST(test_bad_option_tables_are_refused),
      TEST(test_an_unended_option_table_is_refused),
      TEST(test_a_custom_dimension_needs_its_function),
      TEST(test_backend_options_are_defaulted_and_checked),
      TEST(test_a_device_that_does_not_open_says_why),
      TEST(test_every_missing_backend_function_is_named),
      TEST(test_listing_keeps_routers_and_backends_apart),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
