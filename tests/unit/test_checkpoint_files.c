/* Checkpoints of many files: which files a folder means, an index and its shards that agree, the parts of a split GGUF
 * model, and every way in which they do not fit. */
#include "support/checkpoint_files.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/moegauge-files-XXXXXX";

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : 1;
}

static int empty_folder(void **state) {
  (void)state;
  char command[256];
  snprintf(command, sizeof command, "rm -rf %s/*", folder);
  return system(command); // NOLINT(bugprone-command-processor): a folder of this test
}

static int remove_folder(void **state) {
  return empty_folder(state) + rmdir(folder);
}

/* The path of `name` in the folder, in one of a few buffers. */
static const char *in_folder(const char *name) {
  static char paths[4][PATH_MAX];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static void write_text(const char *name, const char *text) {
  const mg_bytes bytes = {.data = (unsigned char *)(uintptr_t)text, .bytes = strlen(text)};
  mg_bytes_write(&bytes, in_folder(name));
}

/* A safetensors file with one u8 tensor of `size` elements. */
static void write_shard(const char *name, const char *tensor, int size) {
  char header[256];
  snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", tensor, size,
           size);
  mg_bytes bytes = mg_bytes_safetensors(header, (size_t)size);
  mg_bytes_write(&bytes, in_folder(name));
  mg_bytes_free(&bytes);
}

#define INDEX "model.safetensors.index.json"
#define MAP(rows) "{\"metadata\":{\"total_size\":10,\"note\":[1,{\"a\":null}]},\"weight_map\":{" rows "}}"
#define GOOD_ROWS "\"a\":\"1.safetensors\",\"b\":\"2.safetensors\""

static void write_good(void) {
  write_text(INDEX, MAP(GOOD_ROWS));
  write_shard("1.safetensors", "a", 4);
  write_shard("2.safetensors", "b", 6);
}

enum { ALL_BYTES = 1024 }; /* more than index and shards have */

static void refuse_folder(const char *what, const char *words) {
  mg_must_refuse(what, folder, ALL_BYTES, words);
}

/* ---- what a folder means ------------------------------------------------------------------------------------------------ */

static void write_part(const char *name, int number, int count, int all, const char *tensor);

static void folders_are_searched_in_order(void **state) {
  (void)state;
  mg_context *context;
  mg_checkpoint *checkpoint;
  mg_checkpoint_tensor tensor;
  assert_int_equal(mg_context_create(NULL, &context), MG_OK);
  write_part("model.gguf", 0, 1, 1, "g");
  write_part("other-00002-of-00002.gguf", 1, 2, 2, "h"); /* no beginning of a model */
  write_shard("model.safetensors", "s", 4);
  write_good();
  static const struct {
    const char *first, *file;
  } steps[] = {{"a", INDEX}, {"s", "model.safetensors"}, {"g", "model.gguf"}};
  for (size_t i = 0; i < MG_COUNT(steps); i++) {
    assert_ok(context, mg_checkpoint_open(context, folder, NULL, &checkpoint));
    mg_checkpoint_at(checkpoint, 0, &tensor);
    assert_string_equal(tensor.name, steps[i].first);
    mg_checkpoint_close(checkpoint);
    unlink(in_folder(steps[i].file));
  }
  refuse_folder("nothing left", "holds neither");
  write_part("x.gguf", 0, 1, 1, "g");
  write_part("y.gguf", 0, 1, 1, "g");
  refuse_folder("two models", "holds several GGUF models");
  mg_context_destroy(context);
}

/* ---- shards ---------------------------------------------------------------------------------------------------------------- */

static void shards_are_one_checkpoint(void **state) {
  (void)state;
  mg_context *context;
  mg_checkpoint *checkpoint;
  mg_checkpoint_tensor tensor;
  int32_t values[6];
  write_good();
  assert_int_equal(mg_context_create(NULL, &context), MG_OK);
  assert_ok(context, mg_checkpoint_open(context, in_folder(INDEX), NULL, &checkpoint));
  assert_int_equal(mg_checkpoint_count(checkpoint), 2);
  assert_int_equal(mg_checkpoint_find(checkpoint, "c"), -1);
  assert_ok(context, mg_checkpoint_get(checkpoint, "b", &tensor));
  assert_int_equal(tensor.columns, 6);
  assert_ok(context, mg_checkpoint_read(checkpoint, &tensor, 0, 1, MG_I32, values));
  assert_ok(context, mg_checkpoint_unchanged(checkpoint));
  mg_checkpoint_close(checkpoint);
  mg_context_destroy(context);
}

