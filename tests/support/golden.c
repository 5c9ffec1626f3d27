/* Reading the compressed golden files of tests/golden. */
#include "support/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "support/testing.h"

mg_golden mg_golden_open(const char *name) {
  enum { STEP = 1 << 20 };
  const char *source = getenv("MOEGAUGE_SOURCE");
  char path[4096];
  snprintf(path, sizeof path, "%s/tests/golden/%s", source ? source : ".", name);
  gzFile file = gzopen(path, "rb");
  if (!file) fail_msg("%s: cannot be opened", path);
  mg_golden golden = {0};
  for (int got = 1; got > 0; golden.bytes += (size_t)(got > 0 ? got : 0)) {
    golden.data = realloc(golden.data, golden.bytes + STEP);
    assert_non_null(golden.data);
    got = gzread(file, golden.data + golden.bytes, STEP);
    if (got < 0) fail_msg("%s: is damaged", path);
  }
  gzclose(file);
  return golden;
}

void mg_golden_close(mg_golden *golden) {
  free(golden->data);
  *golden = (mg_golden){0};
}

const unsigned char *mg_golden_bytes(mg_golden *golden, size_t bytes) {
  if (bytes > golden->bytes - golden->at) fail_msg("the golden file ends at byte %zu", golden->bytes);
  golden->at += bytes;
  return golden->data + golden->at - bytes;
}

uint16_t mg_golden_u16(mg_golden *golden) {
  const unsigned char *at = mg_golden_bytes(golden, 2);
  return (uint16_t)(at[0] | at[1] << 8);
}

uint32_t mg_golden_u32(mg_golden *golden) {
  const uint32_t low = mg_golden_u16(golden);
  return low | (uint32_t)mg_golden_u16(golden) << 16;
}
