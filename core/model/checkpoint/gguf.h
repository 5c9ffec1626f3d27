/* What the files that read GGUF share. */
#ifndef MG_MODEL_CHECKPOINT_GGUF_H
#define MG_MODEL_CHECKPOINT_GGUF_H

#include "model/checkpoint/internal.h"
#include "model/checkpoint/json.h"

/* One file while it is read. `at` only grows and never passes the end of the file. */
typedef struct mg__gguf {
  mg_checkpoint *checkpoint;
  mg__file *file;
  uint64_t at;
  const char *kind; /* "key" or "tensor" while one is read, whose name stands at `subject` in the header; else NULL */
  uint32_t subject;
  bool alignment_seen;
  uint64_t alignment;
  int64_t split_number, split_count, split_tensors; /* -1 = not given */
} mg__gguf;

mg_status mg__gguf_parse(mg__gguf *gguf, mg_checkpoint *checkpoint, mg__file *file);

mg_status mg__gguf_refuse(const mg__gguf *gguf, const char *rule);
/* Passes `bytes` bytes, which the header's copy then holds at *begin. */
mg_status mg__gguf_take(mg__gguf *gguf, uint64_t bytes, uint64_t *begin);
/* An unsigned number of 1 to 8 bytes. */
mg_status mg__gguf_number(mg__gguf *gguf, unsigned bytes, uint64_t *out);
uint64_t mg__little_endian(const void *from, unsigned bytes);
/* A text of at most `most` bytes: its place in the header, where a NUL follows it. */
mg_status mg__gguf_text(mg__gguf *gguf, uint64_t most, uint32_t *out, uint64_t *length);
/* Passes and checks a type and its value. */
mg_status mg__gguf_read_value(mg__gguf *gguf);
/* Remembers the values that the reader itself needs: alignment and splits. */
mg_status mg__gguf_note(mg__gguf *gguf, const mg__key *key);

#endif