static void bad_indexes_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *index, *words;
  } cases[] = {
      {"", "malformed JSON"},
      {"[]", "malformed JSON"},
      {"{}", "no weight_map"},
      {"{\"weight_map\":{}}", "weight_map is empty"},
      {"{\"weight_map\":[]}", "malformed JSON"},
      {"{\"weight_map\":{\"a\":1}}", "does not map names to files"},
      {"{\"weight_map\":{\"a\":null}}", "does not map names to files"},
      {"{\"weight_map\":{\"a\":[\"1.safetensors\"]}}", "does not map names to files"},
      {"{\"weight_map\":{" GOOD_ROWS "}}x", "something follows"},
      {"{\"weight_map\":{" GOOD_ROWS "},\"weight_map\":{}}", "weight_map occurs twice"},
      {"{\"metadata\":{\"total_size\":10,\"total_size\":10},\"weight_map\":{" GOOD_ROWS "}}",
       "total_size occurs twice"},
      {"{\"metadata\":{\"total_size\":-1},\"weight_map\":{" GOOD_ROWS "}}", "whole number"},
      {"{\"metadata\":{\"total_size\":10.0},\"weight_map\":{" GOOD_ROWS "}}", "whole number"},
      {"{\"metadata\":{\"total_size\":\"10\"},\"weight_map\":{" GOOD_ROWS "}}", "whole number"},
      {"{\"metadata\":{\"total_size\":18446744073709551616},\"weight_map\":{" GOOD_ROWS "}}", "beyond 64 bits"},
      {"{\"metadata\":{\"total_size\":9},\"weight_map\":{" GOOD_ROWS "}}",
       "'total_size': 9 bytes are listed, but the tensors take 10"},
      {"{\"metadata\":{\"total_size\":11},\"weight_map\":{" GOOD_ROWS "}}", "'total_size'"},
      {"{\"metadata\":[],\"weight_map\":{" GOOD_ROWS "}}", "malformed JSON"},
      {"{\"x\":[[[[}", "malformed JSON"},
      {"{\"x\":01,\"weight_map\":{" GOOD_ROWS "}}", "malformed JSON"},
      {"{\"x\":1.,\"weight_map\":{" GOOD_ROWS "}}", "malformed JSON number"},
      {"{\"x\":.5,\"weight_map\":{" GOOD_ROWS "}}", "malformed JSON"},
      {"{\"x\":1e,\"weight_map\":{" GOOD_ROWS "}}", "malformed JSON number"},
      {"{\"x\":-,\"weight_map\":{" GOOD_ROWS "}}", "malformed JSON number"},
      {"{\"x\":tru,\"weight_map\":{" GOOD_ROWS "}}", "malformed JSON"},
      {"{\"x\":\"\xff\",\"weight_map\":{" GOOD_ROWS "}}", "not UTF-8"},
      {MAP("\"a\":\"1.safetensors\",\"a\":\"1.safetensors\",\"b\":\"2.safetensors\""),
       "'a': weight_map lists it twice"},
      {MAP("\"a\":\"1.safetensors\""), "'total_size': 10 bytes are listed, but the tensors take 4"},
      {MAP("\"a\":\"1.safetensors\",\"b\":\"1.safetensors\""), "'b': the index lists it here, but it is not"},
      {MAP("\"a\":\"2.safetensors\",\"b\":\"1.safetensors\""), "the index lists it here, but it is in"},
      {MAP(GOOD_ROWS ",\"c\":\"2.safetensors\""), "'c': the index lists it here, but it is not"},
      {MAP(GOOD_ROWS ",\"c\":\"3.safetensors\""), "file '3.safetensors': it cannot be opened"},
      {MAP(GOOD_ROWS ",\"c\":\"../x.safetensors\""), "no plain name"},
      {MAP(GOOD_ROWS ",\"c\":\"../../etc/passwd\""), "no plain name"},
      {MAP(GOOD_ROWS ",\"c\":\"/etc/passwd\""), "no plain name"},
      {MAP(GOOD_ROWS ",\"c\":\"sub/x.safetensors\""), "no plain name"},
      {MAP(GOOD_ROWS ",\"c\":\"..\""), "no plain name"},
      {MAP(GOOD_ROWS ",\"c\":\".hidden\""), "no plain name"},
      {MAP(GOOD_ROWS ",\"c\":\"\""), "no plain name"},
      {MAP(GOOD_ROWS ",\"c\":\"\\u002e./x\""), "no plain name"},
  };
  write_good();
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    write_text(INDEX, cases[i].index);
    refuse_folder(cases[i].index, cases[i].words);
  }
}

