/* Reads a safetensors file that nobody need trust: every number of the header is checked before it is used. */
#include "model/safetensors_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_MAX = 100 << 20, NAME_MAX_BYTES = 512 };

typedef struct entry {
  const char *name; /* borrowed from the header */
  mg_tensor shape;
  size_t begin, end; /* from the start of the data */
} entry;

struct mg_safetensors {
  mg_context *context;
  char *path;
  int descriptor;
  size_t file_bytes, data_begin;
  char *text; /* the header, data_begin - 8 bytes and a NUL */
  json_t *header;
  entry *entries;
  int64_t count;
};

static mg_status refuse(const mg_safetensors *file, const char *what, const char *name) {
  return mg_fail(file->context, MG_FILE,
                 "%s: not a usable safetensors file: %s%s%s; it may be damaged, fetch or write it again", file->path,
                 what, name ? " in tensor " : "", name ? name : "");
}

static bool read_at(int descriptor, void *data, size_t bytes, size_t offset) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = pread(descriptor, (char *)data + done, bytes - done, (off_t)(offset + done));
    if (got > 0)
      done += (size_t)got;
    else if (got == 0 || errno != EINTR)
      return false;
  }
  return true;
}

static mg_status open_file(mg_safetensors *file) {
  struct stat about;
  file->descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
  if (file->descriptor < 0)
    return mg_fail(file->context, MG_FILE, "%s: cannot be opened: %s", file->path, strerror(errno));
  if (fstat(file->descriptor, &about) != 0 || !S_ISREG(about.st_mode)) return refuse(file, "no regular file", NULL);
  file->file_bytes = (size_t)about.st_size;
  return MG_OK;
}

static mg_status read_header(mg_safetensors *file) {
  unsigned char prefix[8];
  if (file->file_bytes < sizeof prefix || !read_at(file->descriptor, prefix, sizeof prefix, 0))
    return refuse(file, "shorter than 8 bytes", NULL);
  uint64_t length = 0;
  for (int i = 0; i < 8; i++) length |= (uint64_t)prefix[i] << (8 * i);
  if (length > HEADER_MAX || length > file->file_bytes - sizeof prefix)
    return refuse(file, "the header is longer than the file or than 100 MiB", NULL);
  file->data_begin = sizeof prefix + (size_t)length;
  file->text = mg_alloc(file->context, (size_t)length + 1);
  if (!file->text) return MG_MEMORY;
  if (!read_at(file->descriptor, file->text, (size_t)length, sizeof prefix))
    return refuse(file, "the header cannot be read", NULL);
  json_error_t error;
  file->header = json_loadb(file->text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
  if (!json_is_object(file->header)) return refuse(file, "the header is no JSON object", NULL);
  return MG_OK;
}

static bool read_shape(const json_t *shape, mg_tensor *out) {
  if (!json_is_array(shape) || json_array_size(shape) > MG_DIMS_MAX) return false;
  out->dims = (int32_t)json_array_size(shape);
  for (int32_t i = 0; i < out->dims; i++) {
    const json_t *number = json_array_get(shape, (size_t)i);
    if (!json_is_integer(number) || json_integer_value(number) < 0) return false;
    out->shape[i] = json_integer_value(number);
  }
  if (out->dims == 0) { /* a scalar is a vector of one */
    out->dims = 1;
    out->shape[0] = 1;
  }
  return true;
}

/* Bytes that the shape takes; false if they do not fit a size_t. */
static bool shape_bytes(const mg_tensor *shape, size_t *out) {
  size_t bytes = mg_dtype_bytes(shape->dtype);
  for (int32_t i = 0; i < shape->dims; i++)
    if (__builtin_mul_overflow(bytes, (size_t)shape->shape[i], &bytes)) return false;
  *out = bytes;
  return true;
}

static mg_status read_entry(mg_safetensors *file, const char *name, const json_t *value, entry *out) {
  const char *dtype = json_string_value(json_object_get(value, "dtype"));
  const json_t *offsets = json_object_get(value, "data_offsets");
  const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
  size_t bytes;
  out->name = name;
  if (strlen(name) > NAME_MAX_BYTES) return refuse(file, "a name of more than 512 bytes", NULL);
  if (!dtype || !mg__safetensors_dtype(dtype, &out->shape.dtype))
    return refuse(file, "a dtype other than F32, BF16, F64, I32", name);
  if (!read_shape(json_object_get(value, "shape"), &out->shape) || !shape_bytes(&out->shape, &bytes))
    return refuse(file, "a shape that is no list of at most 4 sizes", name);
  if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
      json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
    return refuse(file, "data_offsets that are no [begin, end]", name);
  out->begin = (size_t)json_integer_value(begin);
  out->end = (size_t)json_integer_value(end);
  if (out->end > file->file_bytes - file->data_begin) return refuse(file, "data beyond the end of the file", name);
  if (out->end - out->begin != bytes) return refuse(file, "another number of bytes than its shape takes", name);
  return MG_OK;
}

static int by_begin(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return (x->end > y->end) - (x->end < y->end);
}

static mg_status check_cover(mg_safetensors *file) {
  size_t next = 0;
  qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_begin);
  for (int64_t i = 0; i < file->count; i++) {
    if (file->entries[i].begin != next) return refuse(file, "a hole or an overlap", file->entries[i].name);
    next = file->entries[i].end;
  }
  if (next != file->file_bytes - file->data_begin) return refuse(file, "bytes that belong to no tensor", NULL);
  return MG_OK;
}

