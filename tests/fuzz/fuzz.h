/* What fuzz targets share: an input as a file that readers can open by path. */
#ifndef MG_TESTS_FUZZ_FUZZ_H
#define MG_TESTS_FUZZ_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/tokenizer.h"
#include "support/checkpoint_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MG_FUZZ_PATH_BYTES = 64 };
/* A file in memory that holds the input, and its path. Close the descriptor to end it. */
static inline int mg_fuzz_file(const uint8_t *data, size_t size, char path[MG_FUZZ_PATH_BYTES]) {
  const int descriptor = memfd_create("input", MFD_CLOEXEC);
  if (descriptor < 0 || write(descriptor, data, size) != (ssize_t)size) abort();
  snprintf(path, MG_FUZZ_PATH_BYTES, "/proc/self/fd/%d", descriptor);
  return descriptor;
}

/* Encodes a short text, decodes what comes out, and ends the tokenizer, which may be NULL. */
static inline void mg_fuzz_tokenizer(mg_context *context, mg_tokenizer *tokenizer) {
  static const char text[] = "The expert's 42 tokens \xe2\x82\xac\n";
  mg_token_list list = {0};
  mg_text back = {0};
  if (tokenizer && mg_tokenizer_encode(tokenizer, text, sizeof text - 1, 0, &list) == MG_OK)
    mg_tokenizer_decode(tokenizer, list.ids, (int64_t)list.count, 0, &back);
  mg_token_list_free(context, &list);
  mg_text_free(context, &back);
  mg_tokenizer_destroy(tokenizer);
}

#endif
