/* Values read from checkpoints are what other readers make of the same bytes; rows, scales and views; files that
 * change under an open checkpoint. */
#include "support/checkpoint_files.h"
#include "support/scratch.h"
#include "support/world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

static mg_checkpoint *open_checkpoint(const char *named) {
  mg_checkpoint *checkpoint;
  assert_ok(world.context, mg_checkpoint_open(world.context, named, NULL, &checkpoint));
  return checkpoint;
}

static mg_checkpoint *open_golden(const char *name) {
  char golden[512];
  const char *source = getenv("MOEGAUGE_SOURCE");
  assert_non_null(source);
  snprintf(golden, sizeof golden, "%s/tests/golden/checkpoints/%s", source, name);
  return open_checkpoint(golden);
}

/* All values as f32, to be freed with free(). */
static float *read_all(const mg_checkpoint *checkpoint, const char *name, mg_checkpoint_tensor *tensor) {
  assert_ok(world.context, mg_checkpoint_get(checkpoint, name, tensor));
  float *values = malloc((size_t)(tensor->rows * tensor->columns) * sizeof *values + 1);
  assert_ok(world.context, mg_checkpoint_read(checkpoint, tensor, 0, tensor->rows, MG_F32, values));
  return values;
}

/* ---- golden values --------------------------------------------------------------------------------------------------- */

/* Every tensor NAME that has a NAME.values is equal to it, without tolerance. (ggml reads the f4 of -0 as 0.) */
static int64_t compare_golden(const mg_checkpoint *checkpoint) {
  int64_t compared = 0;
  for (int64_t i = 0; i < mg_checkpoint_count(checkpoint); i++) {
    mg_checkpoint_tensor stored, expected;
    char name[64];
    mg_checkpoint_at(checkpoint, i, &expected);
    const size_t length = strlen(expected.name);
    if (length < 8 || strcmp(expected.name + length - 7, ".values") != 0) continue;
    snprintf(name, sizeof name, "%.*s", (int)(length - 7), expected.name);
    float *wanted = read_all(checkpoint, expected.name, &expected), *came = read_all(checkpoint, name, &stored);
    assert_int_equal(stored.rows, expected.rows);
    assert_int_equal(stored.columns, expected.columns);
    for (int64_t j = 0; j < stored.rows * stored.columns; j++)
      if (wanted[j] != came[j] && !(isnan(wanted[j]) && isnan(came[j])))
        fail_msg("%s: value %lld is %.9g, not %.9g", name, (long long)j, (double)came[j], (double)wanted[j]);
    free(wanted);
    free(came);
    compared++;
  }
  return compared;
}

static void blocks_are_what_the_gguf_package_decodes(void **state) {
  (void)state;
  mg_checkpoint *checkpoint = open_golden("blocks.gguf");
  assert_int_equal(compare_golden(checkpoint), 6);
  mg_checkpoint_close(checkpoint);
}

static void numbers_are_what_torch_reads(void **state) {
  (void)state;
  mg_checkpoint *checkpoint = open_golden("numbers.safetensors");
  assert_int_equal(compare_golden(checkpoint), 10);
  mg_checkpoint_close(checkpoint);
}

/* Any range of rows holds what the whole tensor holds there, in every dtype. */
static void rows_are_slices_of_the_whole(void **state) {
  (void)state;
  mg_checkpoint *checkpoint = open_golden("numbers.safetensors");
  mg_checkpoint_tensor tensor;
  float *whole = read_all(checkpoint, "experts", &tensor);
  assert_int_equal(tensor.storage, MG_STORAGE_MXFP4);
  assert_int_equal(tensor.rows, 6);
  assert_int_equal(tensor.columns, 64);
  for (int64_t first = 0; first <= 6; first++)
    for (int64_t rows = 0; rows <= 6 - first; rows++) {
      double wide[6 * 64];
      uint16_t narrow[6 * 64];
      assert_ok(world.context, mg_checkpoint_read(checkpoint, &tensor, first, rows, MG_F64, wide));
      assert_ok(world.context, mg_checkpoint_read(checkpoint, &tensor, first, rows, MG_BF16, narrow));
      for (int64_t i = 0; i < rows * 64; i++) {
        assert_near(wide[i], (double)whole[first * 64 + i], 0);
        assert_int_equal(narrow[i], mg_bf16_from_f32(whole[first * 64 + i]));
      }
    }
  float none;
  assert_refused(world.context, MG_USAGE, "has 6 rows", mg_checkpoint_read(checkpoint, &tensor, 0, 7, MG_F32, &none));
  assert_refused(world.context, MG_USAGE, "rows 6 to 7", mg_checkpoint_read(checkpoint, &tensor, 6, 1, MG_F32, &none));
  assert_refused(world.context, MG_USAGE, "rows -1", mg_checkpoint_read(checkpoint, &tensor, -1, 1, MG_F32, &none));
  assert_refused(world.context, MG_FILE, "integers were wanted",
                 mg_checkpoint_read(checkpoint, &tensor, 0, 1, MG_I32, &none));
  free(whole);
  mg_checkpoint_close(checkpoint);
}

