/* Bad GGUF files, every one made here: header, keys, tensors and data broken in each way that a reader has been caught
 * with, and published faults of other readers rebuilt. */
#include "support/checkpoint_files.h"
#include "support/scratch.h"

#include <stdio.h>
#include <unistd.h>

enum { F32 = 0, Q4_0 = 2, Q4_K = 12, I8 = 24, MXFP4 = 39 }; /* as GGUF numbers them */

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

/* ---- header and keys ---------------------------------------------------------------------------------------------- */

static void bad_starts_are_refused(void **state) {
  (void)state;
  mg_bytes bytes = mg_bytes_gguf(3, 0, 0);
  bytes.data[3] = 'f';
  mg_must_refuse_bytes("another magic", path, bytes, "does not begin with GGUF");
  static const struct {
    uint32_t version;
    const char *words;
  } versions[] = {{0, "version other than"},  {1, "version other than"},         {4, "version other than"},
                  {99, "version other than"}, {0x03000000, "a big-endian GGUF"}, {0x02000000, "a big-endian GGUF"},
                  {UINT32_MAX, "version"}};
  for (size_t i = 0; i < MG_COUNT(versions); i++)
    mg_must_refuse_bytes("a version", path, mg_bytes_gguf(versions[i].version, 0, 0), versions[i].words);
  static const uint64_t counts[] = {1,
                                    65536,
                                    65537,
                                    1 << 20,
                                    (1 << 20) + 1,
                                    INT32_MAX,
                                    UINT32_MAX,
                                    INT64_MAX,
                                    UINT64_MAX - 1,
                                    UINT64_MAX,
                                    UINT64_MAX / 13 + 1,
                                    UINT64_MAX / 24 + 1,
                                    UINT64_MAX / 368 + 1};
  for (size_t i = 0; i < MG_COUNT(counts); i++) {
    mg_must_refuse_bytes("tensors that are not there", path, mg_bytes_gguf(3, counts[i], 0), "more");
    mg_must_refuse_bytes("keys that are not there", path, mg_bytes_gguf(3, 0, counts[i]), "more");
  }
  mg_must_open_bytes("an empty file, version 3", path, mg_bytes_gguf(3, 0, 0));
  mg_must_open_bytes("an empty file, version 2", path, mg_bytes_gguf(2, 0, 0));
}

/* A file of one key whose bytes after the name are given; padded, so that a short value reads on. */
static mg_bytes one_key(const char *key, mg_value_type type) {
  mg_bytes bytes = mg_bytes_gguf(3, 0, 1);
  mg_gguf_key(&bytes, key, type);
  return bytes;
}

static mg_bytes one_number(const char *key, unsigned type, unsigned width, uint64_t value) {
  mg_bytes bytes = one_key(key, (mg_value_type)type);
  mg_bytes_number(&bytes, width, value);
  return bytes;
}

static mg_bytes one_list(unsigned element, uint64_t count, size_t zeros) {
  mg_bytes bytes = mg_bytes_gguf(3, 0, 1);
  mg_gguf_list(&bytes, "list", (mg_value_type)element, count);
  mg_bytes_zeros(&bytes, zeros);
  return bytes;
}

static mg_bytes text_of_length(uint64_t length, const char *text) {
  mg_bytes bytes = one_key("text", MG_VALUE_TEXT);
  mg_bytes_number(&bytes, 8, length);
  mg_bytes_add(&bytes, text, strlen(text));
  return bytes;
}

static mg_bytes key_of_length(uint64_t length, const char *text, size_t count) {
  mg_bytes bytes = mg_bytes_gguf(3, 0, 1);
  mg_bytes_number(&bytes, 8, length);
  mg_bytes_add(&bytes, text, count);
  mg_bytes_number(&bytes, 4, MG_VALUE_U32);
  mg_bytes_zeros(&bytes, 2048);
  return bytes;
}