static void bad_shards_are_refused(void **state) {
  (void)state;
  write_good();
  write_shard("2.safetensors", "other", 6);
  refuse_folder("another model's shard", "'b': the index lists it here, but it is not");
  write_shard("2.safetensors", "a", 6);
  refuse_folder("one tensor in two shards", "'a': it is also in");
  mg_bytes more = mg_bytes_safetensors("{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                                       "\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}",
                                       6);
  mg_bytes_write(&more, in_folder("2.safetensors"));
  mg_bytes_free(&more);
  refuse_folder("a tensor that the index does not list", "'x': the index does not list it");
  write_shard("2.safetensors", "b", 7);
  refuse_folder("a shard of another size", "'total_size'");
  unlink(in_folder("2.safetensors"));
  refuse_folder("a missing shard", "'2.safetensors': it cannot be opened");
  assert_int_equal(mkdir(in_folder("2.safetensors"), 0755), 0);
  refuse_folder("a folder as a shard", "no regular file");
  assert_int_equal(rmdir(in_folder("2.safetensors")), 0);
  assert_int_equal(mkfifo(in_folder("2.safetensors"), 0644), 0);
  refuse_folder("a FIFO as a shard", "no regular file");
  unlink(in_folder("2.safetensors"));
  write_text("2.safetensors", "no tensors");
  refuse_folder("a shard of words", "2.safetensors: byte 0");
  write_shard("2.safetensors", "b", 6);
  mg_must_open("all mended", folder, ALL_BYTES);
  write_text(INDEX, "{\"weight_map\":{\"x\":\"" INDEX "\"}}");
  refuse_folder("an index of itself", "at most 100000000");
}

static void links_stay_within_the_folder(void **state) {
  (void)state;
  char outside[] = "/tmp/moegauge-outside-XXXXXX", target[PATH_MAX];
  assert_non_null(mkdtemp(outside));
  write_good();
  assert_int_equal(rename(in_folder("2.safetensors"), in_folder("real")), 0);
  assert_int_equal(symlink("real", in_folder("2.safetensors")), 0);
  mg_must_open("a link within the folder", folder, ALL_BYTES);
  snprintf(target, sizeof target, "%s/real", outside);
  assert_int_equal(rename(in_folder("real"), target), 0);
  unlink(in_folder("2.safetensors"));
  assert_int_equal(symlink(target, in_folder("2.safetensors")), 0);
  refuse_folder("a link out of the folder", "leads out of the folder");
  unlink(target);
  rmdir(outside);
}

/* models--x/snapshots/REVISION/FILE -> ../../blobs/HASH */
static void the_hub_cache_is_understood(void **state) {
  (void)state;
  static const char *const folders[] = {"m", "m/blobs", "m/snapshots", "m/snapshots/r", "m/elsewhere"};
  for (size_t i = 0; i < MG_COUNT(folders); i++) assert_int_equal(mkdir(in_folder(folders[i]), 0755), 0);
  write_shard("m/blobs/1111", "a", 4);
  write_shard("m/blobs/2222", "b", 6);
  write_text("m/snapshots/r/" INDEX, MAP(GOOD_ROWS));
  assert_int_equal(symlink("../../blobs/1111", in_folder("m/snapshots/r/1.safetensors")), 0);
  assert_int_equal(symlink("../../blobs/2222", in_folder("m/snapshots/r/2.safetensors")), 0);
  mg_must_open("a folder of the cache", in_folder("m/snapshots/r"), ALL_BYTES);
  write_shard("m/elsewhere/2222", "b", 6);
  unlink(in_folder("m/snapshots/r/2.safetensors"));
  assert_int_equal(symlink("../../elsewhere/2222", in_folder("m/snapshots/r/2.safetensors")), 0);
  mg_must_refuse("a link past the blobs", in_folder("m/snapshots/r"), ALL_BYTES, "leads out of the folder");
}

static void indexes_are_cut_and_flipped(void **state) {
  (void)state;
  static const char index[] = MAP(GOOD_ROWS);
  char changed[sizeof index];
  write_good();
  for (size_t length = 0; length < sizeof index - 1; length++) {
    memcpy(changed, index, length);
    changed[length] = '\0';
    write_text(INDEX, changed);
    refuse_folder("a prefix of an index", INDEX);
  }
  for (size_t bit = 0; bit < 8 * (sizeof index - 1); bit++) {
    memcpy(changed, index, sizeof index);
    changed[bit / 8] = (char)(changed[bit / 8] ^ 1 << bit % 8);
    write_text(INDEX, changed);
    mg_open_within_rules("a flipped bit of an index", folder, ALL_BYTES);
  }
}

