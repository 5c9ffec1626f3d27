/* Bad safetensors files, every one made here: each is refused with its rule, within a second and twice its size of
 * memory; every prefix of a good file is refused, and no flipped bit of a header does worse than that. */
#include "support/checkpoint_files.h"
#include "support/scratch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static mg_scratch scratch;
static const char *const path = scratch.path;
static const char *const folder = scratch.folder;

static int make_folder(void **state) {
  (void)state;
  return mg_scratch_open(&scratch, "a.safetensors");
}

static int remove_folder(void **state) {
  (void)state;
  return mg_scratch_close(&scratch);
}

/* ---- headers ----------------------------------------------------------------------------------------------------- */

#define A(dtype, shape, offsets) "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

typedef struct header_case {
  const char *header;
  size_t data_bytes;
  const char *words;
} header_case;

static const header_case refused_headers[] = {
    /* JSON */
    {"", 0, "malformed JSON"},
    {"{", 0, "malformed JSON"},
    {"}", 0, "malformed JSON"},
    {"[]", 0, "malformed JSON"},
    {"null", 0, "malformed JSON"},
    {"\"a\"", 0, "malformed JSON"},
    {"{}x", 0, "something follows"},
    {"{}{}", 0, "something follows"},
    {"{},", 0, "something follows"},
    {"{\"a\"}", 0, "a colon was expected"},
    {"{\"a\":}", 0, "malformed JSON"},
    {"{\"a\":{}", 0, "missing"},
    {"{a:1}", 0, "malformed JSON"},
    {"{'a':1}", 0, "malformed JSON"},
    {"{\"a\":1}", 0, "malformed JSON"},
    {"{\"a\":null}", 0, "an object was expected"},
    {"{\"a\":[]}", 0, "malformed JSON"},
    {"{\"a\":\"b\"}", 0, "malformed JSON"},
    {"{,}", 0, "malformed JSON"},
    {A("F32", "[1],", "[0,4]"), 4, "malformed JSON"},
    {A("F32", "[1,]", "[0,4]"), 4, "whole number"},
    {A("F32", "[,1]", "[0,4]"), 4, "whole number"},
    {A("F32", "[1 1]", "[0,4]"), 4, "malformed JSON"},
    {A("F32", "[1", "[0,4]"), 4, "whole number"},
    {A("F32", "[1]]", "[0,4]"), 4, "malformed JSON"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},}", 4, "malformed JSON"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],}}", 4, "malformed JSON"},
    {"{\"a\":{\"dtype\":\"F32\" \"shape\":[1],\"data_offsets\":[0,4]}}", 4, "malformed JSON"},
    {"{\"a\":{/**/\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "malformed JSON"},
    {"\xef\xbb\xbf{}", 0, "malformed JSON"},
    /* strings */
    {"{\"a\xff\":1}", 0, "not UTF-8"},
    {"{\"\xc0\xaf\":1}", 0, "not UTF-8"},
    {"{\"\xe0\x80\xaf\":1}", 0, "not UTF-8"},
    {"{\"\xed\xa0\x80\":1}", 0, "not UTF-8"},
    {"{\"\xf4\x90\x80\x80\":1}", 0, "not UTF-8"},
    {"{\"\xe2\x82\":1}", 0, "not UTF-8"},
    {"{\"a\n\":1}", 0, "control character"},
    {"{\"a\tb\":1}", 0, "control character"},
    {"{\"a\\\":1}", 0, "JSON string without end"},
    {"{\"a\\x\":1}", 0, "unknown escape"},
    {"{\"\\u12\":1}", 0, "no character"},
    {"{\"\\u12g4\":1}", 0, "no character"},
    {"{\"\\u0000\":1}", 0, "no character"},
    {"{\"\\ud800\":1}", 0, "no character"},
    {"{\"\\udc00\":1}", 0, "no character"},
    {"{\"\\ud800\\u0041\":1}", 0, "no character"},
    {"{\"\\ud800\\ud800\":1}", 0, "no character"},
    {"{\"\\ud800", 0, "no character"},
    /* fields */
    {"{\"a\":{}}", 0, "missing"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "a field other than"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "occurs twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"d\\u0074ype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "occurs twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "occurs twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"data_offsets\":[0,4]}}", 4, "occurs twice"},
    /* dtypes */
    {A("F9", "[1]", "[0,4]"), 4, "a dtype that safetensors does not know"},
    {A("", "[1]", "[0,4]"), 4, "a dtype"},
    {A("f32", "[1]", "[0,4]"), 4, "a dtype"},
    {A("F32 ", "[1]", "[0,4]"), 4, "a dtype"},
    {A("Q4_K", "[256]", "[0,144]"), 144, "a dtype"},
    {A("F32F32F32F32F32F32", "[1]", "[0,4]"), 4, "a dtype"},
    {"{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "a string was expected"},
    {"{\"a\":{\"dtype\":null,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "malformed JSON"},
    /* shapes */
    {A("F32", "1", "[0,4]"), 4, "a list was expected"},
    {A("F32", "{}", "[0,4]"), 4, "malformed JSON"},
    {A("F32", "null", "[0,4]"), 4, "malformed JSON"},
    {A("F32", "\"1\"", "[0,4]"), 4, "malformed JSON"},
    {A("F32", "[[1]]", "[0,4]"), 4, "whole number"},
    {A("F32", "[\"1\"]", "[0,4]"), 4, "whole number"},
    {A("F32", "[null]", "[0,4]"), 4, "whole number"},
    {A("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "more than 8 dimensions"},
    {A("F32", "[-1]", "[0,4]"), 4, "whole number"},
    {A("F32", "[-0]", "[0,4]"), 4, "whole number"},
    {A("F32", "[+1]", "[0,4]"), 4, "whole number"},
    {A("F32", "[01]", "[0,4]"), 4, "whole number"},
    {A("F32", "[0x1]", "[0,4]"), 4, "malformed JSON"},
    {A("F32", "[1.0]", "[0,4]"), 4, "whole number"},
    {A("F32", "[1e0]", "[0,4]"), 4, "whole number"},
    {A("F32", "[16.5]", "[0,4]"), 4, "whole number"},
    {A("F32", "[1E3]", "[0,4000]"), 4000, "whole number"},
    {A("F32", "[NaN]", "[0,4]"), 4, "whole number"},
    {A("F32", "[Infinity]", "[0,4]"), 4, "whole number"},
    {A("F32", "[9007199254740993]", "[0,4]"), 4, "another size"},
    {A("F32", "[9223372036854775807]", "[0,4]"), 4, "more than 2^63 bits"},
    {A("F32", "[9223372036854775808]", "[0,4]"), 4, "more than 2^63 - 1"},
    {A("F32", "[18446744073709551615]", "[0,4]"), 4, "more than 2^63 - 1"},
    {A("F32", "[18446744073709551616]", "[0,4]"), 4, "beyond 64 bits"},
    {A("F32", "[111111111111111111111111111111111111111111111111111111111111111111111111]", "[0,4]"), 4,
     "beyond 64 bits"},
    {A("F32", "[4294967296,4294967296]", "[0,0]"), 0, "more than 2^64 elements"},
    {A("F32", "[2097152,4194304,2097152]", "[0,0]"), 0, "more than 2^64 elements"},
    {A("F32", "[4611686018427387904]", "[0,0]"), 0, "more than 2^63 bits"},
    {A("F32", "[4611686018427387905,4]", "[0,16]"), 16, "2^64 elements"},
    {A("F32", "[4294967296,4294967296,0]", "[0,0]"), 0, "more than 2^64 elements"},
    {A("F4", "[3]", "[0,2]"), 2, "no whole number of bytes"},
    {A("F6_E2M3", "[2]", "[0,2]"), 2, "no whole number of bytes"},
    /* offsets */
    {A("F32", "[1]", "4"), 4, "malformed JSON"},
    {A("F32", "[1]", "[]"), 4, "no [begin, end]"},
    {A("F32", "[1]", "[0]"), 4, "no [begin, end]"},
    {A("F32", "[1]", "[0,4,8]"), 4, "more than two"},
    {A("F32", "[1]", "[4,0]"), 4, "end before they begin"},
    {A("F32", "[1]", "[-4,0]"), 4, "whole number"},
    {A("F32", "[1]", "[0,4.0]"), 4, "whole number"},
    {A("F32", "[1]", "[0,\"4\"]"), 4, "whole number"},
    {A("F32", "[1]", "[18446744073709551612,18446744073709551616]"), 4, "beyond 64 bits"},
    {A("F32", "[1]", "[18446744073709551611,18446744073709551615]"), 4, "beyond the end"},
    {A("F32", "[2]", "[0,8]"), 4, "beyond the end"},
    {A("F32", "[2]", "[0,8]"), 7, "beyond the end"},
    {A("F32", "[3]", "[0,8]"), 8, "another size"},
    {A("F32", "[1]", "[0,8]"), 8, "another size"},
    {A("F32", "[]", "[0,8]"), 8, "another size"},
    {A("F32", "[0]", "[0,4]"), 4, "another size"},
    {A("BF16", "[2]", "[0,8]"), 8, "another size"},
    /* cover */
    {"{}", 1, "belong to no tensor"},
    {A("F32", "[1]", "[0,4]"), 5, "belong to no tensor"},
    {A("F32", "[1]", "[0,4]"), 6, "belong to no tensor"},
    {A("F32", "[1]", "[0,4]"), 7, "belong to no tensor"},
    {A("F32", "[1]", "[0,4]"), 12, "belong to no tensor"},
    {A("F32", "[1]", "[4,8]"), 8, "a hole"},
    {A("F32", "[0]", "[4,4]"), 4, "a hole"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
     "offsets\":[3,7]}}",
     7, "overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
     "offsets\":[0,4]}}",
     4, "overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_"
     "offsets\":[0,2]}}",
     6, "a hole"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_"
     "offsets\":[1,1]}}",
     2, "overlap"},
    /* names */
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
     "offsets\":[1,2]}}",
     2, "'a': the name occurs twice"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[1],"
     "\"data_offsets\":[1,2]}}",
     2, "'a': the name occurs twice"},
    /* metadata */
    {"{\"__metadata__\":1}", 0, "malformed JSON"},
    {"{\"__metadata__\":null}", 0, "malformed JSON"},
    {"{\"__metadata__\":[]}", 0, "malformed JSON"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "metadata that are no texts"},
    {"{\"__metadata__\":{\"a\":null}}", 0, "metadata that are no texts"},
    {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "metadata that are no texts"},
    {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, "'a': the key occurs twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ occurs twice"},
    {"{\"__metadata__\":{},\"__meta\\u0064ata__\":{}}", 0, "__metadata__ occurs twice"},
};

static void bad_headers_are_refused(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(refused_headers); i++) {
    const header_case *c = &refused_headers[i];
    mg_must_refuse_bytes(c->header, path, mg_bytes_safetensors(c->header, c->data_bytes), c->words);
  }
}

static void odd_but_legal_headers_are_opened(void **state) {
  (void)state;
  static const header_case cases[] = {
      {"{}", 0, ""},
      {" \t\r\n{}", 0, ""},
      {"{} \t\r\n", 0, ""},
      {" { \"a\" : { \"dtype\" : \"U8\" , \"shape\" : [ 1 , 2 ] , \"data_offsets\" : [ 0 , 2 ] } } ", 2, ""},
      {A("F32", "[]", "[0,4]"), 4, ""},
      {A("F32", "[0]", "[0,0]"), 0, ""},
      {A("F32", "[1,1,1,1,1,1,1,1]", "[0,4]"), 4, ""},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_"
       "offsets\":[0,2]},"
       "\"c\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[0,0]}}",
       2, ""},
      {"{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
       "offsets\":[0,1]}}",
       3, ""},
      {"{\"\\ud83d\\ude00\\n\":{\"data_offsets\":[0,1],\"d\\u0074ype\":\"U8\",\"shape\":[1]}}", 1, ""},
      {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ""},
      {"{\"__metadata__\":{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u20ac\"}}", 0, ""},
      {A("F64", "[1]", "[0,8]"), 8, ""},
      {A("C64", "[1]", "[0,8]"), 8, ""},
      {A("I64", "[1]", "[0,8]"), 8, ""},
      {A("U64", "[1]", "[0,8]"), 8, ""},
      {A("F32", "[1]", "[0,4]"), 4, ""},
      {A("I32", "[1]", "[0,4]"), 4, ""},
      {A("U32", "[1]", "[0,4]"), 4, ""},
      {A("F16", "[1]", "[0,2]"), 2, ""},
      {A("BF16", "[1]", "[0,2]"), 2, ""},
      {A("I16", "[1]", "[0,2]"), 2, ""},
      {A("U16", "[1]", "[0,2]"), 2, ""},
      {A("I8", "[1]", "[0,1]"), 1, ""},
      {A("U8", "[1]", "[0,1]"), 1, ""},
      {A("BOOL", "[1]", "[0,1]"), 1, ""},
      {A("F8_E4M3", "[1]", "[0,1]"), 1, ""},
      {A("F8_E5M2", "[1]", "[0,1]"), 1, ""},
      {A("F8_E8M0", "[1]", "[0,1]"), 1, ""},
      {A("F8_E4M3FNUZ", "[1]", "[0,1]"), 1, ""},
      {A("F8_E5M2FNUZ", "[1]", "[0,1]"), 1, ""},
      {A("F4", "[2]", "[0,1]"), 1, ""},
      {A("F6_E2M3", "[4]", "[0,3]"), 3, ""},
      {A("F6_E3M2", "[2,2]", "[0,3]"), 3, ""},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg_bytes bytes = mg_bytes_safetensors(cases[i].header, cases[i].data_bytes);
    mg_bytes_write(&bytes, path);
    mg_must_open(cases[i].header, path, bytes.bytes);
    mg_bytes_free(&bytes);
  }
}

/* ---- the length of the header -------------------------------------------------------------------------------------- */

static void bad_lengths_are_refused(void **state) {
  (void)state;
  static const char header[] = A("F32", "[1]", "[0,4]");
  const uint64_t size = 8 + sizeof header - 1 + 4;
  const struct {
    uint64_t length;
    const char *words;
  } cases[] = {
      {0, "malformed JSON"},
      {1, "malformed JSON"},
      {2, "JSON string without end"},
      {size - 13, "malformed JSON"},
      {size - 11, "beyond the end"},
      {size - 8, "beyond the end"},
      {size - 7, "longer than the file"},
      {99999999, "longer than the file"},
      {100000000, "longer than the file"},
      {100000001, "at most 100000000"},
      {104857600, "at most 100000000"},
      {INT64_MAX, "at most 100000000"},
      {(uint64_t)INT64_MAX + 1, "at most 100000000"},
      {UINT64_MAX - 7, "at most 100000000"},
      {UINT64_MAX, "at most 100000000"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    char what[64];
    mg_bytes bytes = mg_bytes_safetensors(header, 4);
    mg_bytes_set(&bytes, 0, 8, cases[i].length);
    snprintf(what, sizeof what, "a header of %llu bytes", (unsigned long long)cases[i].length);
    mg_must_refuse_bytes(what, path, bytes, cases[i].words);
  }
  for (size_t count = 0; count < 8; count++) {
    mg_bytes bytes = {0};
    mg_bytes_zeros(&bytes, count);
    mg_must_refuse_bytes("fewer than 8 bytes", path, bytes, "shorter than 8 bytes");
  }
}

/* ---- every prefix, every flip ---------------------------------------------------------------------------------------- */

/* 1 KiB or so: tensors of many shapes, metadata, escapes. */
static mg_bytes good_file(void) {
  return mg_bytes_safetensors(
      "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"a \\\"b\\\" \\u20ac\"},"
      "\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[4,8],\"data_offsets\":[0,128]},"
      "\"model.layers.0.mlp.experts.0.w1.weight\":{\"dtype\":\"BF16\",\"shape\":[2,4],\"data_offsets\":[128,144]},"
      "\"model.layers.0.mlp.experts.0.w2.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,8],\"data_offsets\":[144,160]},"
      "\"model.layers.0.mlp.experts.0.w2.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[160,"
      "164]},"
      "\"model.norm.weight\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[164,168]},"
      "\"steps\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[168,176]},"
      "\"empty\":{\"dtype\":\"U8\",\"shape\":[0,3],\"data_offsets\":[176,176]}}  ",
      176);
}

static void every_prefix_is_refused(void **state) {
  (void)state;
  mg_bytes bytes = good_file();
  mg_bytes_write(&bytes, path);
  mg_must_open("the whole file", path, bytes.bytes);
  mg_must_refuse_prefixes(path, &bytes);
  mg_bytes_free(&bytes);
}

static void no_flipped_bit_does_harm(void **state) {
  (void)state;
  mg_bytes bytes = good_file();
  const size_t header_end = bytes.bytes - 176;
  const int64_t found = mg_open_with_flipped_bits(path, &bytes, 8 * header_end);
  assert_true(found > (int64_t)(4 * header_end)); /* the others change a letter of a name or of white space */
  mg_bytes_free(&bytes);
}

/* ---- large headers --------------------------------------------------------------------------------------------------- */

/* `count` copies of `text` between `before` and `after`. */
static mg_bytes repeated(const char *before, const char *text, size_t count, const char *after) {
  mg_bytes bytes = {0};
  mg_bytes_zeros(&bytes, 8);
  mg_bytes_add(&bytes, before, strlen(before));
  for (size_t i = 0; i < count; i++) mg_bytes_add(&bytes, text, strlen(text));
  mg_bytes_add(&bytes, after, strlen(after));
  mg_bytes_set(&bytes, 0, 8, bytes.bytes - 8);
  return bytes;
}

static void deep_and_long_headers_are_refused(void **state) {
  (void)state;
  static const size_t depths[] = {1000, 100000, 10000000};
  for (size_t i = 0; i < MG_COUNT(depths); i++) {
    mg_must_refuse_bytes("nested lists", path, repeated("{\"a\":", "[", depths[i], ""), "malformed JSON");
    mg_must_refuse_bytes("nested lists in a shape", path, repeated("{\"a\":{\"shape\":", "[", depths[i], ""),
                         "whole number");
    mg_must_refuse_bytes("nested objects", path, repeated("", "{\"a\":", depths[i], ""), "a field other than");
  }
  mg_must_refuse_bytes("1,000 dimensions", path,
                       repeated("{\"a\":{\"dtype\":\"U8\",\"shape\":[1", ",1", 999, "],\"data_offsets\":[0,1]}}"),
                       "more than 8 dimensions");
  mg_must_refuse_bytes("a number of 400 digits", path,
                       repeated("{\"a\":{\"dtype\":\"U8\",\"shape\":[", "1", 400, "]}}"), "beyond 64 bits");
  mg_must_refuse_bytes("a name of 1,025 bytes", path,
                       repeated("{\"", "n", 1025, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"),
                       "too long");
  mg_must_refuse_bytes("a hundred thousand tensors of one name", path,
                       repeated("{\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                                ",\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", 100000, "}"),
                       "the name occurs twice");
}

/* Ten thousand tensors on one range of a megabyte: what they would read together is 10 GB. */
static void many_tensors_on_one_range_are_refused(void **state) {
  (void)state;
  mg_bytes bytes = {0};
  mg_bytes_zeros(&bytes, 8);
  for (int i = 0; i < 10000; i++) {
    char row[128];
    const int length =
        snprintf(row, sizeof row, "%c\"%d\":{\"dtype\":\"U8\",\"shape\":[1000000],\"data_offsets\":[0,1000000]}",
                 i ? ',' : '{', i);
    mg_bytes_add(&bytes, row, (size_t)length);
  }
  mg_bytes_add(&bytes, "}", 1);
  mg_bytes_set(&bytes, 0, 8, bytes.bytes - 8);
  mg_bytes_zeros(&bytes, 1000000);
  mg_must_refuse_bytes("tensors on one range", path, bytes, "overlap");
}

/* ---- file system ----------------------------------------------------------------------------------------------------- */

static void what_is_no_file_is_refused(void **state) {
  (void)state;
  char other[96];
  mg_must_refuse("nothing there", "/nonexistent/a.safetensors", 0, "cannot be opened");
  mg_must_refuse("/dev/zero", "/dev/zero", 0, "no regular file");
  mg_must_refuse("an empty folder", folder, 0, "holds neither");
  snprintf(other, sizeof other, "%s/folder.safetensors", folder);
  assert_int_equal(mkdir(other, 0755), 0);
  mg_must_refuse("a folder with a file's name", other, 0, "holds neither");
  snprintf(other, sizeof other, "%s/fifo.safetensors", folder);
  assert_int_equal(mkfifo(other, 0644), 0);
  mg_must_refuse("a FIFO", other, 0, "no regular file");
  snprintf(other, sizeof other, "%s/loop.safetensors", folder);
  assert_int_equal(symlink(other, other), 0);
  mg_must_refuse("a link to itself", other, 0, "cannot be opened");
  mg_bytes bytes = good_file();
  snprintf(other, sizeof other, "%s/secret.safetensors", folder);
  mg_bytes_write(&bytes, other);
  assert_int_equal(chmod(other, 0), 0);
  if (geteuid() != 0) mg_must_refuse("no permission", other, bytes.bytes, "Permission denied");
  mg_bytes_free(&bytes);
}

/* A sparse terabyte costs nothing to look at, whether it begins with zeros or is a good header over a hole. */
static void a_sparse_terabyte_is_quick(void **state) {
  (void)state;
  static const char header[] = A("F32", "[274877906944]", "[0,1099511627776]");
  const off_t terabyte = (off_t)1 << 40;
  mg_bytes bytes = {0};
  mg_bytes_write(&bytes, path);
  if (truncate(path, terabyte) != 0) skip(); /* a file system without sparse files of this size */
  mg_must_refuse("a terabyte of zeros", path, 0, "malformed JSON");
  mg_bytes_text(&bytes, header);
  mg_bytes_write(&bytes, path);
  assert_int_equal(truncate(path, terabyte + (off_t)bytes.bytes), 0);
  mg_must_open("a terabyte of weights", path, 0);
  assert_int_equal(truncate(path, terabyte + (off_t)bytes.bytes - 1), 0);
  mg_must_refuse("a terabyte less one byte", path, 0, "beyond the end");
  mg_bytes_free(&bytes);
}

/* Last: what was promised is not made smaller by a change above. */
static void the_files_were_many(void **state) {
  (void)state;
  assert_true(mg_refused_count() >= 150);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(bad_headers_are_refused),
                                     cmocka_unit_test(odd_but_legal_headers_are_opened),
                                     cmocka_unit_test(bad_lengths_are_refused),
                                     cmocka_unit_test(every_prefix_is_refused),
                                     cmocka_unit_test(no_flipped_bit_does_harm),
                                     cmocka_unit_test(deep_and_long_headers_are_refused),
                                     cmocka_unit_test(many_tensors_on_one_range_are_refused),
                                     cmocka_unit_test(what_is_no_file_is_refused),
                                     cmocka_unit_test(a_sparse_terabyte_is_quick),
                                     cmocka_unit_test(the_files_were_many)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
