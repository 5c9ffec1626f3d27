/* Builders of checkpoint files, and the rules for opening them. */
#include "support/checkpoint_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int64_t refused;

void mg_bytes_free(mg_bytes *bytes) {
  free(bytes->data);
  *bytes = (mg_bytes){0};
}

static void make_room(mg_bytes *bytes, size_t count) {
  if (bytes->bytes + count <= bytes->room) return;
  while (bytes->bytes + count > bytes->room) bytes->room = bytes->room ? 2 * bytes->room : 256;
  bytes->data = realloc(bytes->data, bytes->room);
  assert_non_null(bytes->data);
}

void mg_bytes_add(mg_bytes *bytes, const void *data, size_t count) {
  make_room(bytes, count + 1);
  if (count) memcpy(bytes->data + bytes->bytes, data, count);
  bytes->bytes += count;
}

void mg_bytes_zeros(mg_bytes *bytes, size_t count) {
  make_room(bytes, count + 1);
  memset(bytes->data + bytes->bytes, 0, count);
  bytes->bytes += count;
}

void mg_bytes_set(mg_bytes *bytes, size_t at, unsigned width, uint64_t value) {
  for (unsigned i = 0; i < width; i++) bytes->data[at + i] = (unsigned char)(value >> (8 * i));
}

void mg_bytes_number(mg_bytes *bytes, unsigned width, uint64_t value) {
  mg_bytes_zeros(bytes, width);
  mg_bytes_set(bytes, bytes->bytes - width, width, value);
}

void mg_bytes_text(mg_bytes *bytes, const char *text) {
  mg_bytes_number(bytes, 8, strlen(text));
  mg_bytes_add(bytes, text, strlen(text));
}

void mg_bytes_write(const mg_bytes *bytes, const char *path) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes->data, 1, bytes->bytes, file), bytes->bytes);
  assert_int_equal(fclose(file), 0);
}

mg_bytes mg_bytes_safetensors(const char *header, size_t data_bytes) {
  mg_bytes bytes = {0};
  mg_bytes_text(&bytes, header);
  mg_bytes_zeros(&bytes, data_bytes);
  return bytes;
}

mg_bytes mg_bytes_gguf(uint32_t version, uint64_t tensors, uint64_t keys) {
  mg_bytes bytes = {0};
  mg_bytes_add(&bytes, "GGUF", 4);
  mg_bytes_number(&bytes, 4, version);
  mg_bytes_number(&bytes, 8, tensors);
  mg_bytes_number(&bytes, 8, keys);
  return bytes;
}

void mg_gguf_key(mg_bytes *bytes, const char *key, mg_value_type type) {
  mg_bytes_text(bytes, key);
  mg_bytes_number(bytes, 4, (uint64_t)type);
}

static unsigned width_of(mg_value_type type) {
  switch (type) {
  case MG_VALUE_U8:
  case MG_VALUE_I8:
  case MG_VALUE_BOOL: return 1;
  case MG_VALUE_U16:
  case MG_VALUE_I16: return 2;
  case MG_VALUE_U64:
  case MG_VALUE_I64:
  case MG_VALUE_F64: return 8;
  default: return 4;
  }
}

void mg_gguf_integer(mg_bytes *bytes, const char *key, mg_value_type type, uint64_t value) {
  mg_gguf_key(bytes, key, type);
  mg_bytes_number(bytes, width_of(type), value);
}

void mg_gguf_string(mg_bytes *bytes, const char *key, const char *value) {
  mg_gguf_key(bytes, key, MG_VALUE_TEXT);
  mg_bytes_text(bytes, value);
}

void mg_gguf_list(mg_bytes *bytes, const char *key, mg_value_type element, uint64_t count) {
  mg_gguf_key(bytes, key, MG_VALUE_LIST);
  mg_bytes_number(bytes, 4, (uint64_t)element);
  mg_bytes_number(bytes, 8, count);
}

void mg_gguf_tensor(mg_bytes *bytes, const char *name, uint32_t dims, const uint64_t *shape, uint32_t type,
                    uint64_t offset) {
  mg_bytes_text(bytes, name);
  mg_bytes_number(bytes, 4, dims);
  for (uint32_t i = 0; i < dims; i++) mg_bytes_number(bytes, 8, shape[i]);
  mg_bytes_number(bytes, 4, type);
  mg_bytes_number(bytes, 8, offset);
}

void mg_gguf_pad(mg_bytes *bytes, size_t alignment) {
  mg_bytes_zeros(bytes, (alignment - bytes->bytes % alignment) % alignment);
}

/* ---- rules --------------------------------------------------------------------------------------------------------- */

static void read_values(const mg_checkpoint *checkpoint) {
  for (int64_t i = 0; i < mg_checkpoint_keys(checkpoint); i++) {
    mg_value value;
    const char *text;
    size_t bytes, sum = 0;
    double real;
    int64_t integer;
    bool flag;
    assert_non_null(mg_checkpoint_key(checkpoint, i, &value));
    while (mg_value_next_text(&value, &text, &bytes)) {
      for (size_t j = 0; j <= bytes; j++) sum += (unsigned char)text[j];
      assert_int_equal(text[bytes], 0);
    }
    while (mg_value_next_integer(&value, &integer) || mg_value_next_real(&value, &real) ||
           mg_value_next_flag(&value, &flag))
      sum++;
    assert_true(value.count >= 0);
  }
}

