/* The checksum of a safetensors file that moegauge wrote: XXH3-128 of the whole file with its own digits as zeros. */
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint/internal.h"
#include "model/safetensors_format.h"

static mg_status refuse(const mg__file *file, const mg_checkpoint *checkpoint, const char *rule) {
  return mg__file_refuse(checkpoint, file, MG__NOWHERE, "key", MG__CHECKSUM_KEY, "%s", rule);
}

static mg_status hash_file(const mg_checkpoint *checkpoint, uint64_t digits_at, XXH3_state_t *state, char *block) {
  const mg__file *file = &checkpoint->files[0];
  XXH3_128bits_reset(state);
  for (uint64_t done = 0; done < file->bytes;) {
    const uint64_t left = file->bytes - done, part = left < MG__SAFETENSORS_BLOCK ? left : MG__SAFETENSORS_BLOCK;
    if (!mg__file_read(file, block, part, done)) return refuse(file, checkpoint, "the file cannot be read whole");
    for (uint64_t i = 0; i < MG__CHECKSUM_DIGITS; i++)
      if (digits_at + i >= done && digits_at + i < done + part) block[digits_at + i - done] = '0';
    XXH3_128bits_update(state, block, (size_t)part);
    done += part;
  }
  return MG_OK;
}

mg_status mg_checkpoint_verify(const mg_checkpoint *checkpoint) {
  const mg__file *file = &checkpoint->files[0];
  char found[MG__CHECKSUM_DIGITS + 1];
  mg_value value;
  if (checkpoint->format != MG_CHECKPOINT_SAFETENSORS || checkpoint->files_count != 1 ||
      !mg_checkpoint_value(checkpoint, MG__CHECKSUM_KEY, &value) || value.text_bytes != MG__CHECKSUM_DIGITS)
    return refuse(file, checkpoint, "there is no checksum");
  const char *expected = (const char *)value.data;
  XXH3_state_t *state = XXH3_createState();
  char *block = mg_alloc(checkpoint->context, MG__SAFETENSORS_BLOCK);
  mg_status status = state && block ? MG_OK : mg_fail(checkpoint->context, MG_MEMORY, "%s: no memory", file->path);
  if (status == MG_OK)
    status = hash_file(checkpoint, file->header_begin + (uint64_t)(expected - file->header), state, block);
  if (status == MG_OK) {
    mg__hash_text(XXH3_128bits_digest(state), found);
    if (strcmp(found, expected) != 0) status = refuse(file, checkpoint, "the checksum does not fit the content");
  }
  XXH3_freeState(state);
  mg_free(checkpoint->context, block, block ? MG__SAFETENSORS_BLOCK : 0);
  return status;
}
