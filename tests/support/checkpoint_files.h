/* Checkpoint files made byte by byte, good and bad, and what every opening of one must keep to. */
#ifndef MG_TESTS_SUPPORT_CHECKPOINT_FILES_H
#define MG_TESTS_SUPPORT_CHECKPOINT_FILES_H

#include "model/checkpoint.h"
#include "support/testing.h"

typedef struct mg_bytes {
  unsigned char *data;
  size_t bytes, room;
} mg_bytes;

void mg_bytes_free(mg_bytes *bytes);
void mg_bytes_add(mg_bytes *bytes, const void *data, size_t count);
void mg_bytes_zeros(mg_bytes *bytes, size_t count);
/* Little endian. */
void mg_bytes_number(mg_bytes *bytes, unsigned width, uint64_t value);
/* As GGUF stores it: u64 length, then the bytes. */
void mg_bytes_text(mg_bytes *bytes, const char *text);
void mg_bytes_set(mg_bytes *bytes, size_t at, unsigned width, uint64_t value);
/* Replaces the file. */
void mg_bytes_write(const mg_bytes *bytes, const char *path);

/* A safetensors file of this header and so many zeros. */
mg_bytes mg_bytes_safetensors(const char *header, size_t data_bytes);

/* "GGUF", version, counts. */
mg_bytes mg_bytes_gguf(uint32_t version, uint64_t tensors, uint64_t keys);
void mg_gguf_key(mg_bytes *bytes, const char *key, mg_value_type type);
void mg_gguf_integer(mg_bytes *bytes, const char *key, mg_value_type type, uint64_t value);
void mg_gguf_string(mg_bytes *bytes, const char *key, const char *value);
/* The head of a list; elements follow. */
void mg_gguf_list(mg_bytes *bytes, const char *key, mg_value_type element, uint64_t count);
/* `shape` from the innermost size on, as GGUF has it; type by its GGUF number. */
void mg_gguf_tensor(mg_bytes *bytes, const char *name, uint32_t dims, const uint64_t *shape, uint32_t type,
                    uint64_t offset);
/* Zeros up to the next multiple of `alignment`. */
void mg_gguf_pad(mg_bytes *bytes, size_t alignment);

/* Opens `path`. Whatever comes out of it: within a second of processor time, within twice the file's bytes (`of_bytes`) and 64 KiB of
 * memory, everything freed; MG_OK and every key and every decodable tensor can be read, or MG_FILE and one line that
 * begins with a path. Returns which. `what` names the case in failures. */
mg_status mg_open_within_rules(const char *what, const char *path, size_t of_bytes);
/* The same, and it must be refused with a message that holds `words`, or opened. */
void mg_must_refuse(const char *what, const char *path, size_t of_bytes, const char *words);
void mg_must_open(const char *what, const char *path, size_t of_bytes);
/* The same for bytes that are written to `path` first, and freed. */
void mg_must_refuse_bytes(const char *what, const char *path, mg_bytes bytes, const char *words);
void mg_must_open_bytes(const char *what, const char *path, mg_bytes bytes);
/* The file that begins with these bytes and ends after each number of them is refused with its path. */
void mg_must_refuse_prefixes(const char *path, const mg_bytes *bytes);
/* Opens the file by the rules with each of its first bits turned, one at a time; returns how many times it was refused. */
int64_t mg_open_with_flipped_bits(const char *path, const mg_bytes *bytes, size_t bits);
/* How many files mg_must_refuse has seen refused in this program. */
int64_t mg_refused_count(void);

#endif
