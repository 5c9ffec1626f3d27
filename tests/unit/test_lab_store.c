/* What is put into the store comes out again; files that are not ours, damaged, of another layout or that cannot be
 * written are refused with the reason; a full disk loses no stored case. */
#include "support/testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/store.h"

static mg_context *context;
static char folder[] = "/tmp/moegauge-store-XXXXXX", path[64];

static int open_world(void **state) {
  (void)state;
  if (mg_context_create(NULL, &context) != MG_OK || !mkdtemp(folder)) return 1;
  snprintf(path, sizeof path, "%s/results.sqlite", folder);
  return 0;
}

static int close_world(void **state) {
  (void)state;
  mg_context_destroy(context);
  return rmdir(folder);
}

static int remove_file(void **state) {
  (void)state;
  char journal[80];
  snprintf(journal, sizeof journal, "%s-journal", path);
  unlink(journal);
  return unlink(path);
}

static json_t *row_of(int number, const char *hash, const char *status) {
  return json_pack("{s:s, s:i, s:s, s:{s:i, s:[i, i]}, s:s, s:s, s:i, s:f, s:{s:s}, s:{s:{s:f, s:n}, s:{s:[[i, f], [i, "
                   "n]], s:[i, f]}, s:{s:[[i, i]]}}}",
                   "hash", hash, "number", number, "label", "k=1", "params", "k", 1, "list", 1, 2, "status", status,
                   "reason", "", "started", 7, "seconds", 1.5, "provenance", "commit", "abc", "result", "metrics",
                   "loss", 0.1, "gap", "series", "loss", 10, 3.25, 20, "plain", 1, 2.5, "tables", "load", 4, 5);
}

static void put(mg_store *store, int number, const char *hash, const char *status) {
  json_t *row = row_of(number, hash, status);
  assert_non_null(row);
  assert_ok(context, mg_store_put(store, row));
  json_decref(row);
}

static void a_row_comes_back_as_it_was_put(void **state) {
  (void)state;
  mg_store *store;
  json_t *all;
  assert_ok(context, mg_store_open(context, path, false, &store));
  assert_ok(context, mg_store_set(store, "title", "Älter"));
  put(store, 2, "aa", "ok");
  mg_store_close(store);
  assert_ok(context, mg_store_open(context, path, true, &store));
  assert_ok(context, mg_store_get(store, &all));
  mg_store_close(store);
  assert_string_equal(json_string_value(json_object_get(json_object_get(all, "experiment"), "title")), "Älter");
  const json_t *row = json_array_get(json_object_get(all, "cases"), 0);
  json_t *result = json_object_get(row, "result"), *metrics = json_object_get(result, "metrics");
  json_t *series = json_object_get(result, "series");
  json_t *expected = json_pack("{s:[[i, f], [i, n]], s:[i, f]}", "loss", 10, 3.25, 20, "plain", 1, 2.5);
  assert_true(json_real_value(json_object_get(metrics, "loss")) == 0.1); /* to the last bit */
  assert_true(json_is_null(json_object_get(metrics, "gap")));
  assert_true(json_equal(series, expected));
  assert_int_equal(json_integer_value(json_object_get(row, "number")), 2);
  assert_string_equal(json_string_value(json_object_get(row, "status")), "ok");
  json_decref(expected);
  json_decref(all);
}

static void a_later_outcome_replaces_an_earlier_one_whole(void **state) {
  (void)state;
  mg_store *store;
  json_t *all, *short_row = json_pack("{s:s, s:i, s:s, s:{}, s:s, s:s, s:i, s:f}", "hash", "aa", "number", 1, "label",
                                      "x", "params", "status", "failed", "reason", "why", "started", 1, "seconds", 0.5);
  char status[16];
  assert_ok(context, mg_store_open(context, path, false, &store));
  put(store, 1, "aa", "ok");
  assert_ok(context, mg_store_put(store, short_row));
  assert_ok(context, mg_store_status(store, "aa", status));
  assert_string_equal(status, "failed");
  assert_ok(context, mg_store_status(store, "bb", status));
  assert_string_equal(status, "");
  assert_ok(context, mg_store_get(store, &all));
  const json_t *row = json_array_get(json_object_get(all, "cases"), 0);
  assert_int_equal(json_object_size(json_object_get(json_object_get(row, "result"), "metrics")), 0);
  assert_string_equal(json_string_value(json_object_get(row, "reason")), "why");
  json_decref(short_row);
  json_decref(all);
  mg_store_close(store);
}

