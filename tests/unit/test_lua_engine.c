/* The Lua engine: what crosses between Lua and JSON, what a script may not do, how errors become messages, when a case's
 * hash changes, that an engine can be made or refused at every failed allocation, and the scripts in tests/lua. */
#include "support/testing.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "lua/engine.h"

static mg_context *context;
static mg_registry *registry;
static mg_engine *engine;
static char scripts[4096];

static mg_engine_settings settings_of(void) {
  return (mg_engine_settings){.registry = registry, .scripts = scripts};
}

static int open_world(void **state) {
  (void)state;
  snprintf(scripts, sizeof scripts, "%s/scripts", getenv("MOEGAUGE_SOURCE"));
  if (mg_context_create(NULL, &context) != MG_OK || mg_registry_create(context, &registry) != MG_OK) return 1;
  return mg_testing_register(registry) == MG_OK ? 0 : 1;
}

static int close_world(void **state) {
  (void)state;
  mg_registry_destroy(registry);
  mg_context_destroy(context);
  return 0;
}

static int open_engine(void **state) {
  (void)state;
  const mg_engine_settings settings = settings_of();
  const mg_status status = mg_engine_create(context, &settings, &engine);
  if (status != MG_OK) print_error("%s\n", mg_context_message(context));
  return status == MG_OK ? 0 : 1;
}

static int close_engine(void **state) {
  (void)state;
  mg_engine_destroy(engine);
  return 0;
}

/* The value of a chunk as compact JSON, in a static buffer. */
static const char *value_of(const char *text) {
  static char out[1024];
  json_t *value;
  assert_ok(context, mg_engine_run_text(engine, text, "=chunk", &value));
  char *json = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
  snprintf(out, sizeof out, "%s", json);
  free(json);
  json_decref(value);
  return out;
}

static mg_status run(const char *text) {
  json_t *value = NULL;
  const mg_status status = mg_engine_run_text(engine, text, "=chunk", &value);
  json_decref(value);
  return status;
}

static void values_become_json(void **state) {
  (void)state;
  assert_string_equal(value_of("return { a = 1, b = 2.0, c = 0.5, d = 'ä', e = true, f = { 1, 2 } }"),
                      "{\"a\":1,\"b\":2,\"c\":0.5,\"d\":\"ä\",\"e\":true,\"f\":[1,2]}");
  assert_string_equal(value_of("return {}"), "{}");
  assert_string_equal(value_of("return require('moegauge.core').list {}"), "[]");
  assert_string_equal(value_of("return { x = 0 / 0, y = 1 / 0 }"), "{\"x\":null,\"y\":null}");
  assert_string_equal(value_of("return 9007199254740993"), "9007199254740993");
  assert_string_equal(value_of("return math.mininteger"), "-9223372036854775808");
}

static void json_comes_back_as_it_went(void **state) {
  (void)state;
  assert_string_equal(value_of("local c = require 'moegauge.core'\n"
                               "return c.from_json(c.to_json { list = c.list {}, n = 0.25, s = 'a\\nb', t = {{1}} })"),
                      "{\"list\":[],\"n\":0.25,\"s\":\"a\\nb\",\"t\":[[1]]}");
  assert_refused(context, MG_USAGE, "line 1", run("return require('moegauge.core').from_json('{\"a\": 1, \"a\": 2}')"));
}

static void values_that_cannot_be_stored_are_named_by_their_path(void **state) {
  (void)state;
  assert_refused(context, MG_USAGE, "value.a[2].f: a function cannot be stored",
                 run("return { a = { {}, { f = print } } }"));
  assert_refused(context, MG_USAGE, "value: a table must be a list", run("return { 1, 2, x = 3 }"));
  assert_refused(context, MG_USAGE, "a table must be a list", run("return { 1, nil, 3 }"));
  assert_refused(context, MG_USAGE, "lies too deep; does it contain itself?", run("local t = {} t.t = t return t"));
  assert_refused(context, MG_USAGE, "value.s: a text is not UTF-8", run("return { s = '\\xff' }"));
  assert_refused(context, MG_USAGE, "spec.k: NaN and infinity",
                 run("require('moegauge.core').to_json_strict({ k = 0 / 0 }, 'spec')"));
}