static mg_status read_entries(mg_safetensors *file) {
  const char *name;
  json_t *value;
  file->entries = mg_alloc(file->context, (json_object_size(file->header) + 1) * sizeof *file->entries);
  if (!file->entries) return MG_MEMORY;
  json_object_foreach(file->header, name, value) {
    if (strcmp(name, "__metadata__") == 0) continue;
    MG_TRY(read_entry(file, name, value, &file->entries[file->count++]));
  }
  return check_cover(file);
}

/* XXH3-128 over the file with the checksum's digits as zeros. */
static mg_status hash_file(mg_safetensors *file, size_t digits_at, XXH3_state_t *state, char *block) {
  XXH3_128bits_reset(state);
  for (size_t done = 0; done < file->file_bytes;) {
    const size_t left = file->file_bytes - done;
    const size_t part = left < MG__SAFETENSORS_BLOCK ? left : MG__SAFETENSORS_BLOCK;
    if (!read_at(file->descriptor, block, part, done)) return refuse(file, "it cannot be read whole", NULL);
    for (size_t i = 0; i < MG__CHECKSUM_DIGITS; i++)
      if (digits_at + i >= done && digits_at + i < done + part) block[digits_at + i - done] = '0';
    XXH3_128bits_update(state, block, part);
    done += part;
  }
  return MG_OK;
}

static mg_status verify_checksum(mg_safetensors *file) {
  const char *expected = mg_safetensors_metadata(file, MG__CHECKSUM_KEY);
  const char *place = expected && strlen(expected) == MG__CHECKSUM_DIGITS ? strstr(file->text, expected) : NULL;
  if (!place) return refuse(file, "no checksum", NULL);
  XXH3_state_t *state = XXH3_createState();
  char *block = mg_alloc(file->context, MG__SAFETENSORS_BLOCK), found[MG__CHECKSUM_DIGITS + 1];
  mg_status status = state && block ? MG_OK : mg_fail(file->context, MG_MEMORY, "%s: no memory", file->path);
  if (status == MG_OK) status = hash_file(file, 8 + (size_t)(place - file->text), state, block);
  if (status == MG_OK) {
    mg__hash_text(XXH3_128bits_digest(state), found);
    if (strcmp(found, expected) != 0) status = refuse(file, "its checksum does not fit its content", NULL);
  }
  XXH3_freeState(state);
  mg_free(file->context, block, block ? MG__SAFETENSORS_BLOCK : 0);
  return status;
}

