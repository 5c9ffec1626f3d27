/* The header of a GGUF file, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), all little
 * endian: "GGUF", u32 version, u64 tensors, u64 keys; the keys with typed values; for each tensor its name, sizes from
 * the innermost on, type and offset; then, aligned, the data, one tensor after the other, each aligned. */
#include "model/checkpoint/gguf.h"

#include <string.h>

enum { DIMS_MAX = 4, ALIGNMENT_DEFAULT = 32, ALIGNMENT_MAX = 1 << 20, AHEAD_LEAST = 64 << 10 };
/* The least that a key with its value and a tensor's description take. */
enum { KEY_BYTES_LEAST = 13, TENSOR_BYTES_LEAST = 24 };

/* ---- a cursor that stays within the file ------------------------------------------------------------------------- */

mg_status mg__gguf_refuse(const mg__gguf *gguf, const char *rule) {
  const char *name = gguf->kind ? &gguf->file->header[gguf->subject] : NULL;
  return mg__file_refuse(gguf->checkpoint, gguf->file, gguf->at, gguf->kind, name, "%s", rule);
}

mg_status mg__gguf_take(mg__gguf *gguf, uint64_t bytes, uint64_t *begin) {
  uint64_t end;
  const uint64_t more = gguf->file->header_bytes >> 1;
  *begin = gguf->at;
  if (bytes > gguf->file->bytes - gguf->at || !mg__add(gguf->at, bytes, &end))
    return mg__gguf_refuse(gguf, "more bytes are declared than the file has left");
  MG_TRY(mg__file_want(gguf->checkpoint, gguf->file, end, more > AHEAD_LEAST ? more : AHEAD_LEAST));
  gguf->at = end;
  return MG_OK;
}

uint64_t mg__little_endian(const void *from, unsigned bytes) {
  const unsigned char *in = from;
  uint64_t value = 0;
  for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)in[i] << (i << 3);
  return value;
}

mg_status mg__gguf_number(mg__gguf *gguf, unsigned bytes, uint64_t *out) {
  uint64_t begin = 0;
  MG_TRY(mg__gguf_take(gguf, bytes, &begin));
  *out = mg__little_endian(&gguf->file->header[begin], bytes);
  return MG_OK;
}

/* A u64 length and as many bytes. They move over the topmost byte of their length, which is 0, so that a NUL fits. */
mg_status mg__gguf_text(mg__gguf *gguf, uint64_t most, uint32_t *out, uint64_t *length) {
  uint64_t begin = 0;
  *out = 0;
  MG_TRY(mg__gguf_number(gguf, 8, length));
  if (*length > most) return mg__gguf_refuse(gguf, "a text that is longer than the limit");
  MG_TRY(mg__gguf_take(gguf, *length, &begin));
  char *text = &gguf->file->header[begin - 1];
  memmove(text, &text[1], (size_t)*length);
  text[*length] = '\0';
  *out = (uint32_t)(begin - 1);
  return MG_OK;
}

/* A key or a tensor's name, which messages name from here on. */
static mg_status read_name(mg__gguf *gguf, const char *kind, uint32_t *out) {
  uint64_t length;
  gguf->kind = NULL;
  MG_TRY(mg__gguf_text(gguf, gguf->checkpoint->limits.name_bytes, out, &length));
  const char *name = &gguf->file->header[*out];
  gguf->kind = kind;
  gguf->subject = *out;
  if (strlen(name) != length || mg__utf8_valid(name, (size_t)length) != length)
    return mg__gguf_refuse(gguf, "a name with a NUL or bytes that are not UTF-8");
  return MG_OK;
}

/* ---- the parts of a header ----------------------------------------------------------------------------------------- */

bool mg__gguf_magic(const mg__file *file) {
  char magic[4];
  return file->bytes >= sizeof magic && mg__file_read(file, magic, sizeof magic, 0) && memcmp(magic, "GGUF", 4) == 0;
}

static mg_status read_start(mg__gguf *gguf, uint64_t *tensors, uint64_t *keys) {
  uint64_t magic, version;
  MG_TRY(mg__gguf_number(gguf, 4, &magic));
  MG_TRY(mg__gguf_number(gguf, 4, &version));
  if (magic != 0x46554747) return mg__gguf_refuse(gguf, "the file does not begin with GGUF");
  if (version != 0 && (version & 0xffff) == 0)
    return mg__gguf_refuse(gguf, "a big-endian GGUF file; little-endian ones are read");
  if (version != 2 && version != 3) return mg__gguf_refuse(gguf, "a GGUF version other than 2 and 3");
  MG_TRY(mg__gguf_number(gguf, 8, tensors));
  MG_TRY(mg__gguf_number(gguf, 8, keys));
  if (*keys > gguf->checkpoint->limits.keys)
    return mg__gguf_refuse(gguf, "more keys of metadata than the limit allows");
  if (*tensors > gguf->checkpoint->limits.tensors) return mg__gguf_refuse(gguf, "more tensors than the limit allows");
  return MG_OK;
}

/* `count` items of at least `least` bytes must fit in what is left, before anything is allocated for them. */
static mg_status expect(const mg__gguf *gguf, uint64_t count, uint64_t least) {
  uint64_t bytes;
  if (mg__multiply(count, least, &bytes) && bytes <= gguf->file->bytes - gguf->at) return MG_OK;
  return mg__gguf_refuse(gguf, "more keys or tensors are declared than the file has bytes for");
}