/* A file of these tensors, whose data stand in `data` one after the other. */
static void write_file(const char *header, const void *data, size_t bytes) {
  mg_bytes file = {0};
  mg_bytes_text(&file, header);
  mg_bytes_add(&file, data, bytes);
  mg_bytes_write(&file, path);
  mg_bytes_free(&file);
}

/* Rounding to bf16 is that of mg_bf16_from_f32 for ties, infinities, NaNs and what is too small for a leading one. */
static void bf16_is_rounded_as_everywhere(void **state) {
  (void)state;
  static const uint32_t bits[] = {0,          0x80000000, 0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001,
                                  0x3f807fff, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001, 0x7fc00000,
                                  0xffc12345, 0x00000001, 0x00018000, 0x80007fff};
  uint16_t out[MG_COUNT(bits)];
  mg_checkpoint_tensor tensor;
  write_file("{\"w\":{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[0,64]}}", bits, sizeof bits);
  mg_checkpoint *checkpoint = open_checkpoint(path);
  mg_checkpoint_at(checkpoint, 0, &tensor);
  assert_ok(world.context, mg_checkpoint_read(checkpoint, &tensor, 0, 1, MG_BF16, out));
  for (size_t i = 0; i < MG_COUNT(bits); i++) {
    float value;
    memcpy(&value, &bits[i], sizeof value);
    assert_int_equal(out[i], mg_bf16_from_f32(value));
  }
  mg_checkpoint_close(checkpoint);
}

/* ---- scales of 128 x 128 --------------------------------------------------------------------------------------------- */

enum { HEIGHT = 130, WIDTH = 260, EXPERTS = 2, TILES = EXPERTS * 2 * 3 };

/* e4m3 [2, 130, 260] under scales [2, 2, 3]: byte 0x38 is 1, so a value is its tile's scale times its own. */
static void factors_belong_to_tiles(void **state) {
  (void)state;
  static unsigned char data[EXPERTS * HEIGHT * WIDTH + TILES * sizeof(float)];
  static float rows[EXPERTS * HEIGHT * WIDTH];
  const size_t weights = EXPERTS * HEIGHT * WIDTH;
  for (size_t i = 0; i < weights; i++) data[i] = i % 3 == 0 ? 0x38 : 0xc0; /* 1 and -2 */
  for (size_t i = 0; i < TILES; i++) {
    const float scale = (float)(i + 1) * 0.25F;
    memcpy(data + weights + i * sizeof scale, &scale, sizeof scale);
  }
  write_file("{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,130,260],\"data_offsets\":[0,67600]},"
             "\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[2,2,3],\"data_offsets\":[67600,67648]}}",
             data, sizeof data);
  mg_checkpoint *checkpoint = open_checkpoint(path);
  mg_checkpoint_tensor tensor;
  assert_ok(world.context, mg_checkpoint_get(checkpoint, "w", &tensor));
  assert_int_equal(tensor.scaling, MG_SCALING_BLOCKS_128);
  const struct {
    int64_t first, count;
  } ranges[] = {{0, 260}, {0, 1}, {127, 2}, {129, 2}, {130, 130}, {259, 1}, {131, 128}};
  for (size_t range = 0; range < MG_COUNT(ranges); range++) {
    const int64_t first = ranges[range].first, count = ranges[range].count;
    assert_ok(world.context, mg_checkpoint_read(checkpoint, &tensor, first, count, MG_F32, rows));
    for (int64_t i = 0; i < count * WIDTH; i++) {
      const int64_t at = first * WIDTH + i, row = at / WIDTH, column = at % WIDTH;
      const int64_t tile = (row / HEIGHT * 2 + row % HEIGHT / 128) * 3 + column / 128;
      assert_near((double)rows[i], (at % 3 == 0 ? 1 : -2) * (double)(tile + 1) * 0.25, 0);
    }
  }
  mg_checkpoint_at(checkpoint, tensor.index, &tensor); /* as stored, without scales */
  assert_ok(world.context, mg_checkpoint_read(checkpoint, &tensor, 0, 1, MG_F32, rows));
  assert_near((double)rows[1], -2, 0);
  mg_checkpoint_close(checkpoint);
}