static mg_status open_and_check(mg_safetensors *file, const char *path, bool verify) {
  file->path = mg_strdup(file->context, path);
  if (!file->path) return MG_MEMORY;
  MG_TRY(open_file(file));
  MG_TRY(read_header(file));
  MG_TRY(read_entries(file));
  return verify ? verify_checksum(file) : MG_OK;
}

mg_status mg_safetensors_open(mg_context *context, const char *path, bool verify, mg_safetensors **out) {
  *out = NULL;
  mg_safetensors *file = mg_alloc(context, sizeof *file);
  if (!file) return MG_MEMORY;
  file->context = context;
  file->descriptor = -1;
  const mg_status status = open_and_check(file, path, verify);
  if (status != MG_OK)
    mg_safetensors_close(file);
  else
    *out = file;
  return status;
}

void mg_safetensors_close(mg_safetensors *file) {
  if (!file) return;
  const size_t entries = file->entries ? (json_object_size(file->header) + 1) * sizeof *file->entries : 0;
  mg_free(file->context, file->entries, entries);
  json_decref(file->header);
  mg_free(file->context, file->text, file->text ? file->data_begin - 8 + 1 : 0);
  if (file->descriptor >= 0) close(file->descriptor);
  mg_free(file->context, file->path, file->path ? strlen(file->path) + 1 : 0);
  mg_free(file->context, file, sizeof *file);
}

const char *mg_safetensors_metadata(const mg_safetensors *file, const char *key) {
  return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}
int64_t mg_safetensors_count(const mg_safetensors *file) {
  return file->count;
}
const char *mg_safetensors_at(const mg_safetensors *file, int64_t index, mg_tensor *shape) {
  *shape = file->entries[index].shape;
  return file->entries[index].name;
}
int64_t mg_safetensors_find(const mg_safetensors *file, const char *name) {
  for (int64_t i = 0; i < file->count; i++)
    if (strcmp(file->entries[i].name, name) == 0) return i;
  return -1;
}

static mg_status upload(mg_safetensors *file, mg_backend *backend, const entry *from, const mg_tensor *tensor) {
  char *block = mg_alloc(file->context, MG__SAFETENSORS_BLOCK);
  if (!block) return MG_MEMORY;
  const size_t bytes = from->end - from->begin;
  mg_status status = MG_OK;
  for (size_t done = 0; done < bytes && status == MG_OK;) {
    const size_t part = bytes - done < MG__SAFETENSORS_BLOCK ? bytes - done : MG__SAFETENSORS_BLOCK;
    if (!read_at(file->descriptor, block, part, file->data_begin + from->begin + done))
      status = refuse(file, "data that cannot be read", from->name);
    else
      status = backend->plugin->upload(backend, (char *)tensor->data + done, block, part);
    done += part;
  }
  mg_free(file->context, block, MG__SAFETENSORS_BLOCK);
  return status;
}

mg_status mg_safetensors_load(mg_safetensors *file, mg_backend *backend, const char *name, const mg_tensor *tensor) {
  const int64_t index = mg_safetensors_find(file, name);
  if (index < 0) return refuse(file, "it lacks a tensor that is needed", name);
  const entry *from = &file->entries[index];
  if (mg_tensor_same_shape(&from->shape, tensor) && from->shape.dtype == tensor->dtype)
    return upload(file, backend, from, tensor);
  char came[MG_SHAPE_TEXT_BYTES], wanted[MG_SHAPE_TEXT_BYTES];
  return mg_fail(file->context, MG_FILE, "%s: tensor %s is %s %s, but %s %s was expected", file->path, name,
                 mg_dtype_name(from->shape.dtype), mg_shape_text(&from->shape, came), mg_dtype_name(tensor->dtype),
                 mg_shape_text(tensor, wanted));
}