static mg_status read_keys(mg__gguf *gguf, uint64_t count, bool keep) {
  for (uint64_t i = 0; i < count; i++) {
    mg__key key;
    MG_TRY(read_name(gguf, "key", &key.name));
    key.value = (uint32_t)gguf->at;
    MG_TRY(mg__gguf_read_value(gguf));
    MG_TRY(mg__gguf_note(gguf, &key));
    if (keep) gguf->checkpoint->keys[i] = key;
  }
  gguf->kind = NULL;
  return MG_OK;
}

static mg_status read_alignment(mg__gguf *gguf) {
  const uint64_t alignment = gguf->alignment;
  gguf->kind = NULL;
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > ALIGNMENT_MAX)
    return mg__file_refuse(gguf->checkpoint, gguf->file, MG__NOWHERE, "key", "general.alignment",
                           "%llu is no power of two of at most 1 MiB", (unsigned long long)alignment);
  return MG_OK;
}

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

/* Decodes sizes, type and offset, whose lengths were checked. Returns the rule that they break, or NULL. */
static const char *decode_tensor(const char *about, mg_checkpoint_tensor *out, uint64_t *offset) {
  const char *at = &about[4];
  out->dims = (int32_t)mg__little_endian(about, 4);
  for (int32_t i = out->dims; i > 0; i--, at = &at[8]) {
    const uint64_t size = mg__little_endian(at, 8);
    if (size > INT64_MAX) return "a size of more than 2^63 - 1 in its shape";
    out->shape[i - 1] = (int64_t)size;
  }
  *offset = mg__little_endian(&at[4], 8);
  if (!mg_storage_from_gguf((uint32_t)mg__little_endian(at, 4), &out->storage)) return "a type that GGUF does not know";
  return mg__measure(out);
}

void mg__gguf_describe(const mg__file *file, const mg__entry *entry, mg_checkpoint_tensor *out) {
  uint64_t offset;
  decode_tensor(&file->header[entry->about], out, &offset); /* was checked when the file was opened */
}

/* Reads one description. The data of tensor i begin where those of the one before end, aligned. */
static mg_status read_tensor(mg__gguf *gguf, mg__entry *entry, uint64_t *next) {
  uint64_t dims, bytes, begin, end, offset;
  mg_checkpoint_tensor tensor;
  MG_TRY(read_name(gguf, "tensor", &entry->name));
  entry->about = (uint32_t)gguf->at;
  MG_TRY(mg__gguf_number(gguf, 4, &dims));
  if (dims > DIMS_MAX) return mg__gguf_refuse(gguf, "a shape of more than 4 dimensions");
  if (!mg__multiply(dims, 8, &bytes)) return MG_BUG; /* dims is at most 4 */
  MG_TRY(mg__gguf_take(gguf, bytes, &begin));
  MG_TRY(mg__gguf_take(gguf, 12, &begin));
  const char *rule = decode_tensor(&gguf->file->header[entry->about], &tensor, &offset);
  if (rule) return mg__gguf_refuse(gguf, rule);
  if (offset != *next) return mg__gguf_refuse(gguf, "an offset that does not follow the tensor before it, aligned");
  if (!mg__add(offset, tensor.bytes, &end) || !mg__align_up(end, gguf->alignment, next))
    return mg__gguf_refuse(gguf, "data of more than 2^64 bytes");
  entry->begin = offset;
  return MG_OK;
}

/* Turns offsets within the data into offsets within the file. */
static mg_status place_tensor(const mg__gguf *gguf, size_t index) {
  mg_checkpoint *checkpoint = gguf->checkpoint;
  mg__entry *entry = &checkpoint->entries[index];
  mg_checkpoint_tensor tensor;
  uint64_t begin, end;
  mg__gguf_describe(gguf->file, entry, &tensor);
  if (!mg__add(gguf->file->data_begin, entry->begin, &begin) || !mg__add(begin, tensor.bytes, &end) ||
      end > gguf->file->bytes)
    return mg__file_refuse(checkpoint, gguf->file, MG__NOWHERE, "tensor", &gguf->file->header[entry->name],
                           "data beyond the end of the file");
  entry->begin = begin;
  return MG_OK;
}

static mg_status read_tensors(mg__gguf *gguf, uint64_t count) {
  mg__file *file = gguf->file;
  uint64_t next = 0;
  MG_TRY(expect(gguf, count, TENSOR_BYTES_LEAST));
  MG_TRY(mg__entries_add(gguf->checkpoint, file, count));
  mg__entry *entry = count ? &gguf->checkpoint->entries[file->first] : NULL;
  for (uint64_t i = 0; i < count; i++, entry++) MG_TRY(read_tensor(gguf, entry, &next));
  gguf->kind = NULL;
  if (!mg__align_up(gguf->at, gguf->alignment, &file->data_begin))
    return mg__gguf_refuse(gguf, "data beyond 2^64 bytes");
  size_t index = file->first;
  for (uint64_t i = 0; i < count; i++) MG_TRY(place_tensor(gguf, index++));
  return mg__file_trim(gguf->checkpoint, file, gguf->at);
}

mg_status mg__gguf_parse(mg__gguf *gguf, mg_checkpoint *checkpoint, mg__file *file) {
  const bool keep = file == checkpoint->files;
  uint64_t tensors = 0, keys = 0;
  *gguf = (mg__gguf){.checkpoint = checkpoint,
                     .file = file,
                     .alignment = ALIGNMENT_DEFAULT,
                     .split_number = -1,
                     .split_count = -1,
                     .split_tensors = -1};
  MG_TRY(read_start(gguf, &tensors, &keys));
  MG_TRY(expect(gguf, keys, KEY_BYTES_LEAST));
  if (keep) MG_TRY(mg__keys_add(checkpoint, keys));
  MG_TRY(read_keys(gguf, keys, keep));
  MG_TRY(read_alignment(gguf));
  return read_tensors(gguf, tensors);
}
