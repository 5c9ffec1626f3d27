/* The tensors of all files under one numbering, their names, and the scales that belong to them. */
#include <stdio.h>
#include <string.h>

#include "model/checkpoint/internal.h"

/* ---- growing ------------------------------------------------------------------------------------------------- */

mg_status mg__entries_add(mg_checkpoint *checkpoint, mg__file *file, uint64_t count) {
  uint64_t all;
  if (!mg__add(checkpoint->count, count, &all) || all > checkpoint->limits.tensors)
    return mg__file_refuse(checkpoint, file, MG__NOWHERE, NULL, NULL, "more than %llu tensors",
                           (unsigned long long)checkpoint->limits.tensors);
  file->first = checkpoint->count;
  file->count = (size_t)count;
  if (count == 0) return MG_OK;
  mg__entry *moved = mg_resize(checkpoint->context, checkpoint->entries, checkpoint->room * sizeof *moved,
                               (size_t)all * sizeof *moved);
  if (!moved) return MG_MEMORY;
  checkpoint->entries = moved;
  checkpoint->room = checkpoint->count = (size_t)all;
  return MG_OK;
}

mg_status mg__keys_add(mg_checkpoint *checkpoint, uint64_t count) {
  if (count > checkpoint->limits.keys)
    return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, NULL, NULL,
                           "more than %llu keys of metadata", (unsigned long long)checkpoint->limits.keys);
  checkpoint->keys = mg_alloc(checkpoint->context, (size_t)count * sizeof *checkpoint->keys);
  if (count && !checkpoint->keys) return MG_MEMORY;
  checkpoint->keys_count = (size_t)count;
  return MG_OK;
}

/* ---- names --------------------------------------------------------------------------------------------------- */

mg__file *mg__file_of(const mg_checkpoint *checkpoint, size_t index) {
  size_t low = 0, high = checkpoint->files_count - 1;
  while (low < high) { /* the last file that begins at or before `index`; empty ones lie before it */
    const size_t middle = (low + high + 1) / 2;
    if (checkpoint->files[middle].first <= index)
      low = middle;
    else
      high = middle - 1;
  }
  return &checkpoint->files[low];
}

const char *mg__tensor_name(const mg_checkpoint *checkpoint, size_t index) {
  return &mg__file_of(checkpoint, index)->header[checkpoint->entries[index].name];
}

static const char *tensor_name_of(const void *owner, size_t index) {
  return mg__tensor_name(owner, index);
}

mg_status mg__index_tensors(mg_checkpoint *checkpoint) {
  MG_TRY(mg__names_create(checkpoint->context, checkpoint->count, &checkpoint->names));
  for (size_t i = 0; i < checkpoint->count; i++) {
    const int64_t other = mg__names_add(&checkpoint->names, checkpoint, tensor_name_of, i);
    if (other < 0) continue;
    const mg__file *file = mg__file_of(checkpoint, i), *earlier = mg__file_of(checkpoint, (size_t)other);
    const char *name = mg__tensor_name(checkpoint, i);
    if (file == earlier) return mg__file_refuse(checkpoint, file, MG__NOWHERE, "tensor", name, "the name occurs twice");
    return mg__file_refuse(checkpoint, file, MG__NOWHERE, "tensor", name, "it is also in %s", earlier->path);
  }
  return MG_OK;
}

/* ---- sizes --------------------------------------------------------------------------------------------------- */

const char *mg__measure(mg_checkpoint_tensor *tensor) {
  const mg_storage_info *about = mg_storage_about(tensor->storage);
  uint64_t values = 1, bits;
  bool empty = false;
  for (int32_t i = 0; i < tensor->dims; i++) { /* a size of 0 does not excuse the others */
    const uint64_t size = (uint64_t)tensor->shape[i];
    empty = empty || size == 0;
    if (!mg__multiply(values, size ? size : 1, &values)) return "a shape of more than 2^64 elements";
  }
  /* Blocks first: the bits of one value may be no whole number. */
  if (!mg__multiply(values / about->block_values, about->block_bits, &bits) || values > INT64_MAX)
    return "a shape of more than 2^63 bits";
  if (empty) values = bits = 0;
  tensor->columns = tensor->dims ? tensor->shape[tensor->dims - 1] : 1;
  if (tensor->columns % about->block_values != 0) return "rows that are no whole number of blocks of its type";
  if (bits % 8 != 0) return "a shape that takes no whole number of bytes";
  tensor->rows = tensor->columns ? (int64_t)(values / (uint64_t)tensor->columns) : 0;
  tensor->bytes = bits / 8;
  return NULL;
}