static void bad_keys_are_refused(void **state) {
  (void)state;
  static const uint64_t lengths[] = {1025,       1 << 20,   INT32_MAX,      0x80000005,
                                     UINT32_MAX, INT64_MAX, UINT64_MAX - 1, UINT64_MAX};
  for (size_t i = 0; i < MG_COUNT(lengths); i++)
    mg_must_refuse_bytes("a key of another length", path, key_of_length(lengths[i], "abc", 3), "longer than the limit");
  mg_must_refuse_bytes("a key with a NUL", path, key_of_length(3, "a\0c", 3), "a NUL");
  mg_must_refuse_bytes("a key that is not UTF-8", path,
                       key_of_length(3,
                                     "a\xff"
                                     "c",
                                     3),
                       "not UTF-8");
  static const unsigned types[] = {13, 14, 255, 0x7fffffff, 0xffffffff};
  for (size_t i = 0; i < MG_COUNT(types); i++) {
    mg_must_refuse_bytes("an unknown type", path, one_number("a", types[i], 8, 0),
                         "'a': a type of value that GGUF does not know");
    mg_must_refuse_bytes("a list of an unknown type", path, one_list(types[i], 1, 64), "a type of value");
  }
  mg_must_refuse_bytes("a bool of 2", path, one_number("a", MG_VALUE_BOOL, 1, 2), "neither 0 nor 1");
  mg_bytes flags = one_list(MG_VALUE_BOOL, 3, 0);
  mg_bytes_number(&flags, 3, 0x020100);
  mg_must_refuse_bytes("a list of bools with a 2", path, flags, "neither 0 nor 1");
  mg_bytes twice = mg_bytes_gguf(3, 0, 2);
  mg_gguf_integer(&twice, "a", MG_VALUE_U8, 1);
  mg_gguf_integer(&twice, "a", MG_VALUE_U32, 1);
  mg_must_refuse_bytes("a key twice", path, twice, "'a': the key occurs twice");
  mg_must_refuse_bytes("a list of lists", path, one_list(MG_VALUE_LIST, 1, 64), "a list of lists");
}

static void bad_sizes_of_values_are_refused(void **state) {
  (void)state;
  static const uint64_t lengths[] = {
      4,         16 << 20,       (16 << 20) + 1, INT32_MAX, 0x80000005, UINT32_MAX, (uint64_t)UINT32_MAX + 2,
      INT64_MAX, UINT64_MAX - 1, UINT64_MAX};
  for (size_t i = 0; i < MG_COUNT(lengths); i++)
    mg_must_refuse_bytes("a text of another length", path, text_of_length(lengths[i], "abc"),
                         lengths[i] > 16 << 20 ? "longer than the limit" : "more bytes are declared");
  static const uint64_t counts[] = {65,         1 << 20,           16 << 20,          (16 << 20) + 1, INT32_MAX,
                                    UINT32_MAX, (uint64_t)1 << 61, (uint64_t)1 << 62, INT64_MAX,      UINT64_MAX};
  static const unsigned elements[] = {MG_VALUE_U8,   MG_VALUE_I16, MG_VALUE_F32,
                                      MG_VALUE_BOOL, MG_VALUE_U64, MG_VALUE_TEXT};
  for (size_t i = 0; i < MG_COUNT(counts); i++)
    for (size_t j = 0; j < MG_COUNT(elements); j++)
      mg_must_refuse_bytes("a list of another count", path, one_list(elements[j], counts[i], 64),
                           counts[i] > 16 << 20 ? "longer than the limit" : "more bytes are declared");
  mg_bytes text = one_list(MG_VALUE_TEXT, 2, 8);
  mg_bytes_number(&text, 8, UINT64_MAX);
  mg_must_refuse_bytes("a text in a list of another length", path, text, "longer than the limit");
}