static void dangerous_things_are_not_there(void **state) {
  (void)state;
  static const char *const gone[] = {"io",          "dofile",        "loadfile",         "package",
                                     "string.dump", "os.execute",    "os.exit",          "os.remove",
                                     "os.getenv",   "debug.sethook", "debug.getregistry"};
  for (size_t i = 0; i < MG_COUNT(gone); i++) {
    char text[128];
    snprintf(text, sizeof text, "local ok, v = pcall(function() return %s end) return ok and v ~= nil", gone[i]);
    if (strcmp(value_of(text), "false") != 0) fail_msg("a script can reach %s", gone[i]);
  }
  assert_string_equal(value_of("return load('\\27Lua') == nil"), "true");
  assert_string_equal(value_of("return load('return 3', 'x', 'b')()"), "3"); /* text whatever the mode says */
  assert_refused(context, MG_USAGE, "finalizer", run("setmetatable({}, { __gc = print })"));
  assert_refused(context, MG_USAGE, "only \"count\" is allowed", run("collectgarbage 'stop'"));
  assert_refused(context, MG_USAGE, "chunk:1: 'x' is not a local variable", run("x = 3"));
  assert_refused(context, MG_USAGE, "chunk:1: 'y' is not a local variable", run("return y"));
}

static void files_are_given_only_when_allowed(void **state) {
  (void)state;
  mg_engine_settings settings = settings_of();
  mg_engine *open;
  settings.allow_files = true;
  assert_ok(context, mg_engine_create(context, &settings, &open));
  assert_ok(context, mg_engine_run_text(open, "assert(io.open and os.remove and not io.popen and not os.execute)",
                                        "=chunk", NULL));
  mg_engine_destroy(open);
}

static void require_stays_in_its_folders(void **state) {
  (void)state;
  assert_refused(context, MG_USAGE, "a name like 'folder.module'", run("require '../etc/passwd'"));
  assert_refused(context, MG_USAGE, "a name like 'folder.module'", run("require '/etc/passwd'"));
  assert_refused(context, MG_USAGE, "a name like 'folder.module'", run("require '..x'"));
  assert_refused(context, MG_USAGE, "there is no nothing.lua", run("require 'nothing'"));
  assert_string_equal(value_of("return require 'moegauge' == require 'moegauge'"), "true");
  assert_refused(context, MG_USAGE, "did you mean mg.experiment?", run("local _ = require('moegauge').experimnt"));
  assert_refused(context, MG_USAGE, "cannot be set", run("require('moegauge').moe = 3"));
}

static void random_numbers_are_the_same_in_every_engine(void **state) {
  (void)state;
  static const char draw[] = "return { math.random(1000000), math.random(1000000) }";
  char first[64];
  snprintf(first, sizeof first, "%s", value_of(draw));
  close_engine(NULL);
  assert_int_equal(open_engine(NULL), 0);
  assert_string_equal(value_of(draw), first);
}

static void memory_is_limited(void **state) {
  (void)state;
  assert_int_equal(run("local s = ('x'):rep(1 << 30) return #s"), MG_MEMORY);
  assert_int_equal(run("local t = {} for i = 1, 1e9 do t[i] = i end"), MG_MEMORY);
  assert_string_equal(value_of("return 1"), "1"); /* and the engine goes on */
}

static bool after_a_while(void *user) {
  return mg_clock_ns() > *(int64_t *)user;
}

