/* A GGUF file and the tokenizer that its metadata describe. */
#include "fuzz/fuzz.h"
#include "model/checkpoint_vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[MG_FUZZ_PATH_BYTES];
  mg_context *context;
  mg_checkpoint *checkpoint;
  mg_tokenizer *tokenizer;
  const int descriptor = mg_fuzz_file(data, size, path);
  if (mg_context_create(NULL, &context) != MG_OK) abort();
  if (mg_checkpoint_open(context, path, NULL, &checkpoint) == MG_OK &&
      mg_checkpoint_tokenizer(checkpoint, &tokenizer) == MG_OK)
    mg_fuzz_tokenizer(context, tokenizer);
  mg_checkpoint_close(checkpoint);
  if (mg_context_bytes(context) != 0) abort();
  mg_context_destroy(context);
  close(descriptor);
  return 0;
}