static void bad_alignments_are_refused(void **state) {
  (void)state;
  static const uint32_t values[] = {0, 3, 31, 33, 48, (1 << 20) + 1, 1 << 21, INT32_MAX, 0x80000000, UINT32_MAX};
  for (size_t i = 0; i < MG_COUNT(values); i++)
    mg_must_refuse_bytes("an alignment", path, one_number("general.alignment", MG_VALUE_U32, 4, values[i]),
                         "no power of two");
  mg_must_refuse_bytes("an alignment of u64", path, one_number("general.alignment", MG_VALUE_U64, 8, 32),
                       "it is no u32");
  mg_must_refuse_bytes("an alignment of i32", path, one_number("general.alignment", MG_VALUE_I32, 4, 32),
                       "it is no u32");
  mg_must_refuse_bytes("an alignment of f32", path, one_number("general.alignment", MG_VALUE_F32, 4, 32),
                       "it is no u32");
  mg_bytes text = mg_bytes_gguf(3, 0, 1);
  mg_gguf_string(&text, "general.alignment", "32");
  mg_must_refuse_bytes("an alignment in words", path, text, "it is no u32");
  mg_bytes twice = mg_bytes_gguf(3, 0, 2);
  mg_gguf_integer(&twice, "general.alignment", MG_VALUE_U32, 32);
  mg_gguf_integer(&twice, "general.alignment", MG_VALUE_U32, 64);
  mg_must_refuse_bytes("an alignment twice", path, twice, "occurs twice");
}

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

typedef struct tensor_case {
  const char *what;
  uint32_t dims;
  uint64_t shape[5];
  uint32_t type;
  uint64_t offset;
  const char *words;
} tensor_case;

static const uint64_t two_32 = (uint64_t)1 << 32, two_63 = (uint64_t)1 << 63;

static mg_bytes one_tensor(const tensor_case *c, size_t data_bytes) {
  mg_bytes bytes = mg_bytes_gguf(3, 1, 0);
  mg_gguf_tensor(&bytes, "t", c->dims, c->shape, c->type, c->offset);
  mg_gguf_pad(&bytes, 32);
  mg_bytes_zeros(&bytes, data_bytes);
  return bytes;
}

