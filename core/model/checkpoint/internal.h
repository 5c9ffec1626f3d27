/* What the files of a checkpoint share.
 *
 * Each file's header is copied to private memory once and parsed there; an entry is three numbers that point into it,
 * and a tensor's dtype and shape are read from the header again when somebody asks. So memory stays below twice the
 * header however many tensors it names, and nothing that another process does to the file changes what was checked. */
#ifndef MG_MODEL_CHECKPOINT_INTERNAL_H
#define MG_MODEL_CHECKPOINT_INTERNAL_H

#include "model/checkpoint.h"
#include "model/checkpoint/checked.h"

typedef struct mg__file {
  char *path;
  int descriptor; /* -1 = not open */
  uint64_t bytes;
  int64_t changed_ns; /* time of the last change when it was opened */
  char *header;       /* copy of header_bytes bytes from header_begin on; names in it are ended by NULs in place */
  size_t header_room, header_bytes;
  uint64_t header_begin;
  uint64_t data_begin;
  size_t first, count;    /* its entries among those of the checkpoint */
  unsigned char *mapping; /* NULL until somebody wants a view */
  int guard;              /* its place among the guarded mappings */
} mg__file;

/* A stored tensor. `name` and `about` are offsets into the header of its file. */
typedef struct mg__entry {
  uint64_t begin; /* in the file */
  uint32_t name, about;
} mg__entry;

/* A key of the metadata: offsets into the header of the first file. */
typedef struct mg__key {
  uint32_t name, value;
} mg__key;

/* A set of names, each known by its index among them: slots hold index + 1, 0 is free. */
typedef struct mg__names {
  uint32_t *slots;
  size_t count; /* of slots */
  uint64_t seed;
} mg__names;

struct mg_checkpoint {
  mg_context *context;
  mg_checkpoint_format format;
  mg_checkpoint_limits limits;
  mg__file *files;
  size_t files_count, files_room;
  mg__entry *entries;
  size_t count, room;
  mg__names names;
  mg__key *keys;
  size_t keys_count;
  mg__names key_names;
};

/* ---- files (file.c) ---- */

/* MG_FILE unless it is a regular file that can be read; close it in either case. */
mg_status mg__file_open(mg_context *context, const char *path, mg__file *file);
void mg__file_close(mg_context *context, mg__file *file);
/* Opens one more file of the checkpoint, which owns it; moves the others. */
mg_status mg__files_add(mg_checkpoint *checkpoint, const char *path, mg__file **out);
/* False if the file has fewer bytes than that. */
bool mg__file_read(const mg__file *file, void *out, uint64_t bytes, uint64_t at);
/* Makes the copy of the header at least `bytes` long, and if it must read, up to `ahead` longer. */
mg_status mg__file_want(mg_checkpoint *checkpoint, mg__file *file, uint64_t bytes, uint64_t ahead);
/* Cuts the copy to `bytes`. */
mg_status mg__file_trim(mg_checkpoint *checkpoint, mg__file *file, uint64_t bytes);
mg_status mg__file_map(const mg_checkpoint *checkpoint, mg__file *file);
/* What happened to the file since it was opened, in words; NULL if nothing. */
const char *mg__file_change(const mg__file *file);

/* ---- guarded mappings (guard.c) ---- */

enum { MG__GUARDED_MAX = 4096 };
/* Remembers a mapping; -1 if there are MG__GUARDED_MAX. */
int mg__guard_add(const void *mapping, uint64_t bytes);
void mg__guard_remove(int place);
/* Whether pages of it were lost. */
bool mg__guard_damaged(int place);

/* ---- refusals (refuse.c) ---- */

#define MG__NOWHERE UINT64_MAX
/* MG_FILE with "PATH: byte AT: KIND 'NAME': RULE; ...". `at` may be MG__NOWHERE; kind and name NULL. */
mg_status mg__file_refuse(const mg_checkpoint *checkpoint, const mg__file *file, uint64_t at, const char *kind,
                          const char *name, const char *rule, ...) MG_PRINTF(6, 7);

/* ---- names (names.c) ---- */

typedef const char *(*mg__name_of)(const void *owner, size_t index);
/* Room for `count` names. */
mg_status mg__names_create(mg_context *context, size_t count, mg__names *out);
void mg__names_destroy(mg_context *context, mg__names *names);
/* The index of a name; -1 if it is not there. */
int64_t mg__names_find(const mg__names *names, const void *owner, mg__name_of name_of, const char *name);
/* Adds name `index`; returns the index of an equal name that is there already, else -1. */
int64_t mg__names_add(mg__names *names, const void *owner, mg__name_of name_of, size_t index);

/* ---- tensors (tensors.c) ---- */

/* Grows the entries by `count`, which belong to `file`. */
mg_status mg__entries_add(mg_checkpoint *checkpoint, mg__file *file, uint64_t count);
mg_status mg__keys_add(mg_checkpoint *checkpoint, uint64_t count);
/* Builds the tables of names; refuses a name that occurs twice. */
mg_status mg__index_tensors(mg_checkpoint *checkpoint);
mg__file *mg__file_of(const mg_checkpoint *checkpoint, size_t index);
const char *mg__tensor_name(const mg_checkpoint *checkpoint, size_t index);
/* Fills rows, columns and bytes from storage and shape. Returns the rule that they break, or NULL. */
const char *mg__measure(mg_checkpoint_tensor *tensor);

/* ---- formats ---- */

mg_status mg__safetensors_parse(mg_checkpoint *checkpoint, mg__file *file);
void mg__safetensors_describe(const mg__file *file, const mg__entry *entry, mg_checkpoint_tensor *out);
void mg__safetensors_value(const mg__file *file, const mg__key *key, mg_value *out);
/* Opens all shards that an index names. */
mg_status mg__shards_open(mg_checkpoint *checkpoint, const char *path);

bool mg__gguf_magic(const mg__file *file);
/* The first file, and the other parts that its metadata speaks of. */
mg_status mg__gguf_open(mg_checkpoint *checkpoint);
void mg__gguf_describe(const mg__file *file, const mg__entry *entry, mg_checkpoint_tensor *out);
void mg__gguf_value(const mg__file *file, const mg__key *key, mg_value *out);

/* ---- metadata (values.c) ---- */

/* Builds the table of keys; refuses one that occurs twice. */
mg_status mg__index_keys(mg_checkpoint *checkpoint);
/* Bytes of one value of a number or bool; 0 for texts and lists. */
size_t mg__value_bytes(mg_value_type type);

#endif