static void a_plan_chooses_and_orders_what_is_read(void **state) {
  (void)state;
  mg_store *store;
  json_t *all, *plan = json_pack("[{s:i, s:s, s:s, s:{}}, {s:i, s:s, s:s, s:{}}]", "number", 1, "hash", "new", "label",
                                 "first", "params", "number", 2, "hash", "aa", "label", "second", "params");
  assert_ok(context, mg_store_open(context, path, false, &store));
  put(store, 1, "aa", "ok");
  put(store, 2, "old", "ok");
  assert_ok(context, mg_store_set_plan(store, plan));
  assert_ok(context, mg_store_get(store, &all));
  const json_t *cases = json_object_get(all, "cases");
  assert_int_equal(json_array_size(cases), 2);
  const json_t *missing = json_array_get(cases, 0), *kept = json_array_get(cases, 1);
  assert_string_equal(json_string_value(json_object_get(missing, "status")), "skipped");
  assert_non_null(strstr(json_string_value(json_object_get(missing, "reason")), "not run yet"));
  assert_string_equal(json_string_value(json_object_get(kept, "label")), "second");
  assert_string_equal(json_string_value(json_object_get(kept, "status")), "ok");
  json_decref(plan);
  json_decref(all);
  mg_store_close(store);
}

static void a_metric_that_is_no_number_is_refused_and_nothing_of_the_row_stays(void **state) {
  (void)state;
  mg_store *store;
  char status[16];
  json_t *row = row_of(1, "aa", "ok");
  json_object_set_new(json_object_get(json_object_get(row, "result"), "metrics"), "bad", json_string("3"));
  assert_ok(context, mg_store_open(context, path, false, &store));
  assert_refused(context, MG_USAGE, "metric 'bad' must be a number", mg_store_put(store, row));
  assert_ok(context, mg_store_status(store, "aa", status));
  assert_string_equal(status, "");
  json_decref(row);
  mg_store_close(store);
}

static void write_bytes(const char *bytes, size_t count) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  assert_int_equal(fclose(file), 0);
}

static void a_file_of_another_kind_is_refused(void **state) {
  (void)state;
  mg_store *store;
  char junk[4096];
  memset(junk, 'x', sizeof junk);
  write_bytes(junk, sizeof junk);
  assert_refused(context, MG_FILE, "is not a moegauge results file", mg_store_open(context, path, false, &store));
  assert_null(store);
}

static void sql(const char *words) {
  char command[256];
  snprintf(command, sizeof command, "sqlite3 %s \"%s\"", path, words);
  assert_int_equal(system(command), 0);
}

static void another_programs_database_is_refused(void **state) {
  (void)state;
  mg_store *store;
  sql("CREATE TABLE cats(name)");
  assert_refused(context, MG_FILE, "not one of moegauge's", mg_store_open(context, path, false, &store));
}

static void a_newer_layout_is_refused_with_both_numbers(void **state) {
  (void)state;
  mg_store *store;
  assert_ok(context, mg_store_open(context, path, false, &store));
  mg_store_close(store);
  sql("PRAGMA user_version = 9");
  assert_refused(context, MG_FILE, "layout 9, this moegauge reads 1; use the newer moegauge",
                 mg_store_open(context, path, true, &store));
}

static void a_damaged_file_is_refused(void **state) {
  (void)state;
  mg_store *store;
  json_t *all = NULL;
  assert_ok(context, mg_store_open(context, path, false, &store));
  for (int i = 0; i < 40; i++) {
    char hash[8];
    snprintf(hash, sizeof hash, "h%d", i);
    put(store, i, hash, "ok");
  }
  mg_store_close(store);
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  for (long page = 1; page < 20; page++) {
    fseek(file, page * 4096, SEEK_SET);
    for (int i = 0; i < 1024; i++) fputc(0xee, file);
  }
  fclose(file);
  mg_status status = mg_store_open(context, path, true, &store);
  if (status == MG_OK) status = mg_store_get(store, &all);
  mg_store_close(store);
  assert_int_equal(status, MG_FILE);
  assert_non_null(strstr(mg_context_message(context), "damaged"));
}