static void bad_tensors_are_refused(void **state) {
  (void)state;
  const tensor_case cases[] = {
      {"5 dimensions", 5, {1, 1, 1, 1, 1}, F32, 0, "more than 4 dimensions"},
      {"a size of -1", 1, {UINT64_MAX}, F32, 0, "more than 2^63 - 1"},
      {"a size of -2^63", 1, {two_63}, F32, 0, "more than 2^63 - 1"},
      {"a product of 2^64", 2, {two_32, two_32}, F32, 0, "2^64 elements"},
      {"a product of three that is 2^64", 3, {two_32, two_32 / 2, 2}, F32, 0, "2^64 elements"},
      {"a product of four that wraps to 1", 4, {two_63 - 1, two_63 - 1, 1, 1}, F32, 0, "2^64 elements"},
      {"an overflow before a size of 0", 3, {two_32, two_32, 0}, F32, 0, "2^64 elements"},
      {"2^63 elements", 2, {two_32, two_32 / 2}, I8, 0, "more than 2^63 bits"},
      {"bytes that wrap, f32", 1, {two_63 / 2}, F32, 0, "more than 2^63 bits"},
      {"bytes that wrap to 0 after padding", 2, {two_63 - 2, 2}, I8, 0, "more than 2^63 bits"},
      {"blocks whose bytes wrap before a division", 2, {two_32, two_32 / 16}, Q4_0, 0, "beyond the end"},
      {"blocks whose bits wrap", 2, {two_32, two_32 / 2 - 1}, Q4_K, 0, "more than 2^63 bits"},
      {"an exabyte", 1, {(uint64_t)1 << 60}, I8, 0, "beyond the end"},
      {"16 MiB over nothing", 1, {1 << 22}, F32, 0, "beyond the end"},
      {"a type removed from GGUF", 1, {32}, 4, 0, "a type that GGUF does not know"},
      {"a type of the future", 1, {32}, 1000, 0, "a type that GGUF does not know"},
      {"a type of -1", 1, {32}, UINT32_MAX, 0, "a type that GGUF does not know"},
      {"one value of q4_0", 1, {1}, Q4_0, 0, "whole number of blocks"},
      {"31 values of q4_0", 1, {31}, Q4_0, 0, "whole number of blocks"},
      {"33 values of mxfp4", 1, {33}, MXFP4, 0, "whole number of blocks"},
      {"255 values of q4_K", 1, {255}, Q4_K, 0, "whole number of blocks"},
      {"rows of 32 in q4_K", 2, {32, 8}, Q4_K, 0, "whole number of blocks"},
      {"a scalar of q4_0", 0, {0}, Q4_0, 0, "whole number of blocks"},
      {"an offset of 1", 1, {4}, F32, 1, "an offset"},
      {"an offset of 32 for the first", 1, {4}, F32, 32, "an offset"},
      {"an offset of 2^64 - 32", 1, {4}, F32, UINT64_MAX - 31, "an offset"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++)
    mg_must_refuse_bytes(cases[i].what, path, one_tensor(&cases[i], 64), cases[i].words);
  static const uint32_t dims[] = {5, 255, INT32_MAX, UINT32_MAX};
  for (size_t i = 0; i < MG_COUNT(dims); i++) {
    mg_bytes bytes = mg_bytes_gguf(3, 1, 0);
    mg_bytes_text(&bytes, "t");
    mg_bytes_number(&bytes, 4, dims[i]);
    mg_bytes_zeros(&bytes, 256);
    mg_must_refuse_bytes("many dimensions", path, bytes, "more than 4 dimensions");
  }
}

/* Every type at 0, 1 and one value less than a block. */
static void types_take_whole_blocks(void **state) {
  (void)state;
  for (uint32_t type = 0; type < 64; type++) {
    mg_storage storage;
    if (!mg_storage_from_gguf(type, &storage)) continue;
    const mg_storage_info *about = mg_storage_about(storage);
    const size_t block = about->block_bits / 8;
    const uint64_t values = about->block_values;
    mg_must_open_bytes(about->name, path, one_tensor(&(tensor_case){.dims = 1, .shape = {0}, .type = type}, 0));
    mg_must_open_bytes(about->name, path,
                       one_tensor(&(tensor_case){.dims = 2, .shape = {values, 2}, .type = type}, 2 * block));
    mg_must_refuse_bytes(about->name, path,
                         one_tensor(&(tensor_case){.dims = 2, .shape = {values, 2}, .type = type}, 2 * block - 1),
                         "beyond the end");
    if (values == 1) continue;
    const uint64_t wrong[] = {1, values - 1, values + 1};
    for (size_t i = 0; i < MG_COUNT(wrong); i++)
      mg_must_refuse_bytes(about->name, path,
                           one_tensor(&(tensor_case){.dims = 1, .shape = {wrong[i]}, .type = type}, block),
                           "whole number of blocks");
  }
}

/* Two tensors of 8 floats in a file of this alignment, the second at `offset`. */
static mg_bytes two_tensors(const char *second, uint32_t alignment, uint64_t offset, size_t data_bytes) {
  static const uint64_t shape[] = {8};
  mg_bytes bytes = mg_bytes_gguf(3, 2, alignment ? 1 : 0);
  if (alignment) mg_gguf_integer(&bytes, "general.alignment", MG_VALUE_U32, alignment);
  mg_gguf_tensor(&bytes, "a", 1, shape, F32, 0);
  mg_gguf_tensor(&bytes, second, 1, shape, F32, offset);
  mg_gguf_pad(&bytes, alignment ? alignment : 32);
  mg_bytes_zeros(&bytes, data_bytes);
  return bytes;
}

static void bad_data_are_refused(void **state) {
  (void)state;
  mg_must_open_bytes("two tensors", path, two_tensors("b", 0, 32, 64));
  mg_must_open_bytes("two tensors, alignment 1", path, two_tensors("b", 1, 32, 64));
  mg_must_open_bytes("two tensors, alignment 256", path, two_tensors("b", 256, 256, 512));
  mg_must_open_bytes("two tensors and no padding at the end", path, two_tensors("b", 256, 256, 288));
  mg_must_refuse_bytes("one name twice", path, two_tensors("a", 0, 32, 64), "'a': the name occurs twice");
  mg_must_refuse_bytes("one range twice", path, two_tensors("b", 0, 0, 64), "'b': an offset");
  mg_must_refuse_bytes("an overlap", path, two_tensors("b", 1, 31, 64), "an offset");
  mg_must_refuse_bytes("a hole", path, two_tensors("b", 0, 64, 128), "an offset");
  mg_must_refuse_bytes("an unaligned offset", path, two_tensors("b", 0, 33, 128), "an offset");
  mg_must_refuse_bytes("an offset by another alignment", path, two_tensors("b", 64, 32, 128), "an offset");
  mg_must_refuse_bytes("one byte of data missing", path, two_tensors("b", 0, 32, 63), "'b': data beyond the end");
  mg_must_refuse_bytes("no data", path, two_tensors("b", 0, 32, 0), "'a': data beyond the end");
  static const uint64_t huge[] = {(uint64_t)1 << 59};
  mg_bytes sum = mg_bytes_gguf(3, 33, 0);
  for (int i = 0; i < 33; i++) {
    const char name[] = {(char)('A' + i), '\0'};
    mg_gguf_tensor(&sum, name, 1, huge, I8, (uint64_t)i << 59);
  }
  mg_must_refuse_bytes("sizes that fit one by one and wrap together", path, sum, "more than 2^64 bytes");
}

/* ---- faults that were published ------------------------------------------------------------------------------------- */

static mg_bytes nested_lists(size_t depth) {
  mg_bytes bytes = one_key("a", MG_VALUE_LIST);
  for (size_t i = 0; i < depth; i++) {
    mg_bytes_number(&bytes, 4, MG_VALUE_LIST);
    mg_bytes_number(&bytes, 8, 1);
  }
  return bytes;
}

static mg_bytes fails_late(void) {
  mg_bytes bytes = mg_bytes_gguf(3, 1, 3);
  mg_gguf_string(&bytes, "general.architecture", "llama");
  mg_gguf_list(&bytes, "tokens", MG_VALUE_TEXT, 2);
  mg_bytes_text(&bytes, "a");
  mg_bytes_text(&bytes, "b");
  mg_gguf_integer(&bytes, "c", (mg_value_type)77, 0);
  return bytes;
}

static void published_faults_are_refused(void **state) {
  (void)state;
  const tensor_case count = {"", 4, {65536, 65536, 65536, 65536}, F32, 0, ""};
  const tensor_case exabyte = {"", 2, {(uint64_t)1 << 31, (uint64_t)1 << 31}, F32, 0, ""};
  const tensor_case divided = {"", 1, {(uint64_t)1 << 62}, Q4_0, 0, ""};
  const tensor_case pad = {"", 2, {two_63 - 2, 2}, I8, 0, ""};
  const tensor_case beyond = {"", 1, {1 << 20}, F32, 0, ""};
  mg_must_refuse_bytes("CVE-2024-21802: elements times size wrap", path, one_tensor(&count, 64), "2^64 elements");
  mg_must_refuse_bytes("CVE-2024-21825: a list's bytes wrap", path, one_list(MG_VALUE_U64, (uint64_t)1 << 61, 64),
                       "limit");
  mg_must_refuse_bytes("CVE-2024-21836: tensors times their size wrap", path, mg_bytes_gguf(3, UINT64_MAX / 24 + 2, 0),
                       "limit");
  mg_must_refuse_bytes("CVE-2024-23496: a length whose NUL wraps", path, text_of_length(UINT64_MAX, ""), "limit");
  mg_must_refuse_bytes("CVE-2024-23605: keys times their size wrap", path, mg_bytes_gguf(3, 0, UINT64_MAX / 13 + 2),
                       "limit");
  mg_must_refuse_bytes("CVE-2024-32878, 41130: what was read before a failure", path, fails_late(),
                       "'c': a type of value");
  mg_must_refuse_bytes("CVE-2025-49847: a length that is negative in 32 bits", path, text_of_length(0x80000005, "abc"),
                       "limit");
  mg_must_refuse_bytes("CVE-2025-53630: the sum of sizes wraps", path, one_tensor(&pad, 64), "2^63");
  mg_must_refuse_bytes("CVE-2026-27940: memory for all tensors wraps", path, mg_bytes_gguf(3, UINT64_MAX / 368 + 1, 0),
                       "limit");
  mg_must_refuse_bytes("CVE-2026-33298: an exabyte over a small file", path, one_tensor(&exabyte, 4096), "2^63 bits");
  mg_must_refuse_bytes("CVE-2026-7482: data beyond the end", path, one_tensor(&beyond, 4096), "beyond the end");
  mg_must_refuse_bytes("ggml 24759: padding wraps before the check", path, one_tensor(&pad, 64), "2^63");
  mg_must_refuse_bytes("ggml 24997: an alignment of 2^31", path,
                       one_number("general.alignment", MG_VALUE_U32, 4, 0x80000000), "no power of two");
  mg_must_refuse_bytes("ggml 26318: an alignment of another type", path,
                       one_number("general.alignment", MG_VALUE_U8, 1, 32), "it is no u32");
  mg_must_refuse_bytes("ggml 27200: blocks multiplied before divided", path, one_tensor(&divided, 64), "2^63 bits");
  mg_must_refuse_bytes("ggml 19003: a text's room before its bytes", path, text_of_length((uint64_t)1 << 40, "abc"),
                       "limit");
  mg_must_refuse_bytes("gguf-py F001: lists in lists", path, nested_lists(100000), "a list of lists");
  mg_must_refuse_bytes("ollama 17042: many keys in a tiny file", path, mg_bytes_gguf(3, 0, 60000), "bytes for");
  mg_must_refuse_bytes("ollama 17042: many tensors in a tiny file", path, mg_bytes_gguf(3, 1000000, 0), "bytes for");
}

/* A million keys would be compared in pairs by a reader with two loops: the limit of 65,536 takes a moment. */
static void many_names_take_no_quadratic_time(void **state) {
  (void)state;
  static const uint64_t empty[] = {0};
  enum { KEYS = 65536, TENSORS = 300000 };
  char name[32];
  mg_bytes bytes = mg_bytes_gguf(3, TENSORS, KEYS);
  for (int i = 0; i < KEYS; i++) {
    snprintf(name, sizeof name, "%x", (unsigned)i);
    mg_gguf_integer(&bytes, name, MG_VALUE_U8, 0);
  }
  for (int i = 0; i < TENSORS; i++) {
    snprintf(name, sizeof name, "%x", (unsigned)i);
    mg_gguf_tensor(&bytes, name, 1, empty, F32, 0);
  }
  mg_gguf_pad(&bytes, 32);
  mg_must_open_bytes("many names", path, bytes);
}

/* Last: what was promised is not made smaller by a change above. */
static void the_files_were_many(void **state) {
  (void)state;
  assert_true(mg_refused_count() >= 150);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(bad_starts_are_refused),
                                     cmocka_unit_test(bad_keys_are_refused),
                                     cmocka_unit_test(bad_sizes_of_values_are_refused),
                                     cmocka_unit_test(bad_alignments_are_refused),
                                     cmocka_unit_test(bad_tensors_are_refused),
                                     cmocka_unit_test(types_take_whole_blocks),
                                     cmocka_unit_test(bad_data_are_refused),
                                     cmocka_unit_test(published_faults_are_refused),
                                     cmocka_unit_test(many_names_take_no_quadratic_time),
                                     cmocka_unit_test(the_files_were_many)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
