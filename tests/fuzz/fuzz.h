/* What fuzz targets share: an input as a file that readers can open by path. */
#ifndef MG_TESTS_FUZZ_FUZZ_H
#define MG_TESTS_FUZZ_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

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

#endif
