/* Writes a safetensors file: the header with a checksum of zeros, the data block by block, then the checksum. */
#include "model/safetensors_format.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/storage.h"

static json_t *describe(const mg_tensor *tensor, size_t begin) {
  json_t *shape = json_array();
  for (int32_t i = 0; i < tensor->dims; i++) json_array_append_new(shape, json_integer(tensor->shape[i]));
  const size_t end = begin + mg_tensor_bytes(tensor);
  return json_pack("{s:s, s:o, s:[I, I]}", "dtype", mg_storage_safetensors_name(mg_storage_of_dtype(tensor->dtype)),
                   "shape", shape, "data_offsets", (json_int_t)begin, (json_int_t)end);
}

/* The header's text (malloc'd), padded with spaces to a multiple of 8 so that the data is aligned. */
static char *header_text(const mg_safetensors_item *items, int64_t count, const json_t *metadata) {
  json_t *header = json_object(), *about = json_deep_copy(metadata);
  json_object_set_new(about, MG__CHECKSUM_KEY, json_string(MG__CHECKSUM_EMPTY));
  json_object_set_new(header, "__metadata__", about);
  size_t begin = 0;
  bool good = header && about;
  for (int64_t i = 0; i < count; i++) {
    good = good && json_object_set_new(header, items[i].name, describe(items[i].tensor, begin)) == 0;
    begin += mg_tensor_bytes(items[i].tensor);
  }
  char *text = good ? json_dumps(header, JSON_COMPACT) : NULL;
  json_decref(header);
  if (!text) return NULL;
  const size_t length = strlen(text), padded = (length + 7) / 8 * 8;
  char *longer = realloc(text, padded + 1);
  if (!longer) {
    free(text);
    return NULL;
  }
  memset(longer + length, ' ', padded - length);
  longer[padded] = '\0';
  return longer;
}

typedef struct writer {
  mg_backend *backend;
  mg_file_stream *stream;
  XXH3_state_t *hash;
  char *block; /* MG__SAFETENSORS_BLOCK bytes */
} writer;

static mg_status append(writer *w, const void *data, size_t bytes) {
  XXH3_128bits_update(w->hash, data, bytes);
  return mg_file_stream_append(w->stream, data, bytes);
}

static mg_status append_made(writer *w, const mg_safetensors_item *item) {
  mg_context *context = w->backend->context;
  const size_t bytes = mg_tensor_bytes(item->tensor);
  void *made = mg_alloc(context, bytes);
  if (bytes && !made) return MG_MEMORY;
  mg_status status = item->make(item->user, made);
  if (status == MG_OK) status = append(w, made, bytes);
  mg_free(context, made, bytes);
  return status;
}

static mg_status append_tensor(writer *w, const mg_safetensors_item *item) {
  const mg_tensor *tensor = item->tensor;
  const size_t bytes = mg_tensor_bytes(tensor);
  if (item->make) return append_made(w, item);
  for (size_t done = 0; done < bytes;) {
    const size_t part = bytes - done < MG__SAFETENSORS_BLOCK ? bytes - done : MG__SAFETENSORS_BLOCK;
    MG_TRY(w->backend->plugin->download(w->backend, w->block, (const char *)tensor->data + done, part));
    MG_TRY(append(w, w->block, part));
    done += part;
  }
  return MG_OK;
}

static mg_status write_all(writer *w, const char *header, const mg_safetensors_item *items, int64_t count) {
  const uint64_t length = strlen(header);
  unsigned char prefix[8];
  for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)(length >> (8 * i));
  MG_TRY(append(w, prefix, sizeof prefix));
  MG_TRY(append(w, header, length));
  for (int64_t i = 0; i < count; i++) MG_TRY(append_tensor(w, &items[i]));
  char checksum[MG__CHECKSUM_DIGITS + 1];
  mg__hash_text(XXH3_128bits_digest(w->hash), checksum);
  const char *place = strstr(header, MG__CHECKSUM_EMPTY);
  return mg_file_stream_patch(w->stream, sizeof prefix + (size_t)(place - header), checksum, MG__CHECKSUM_DIGITS);
}

mg_status mg_safetensors_write(mg_context *context, mg_backend *backend, const char *path,
                               const mg_safetensors_item *items, int64_t count, const json_t *metadata) {
  writer w = {.backend = backend, .hash = XXH3_createState(), .block = mg_alloc(context, MG__SAFETENSORS_BLOCK)};
  char *header = header_text(items, count, metadata);
  mg_status status = w.block ? MG_OK : MG_MEMORY;
  if (status == MG_OK && (!header || !w.hash)) status = mg_fail(context, MG_MEMORY, "%s: no memory to write it", path);
  if (status == MG_OK) status = backend->plugin->synchronize(backend);
  if (status == MG_OK) status = mg_file_stream_open(context, path, &w.stream);
  if (status == MG_OK) {
    XXH3_128bits_reset(w.hash);
    status = write_all(&w, header, items, count);
    if (status == MG_OK)
      status = mg_file_stream_commit(w.stream);
    else
      mg_file_stream_abandon(w.stream);
  }
  free(header);
  XXH3_freeState(w.hash);
  mg_free(context, w.block, w.block ? MG__SAFETENSORS_BLOCK : 0);
  return status;
}