static void scales_that_do_not_fit_are_refused(void **state) {
  (void)state;
  static const char zeros[64];
  static const struct {
    const char *header;
    size_t bytes;
    const char *name, *words;
  } cases[] = {
      {"{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[4,4],\"data_offsets\":[0,16]},"
       "\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[16,24]}}",
       24, "w", "'w_scale_inv': scales that are not one"},
      {"{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[4,4],\"data_offsets\":[0,16]},"
       "\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]}}",
       20, "w", "scales that are not one"},
      {"{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]},"
       "\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
       8, "w", "scales that are not one"},
      {"{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[4,4],\"data_offsets\":[0,16]},"
       "\"w_scale_inv\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[16,20]}}",
       20, "w", "scales that are not one"},
      {"{\"e_blocks\":{\"dtype\":\"U8\",\"shape\":[1,2,16],\"data_offsets\":[0,32]},"
       "\"e_scales\":{\"dtype\":\"U8\",\"shape\":[1,3],\"data_offsets\":[32,35]}}",
       35, "e", "'e_scales': scales u8"},
      {"{\"e_blocks\":{\"dtype\":\"U8\",\"shape\":[1,2,8],\"data_offsets\":[0,16]},"
       "\"e_scales\":{\"dtype\":\"U8\",\"shape\":[1,2],\"data_offsets\":[16,18]}}",
       18, "e", "scales u8"},
      {"{\"e_blocks\":{\"dtype\":\"U8\",\"shape\":[1,1,16],\"data_offsets\":[0,16]},"
       "\"e_scales\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[16,20]}}",
       20, "e", "scales u8"},
      {"{\"e_blocks\":{\"dtype\":\"U8\",\"shape\":[1,1,16],\"data_offsets\":[0,16]}}", 16, "e", "the file lacks it"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg_checkpoint_tensor tensor;
    write_file(cases[i].header, zeros, cases[i].bytes);
    mg_checkpoint *checkpoint = open_checkpoint(path);
    assert_refused(world.context, MG_FILE, cases[i].words, mg_checkpoint_get(checkpoint, cases[i].name, &tensor));
    mg_checkpoint_close(checkpoint);
  }
}

/* ---- integers, undecodable types, backends ---------------------------------------------------------------------------- */

static void integers_must_fit(void **state) {
  (void)state;
  const int64_t numbers[] = {INT32_MIN, INT32_MAX, -1, (int64_t)INT32_MAX + 1, (int64_t)INT32_MIN - 1};
  int32_t out[3];
  mg_checkpoint_tensor tensor;
  write_file("{\"n\":{\"dtype\":\"I64\",\"shape\":[5,1],\"data_offsets\":[0,40]}}", numbers, sizeof numbers);
  mg_checkpoint *checkpoint = open_checkpoint(path);
  mg_checkpoint_at(checkpoint, 0, &tensor);
  assert_ok(world.context, mg_checkpoint_read(checkpoint, &tensor, 0, 3, MG_I32, out));
  for (int i = 0; i < 3; i++) assert_int_equal(out[i], numbers[i]);
  for (int64_t i = 3; i < 5; i++)
    assert_refused(world.context, MG_FILE, "does not fit 32 bits",
                   mg_checkpoint_read(checkpoint, &tensor, i, 1, MG_I32, out));
  mg_checkpoint_close(checkpoint);
}

static void undecodable_types_say_so(void **state) {
  (void)state;
  static const char zeros[8];
  float out[2];
  mg_checkpoint_tensor tensor;
  write_file("{\"c\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", zeros, sizeof zeros);
  mg_checkpoint *checkpoint = open_checkpoint(path);
  mg_checkpoint_at(checkpoint, 0, &tensor);
  assert_refused(world.context, MG_FILE, "its type is c64", mg_checkpoint_read(checkpoint, &tensor, 0, 1, MG_F32, out));
  mg_checkpoint_close(checkpoint);
}

/* NaN and infinities in every kind of form, across the steps of reading; integers and unread types have none to find. */
static void values_that_are_no_numbers_are_counted(void **state) {
  (void)state;
  enum { LONG = 40000 };
  static const struct {
    const char *dtype;
    int64_t wrong;
  } cases[] = {{"F32", 2},     {"F64", 2},     {"BF16", 2}, {"F16", 2},
               {"F8_E4M3", 2}, {"F8_E5M2", 2}, {"I32", 0},  {"C64", -1}};
  static const uint64_t infinite[] = {0x7f800000, UINT64_C(0x7ff0000000000000), 0x7f80, 0x7c00, 0x7f, 0x7c, 0x7f800000};
  static const size_t width[] = {4, 8, 2, 2, 1, 1, 4, 8};
  static unsigned char data[LONG * 8];
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    char header[128];
    mg_checkpoint_tensor tensor;
    int64_t found = -2;
    memset(data, 0, sizeof data);
    if (i < MG_COUNT(infinite)) {
      memcpy(&data[3 * width[i]], &infinite[i], width[i]);
      memcpy(&data[(LONG - 1) * width[i]], &infinite[i], width[i]);
    }
    snprintf(header, sizeof header, "{\"w\":{\"dtype\":\"%s\",\"shape\":[%d],\"data_offsets\":[0,%zu]}}",
             cases[i].dtype, LONG, LONG * width[i]);
    write_file(header, data, LONG * width[i]);
    mg_checkpoint *checkpoint = open_checkpoint(path);
    mg_checkpoint_at(checkpoint, 0, &tensor);
    assert_ok(world.context, mg_checkpoint_count_not_finite(checkpoint, &tensor, &found));
    assert_int_equal(found, cases[i].wrong);
    assert_int_equal(truncate(path, 100), 0);
    if (cases[i].wrong > 0)
      assert_refused(world.context, MG_FILE, "tensor 'w': its data cannot be read",
                     mg_checkpoint_count_not_finite(checkpoint, &tensor, &found));
    mg_checkpoint_close(checkpoint);
  }
}

