/* An index of shards beside two good shards, 1.safetensors with tensor a and 2.safetensors with tensor b. */
#include "fuzz/fuzz.h"

#include <fcntl.h>

static const char *const shards[] = {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
                                     "{\"b\":{\"dtype\":\"U8\",\"shape\":[6],\"data_offsets\":[0,6]}}"};
static char folder[] = "/tmp/moegauge-fuzz-XXXXXX", path[96];

static void remove_folder(void) {
  for (int i = 1; i <= 2; i++) {
    snprintf(path, sizeof path, "%s/%d.safetensors", folder, i);
    unlink(path);
  }
  snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
  unlink(path);
  rmdir(folder);
}

static void make_folder(void) {
  if (path[0]) return;
  if (!mkdtemp(folder) || atexit(remove_folder) != 0) abort();
  for (int i = 1; i <= 2; i++) {
    mg_bytes shard = mg_bytes_safetensors(shards[i - 1], i == 1 ? 4 : 6);
    snprintf(path, sizeof path, "%s/%d.safetensors", folder, i);
    mg_bytes_write(&shard, path);
    mg_bytes_free(&shard);
  }
  snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  make_folder();
  const mg_bytes input = {.data = (uint8_t *)(uintptr_t)data, .bytes = size};
  mg_bytes_write(&input, path);
  mg_open_within_rules("input", path, size + 1024);
  return 0;
}
