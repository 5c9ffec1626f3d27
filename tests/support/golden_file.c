/* Reading the compressed golden files of tests/golden. */
#include "support/golden_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "support/testing.h"

mg_golden_file mg_golden_file_open(const char *name) {
  enum { STEP = 1 << 20 };
  const char *source = getenv("MOEGAUGE_SOURCE");
  char path[4096];
  snprintf(path, sizeof path, "%s/tests/golden/%s", source ? source : ".", name);
  gzFile file = gzopen(path, "rb");
  if (!file) fail_msg("%s: cannot be opened", path);
  mg_golden_file golden = {0};
  for (int got = 1; got > 0; golden.bytes += (size_t)(got > 0 ? got : 0)) {
    golden.data = realloc(golden.data, golden.bytes + STEP);
    assert_non_null(golden.data);
    got = gzread(file, golden.data + golden.bytes, STEP);
    if (got < 0) fail_msg("%s: is damaged", path);
  }
  gzclose(file);
  return golden;
}

void mg_golden_file_close(mg_golden_file *golden) {
  free(golden->data);
  *golden = (mg_golden_file){0};
}

const unsigned char *mg_golden_file_bytes(mg_golden_file *golden, size_t bytes) {
  if (bytes > golden->bytes - golden->at) fail_msg("the golden file ends at byte %zu", golden->bytes);
  golden->at += bytes;
  return golden->data + golden->at - bytes;
}

uint16_t mg_golden_file_u16(mg_golden_file *golden) {
  const unsigned char *at = mg_golden_file_bytes(golden, 2);
  return (uint16_t)(at[0] | at[1] << 8);
}

uint32_t mg_golden_file_u32(mg_golden_file *golden) {
  const uint32_t low = mg_golden_file_u16(golden);
  return low | (uint32_t)mg_golden_file_u16(golden) << 16;
}

json_t *mg_golden_tokenizer_json(const char *kind) {
  char name[64];
  snprintf(name, sizeof name, "tokenizers/%s.gz", kind);
  mg_golden_file file = mg_golden_file_open(name);
  const size_t bytes = mg_golden_file_u32(&file);
  json_t *json = json_loadb((const char *)mg_golden_file_bytes(&file, bytes), bytes, JSON_ALLOW_NUL, NULL);
  assert_non_null(json);
  mg_golden_file_close(&file);
  return json;
}

mg_tokenizer *mg_golden_tokenizer(mg_context *context, const char *kind) {
  mg_tokenizer *tokenizer;
  json_t *json = mg_golden_tokenizer_json(kind);
  assert_ok(context, mg_tokenizer_from_json(context, json, &tokenizer));
  json_decref(json);
  return tokenizer;
}

void mg_golden_round_trip(mg_context *context, mg_tokenizer *tokenizer, const char *text, size_t bytes, bool exact) {
  mg_token_list list = {0};
  mg_text back = {0};
  assert_ok(context, mg_tokenizer_encode(tokenizer, text, bytes, 0, &list));
  for (size_t i = 0; i < list.count; i++) assert_in_range(list.ids[i], 0, mg_tokenizer_vocabulary(tokenizer) - 1);
  assert_ok(context, mg_tokenizer_decode(tokenizer, list.ids, (int64_t)list.count, 0, &back));
  if (exact) {
    assert_int_equal(back.count, bytes);
    if (bytes) assert_memory_equal(back.bytes, text, bytes);
  }
  mg_token_list_free(context, &list);
  mg_text_free(context, &back);
}