/* Into a backend, by way of the host's memory and by uploads of several pieces. */
static void backends_get_rows(void **state) {
  (void)state;
  enum { ROWS = 3000, COLUMNS = 100 };
  static uint16_t numbers[ROWS * COLUMNS];
  for (size_t i = 0; i < MG_COUNT(numbers); i++) numbers[i] = mg_bf16_from_f32((float)(i % 251) - 100);
  write_file("{\"w\":{\"dtype\":\"BF16\",\"shape\":[3000,100],\"data_offsets\":[0,600000]}}", numbers, sizeof numbers);
  mg_checkpoint *checkpoint = open_checkpoint(path);
  mg_checkpoint_tensor tensor;
  assert_ok(world.context, mg_checkpoint_get(checkpoint, "w", &tensor));
  mg_tensor all = mg_world_tensor(&world, MG_F32, 2, (int64_t[]){ROWS, COLUMNS}, NULL);
  mg_tensor some = mg_world_tensor(&world, MG_BF16, 2, (int64_t[]){2, COLUMNS}, NULL);
  mg_tensor odd = mg_world_tensor(&world, MG_F32, 2, (int64_t[]){1, COLUMNS + 1}, NULL);
  mg_backend_plugin device = *world.backend->plugin;
  const mg_backend_plugin *const host = world.backend->plugin;
  for (int i = 0; i < 2; i++) {
    device.host_memory = i == 0;
    world.backend->plugin = &device;
    assert_ok(world.context, mg_checkpoint_load(checkpoint, world.backend, "w", &all));
    assert_ok(world.context, mg_checkpoint_load_rows(checkpoint, world.backend, &tensor, ROWS - 2, &some));
    world.backend->plugin = host;
    assert_near(mg_world_element(&world, &all, ROWS * COLUMNS - 1), (ROWS * COLUMNS - 1) % 251 - 100, 0);
    assert_near(mg_world_element(&world, &some, 0), (ROWS - 2) * COLUMNS % 251 - 100, 0);
    memset(all.data, 0, mg_tensor_bytes(&all));
  }
  assert_refused(world.context, MG_FILE, "has rows of 100",
                 mg_checkpoint_load_rows(checkpoint, world.backend, &tensor, 0, &odd));
  assert_refused(world.context, MG_FILE, "is bf16 [3000, 100], but f32 [1, 101] was expected",
                 mg_checkpoint_load(checkpoint, world.backend, "w", &odd));
  mg_tensor *made[] = {&all, &some, &odd};
  for (size_t i = 0; i < MG_COUNT(made); i++) mg_world_release(&world, made[i]);
  mg_checkpoint_close(checkpoint);
}