static void a_missing_file_is_refused_for_reading_and_not_made(void **state) {
  (void)state;
  mg_store *store;
  assert_refused(context, MG_FILE, "there are no results to read", mg_store_open(context, path, true, &store));
  assert_int_equal(access(path, F_OK), -1);
}

/* In a process of its own: a limit on file size stands for a full disk. */
static void fill_the_disk(void) {
  mg_store *store;
  char hash[16] = "first";
  struct rlimit limit = {96 << 10, 96 << 10};
  signal(SIGXFSZ, SIG_IGN);
  if (mg_store_open(context, path, false, &store) != MG_OK) _exit(10);
  mg_status status = MG_OK;
  setrlimit(RLIMIT_FSIZE, &limit);
  for (int i = 0; i < 10000 && status == MG_OK; i++) {
    json_t *row = row_of(i, hash, "ok");
    status = mg_store_put(store, row);
    json_decref(row);
    if (status == MG_OK) snprintf(hash, sizeof hash, "h%d", i);
  }
  const bool told = strstr(mg_context_message(context), path) && strstr(mg_context_message(context), "free some space");
  _exit(status == MG_WRITE && told ? 0 : 11);
}

static void a_full_disk_is_told_and_loses_no_stored_case(void **state) {
  (void)state;
  mg_store *store;
  json_t *all;
  int status;
  const pid_t child = fork();
  if (child == 0) fill_the_disk();
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_ok(context, mg_store_open(context, path, false, &store));
  assert_ok(context, mg_store_get(store, &all));
  const size_t kept = json_array_size(json_object_get(all, "cases"));
  assert_true(kept > 5);
  size_t index;
  json_t *row;
  json_array_foreach(json_object_get(all, "cases"), index, row) {
    const json_t *metrics = json_object_get(json_object_get(row, "result"), "metrics");
    assert_int_equal(json_object_size(metrics), 2); /* whole rows only */
  }
  json_decref(all);
  mg_store_close(store);
}

enum { OPENERS = 6, ROUNDS = 25 };

/* A process of its own that opens the file, writes and puts a row, as soon as the other end of the pipe is closed. */
static pid_t start_opener(const int gate[2], int number) {
  const pid_t child = fork();
  if (child != 0) return child;
  char byte, hash[8];
  mg_store *store;
  close(gate[1]);
  if (read(gate[0], &byte, 1) != 0) _exit(2);
  if (mg_store_open(context, path, false, &store) != MG_OK) _exit(3);
  snprintf(hash, sizeof hash, "h%d", number);
  json_t *row = row_of(number, hash, "ok");
  if (mg_store_put(store, row) != MG_OK) _exit(4);
  json_decref(row);
  mg_store_close(store);
  _exit(0);
}

static void runs_that_begin_at_once_share_a_new_file(void **state) {
  for (int round = 0; round < ROUNDS; round++) {
    if (round > 0) assert_int_equal(remove_file(state), 0);
    int gate[2], status;
    pid_t children[OPENERS];
    assert_int_equal(pipe(gate), 0);
    for (int i = 0; i < OPENERS; i++) assert_true((children[i] = start_opener(gate, i)) > 0);
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < OPENERS; i++) {
      assert_int_equal(waitpid(children[i], &status, 0), children[i]);
      assert_int_equal(status, 0);
    }
  }
}

#define EACH(test) cmocka_unit_test_teardown(test, remove_file)
int main(void) {
  const struct CMUnitTest tests[] = {EACH(a_row_comes_back_as_it_was_put),
                                     EACH(a_later_outcome_replaces_an_earlier_one_whole),
                                     EACH(a_plan_chooses_and_orders_what_is_read),
                                     EACH(a_metric_that_is_no_number_is_refused_and_nothing_of_the_row_stays),
                                     EACH(a_file_of_another_kind_is_refused),
                                     EACH(another_programs_database_is_refused),
                                     EACH(a_newer_layout_is_refused_with_both_numbers),
                                     EACH(a_damaged_file_is_refused),
                                     cmocka_unit_test(a_missing_file_is_refused_for_reading_and_not_made),
                                     EACH(runs_that_begin_at_once_share_a_new_file),
                                     EACH(a_full_disk_is_told_and_loses_no_stored_case)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