static void a_stopped_script_cannot_hold_on(void **state) {
  (void)state;
  static const char *const loops[] = {"while true do end", "while true do pcall(function() while true do end end) end",
                                      "coroutine.wrap(function() while true do end end)()"};
  for (size_t i = 0; i < MG_COUNT(loops); i++) {
    int64_t end = mg_clock_ns() + 50 * 1000000;
    mg_engine_settings settings = settings_of();
    mg_engine *loop;
    settings.stopped = after_a_while;
    settings.user = &end;
    assert_ok(context, mg_engine_create(context, &settings, &loop));
    assert_int_equal(mg_engine_run_text(loop, loops[i], "=chunk", NULL), MG_INTERRUPTED);
    mg_engine_destroy(loop);
  }
}

/* ---- experiments -------------------------------------------------------------------------------------------------- */

static char path[64];

static void write_experiment(const char *text) {
  snprintf(path, sizeof path, "/tmp/moegauge-engine-%d.lua", (int)getpid());
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
}

/* The hash of the first case of an experiment, loaded into an engine of its own. */
static void hash_of(const char *text, const char *settings, char hash[MG_HASH_TEXT_BYTES]) {
  mg_engine_settings wanted = settings_of();
  mg_engine *fresh;
  json_t *plan, *overrides = json_loads(settings, 0, NULL);
  write_experiment(text);
  assert_ok(context, mg_engine_create(context, &wanted, &fresh));
  assert_ok(context, mg_engine_load(fresh, path, overrides, NULL));
  assert_ok(context, mg_engine_plan(fresh, &plan));
  const json_t *first = json_array_get(json_object_get(plan, "cases"), 0);
  snprintf(hash, MG_HASH_TEXT_BYTES, "%s", json_string_value(json_object_get(first, "hash")));
  json_decref(plan);
  json_decref(overrides);
  mg_engine_destroy(fresh);
  unlink(path);
}

#define EXPERIMENT(before, run, after)                                                                                 \
  "local mg = require 'moegauge'\n" before "return mg.experiment { title = 't', options = { n = 2 }, run = " run       \
  ", " after "}"
#define PLAIN_RUN "function(case) return { metrics = { x = f(case.n) } } end"

static void a_hash_changes_with_what_decides_the_result_and_with_nothing_else(void **state) {
  (void)state;
  static const struct {
    const char *what, *text, *settings;
    bool same;
  } rows[] = {
      {"nothing", EXPERIMENT("local function f(x) return 2 * x end\n", PLAIN_RUN, ""), "{}", true},
      {"a comment", EXPERIMENT("-- words\n\nlocal function f(x) return 2 * x end\n", PLAIN_RUN, ""), "{}", true},
      {"the report", EXPERIMENT("local function f(x) return 2 * x end\n", PLAIN_RUN, "report = function() end"), "{}",
       true},
      {"a helper", EXPERIMENT("local function f(x) return 3 * x end\n", PLAIN_RUN, ""), "{}", false},
      {"an option", EXPERIMENT("local function f(x) return 2 * x end\n", PLAIN_RUN, ""), "{\"n\": \"3\"}", false},
      {"the backend", EXPERIMENT("local function f(x) return 2 * x end\n", PLAIN_RUN, ""),
       "{\"backend\": \"reference\"}", false},
      {"the run function",
       EXPERIMENT("local function f(x) return 2 * x end\n", "function(case) return { metrics = { y = f(case.n) } } end",
                  ""),
       "{}", false}};
  char first[MG_HASH_TEXT_BYTES], other[MG_HASH_TEXT_BYTES];
  hash_of(rows[0].text, "{}", first);
  for (size_t i = 0; i < MG_COUNT(rows); i++) {
    hash_of(rows[i].text, rows[i].settings, other);
    if ((strcmp(first, other) == 0) != rows[i].same)
      fail_msg("%s: the hash is %s", rows[i].what, rows[i].same ? "another" : "the same");
  }
}

/* Appends a comment to a file of the library. */
static void touch(const char *folder, const char *name) {
  char file[4200];
  snprintf(file, sizeof file, "%s/moegauge/%s", folder, name);
  FILE *out = fopen(file, "a");
  assert_non_null(out);
  fputs("-- changed\n", out);
  assert_int_equal(fclose(out), 0);
}