/* ---- files that change under us ------------------------------------------------------------------------------------------ */

enum { PAGE = 4096, PAGES = 64 };

/* One tensor of 64 pages of ones. */
static mg_checkpoint *open_pages(mg_checkpoint_tensor *tensor) {
  static unsigned char ones[PAGE * PAGES];
  memset(ones, 1, sizeof ones);
  write_file("{\"w\":{\"dtype\":\"U8\",\"shape\":[64,4096],\"data_offsets\":[0,262144]}}", ones, sizeof ones);
  mg_checkpoint *checkpoint = open_checkpoint(path);
  mg_checkpoint_at(checkpoint, 0, tensor);
  return checkpoint;
}

static void changed_files_are_noticed(void **state) {
  (void)state;
  static int32_t row[PAGE];
  mg_checkpoint_tensor tensor;
  const void *view;
  mg_checkpoint *checkpoint = open_pages(&tensor);
  assert_ok(world.context, mg_checkpoint_view(checkpoint, &tensor, &view));
  assert_int_equal(((const unsigned char *)view)[PAGE * PAGES - 1], 1);
  assert_ok(world.context, mg_checkpoint_unchanged(checkpoint));
  assert_int_equal(truncate(path, PAGE * 2), 0);
  assert_refused(world.context, MG_FILE, "it was cut", mg_checkpoint_unchanged(checkpoint));
  assert_refused(world.context, MG_FILE, "it was cut", mg_checkpoint_read(checkpoint, &tensor, 60, 1, MG_I32, row));
  assert_refused(world.context, MG_FILE, "'w': it was cut", mg_checkpoint_view(checkpoint, &tensor, &view));
  mg_checkpoint_close(checkpoint);
  checkpoint = open_pages(&tensor);
  usleep(20000); /* beyond the grain of the file's time */
  const int descriptor = open(path, O_WRONLY);
  assert_int_equal(pwrite(descriptor, "x", 1, PAGE), 1);
  close(descriptor);
  assert_refused(world.context, MG_FILE, "it was written to", mg_checkpoint_unchanged(checkpoint));
  mg_checkpoint_close(checkpoint);
  checkpoint = open_pages(&tensor); /* another file in its place leaves ours as it is */
  unlink(path);
  assert_ok(world.context, mg_checkpoint_unchanged(checkpoint));
  assert_ok(world.context, mg_checkpoint_read(checkpoint, &tensor, 63, 1, MG_I32, row));
  assert_int_equal(row[0], 1);
  mg_checkpoint_close(checkpoint);
}

/* Runs in a child, because the handler is for the whole process. */
static int touch_lost_pages(bool guarded) {
  mg_checkpoint_tensor tensor;
  const void *view;
  int64_t sum = 0;
  mg_checkpoint *checkpoint = open_pages(&tensor);
  if (guarded && mg_checkpoint_guard(world.context) != MG_OK) return 2;
  if (mg_checkpoint_view(checkpoint, &tensor, &view) != MG_OK) return 3;
  if (truncate(path, PAGE * 8) != 0) return 4;
  const unsigned char *bytes = view;
  for (int i = 0; i < PAGE * PAGES; i++) sum += *(const volatile unsigned char *)&bytes[i];
  if (sum <= 0 || sum >= PAGE * PAGES) return 5; /* what was left, and zeros */
  if (mg_checkpoint_unchanged(checkpoint) != MG_FILE) return 6;
  return strstr(mg_context_message(world.context), "pages of it were lost") ? 0 : 7;
}

