/* A tokenizer file, moegauge's own or a released tokenizer.json; one that loads encodes a text and decodes the ids. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[MG_FUZZ_PATH_BYTES];
  mg_context *context;
  mg_tokenizer *tokenizer;
  const int descriptor = mg_fuzz_file(data, size, path);
  if (mg_context_create(NULL, &context) != MG_OK) abort();
  if (mg_tokenizer_load(context, path, &tokenizer) == MG_OK) mg_fuzz_tokenizer(context, tokenizer);
  if (mg_context_bytes(context) != 0) abort();
  mg_context_destroy(context);
  close(descriptor);
  return 0;
}
