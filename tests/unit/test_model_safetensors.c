/* Tensors come back from a file bit by bit, and a damaged or hostile file is refused without being believed. */
#include "support/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "model/safetensors.h"

static mg_world world;
static char folder[] = "/tmp/moegauge-tensors-XXXXXX";
static char path[128];

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F32);
  if (!mkdtemp(folder)) return 1;
  snprintf(path, sizeof path, "%s/a.safetensors", folder);
  return 0;
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  unlink(path);
  return rmdir(folder);
}

/* Writes [2,3] f32 "a" and [700000] i32 "b" (more than one block) to `path`. */
static void write_two(mg_tensor *a, mg_tensor *b) {
  enum { LONG = 700000 };
  static const double numbers[] = {1, -2, 3, -4, 5, -6};
  *a = mg_world_tensor(&world, MG_F32, 2, (int64_t[]){2, 3}, numbers);
  *b = mg_world_tensor(&world, MG_I32, 1, (int64_t[]){LONG}, NULL);
  for (int32_t i = 0; i < LONG; i++) ((int32_t *)b->data)[i] = i * 3;
  const mg_safetensors_item items[] = {{"a", a}, {"b", b}};
  json_t *metadata = json_pack("{s:s}", "note", "hello");
  assert_ok(world.context, mg_safetensors_write(world.context, world.backend, path, items, 2, metadata));
  json_decref(metadata);
}

static void tensors_come_back_bit_by_bit(void **state) {
  (void)state;
  mg_tensor a, b, shape;
  write_two(&a, &b);
  mg_safetensors *file;
  assert_ok(world.context, mg_safetensors_open(world.context, path, true, &file));
  assert_int_equal(mg_safetensors_count(file), 2);
  assert_string_equal(mg_safetensors_at(file, 1, &shape), "b");
  assert_int_equal(shape.dtype, MG_I32);
  assert_string_equal(mg_safetensors_metadata(file, "note"), "hello");
  mg_tensor c = mg_world_tensor(&world, MG_F32, 2, (int64_t[]){2, 3}, NULL);
  mg_tensor d = mg_world_tensor(&world, MG_I32, 1, b.shape, NULL);
  assert_ok(world.context, mg_safetensors_load(file, world.backend, "a", &c));
  assert_ok(world.context, mg_safetensors_load(file, world.backend, "b", &d));
  assert_memory_equal(a.data, c.data, mg_tensor_bytes(&a));
  assert_memory_equal(b.data, d.data, mg_tensor_bytes(&b));
  assert_refused(world.context, MG_FILE, "tensor a is f32 [2, 3]", mg_safetensors_load(file, world.backend, "a", &d));
  assert_refused(world.context, MG_FILE, "lacks a tensor", mg_safetensors_load(file, world.backend, "z", &d));
  mg_safetensors_close(file);
  mg_tensor *all[] = {&a, &b, &c, &d};
  for (size_t i = 0; i < MG_COUNT(all); i++) mg_world_release(&world, all[i]);
}

/* One changed bit anywhere is found by the checksum, a cut by the sizes. */
static void damage_is_found(void **state) {
  (void)state;
  mg_tensor a, b;
  mg_safetensors *file;
  char *data;
  size_t bytes;
  write_two(&a, &b);
  mg_world_release(&world, &a);
  mg_world_release(&world, &b);
  assert_ok(world.context, mg_file_read(world.context, path, 1 << 24, &data, &bytes));
  const size_t places[] = {bytes - 1, bytes / 2, bytes - mg_dtype_bytes(MG_I32) * 700000 - 1};
  for (size_t i = 0; i < MG_COUNT(places); i++) {
    data[places[i]] ^= 4;
    assert_ok(world.context, mg_file_write_atomic(world.context, path, data, bytes));
    assert_refused(world.context, MG_FILE, "checksum", mg_safetensors_open(world.context, path, true, &file));
    data[places[i]] ^= 4;
  }
  assert_ok(world.context, mg_file_write_atomic(world.context, path, data, bytes - 5));
  assert_refused(world.context, MG_FILE, "beyond the end", mg_safetensors_open(world.context, path, true, &file));
  mg_free(world.context, data, bytes + 1);
}

/* Writes a file of this header and `data_bytes` zeros. */
static void write_header(const char *header, size_t data_bytes) {
  char bytes[1024] = {0};
  const size_t length = strlen(header);
  bytes[0] = (char)(length & 255);
  bytes[1] = (char)(length >> 8);
  memcpy(bytes + 8, header, length);
  assert_ok(world.context, mg_file_write_atomic(world.context, path, bytes, 8 + length + data_bytes));
}

static void hostile_headers_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *header;
    size_t data_bytes;
    const char *words;
  } cases[] = {
      {"[]", 0, "no JSON object"},
      {"{\"a\":", 0, "no JSON object"},
      {"{\"a\": 1}", 0, "a dtype"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 4, "beyond the end"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [3], \"data_offsets\": [0, 8]}}", 8, "another number of bytes"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [-2], \"data_offsets\": [0, 8]}}", 8, "a shape"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387905, 4], \"data_offsets\": [0, 16]}}", 16, "a shape"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 0]}}", 8, "data_offsets"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [-8, 0]}}", 8, "data_offsets"},
      {"{\"a\": {\"dtype\": \"F9\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8, "a dtype"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}", 8, "a hole"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}", 8, "belong to no tensor"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]},"
       " \"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}",
       8, "no JSON object"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]},"
       " \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}",
       8, "an overlap"},
      {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8, "no checksum"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg_safetensors *file;
    write_header(cases[i].header, cases[i].data_bytes);
    assert_refused(world.context, MG_FILE, cases[i].words, mg_safetensors_open(world.context, path, true, &file));
    assert_null(file);
  }
  mg_safetensors *file;
  assert_ok(world.context, mg_file_write_atomic(world.context, path, "\377\377\377\377\377\377\377\177", 8));
  assert_refused(world.context, MG_FILE, "longer than the file", mg_safetensors_open(world.context, path, true, &file));
  assert_ok(world.context, mg_file_write_atomic(world.context, path, "1234", 4));
  assert_refused(world.context, MG_FILE, "8 bytes", mg_safetensors_open(world.context, path, true, &file));
  assert_refused(world.context, MG_FILE, "cannot be opened",
                 mg_safetensors_open(world.context, "/nonexistent/file", true, &file));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(tensors_come_back_bit_by_bit), cmocka_unit_test(damage_is_found),
                                     cmocka_unit_test(hostile_headers_are_refused)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