/* The first and the last row of each tensor. */
static void read_tensors(mg_context *context, const mg_checkpoint *checkpoint) {
  for (int64_t i = 0; i < mg_checkpoint_count(checkpoint); i++) {
    mg_checkpoint_tensor tensor;
    mg_checkpoint_at(checkpoint, i, &tensor);
    assert_int_equal(mg_checkpoint_find(checkpoint, tensor.name), i);
    if (tensor.rows == 0 || tensor.columns > 1 << 16) continue;
    float *row = malloc((size_t)tensor.columns * sizeof *row + 1);
    for (int64_t at = 0; at<tensor.rows; at += tensor.rows> 1 ? tensor.rows - 1 : 1) {
      const mg_status status = mg_checkpoint_read(checkpoint, &tensor, at, 1, MG_F32, row);
      if (status != MG_OK && !strstr(mg_context_message(context), "cannot be decoded"))
        fail_msg("%s: %s", tensor.name, mg_context_message(context));
    }
    free(row);
  }
}

static void check_message(const char *what, const char *message) {
  for (const char *c = message; *c; c++)
    if ((unsigned char)*c < 0x20) fail_msg("%s: a control character in the message: %s", what, message);
  if (message[0] != '/') fail_msg("%s: no path begins the message: %s", what, message);
}

static mg_status open_and_copy(const char *what, const char *path, size_t of_bytes, char message[2048]) {
  enum { SMALL = 64 << 10 };
  mg_context *context;
  mg_checkpoint *checkpoint;
  assert_int_equal(mg_context_create(NULL, &context), MG_OK);
  const clock_t before = clock(); /* of this process: others may hold the processor meanwhile */
  const mg_status status = mg_checkpoint_open(context, path, NULL, &checkpoint);
  const double took_s = (double)(clock() - before) / CLOCKS_PER_SEC;
  const size_t peak = mg_context_peak_bytes(context);
  snprintf(message, 2048, "%s", mg_context_message(context));
  if (status == MG_OK) {
    read_values(checkpoint);
    read_tensors(context, checkpoint);
  } else if (status == MG_FILE) {
    assert_null(checkpoint);
    check_message(what, message);
  } else {
    fail_msg("%s: %s: %s", what, mg_status_name(status), message);
  }
  mg_checkpoint_close(checkpoint);
  if (mg_context_bytes(context) != 0) fail_msg("%s: %zu bytes were not freed", what, mg_context_bytes(context));
  if (peak > 2 * of_bytes + SMALL) fail_msg("%s: %zu bytes were allocated for a file of %zu", what, peak, of_bytes);
  if (took_s > 1) fail_msg("%s: opening took %.2f s", what, took_s);
  mg_context_destroy(context);
  return status;
}

mg_status mg_open_within_rules(const char *what, const char *path, size_t of_bytes) {
  char message[2048];
  return open_and_copy(what, path, of_bytes, message);
}

void mg_must_refuse(const char *what, const char *path, size_t of_bytes, const char *words) {
  char message[2048];
  if (open_and_copy(what, path, of_bytes, message) == MG_OK) fail_msg("%s: was opened", what);
  if (!strstr(message, words)) fail_msg("%s: '%s' is not in: %s", what, words, message);
  refused++;
}

void mg_must_open(const char *what, const char *path, size_t of_bytes) {
  char message[2048];
  if (open_and_copy(what, path, of_bytes, message) != MG_OK) fail_msg("%s: %s", what, message);
}

void mg_must_refuse_bytes(const char *what, const char *path, mg_bytes bytes, const char *words) {
  mg_bytes_write(&bytes, path);
  mg_must_refuse(what, path, bytes.bytes, words);
  mg_bytes_free(&bytes);
}

void mg_must_open_bytes(const char *what, const char *path, mg_bytes bytes) {
  mg_bytes_write(&bytes, path);
  mg_must_open(what, path, bytes.bytes);
  mg_bytes_free(&bytes);
}

void mg_must_refuse_prefixes(const char *path, const mg_bytes *bytes) {
  mg_bytes_write(bytes, path);
  const int descriptor = open(path, O_RDWR);
  for (size_t length = bytes->bytes; length-- > 0;) {
    char what[64];
    snprintf(what, sizeof what, "%zu of %zu bytes", length, bytes->bytes);
    assert_int_equal(ftruncate(descriptor, (off_t)length), 0);
    mg_must_refuse(what, path, length, path);
  }
  close(descriptor);
}

int64_t mg_open_with_flipped_bits(const char *path, const mg_bytes *bytes, size_t bits) {
  int64_t found = 0;
  mg_bytes_write(bytes, path);
  const int descriptor = open(path, O_RDWR);
  for (size_t bit = 0; bit < bits; bit++) {
    const unsigned char kept = bytes->data[bit / 8], flipped = (unsigned char)(kept ^ 1U << bit % 8);
    char what[64];
    snprintf(what, sizeof what, "bit %zu flipped", bit);
    assert_int_equal(pwrite(descriptor, &flipped, 1, (off_t)(bit / 8)), 1);
    found += mg_open_within_rules(what, path, bytes->bytes) != MG_OK;
    assert_int_equal(pwrite(descriptor, &kept, 1, (off_t)(bit / 8)), 1);
  }
  close(descriptor);
  return found;
}

int64_t mg_refused_count(void) {
  return refused;
}