/* ---- what callers ask ---------------------------------------------------------------------------------------- */

int64_t mg_checkpoint_count(const mg_checkpoint *checkpoint) {
  return (int64_t)checkpoint->count;
}

void mg_checkpoint_at(const mg_checkpoint *checkpoint, int64_t index, mg_checkpoint_tensor *out) {
  const mg__entry *entry = &checkpoint->entries[index];
  const mg__file *file = mg__file_of(checkpoint, (size_t)index);
  *out = (mg_checkpoint_tensor){.name = &file->header[entry->name], .index = index, .scales = -1};
  if (checkpoint->format == MG_CHECKPOINT_GGUF)
    mg__gguf_describe(file, entry, out);
  else
    mg__safetensors_describe(file, entry, out);
}

int64_t mg_checkpoint_find(const mg_checkpoint *checkpoint, const char *name) {
  return mg__names_find(&checkpoint->names, checkpoint, tensor_name_of, name);
}

/* The tensor NAME and `suffix`; false if there is none. */
static bool find_with(const mg_checkpoint *checkpoint, const char *name, const char *suffix,
                      mg_checkpoint_tensor *out) {
  char longer[2048];
  const int length = snprintf(longer, sizeof longer, "%s%s", name, suffix);
  const int64_t index = length > 0 && (size_t)length < sizeof longer ? mg_checkpoint_find(checkpoint, longer) : -1;
  if (index >= 0) mg_checkpoint_at(checkpoint, index, out);
  return index >= 0;
}

static mg_status refuse_scales(const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *scales, const char *rule) {
  return mg__file_refuse(checkpoint, mg__file_of(checkpoint, (size_t)scales->index), MG__NOWHERE, "tensor",
                         scales->name, "%s", rule);
}

static int64_t blocks_of_128(int64_t size) {
  return size / 128 + (size % 128 != 0);
}

/* One factor for each 128 x 128 of the last two dimensions, the others alike. */
static mg_status complete_blocks(const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *scales,
                                 mg_checkpoint_tensor *out) {
  bool fits = scales->dims == out->dims && out->dims >= 2 && mg_storage_is_real(scales->storage);
  for (int32_t i = 0; fits && i < out->dims; i++) {
    const int64_t wanted = i < out->dims - 2 ? out->shape[i] : blocks_of_128(out->shape[i]);
    fits = scales->shape[i] == wanted;
  }
  if (!fits) return refuse_scales(checkpoint, scales, "scales that are not one float for each 128 x 128 of the weight");
  out->scaling = MG_SCALING_BLOCKS_128;
  out->scales = scales->index;
  return MG_OK;
}

/* Blocks u8 [.., groups, 16] and scales u8 [.., groups] become mxfp4 [.., 32 groups]. */
static mg_status complete_pair(const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *scales,
                               mg_checkpoint_tensor *out) {
  bool fits = scales->dims + 1 == out->dims && out->storage == MG_STORAGE_U8 && out->columns == 16 &&
              (scales->storage == MG_STORAGE_U8 || scales->storage == MG_STORAGE_F8_E8M0) && scales->dims >= 1;
  for (int32_t i = 0; fits && i < scales->dims; i++) fits = scales->shape[i] == out->shape[i];
  if (!fits)
    return refuse_scales(checkpoint, scales, "scales u8 [.., groups] that do not fit blocks u8 [.., groups, 16]");
  out->storage = MG_STORAGE_MXFP4;
  out->scaling = MG_SCALING_MXFP4_PAIR;
  out->scales = scales->index;
  out->dims = scales->dims;
  out->columns = out->shape[out->dims - 1] *= 32;
  out->rows = scales->rows;
  return MG_OK;
}

mg_status mg_checkpoint_get(const mg_checkpoint *checkpoint, const char *name, mg_checkpoint_tensor *out) {
  mg_checkpoint_tensor scales;
  if (find_with(checkpoint, name, "", out)) {
    const bool small = out->storage == MG_STORAGE_F8_E4M3 || out->storage == MG_STORAGE_F8_E5M2;
    if (!small || !find_with(checkpoint, name, "_scale_inv", &scales)) return MG_OK;
    return complete_blocks(checkpoint, &scales, out);
  }
  if (find_with(checkpoint, name, "_blocks", out) && find_with(checkpoint, name, "_scales", &scales))
    return complete_pair(checkpoint, &scales, out);
  return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "tensor", name, "%s",
                         checkpoint->files_count > 1 ? "neither this file nor the others hold it, but it is needed"
                                                     : "the file lacks it, but it is needed");
}
