/* A tokenizer file; one that loads encodes a short text and decodes what comes out. */
#include "fuzz/fuzz.h"

#include "model/tokenizer.h"

static void use(mg_tokenizer *tokenizer, mg_context *context) {
  static const char text[] = "The expert's 42 tokens \xe2\x82\xac\n";
  char back[512];
  mg_token_list list = {0};
  if (mg_tokenizer_encode(tokenizer, text, sizeof text - 1, 0, &list) == MG_OK)
    mg_tokenizer_decode(tokenizer, list.ids, (int64_t)list.count, back, sizeof back);
  mg_token_list_free(context, &list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[MG_FUZZ_PATH_BYTES];
  mg_context *context;
  mg_tokenizer *tokenizer;
  const int descriptor = mg_fuzz_file(data, size, path);
  if (mg_context_create(NULL, &context) != MG_OK) abort();
  if (mg_tokenizer_load(context, path, &tokenizer) == MG_OK) use(tokenizer, context);
  mg_tokenizer_destroy(tokenizer);
  if (mg_context_bytes(context) != 0) abort();
  mg_context_destroy(context);
  close(descriptor);
  return 0;
}
