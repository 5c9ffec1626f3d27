/* A good GGUF file damaged in every place: each number of its header at its extremes, every prefix, every flipped bit, and
 * ten thousand random changes. Each opens or is refused by the rules of every opening. */
#include "support/checkpoint_files.h"
#include "support/scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { Q4_0 = 2, F32 = 0 }; /* as GGUF numbers them */

static mg_scratch scratch;
static const char *const path = scratch.path;

static int make_folder(void **state) {
  (void)state;
  return mg_scratch_open(&scratch, "a.gguf");
}

static int remove_folder(void **state) {
  (void)state;
  return mg_scratch_close(&scratch);
}

typedef struct field {
  const char *name;
  size_t at;
  unsigned width;
} field;

enum { FIELDS_MAX = 32 };

/* A small good file; notes where its numbers stand. */
static mg_bytes good_file(field fields[FIELDS_MAX], size_t *count) {
  static const uint64_t matrix[] = {32, 2}, vector[] = {8};
  mg_bytes b = mg_bytes_gguf(3, 2, 5);
  size_t n = 0;
#define NOTE(name_, back, width_) fields[n++] = (field){name_, b.bytes - (back), width_}
  NOTE("version", 20, 4);
  NOTE("tensors", 16, 8);
  NOTE("keys", 8, 8);
  NOTE("length of a key", (size_t)0, 8);
  mg_gguf_string(&b, "general.architecture", "llama");
  NOTE("length of a text", 13, 8);
  NOTE("type of a text", 17, 4);
  mg_gguf_integer(&b, "general.alignment", MG_VALUE_U32, 32);
  NOTE("alignment", 4, 4);
  NOTE("type of the alignment", 8, 4);
  mg_gguf_list(&b, "scores", MG_VALUE_F32, 3);
  NOTE("count of a list", 8, 8);
  NOTE("element of a list", 12, 4);
  NOTE("type of a list", 16, 4);
  mg_bytes_zeros(&b, 12);
  mg_gguf_list(&b, "tokens", MG_VALUE_TEXT, 2);
  NOTE("count of texts", 8, 8);
  mg_bytes_text(&b, "a");
  NOTE("length of a listed text", 9, 8);
  mg_bytes_text(&b, "bc");
  mg_gguf_integer(&b, "flag", MG_VALUE_BOOL, 1);
  NOTE("bool", 1, 1);
  mg_gguf_tensor(&b, "q", 2, matrix, Q4_0, 0);
  NOTE("offset of the first", 8, 8);
  NOTE("type of the first", 12, 4);
  NOTE("rows of the first", 20, 8);
  NOTE("columns of the first", 28, 8);
  NOTE("dimensions of the first", 32, 4);
  NOTE("length of the first's name", 41, 8);
  mg_gguf_tensor(&b, "f", 1, vector, F32, 64);
  NOTE("offset of the second", 8, 8);
  NOTE("type of the second", 12, 4);
  NOTE("size of the second", 20, 8);
#undef NOTE
  *count = n;
  mg_gguf_pad(&b, 32);
  mg_bytes_zeros(&b, 64 + 32);
  return b;
}

static void numbers_at_their_extremes_do_no_harm(void **state) {
  (void)state;
  static const uint64_t extremes[] = {0,
                                      1,
                                      INT32_MAX,
                                      (uint64_t)INT32_MAX + 1,
                                      (uint64_t)INT32_MAX + 2,
                                      UINT32_MAX - 1,
                                      UINT32_MAX,
                                      (uint64_t)UINT32_MAX + 1,
                                      (uint64_t)UINT32_MAX + 2,
                                      INT64_MAX,
                                      (uint64_t)INT64_MAX + 1,
                                      (uint64_t)INT64_MAX + 2,
                                      UINT64_MAX - 1,
                                      UINT64_MAX};
  field fields[FIELDS_MAX];
  size_t count;
  int64_t found = 0, tried = 0;
  mg_bytes bytes = good_file(fields, &count);
  mg_bytes_write(&bytes, path);
  mg_must_open("the good file", path, bytes.bytes);
  for (size_t i = 0; i < count; i++)
    for (size_t j = 0; j < MG_COUNT(extremes); j++) {
      unsigned char kept[8];
      char what[128];
      snprintf(what, sizeof what, "%s = %llu", fields[i].name, (unsigned long long)extremes[j]);
      memcpy(kept, bytes.data + fields[i].at, sizeof kept);
      mg_bytes_set(&bytes, fields[i].at, fields[i].width, extremes[j]);
      mg_bytes_write(&bytes, path);
      if (mg_open_within_rules(what, path, bytes.bytes) != MG_OK) found++;
      tried++;
      memcpy(bytes.data + fields[i].at, kept, sizeof kept);
    }
  assert_true(found > tried * 3 / 4);
  mg_bytes_free(&bytes);
}

static void every_prefix_is_refused(void **state) {
  (void)state;
  field fields[FIELDS_MAX];
  size_t count;
  mg_bytes bytes = good_file(fields, &count);
  mg_must_refuse_prefixes(path, &bytes);
  mg_bytes_free(&bytes);
}

static void no_flipped_bit_does_harm(void **state) {
  (void)state;
  field fields[FIELDS_MAX];
  size_t count;
  mg_bytes bytes = good_file(fields, &count);
  mg_open_with_flipped_bits(path, &bytes, 8 * (bytes.bytes - 96));
  mg_bytes_free(&bytes);
}

/* Ten thousand files with a few random bytes changed, the same ones in every run. */
static void random_changes_do_no_harm(void **state) {
  (void)state;
  field fields[FIELDS_MAX];
  size_t count;
  mg_bytes bytes = good_file(fields, &count);
  const mg_stream stream = mg_stream_named(7, "bad gguf", 0, 0);
  uint64_t draw = 0;
  mg_bytes_write(&bytes, path);
  const int descriptor = open(path, O_RDWR);
  for (int i = 0; i < 10000; i++) {
    char what[64];
    snprintf(what, sizeof what, "random change %d", i);
    const uint64_t changes = 1 + mg_random_below(stream, draw++, 8);
    assert_int_equal(pwrite(descriptor, bytes.data, bytes.bytes, 0), bytes.bytes);
    for (uint64_t j = 0; j < changes; j++) {
      static const unsigned char favourites[] = {0, 1, 0x7f, 0x80, 0xff, 9, 8, 32};
      const off_t at = (off_t)(4 + mg_random_below(stream, draw++, bytes.bytes - 100));
      const unsigned char value = favourites[mg_random_below(stream, draw++, MG_COUNT(favourites))];
      assert_int_equal(pwrite(descriptor, &value, 1, at), 1);
    }
    mg_open_within_rules(what, path, bytes.bytes);
  }
  close(descriptor);
  mg_bytes_free(&bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_at_their_extremes_do_no_harm), cmocka_unit_test(every_prefix_is_refused),
      cmocka_unit_test(no_flipped_bit_does_harm), cmocka_unit_test(random_changes_do_no_harm)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