/* ---- split GGUF ---------------------------------------------------------------------------------------------------------------- */

/* Part `number` (from 0) of `count` with one tensor of 4 bytes; `all` tensors together. */
static void write_part(const char *name, int number, int count, int all, const char *tensor) {
  static const uint64_t shape[] = {4};
  mg_bytes bytes = mg_bytes_gguf(3, 1, 4);
  mg_gguf_string(&bytes, "general.architecture", "llama");
  mg_gguf_integer(&bytes, "split.no", MG_VALUE_U16, (uint64_t)number);
  mg_gguf_integer(&bytes, "split.count", MG_VALUE_U16, (uint64_t)count);
  mg_gguf_integer(&bytes, "split.tensors.count", MG_VALUE_I32, (uint64_t)all);
  mg_gguf_tensor(&bytes, tensor, 1, shape, 24, 0);
  mg_gguf_pad(&bytes, 32);
  mg_bytes_zeros(&bytes, 4);
  mg_bytes_write(&bytes, in_folder(name));
  mg_bytes_free(&bytes);
}

#define PART_1 "m-00001-of-00003.gguf"
#define PART_2 "m-00002-of-00003.gguf"
#define PART_3 "m-00003-of-00003.gguf"

static void write_parts(void) {
  write_part(PART_1, 0, 3, 3, "a");
  write_part(PART_2, 1, 3, 3, "b");
  write_part(PART_3, 2, 3, 3, "c");
}

static void parts_are_one_checkpoint(void **state) {
  (void)state;
  mg_context *context;
  mg_checkpoint *checkpoint;
  write_parts();
  assert_int_equal(mg_context_create(NULL, &context), MG_OK);
  assert_ok(context, mg_checkpoint_open(context, folder, NULL, &checkpoint));
  assert_int_equal(mg_checkpoint_count(checkpoint), 3);
  assert_int_equal(mg_checkpoint_find(checkpoint, "c"), 2);
  assert_int_equal(mg_checkpoint_keys(checkpoint), 4);
  mg_checkpoint_close(checkpoint);
  mg_context_destroy(context);
}

static void refuse_parts(const char *what, const char *words) {
  mg_must_refuse(what, in_folder(PART_1), ALL_BYTES, words);
  write_parts();
}

static void parts_that_do_not_fit_are_refused(void **state) {
  (void)state;
  write_parts();
  mg_must_refuse("the second part alone", in_folder(PART_2), ALL_BYTES, "not the first part");
  unlink(in_folder(PART_2));
  refuse_parts("a missing part", PART_2 ": cannot be opened");
  write_part(PART_2, 2, 3, 3, "b");
  refuse_parts("a part of another number", "it says part 2 of 3");
  write_part(PART_2, 1, 4, 3, "b");
  refuse_parts("a part of another split", "it says part 1 of 4");
  write_part(PART_2, 1, 3, 9, "b");
  refuse_parts("a part of another model", "with 9 tensors");
  write_part(PART_2, 1, 3, 3, "a");
  refuse_parts("a tensor in two parts", "'a': it is also in");
  write_part(PART_1, 0, 3, 4, "a");
  write_part(PART_2, 1, 3, 4, "b");
  write_part(PART_3, 2, 3, 4, "c");
  refuse_parts("another number of tensors", "4 tensors are declared, but the parts hold 3");
  write_part(PART_1, 0, 2, 3, "a");
  refuse_parts("a name that says another number of parts", "must be called NAME-00001-of-00002.gguf");
  write_part(PART_1, 0, 65535, 3, "a");
  refuse_parts("65,535 parts", "more parts than the limit");
  write_part("whole.gguf", 0, 3, 3, "a");
  mg_must_refuse("a part without a number in its name", in_folder("whole.gguf"), ALL_BYTES, "must be called");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(folders_are_searched_in_order, empty_folder),
                                     cmocka_unit_test_teardown(shards_are_one_checkpoint, empty_folder),
                                     cmocka_unit_test_teardown(bad_indexes_are_refused, empty_folder),
                                     cmocka_unit_test_teardown(bad_shards_are_refused, empty_folder),
                                     cmocka_unit_test_teardown(links_stay_within_the_folder, empty_folder),
                                     cmocka_unit_test_teardown(the_hub_cache_is_understood, empty_folder),
                                     cmocka_unit_test_teardown(indexes_are_cut_and_flipped, empty_folder),
                                     cmocka_unit_test_teardown(parts_are_one_checkpoint, empty_folder),
                                     cmocka_unit_test_teardown(parts_that_do_not_fit_are_refused, empty_folder)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