static void a_hash_changes_with_the_library_but_not_with_what_shows_results(void **state) {
  (void)state;
  static const char text[] = EXPERIMENT("local function f(x) return 2 * x end\n", PLAIN_RUN, "");
  static const struct {
    const char *name;
    bool same;
  } rows[] = {{"report.lua", true},
              {"chart.lua", true},
              {"families/olmoe.lua", false},
              {"released.lua", false},
              {"experiment.lua", false}};
  char copy[] = "/tmp/moegauge-library-XXXXXX", command[9000], before[MG_HASH_TEXT_BYTES], after[MG_HASH_TEXT_BYTES];
  char own[sizeof scripts];
  assert_non_null(mkdtemp(copy));
  snprintf(command, sizeof command, "cp -r '%s/moegauge' '%s'", scripts, copy);
  assert_int_equal(system(command), 0);
  snprintf(own, sizeof own, "%s", scripts);
  hash_of(text, "{}", after);
  snprintf(scripts, sizeof scripts, "%s", copy);
  hash_of(text, "{}", before);
  assert_string_equal(before, after); /* wherever it lies */
  for (size_t i = 0; i < MG_COUNT(rows); i++) {
    touch(copy, rows[i].name);
    hash_of(text, "{}", after);
    if ((strcmp(before, after) == 0) != rows[i].same)
      fail_msg("%s: the hash is %s", rows[i].name, rows[i].same ? "another" : "the same");
    snprintf(before, sizeof before, "%s", after);
  }
  snprintf(scripts, sizeof scripts, "%s", own);
  snprintf(command, sizeof command, "rm -r '%s'", copy);
  assert_int_equal(system(command), 0);
}

static void refused(const char *text, const char *words) {
  mg_engine_settings settings = settings_of();
  mg_engine *fresh;
  json_t *plan = NULL;
  write_experiment(text);
  assert_ok(context, mg_engine_create(context, &settings, &fresh));
  mg_status status = mg_engine_load(fresh, path, NULL, NULL);
  if (status == MG_OK) status = mg_engine_plan(fresh, &plan);
  if ((status != MG_USAGE && status != MG_PLUGIN) || !strstr(mg_context_message(context), words) ||
      !strstr(mg_context_message(context), path))
    fail_msg("'%s' with the path is not in: %s", words, mg_context_message(context));
  json_decref(plan);
  mg_engine_destroy(fresh);
  unlink(path);
}

static void wrong_specifications_are_refused_while_planning_with_their_line(void **state) {
  (void)state;
#define MG "local mg = require 'moegauge'\n"
  refused(MG "return mg.experiment { title = 't', runn = 3 }", "unknown key 'runn'; did you mean 'run'?");
  refused(MG "return mg.experiment { title = 3, run = print }", "'title' must be a string");
  refused(MG "return mg.experiment { title = 't' }", "'run' must be a function, not nothing");
  refused("return 3", "must end with `return mg.experiment");
  refused("local x = = 3", ":1:");
  refused(MG "mg.dense { wdth = 3 }", "did you mean 'width'?");
  refused(MG "mg.router.topkk {}", "did you mean 'topk'?");
  refused(MG "mg.router.topk { kk = 2 }", "unknown key 'kk'; did you mean 'k'?");
  refused(MG "mg.moe { experts = 4, width = 8, router = mg.router.topk { k = 9 } }", "k = 9");
  refused(MG "mg.moe { experts = 10, width = 8, router = mg.router.tree { branching = { 4, 4 } } }", "10");
  refused(MG "mg.moe { experts = 4, width = 8, router = mg.router.topk {}, capacity = -1 }", "factor");
  refused(MG "return mg.experiment { title = 't', sweep = { a = {} }, run = print }", "sweep.a: has no values");
  refused(MG "return mg.experiment { title = 't', sweep = { a = { 1, 1 } }, run = print }",
          "values 1 and 2 are the same");
  refused(MG "return mg.experiment { title = 't', sweep = { seed = { 1.5 } }, run = print }",
          "a seed is a whole number");
  refused(MG "return mg.experiment { title = 't', run = function(case)\n"
             "return mg.train { model = mg.model {}, data = mg.corpus 'synthetic', tokns = 3 } end }",
          "did you mean 'tokens'?");
  refused(MG "return mg.experiment { title = 't', run = function(case)\n"
             "local m = mg.model { heads = 3 } return mg.train { model = m, data = mg.corpus 'synthetic' } end }",
          ":3:");
}

