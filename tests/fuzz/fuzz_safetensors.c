/* A safetensors file whose header is the input: the length before it and zeros after it are made to fit, so that every
 * input reaches the parser. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  enum { DATA_BYTES = 64 };
  char path[MG_FUZZ_PATH_BYTES];
  mg_bytes bytes = {0};
  mg_bytes_number(&bytes, 8, size);
  mg_bytes_add(&bytes, data, size);
  mg_bytes_zeros(&bytes, DATA_BYTES);
  const int descriptor = mg_fuzz_file(bytes.data, bytes.bytes, path);
  mg_open_within_rules("input", path, bytes.bytes);
  close(descriptor);
  mg_bytes_free(&bytes);
  return 0;
}