static int status_of_child(bool guarded) {
  int status;
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    signal(SIGBUS, SIG_DFL); /* cmocka and the sanitizers have handlers of their own */
    _exit(touch_lost_pages(guarded));
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

static void lost_pages_become_an_error(void **state) {
  (void)state;
  int status = status_of_child(true);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  status = status_of_child(false); /* without the guard it is the signal that any program gets */
  assert_true(WIFSIGNALED(status));
  assert_int_equal(WTERMSIG(status), SIGBUS);
}

static volatile sig_atomic_t earlier_handler_ran;

static void earlier_handler(int number) {
  (void)number;
  earlier_handler_ran = 1;
}

/* A SIGBUS of somebody else's goes to the handler that was there before. */
static void other_signals_go_on(void **state) {
  (void)state;
  int status;
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGBUS, earlier_handler);
    if (mg_checkpoint_guard(world.context) != MG_OK) _exit(2);
    raise(SIGBUS);
    _exit(earlier_handler_ran ? 0 : 1);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- a million tensors ------------------------------------------------------------------------------------------------------ */

static void a_million_tensors_open_in_seconds(void **state) {
  (void)state;
  const char *sanitizers = getenv("MOEGAUGE_SANITIZE");
  const int count = sanitizers && *sanitizers ? 100000 : 1000000;
  mg_bytes bytes = {0};
  mg_bytes_zeros(&bytes, 8);
  for (int i = 0; i < count; i++) {
    char row[160];
    const int order = i ^ 1; /* pairs stand in the wrong order */
    const int length = snprintf(
        row, sizeof row, "%c\"layers.%d.experts.%d.up\":{\"dtype\":\"BF16\",\"shape\":[1,1],\"data_offsets\":[%d,%d]}",
        i ? ',' : '{', order / 1000, order % 1000, 2 * order, 2 * order + 2);
    mg_bytes_add(&bytes, row, (size_t)length);
  }
  mg_bytes_add(&bytes, "}", 1);
  mg_bytes_set(&bytes, 0, 8, bytes.bytes - 8);
  mg_bytes_zeros(&bytes, 2 * (size_t)count);
  mg_bytes_write(&bytes, path);
  mg_context *context;
  mg_checkpoint *checkpoint;
  assert_int_equal(mg_context_create(NULL, &context), MG_OK);
  const clock_t before = clock(); /* of this process: others may hold the processor meanwhile */
  assert_ok(context, mg_checkpoint_open(context, path, NULL, &checkpoint));
  const double took_s = (double)(clock() - before) / CLOCKS_PER_SEC;
  if (took_s > 3) fail_msg("opening took %.2f s", took_s);
  assert_true(mg_context_peak_bytes(context) < 2 * bytes.bytes);
  assert_int_equal(mg_checkpoint_count(checkpoint), count);
  assert_true(mg_checkpoint_find(checkpoint, "layers.99.experts.999.up") >= 0);
  mg_checkpoint_close(checkpoint);
  assert_int_equal(mg_context_bytes(context), 0);
  mg_context_destroy(context);
  mg_bytes_free(&bytes);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(blocks_are_what_the_gguf_package_decodes),
                                     cmocka_unit_test(numbers_are_what_torch_reads),
                                     cmocka_unit_test(rows_are_slices_of_the_whole),
                                     cmocka_unit_test(bf16_is_rounded_as_everywhere),
                                     cmocka_unit_test(factors_belong_to_tiles),
                                     cmocka_unit_test(scales_that_do_not_fit_are_refused),
                                     cmocka_unit_test(integers_must_fit),
                                     cmocka_unit_test(undecodable_types_say_so),
                                     cmocka_unit_test(values_that_are_no_numbers_are_counted),
                                     cmocka_unit_test(backends_get_rows),
                                     cmocka_unit_test(changed_files_are_noticed),
                                     cmocka_unit_test(lost_pages_become_an_error),
                                     cmocka_unit_test(other_signals_go_on),
                                     cmocka_unit_test(a_million_tensors_open_in_seconds)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