/* ---- failing allocations ------------------------------------------------------------------------------------------ */

static void *allocate_some(void *user, void *pointer, size_t old_size, size_t size) {
  int64_t *left = user;
  if (size == 0) {
    free(pointer);
    return NULL;
  }
  if (size <= old_size) return realloc(pointer, size); /* shrinking never fails */
  return (*left)-- > 0 ? realloc(pointer, size) : NULL;
}

static void every_failed_allocation_is_a_refusal_without_a_leak(void **state) {
  (void)state;
  static const char chunk[] = "local mg = require 'moegauge' return mg.sorted_pairs { a = 1 } ~= nil";
  mg_status status = MG_MEMORY;
  int64_t rounds = 0;
  for (int64_t most = 1; status != MG_OK; most += most < 400 ? 1 : 37, rounds++) {
    int64_t left = most;
    const mg_allocator allocator = {allocate_some, &left};
    mg_context *poor;
    mg_engine *made = NULL;
    const mg_engine_settings settings = settings_of();
    if (mg_context_create(&allocator, &poor) != MG_OK) continue;
    status = mg_engine_create(poor, &settings, &made);
    if (status == MG_OK) status = mg_engine_run_text(made, chunk, "=chunk", NULL);
    mg_engine_destroy(made);
    assert_int_equal(mg_context_bytes(poor), 0);
    mg_context_destroy(poor);
    assert_true(rounds < 5000);
  }
  assert_true(rounds > 100);
}

/* ---- the scripts of tests/lua ------------------------------------------------------------------------------------- */

static void the_scripts_in_tests_lua_pass(void **state) {
  (void)state;
  char folder[4096], file[4400];
  struct dirent **names;
  snprintf(folder, sizeof folder, "%s/tests/lua", getenv("MOEGAUGE_SOURCE"));
  const int count = scandir(folder, &names, NULL, alphasort);
  int ran = 0;
  assert_true(count > 0);
  for (int i = 0; i < count; i++) {
    const bool script = strstr(names[i]->d_name, ".lua") != NULL;
    snprintf(file, sizeof file, "%s/%s", folder, names[i]->d_name);
    free(names[i]);
    if (!script) continue;
    mg_engine_settings settings = settings_of();
    mg_engine *fresh;
    settings.allow_files = true;
    assert_ok(context, mg_engine_create(context, &settings, &fresh));
    assert_ok(context, mg_engine_run_file(fresh, file, NULL));
    mg_engine_destroy(fresh);
    ran++;
  }
  free(names);
  assert_true(ran >= 2);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, open_engine, close_engine)
int main(void) {
  const struct CMUnitTest tests[] = {
      WITH(values_become_json),
      WITH(json_comes_back_as_it_went),
      WITH(values_that_cannot_be_stored_are_named_by_their_path),
      WITH(dangerous_things_are_not_there),
      cmocka_unit_test(files_are_given_only_when_allowed),
      WITH(require_stays_in_its_folders),
      WITH(random_numbers_are_the_same_in_every_engine),
      WITH(memory_is_limited),
      cmocka_unit_test(a_stopped_script_cannot_hold_on),
      cmocka_unit_test(a_hash_changes_with_what_decides_the_result_and_with_nothing_else),
      cmocka_unit_test(a_hash_changes_with_the_library_but_not_with_what_shows_results),
      cmocka_unit_test(wrong_specifications_are_refused_while_planning_with_their_line),
      cmocka_unit_test(every_failed_allocation_is_a_refusal_without_a_leak),
      cmocka_unit_test(the_scripts_in_tests_lua_pass)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
