/* Tensors that moegauge wrote come back bit by bit, and damage to their file is found. */
#include "support/scratch.h"
#include "support/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"

static mg_world world;
static mg_scratch scratch;
static const char *const path = scratch.path;

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F32);
  return mg_scratch_open(&scratch, "a.safetensors");
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  return mg_scratch_close(&scratch);
}

/* Writes [2,3] f32 "a" and [700000] i32 "b" (more than one block) to `path`. */
static void write_two(mg_tensor *a, mg_tensor *b) {
  enum { LONG = 700000 };
  static const double numbers[] = {1, -2, 3, -4, 5, -6};
  *a = mg_world_tensor(&world, MG_F32, 2, (int64_t[]){2, 3}, numbers);
  *b = mg_world_tensor(&world, MG_I32, 1, (int64_t[]){LONG}, NULL);
  for (int32_t i = 0; i < LONG; i++) ((int32_t *)b->data)[i] = i * 3;
  const mg_safetensors_item items[] = {{.name = "a", .tensor = a}, {.name = "b", .tensor = b}};
  json_t *metadata = json_pack("{s:s}", "note", "hello");
  assert_ok(world.context, mg_safetensors_write(world.context, world.backend, path, items, 2, metadata));
  json_decref(metadata);
}

static void tensors_come_back_bit_by_bit(void **state) {
  (void)state;
  mg_tensor a, b;
  const char *note;
  write_two(&a, &b);
  mg_checkpoint *file;
  mg_checkpoint_tensor second;
  assert_ok(world.context, mg_checkpoint_open(world.context, path, NULL, &file));
  assert_ok(world.context, mg_checkpoint_verify(file));
  assert_int_equal(mg_checkpoint_count(file), 2);
  mg_checkpoint_at(file, 1, &second);
  assert_string_equal(second.name, "b");
  assert_int_equal(second.storage, MG_STORAGE_I32);
  assert_ok(world.context, mg_checkpoint_text(file, "note", &note));
  assert_string_equal(note, "hello");
  mg_tensor c = mg_world_tensor(&world, MG_F32, 2, (int64_t[]){2, 3}, NULL);
  mg_tensor d = mg_world_tensor(&world, MG_I32, 1, b.shape, NULL);
  assert_ok(world.context, mg_checkpoint_load(file, world.backend, "a", &c));
  assert_ok(world.context, mg_checkpoint_load(file, world.backend, "b", &d));
  assert_memory_equal(a.data, c.data, mg_tensor_bytes(&a));
  assert_memory_equal(b.data, d.data, mg_tensor_bytes(&b));
  assert_refused(world.context, MG_FILE, "tensor a is f32 [2, 3]", mg_checkpoint_load(file, world.backend, "a", &d));
  assert_refused(world.context, MG_FILE, "'z': the file lacks it", mg_checkpoint_load(file, world.backend, "z", &d));
  mg_checkpoint_close(file);
  mg_tensor *all[] = {&a, &b, &c, &d};
  for (size_t i = 0; i < MG_COUNT(all); i++) mg_world_release(&world, all[i]);
}

/* One changed bit anywhere is found by the checksum, a cut by the sizes. */
static void damage_is_found(void **state) {
  (void)state;
  mg_tensor a, b;
  mg_checkpoint *file;
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
    assert_ok(world.context, mg_checkpoint_open(world.context, path, NULL, &file));
    assert_refused(world.context, MG_FILE, "checksum", mg_checkpoint_verify(file));
    mg_checkpoint_close(file);
    data[places[i]] ^= 4;
  }
  assert_ok(world.context, mg_file_write_atomic(world.context, path, data, bytes - 5));
  assert_refused(world.context, MG_FILE, "beyond the end", mg_checkpoint_open(world.context, path, NULL, &file));
  mg_free(world.context, data, bytes + 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(tensors_come_back_bit_by_bit), cmocka_unit_test(damage_is_found)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
