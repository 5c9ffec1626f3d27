/* A GGUF file: the input with 256 zeros after it, so that tensors find data. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  enum { DATA_BYTES = 256 };
  char path[MG_FUZZ_PATH_BYTES];
  mg_bytes bytes = {0};
  mg_bytes_add(&bytes, "GGUF", 4); /* without it the input would be taken for safetensors */
  mg_bytes_add(&bytes, data + (size < 4 ? size : 4), size < 4 ? 0 : size - 4);
  mg_bytes_zeros(&bytes, DATA_BYTES);
  const int descriptor = mg_fuzz_file(bytes.data, bytes.bytes, path);
  mg_open_within_rules("input", path, bytes.bytes);
  close(descriptor);
  mg_bytes_free(&bytes);
  return 0;
}
