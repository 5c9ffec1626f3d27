/* Contexts account for memory and keep messages, arenas reuse their chunks, random numbers are Philox's, and files are
 * replaced whole. */
#include "support/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "moegauge/rng.h"

static mg_context *context;
static char folder[] = "/tmp/moegauge-base-XXXXXX";

static int open_world(void **state) {
  (void)state;
  return mg_context_create(NULL, &context) == MG_OK && mkdtemp(folder) ? 0 : 1;
}

static int close_world(void **state) {
  (void)state;
  mg_context_destroy(context);
  return rmdir(folder);
}

static void memory_is_accounted_to_the_byte(void **state) {
  (void)state;
  const size_t before = mg_context_bytes(context);
  char *a = mg_alloc(context, 1000);
  for (size_t i = 0; i < 1000; i++) assert_int_equal(a[i], 0);
  a = mg_resize(context, a, 1000, 5000);
  assert_int_equal(mg_context_bytes(context), before + 5000);
  assert_true(mg_context_peak_bytes(context) >= before + 5000);
  mg_free(context, a, 5000);
  assert_int_equal(mg_context_bytes(context), before);
}

static void *refuse(void *user, void *pointer, size_t old_size, size_t size) {
  int *allowed = user;
  if (size == 0) {
    free(pointer);
    return NULL;
  }
  (void)old_size;
  return (*allowed)-- > 0 ? realloc(pointer, size) : NULL;
}

static void a_failed_allocation_leaves_a_message(void **state) {
  (void)state;
  int allowed = 1;
  const mg_allocator allocator = {refuse, &allowed};
  mg_context *poor;
  assert_int_equal(mg_context_create(&allocator, &poor), MG_OK);
  assert_null(mg_alloc(poor, 64));
  assert_non_null(strstr(mg_context_message(poor), "64 bytes"));
  mg_context_destroy(poor);
  allowed = 0;
  assert_int_equal(mg_context_create(&allocator, &poor), MG_MEMORY);
  assert_null(poor);
}

static void a_message_may_quote_the_one_before(void **state) {
  (void)state;
  mg_fail(context, MG_USAGE, "k is %d", 9);
  assert_int_equal(mg_fail_where(context, MG_USAGE, "layer %d", 2), MG_USAGE);
  assert_string_equal(mg_context_message(context), "layer 2: k is 9");
}

/* A terminal takes ESC and its like as orders; names in files may hold them. */
static void a_message_cannot_steer_a_terminal(void **state) {
  (void)state;
  mg_fail(context, MG_FILE, "%s", "key 'a\x1b[31m\a\x7f': caf\u00e9\n\tis unknown");
  assert_string_equal(mg_context_message(context), "key 'a?[31m?\?': caf\u00e9\n\tis unknown");
}

static void a_reset_arena_allocates_nothing_new(void **state) {
  (void)state;
  mg_arena *arena;
  assert_ok(context, mg_arena_create(context, 256, &arena));
  for (int i = 0; i < 20; i++) assert_non_null(mg_arena_alloc(arena, 100));
  char *large = mg_arena_alloc(arena, 10000);
  memset(large, 7, 10000);
  const size_t bytes = mg_context_bytes(context);
  for (int round = 0; round < 3; round++) {
    mg_arena_reset(arena);
    for (int i = 0; i < 20; i++) {
      const char *p = mg_arena_alloc(arena, 100);
      assert_int_equal((uintptr_t)p % 16, 0);
      for (int j = 0; j < 100; j++) assert_int_equal(p[j], 0);
    }
    assert_non_null(mg_arena_alloc(arena, 10000));
    assert_int_equal(mg_context_bytes(context), bytes);
  }
  mg_arena_destroy(arena);
}

/* Known answers of Philox4x32-10: Random123's kat_vectors for zeros, and the words of counter and key all different, from
 * the formula in Python, which gives all three of kat_vectors. */
