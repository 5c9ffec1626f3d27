/* The header of a safetensors file (https://huggingface.co/docs/safetensors): 8 bytes of length, little endian, then a
 * JSON object {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [begin, end]}}, then the data, which
 * the tensors cover without hole or overlap. White space may surround the object, as in the reference's reader. */
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint/internal.h"
#include "model/checkpoint/json.h"

enum { PREFIX_BYTES = 8, HEADER_BYTES_MAX = 100000000 };

static bool broken(mg__json *json, const char *rule) {
  if (!json->wrong) json->wrong = rule;
  return false;
}

static mg_status refuse_at(const mg_checkpoint *checkpoint, const mg__file *file, uint64_t at, const char *name,
                           const char *rule) {
  uint64_t place = MG__NOWHERE;
  if (!mg__add(file->header_begin, at, &place)) place = MG__NOWHERE;
  return mg__file_refuse(checkpoint, file, place, name ? "tensor" : NULL, name, "%s", rule);
}

/* ---- one tensor ---------------------------------------------------------------------------------------------- */

static bool read_dtype(mg__json *json, mg_storage *out) {
  mg__json_text text;
  char word[16];
  if (!mg__json_string(json, &text)) return false;
  if (text.bytes > sizeof word || !mg_storage_from_safetensors(word, mg__json_unescape(json, text, word), out))
    return broken(json, "a dtype that safetensors does not know");
  return true;
}

static bool read_shape(mg__json *json, mg_checkpoint_tensor *out) {
  bool first = true;
  uint64_t size;
  out->dims = 0;
  while (mg__json_element(json, &first)) {
    if (out->dims == MG_CHECKPOINT_DIMS_MAX) return broken(json, "a shape of more than 8 dimensions");
    if (!mg__json_whole(json, &size)) return false;
    if (size > INT64_MAX) return broken(json, "a size of more than 2^63 - 1 in its shape");
    out->shape[out->dims++] = (int64_t)size;
  }
  return !json->wrong;
}

static bool read_offsets(mg__json *json, uint64_t offsets[2]) {
  bool first = true;
  int count = 0;
  while (mg__json_element(json, &first)) {
    if (count == 2) return broken(json, "data_offsets of more than two numbers");
    if (!mg__json_whole(json, &offsets[count++])) return false;
  }
  if (json->wrong) return false;
  if (count != 2) return broken(json, "data_offsets that are no [begin, end]");
  return offsets[0] <= offsets[1] || broken(json, "data_offsets that end before they begin");
}

/* {"dtype", "shape", "data_offsets"}, each once and nothing else, and sizes that agree. */
static bool read_tensor(mg__json *json, mg_checkpoint_tensor *out, uint64_t offsets[2]) {
  static const char *const fields[] = {"dtype", "shape", "data_offsets"};
  bool first = true, seen[MG_COUNT(fields)] = {false};
  mg__json_text key;
  while (mg__json_member(json, &first, &key)) {
    size_t field = 0;
    while (field < MG_COUNT(fields) && !mg__json_equals(json, key, fields[field])) field++;
    if (field == MG_COUNT(fields)) return broken(json, "a field other than dtype, shape and data_offsets");
    if (seen[field]) return broken(json, "a field that occurs twice");
    seen[field] = true;
    const bool good = field == 0   ? read_dtype(json, &out->storage)
                      : field == 1 ? read_shape(json, out)
                                   : read_offsets(json, offsets);
    if (!good) return false;
  }
  if (json->wrong) return false;
  if (!seen[0] || !seen[1] || !seen[2]) return broken(json, "one of dtype, shape and data_offsets is missing");
  const char *rule = mg__measure(out);
  if (rule) return broken(json, rule);
  return offsets[1] - offsets[0] == out->bytes ||
         broken(json, "data_offsets of another size than dtype and shape take");
}

void mg__safetensors_describe(const mg__file *file, const mg__entry *entry, mg_checkpoint_tensor *out) {
  mg__json json = {.text = file->header, .bytes = file->header_bytes, .at = entry->about};
  uint64_t offsets[2];
  read_tensor(&json, out, offsets); /* was checked when the file was opened */
}

/* ---- the header, twice: to count and check, then to keep ------------------------------------------------------- */

typedef struct walk {
  mg_checkpoint *checkpoint;
  mg__file *file;
  mg__json json;
  uint64_t data_bytes;
  mg__entry *entries; /* of this file; NULL while they are only counted */
  bool keys_kept, metadata_seen;
  size_t tensors, keys;
  uint64_t next; /* where the next tensor's data begins if they come in order */
  bool ordered;
  const char *tensor; /* whose value is being read, for the message; ended by a NUL only when kept */
  char name[MG__PRINTABLE_BYTES];
} walk;

static bool walk_metadata(walk *w) {
  bool first = true;
  mg__json_text key, value;
  if (w->metadata_seen) return broken(&w->json, "__metadata__ occurs twice");
  w->metadata_seen = true;
  while (mg__json_member(&w->json, &first, &key)) {
    if (key.bytes > w->checkpoint->limits.name_bytes) return broken(&w->json, "a key of metadata that is too long");
    if (!mg__json_at_string(&w->json)) return broken(&w->json, "metadata that are no texts");
    if (!mg__json_string(&w->json, &value)) return false;
    if (w->keys_kept) {
      const uint32_t name = mg__json_settle(&w->json, key, w->file->header);
      w->checkpoint->keys[w->keys] = (mg__key){name, mg__json_settle(&w->json, value, w->file->header)};
    }
    if (w->keys++ == w->checkpoint->limits.keys) return broken(&w->json, "more keys of metadata than the limit allows");
  }
  return !w->json.wrong;
}

/* The start of a name, for messages. */
static void note_name(walk *w, mg__json_text key) {
  const size_t most = sizeof w->name - 1, bytes = key.bytes < most ? key.bytes : most;
  memcpy(w->name, &w->json.text[key.begin], bytes);
  w->name[bytes] = '\0';
  w->tensor = w->name;
}

static bool walk_tensor(walk *w, mg__json_text key) {
  mg_checkpoint_tensor tensor;
  uint64_t offsets[2], begin;
  note_name(w, key);
  if (key.bytes > w->checkpoint->limits.name_bytes) return broken(&w->json, "a name that is too long");
  if (w->tensors == w->checkpoint->limits.tensors) return broken(&w->json, "more tensors than the limit allows");
  while (w->json.at < w->json.bytes && w->json.text[w->json.at] == ' ') w->json.at++;
  const uint32_t about = (uint32_t)w->json.at;
  if (!read_tensor(&w->json, &tensor, offsets)) return false;
  if (offsets[1] > w->data_bytes || !mg__add(w->file->data_begin, offsets[0], &begin))
    return broken(&w->json, "data beyond the end of the file");
  w->ordered = w->ordered && offsets[0] == w->next;
  w->next = offsets[1];
  if (w->entries) w->entries[w->tensors] = (mg__entry){begin, mg__json_settle(&w->json, key, w->file->header), about};
  w->tensors++;
  w->tensor = NULL;
  return true;
}

static mg_status walk_header(walk *w) {
  bool first = true;
  mg__json_text key;
  while (mg__json_member(&w->json, &first, &key)) {
    const bool metadata = mg__json_equals(&w->json, key, "__metadata__");
    if (!(metadata ? walk_metadata(w) : walk_tensor(w, key))) break;
  }
  if (!w->json.wrong && !mg__json_end(&w->json)) w->json.wrong = "something follows the header's JSON object";
  if (w->json.wrong) return refuse_at(w->checkpoint, w->file, w->json.at, w->tensor, w->json.wrong);
  return MG_OK;
}

/* ---- data without hole or overlap ------------------------------------------------------------------------------ */

static uint64_t end_of(const mg_checkpoint *checkpoint, uint32_t index) {
  mg_checkpoint_tensor tensor;
  uint64_t end = 0;
  mg_checkpoint_at(checkpoint, index, &tensor);
  return mg__add(checkpoint->entries[index].begin, tensor.bytes, &end) ? end : UINT64_MAX;
}

static int by_place(const void *a, const void *b, void *user) {
  const mg_checkpoint *checkpoint = user;
  const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  const uint64_t begin_x = checkpoint->entries[x].begin, begin_y = checkpoint->entries[y].begin;
  if (begin_x != begin_y) return begin_x < begin_y ? -1 : 1;
  const uint64_t end_x = end_of(checkpoint, x), end_y = end_of(checkpoint, y);
  return (end_x > end_y) - (end_x < end_y);
}