static void random_bits_are_philox(void **state) {
  (void)state;
  static const uint32_t zeros[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  static const uint32_t mixed[4] = {0x2fe11a02, 0x572a2f27, 0x2f88763b, 0x78d5e325};
  const mg_stream stream = {0x299f31d0a4093822, 0x0370734413198a2e};
  for (uint64_t i = 0; i < 4; i++) assert_int_equal(mg_random_bits((mg_stream){0, 0}, i), zeros[i]);
  for (uint64_t i = 0; i < 4; i++) assert_int_equal(mg_random_bits(stream, 4 * 0x05a308d3243f6a88 + i), mixed[i]);
}

/* Bits near 2^32 and near 0, whose nearest f32 could be an end: -ln(-ln u) must stay finite. */
static void uniform_draws_lie_inside_as_f32_too(void **state) {
  (void)state;
  const mg_stream stream = {12, 34};
  const uint64_t high = 2167226, low = 132319908;
  assert_int_equal(mg_random_bits(stream, high), 0xffffff96);
  assert_int_equal(mg_random_bits(stream, low), 0x0000000e);
  assert_true((float)mg_random_uniform(stream, high) < 1.0f);
  assert_true((float)mg_random_uniform(stream, low) > 0.0f);
}

static void random_draws_have_their_moments(void **state) {
  (void)state;
  const mg_stream stream = mg_stream_named(1, "test", 2, 3);
  enum { N = 200000 };
  double sum = 0, squares = 0, uniform = 0;
  for (uint64_t i = 0; i < N; i++) {
    const double x = mg_random_normal(stream, i);
    sum += x;
    squares += x * x;
    const double u = mg_random_uniform(stream, i);
    assert_true(u > 0.0 && u < 1.0);
    uniform += u;
    assert_true(mg_random_below(stream, i, 7) < 7);
  }
  assert_near(sum / N, 0.0, 4.0 / sqrt(N));
  assert_near(squares / N, 1.0, 4.0 * sqrt(2.0 / N));
  assert_near(uniform / N, 0.5, 4.0 * sqrt(1.0 / 12 / N));
}

static void streams_of_other_names_differ(void **state) {
  (void)state;
  const mg_stream a = mg_stream_named(1, "noise", 0, 1), b = mg_stream_named(1, "noise", 1, 0);
  assert_true(a.stream != b.stream);
  assert_int_equal(a.stream, mg_stream_named(2, "noise", 0, 1).stream);
  assert_true(mg_random_bits(a, 0) != mg_random_bits(b, 0));
}

static void a_file_is_replaced_whole(void **state) {
  (void)state;
  char path[128], text[MG_HASH_TEXT_BYTES], again[MG_HASH_TEXT_BYTES], *data;
  size_t bytes;
  snprintf(path, sizeof path, "%s/file", folder);
  assert_ok(context, mg_file_write_atomic(context, path, "one", 3));
  assert_ok(context, mg_file_write_atomic(context, path, "second", 6));
  assert_ok(context, mg_file_read(context, path, 100, &data, &bytes));
  assert_int_equal(bytes, 6);
  assert_string_equal(data, "second");
  assert_ok(context, mg_hash_file(context, path, text));
  mg_hash_bytes(data, bytes, again);
  assert_string_equal(text, again);
  mg_free(context, data, bytes + 1);
  assert_refused(context, MG_FILE, "at most 5 are read", mg_file_read(context, path, 5, &data, &bytes));
  unlink(path);
}

static void what_cannot_be_read_or_written_is_said(void **state) {
  (void)state;
  char path[128], *data;
  size_t bytes;
  assert_refused(context, MG_FILE, "cannot be opened", mg_file_read(context, "/nowhere/file", 10, &data, &bytes));
  assert_refused(context, MG_FILE, "not a regular file", mg_file_read(context, folder, 10, &data, &bytes));
  assert_refused(context, MG_WRITE, "cannot be created", mg_file_write_atomic(context, "/nowhere/file", "x", 1));
  snprintf(path, sizeof path, "%s/fifo", folder);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_refused(context, MG_FILE, "not a regular file", mg_file_read(context, path, 10, &data, &bytes));
  unlink(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(memory_is_accounted_to_the_byte),        cmocka_unit_test(a_failed_allocation_leaves_a_message),
      cmocka_unit_test(a_message_may_quote_the_one_before),     cmocka_unit_test(a_message_cannot_steer_a_terminal),
      cmocka_unit_test(a_reset_arena_allocates_nothing_new),    cmocka_unit_test(random_bits_are_philox),
      cmocka_unit_test(uniform_draws_lie_inside_as_f32_too),    cmocka_unit_test(random_draws_have_their_moments),
      cmocka_unit_test(streams_of_other_names_differ),          cmocka_unit_test(a_file_is_replaced_whole),
      cmocka_unit_test(what_cannot_be_read_or_written_is_said),
  };
  return cmocka_run_group_tests(tests, open_world, close_world);
}