static mg_status check_cover(const mg_checkpoint *checkpoint, const mg__file *file, const uint32_t *order) {
  uint64_t next = file->data_begin;
  for (size_t i = 0; i < file->count; i++) {
    const uint64_t begin = checkpoint->entries[order[i]].begin;
    if (begin != next)
      return mg__file_refuse(checkpoint, file, begin, "tensor", mg__tensor_name(checkpoint, order[i]), "%s",
                             begin < next ? "its data overlap another tensor's" : "a hole lies before its data");
    next = end_of(checkpoint, order[i]);
  }
  if (next == file->bytes) return MG_OK;
  return mg__file_refuse(checkpoint, file, next, NULL, NULL, "bytes that belong to no tensor");
}

/* Tensors that do not stand in the order of their data are sorted to compare each with the next. */
static mg_status sort_and_check(const mg_checkpoint *checkpoint, const mg__file *file) {
  uint64_t bytes;
  uint32_t *order = NULL, next = (uint32_t)file->first;
  if (!mg__multiply(file->count, sizeof *order, &bytes)) return MG_BUG; /* count was limited */
  order = mg_alloc(checkpoint->context, (size_t)bytes);
  if (!order && file->count) return MG_MEMORY;
  for (size_t i = 0; i < file->count; i++) order[i] = next++;
  if (order) qsort_r(order, file->count, sizeof *order, by_place, (void *)(uintptr_t)checkpoint);
  const mg_status status = check_cover(checkpoint, file, order);
  mg_free(checkpoint->context, order, (size_t)bytes);
  return status;
}

/* ---- the file -------------------------------------------------------------------------------------------------- */

static mg_status read_header(mg_checkpoint *checkpoint, mg__file *file) {
  unsigned char prefix[PREFIX_BYTES];
  uint64_t length = 0;
  if (file->bytes < PREFIX_BYTES || !mg__file_read(file, prefix, PREFIX_BYTES, 0))
    return mg__file_refuse(checkpoint, file, file->bytes, NULL, NULL,
                           "shorter than 8 bytes, the length of a safetensors header");
  for (int i = 0; i < PREFIX_BYTES; i++) length |= (uint64_t)prefix[i] << (i << 3);
  const uint64_t limit = checkpoint->limits.header_bytes, most = limit < HEADER_BYTES_MAX ? limit : HEADER_BYTES_MAX;
  if (length > most)
    return mg__file_refuse(checkpoint, file, 0, NULL, NULL,
                           "a safetensors header of %llu bytes; at most %llu are allowed", (unsigned long long)length,
                           (unsigned long long)most);
  if (length > file->bytes - PREFIX_BYTES)
    return mg__file_refuse(checkpoint, file, 0, NULL, NULL, "a safetensors header of %llu bytes, longer than the file",
                           (unsigned long long)length);
  file->header_begin = PREFIX_BYTES;
  if (!mg__add(PREFIX_BYTES, length, &file->data_begin)) return MG_BUG;
  return MG_OK;
}

static walk begin_walk(mg_checkpoint *checkpoint, mg__file *file, bool keep) {
  const bool entries = keep && file->count > 0;
  return (walk){.checkpoint = checkpoint,
                .file = file,
                .json = {.text = file->header, .bytes = file->header_bytes},
                .data_bytes = file->bytes - file->data_begin,
                .entries = entries ? &checkpoint->entries[file->first] : NULL,
                .keys_kept = keep && file == checkpoint->files,
                .ordered = true};
}

mg_status mg__safetensors_parse(mg_checkpoint *checkpoint, mg__file *file) {
  MG_TRY(read_header(checkpoint, file));
  MG_TRY(mg__file_want(checkpoint, file, file->data_begin - PREFIX_BYTES, 0));
  const size_t valid = mg__utf8_valid(file->header, file->header_bytes);
  if (valid != file->header_bytes) return refuse_at(checkpoint, file, valid, NULL, "the header is not UTF-8");
  walk w = begin_walk(checkpoint, file, false);
  MG_TRY(walk_header(&w));
  const size_t keys = w.keys;
  const bool in_order = w.ordered && w.next == w.data_bytes;
  MG_TRY(mg__entries_add(checkpoint, file, w.tensors));
  if (file == checkpoint->files) MG_TRY(mg__keys_add(checkpoint, keys));
  w = begin_walk(checkpoint, file, true);
  MG_TRY(walk_header(&w));
  return in_order ? MG_OK : sort_and_check(checkpoint, file);
}

void mg__safetensors_value(const mg__file *file, const mg__key *key, mg_value *out) {
  const char *text = &file->header[key->value];
  *out = (mg_value){.type = MG_VALUE_TEXT, .count = 1, .data = (const unsigned char *)text, .text_bytes = strlen(text)};
}
