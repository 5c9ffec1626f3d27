/* What the stages of the data pipeline share: the documents at work, the table that describes a stage, and helpers to
 * read, drop, replace and compare documents. */
#ifndef MG_TRAIN_DATA_STAGE_H
#define MG_TRAIN_DATA_STAGE_H

#include <limits.h>

#include "base/arena.h"
#include "base/file.h"
#include "model/tokenizer.h"
#include "moegauge/option.h"
#include "train/data.h"

typedef struct mg__document {
  const char *text; /* NULL for synthetic documents, which are tokens from the start */
  size_t bytes;
  uint64_t hash;    /* of the text: the document's identity */
  uint64_t cluster; /* equal for near duplicates that stayed; its own hash otherwise */
  int32_t domain;
  int32_t split;      /* mg_split, after the stage "split" */
  size_t token_start; /* after "encode" (or synthetic): where its tokens begin, and how many */
  size_t token_count;
  bool dropped; /* by the stage now running */
} mg__document;

/* A file of sections, mapped read-only. */
enum { MG__SECTIONS_MAX = 4 };
typedef struct mg__entry {
  void *map; /* NULL = not open */
  size_t bytes;
  size_t sections;
  const void *section[MG__SECTIONS_MAX];
  size_t section_bytes[MG__SECTIONS_MAX];
} mg__entry;

typedef struct mg__pipeline {
  mg_context *context;
  const char *corpus, *cache;
  uint64_t seed;
  const mg_document_filter *filter;
  json_t *domains; /* names */
  mg__document *documents;
  size_t count, room;
  mg_arena *texts;         /* texts that stages made */
  mg__entry mapped;        /* texts that came from the cache */
  bool clustered;          /* `cluster` is that of the documents' present texts */
  mg_tokenizer *tokenizer; /* after "tokenize" */
  mg_token_list tokens;    /* after "encode" */
  int64_t vocabulary;      /* after "tokenize" or synthetic */
  double entropy;          /* NaN = not known */
  int32_t *streams;        /* after "pack": tokens in streams, MG__END marks a document's last */
  size_t streams_count;
  json_t *layout;          /* after "pack": [split][domain] = [first token, tokens, bytes of text] */
  json_t *report;          /* one object per finished stage */
  json_t *dropped, *facts; /* of the stage now running: reasons, and other keys for its report */
} mg__pipeline;

/* The mark on a document's last token in a packed stream. */
#define MG__END ((int32_t)INT32_MIN)

/* The stages by their place: the list of a spec must keep this order of kinds. */
typedef enum mg__stage_kind {
  MG__COLLECT, /* first, once */
  MG__TEXT,    /* any number of times */
  MG__SPLIT,   /* once, and so all that follow */
  MG__TOKENIZE,
  MG__ENCODE,
  MG__PACK
} mg__stage_kind;

typedef struct mg__stage {
  const char *name, *summary;
  const char *corpus; /* "folder", "manpages", "synthetic"; NULL = any */
  mg__stage_kind kind;
  uint32_t version; /* raised when the same input and options would give another result: part of the cache key */
  const mg_option *options;
  size_t options_size;
  /* For a collect stage: 32 hexadecimal digits that change with what would be collected. */
  mg_status (*identity)(mg__pipeline *pipeline, const void *options, char text[MG_HASH_TEXT_BYTES]);
  mg_status (*run)(mg__pipeline *pipeline, const void *options);
  /* Optional: completes the options, once they are read, by what they stand for: they are part of the cache key. */
  mg_status (*settle)(mg_context *context, void *options);
} mg__stage;

extern const mg__stage mg__stage_folder, mg__stage_manpages, mg__stage_synthetic, mg__stage_normalise, mg__stage_filter,
    mg__stage_script, mg__stage_limit, mg__stage_split, mg__stage_tokenize, mg__stage_encode, mg__stage_pack;
extern const mg__stage *const mg__stages[]; /* NULL-terminated */

/* ---- the recipe: a spec made strict (data_spec.c) ---- */

enum { MG__STEPS_MAX = 32 };
typedef struct mg__step {
  const mg__stage *stage;
  void *options;
} mg__step;
typedef struct mg__recipe {
  char corpus[PATH_MAX];
  uint64_t seed;
  mg__step steps[MG__STEPS_MAX];
  size_t count;
} mg__recipe;
mg_status mg__recipe_read(mg_context *context, const json_t *spec, bool filtered, mg__recipe *recipe);
void mg__recipe_release(mg_context *context, mg__recipe *recipe);

/* ---- documents (data_documents.c) ---- */

/* Appends a document whose text is copied. */
mg_status mg__document_add(mg__pipeline *pipeline, const char *text, size_t bytes, int32_t domain);
/* Gives a document another text, which is copied. */
mg_status mg__document_replace(mg__pipeline *pipeline, mg__document *document, const char *text, size_t bytes);
/* Marks a document as dropped and counts the reason. */
mg_status mg__document_drop(mg__pipeline *pipeline, mg__document *document, const char *reason);
/* Counts something that never became a document. */
mg_status mg__drop_count(mg__pipeline *pipeline, const char *reason, size_t bytes);
/* Takes dropped documents out. */
void mg__documents_compact(mg__pipeline *pipeline);
/* The number of a domain by name, added if it is new; -1 without memory. */
int32_t mg__domain_index(mg__pipeline *pipeline, const char *name);
const char *mg__domain_name(const mg__pipeline *pipeline, int32_t domain);
void mg__pipeline_release(mg__pipeline *pipeline);

/* ---- files (data_files.c) ---- */

typedef struct mg__visit {
  const char *path;     /* whole */
  const char *relative; /* below the folder that was walked */
  const char *skipped;  /* why this is not for reading ("symbolic_link", "hidden", "not_a_file"); NULL = a file */
} mg__visit;
typedef mg_status (*mg__visit_function)(void *user, const mg__visit *visit);
/* Visits a folder's files in the order of their bytewise sorted names, folders included. Links are not followed. */
mg_status mg__folder_walk(mg_context *context, const char *folder, mg__visit_function visit, void *user);
/* Reads a file, unpacking it if its name ends in .gz; freed as mg_file_read's. */
mg_status mg__text_read(mg_context *context, const char *path, char **out, size_t *bytes);
/* MG_FILE unless the corpus is a folder (data_collect.c). */
mg_status mg__folder_check(mg_context *context, const char *corpus);
/* Removes a folder and all in it; what cannot be removed stays. */
void mg__folder_remove(const char *folder);
/* Runs a program found on PATH in `folder`, its output going to the file `output` and its messages to the end of the
 * file `log`. MG_FILE if it cannot be started; *code is its exit code, or 128 + signal. */
mg_status mg__program_run(mg_context *context, const char *const *arguments, const char *folder, const char *output,
                          const char *log, int *code);

/* ---- archives in memory (data_tar.c) ---- */

typedef struct mg__text {
  char *data;
  size_t bytes, room;
} mg__text;
mg_status mg__text_append(mg_context *context, mg__text *text, const char *data, size_t bytes);

typedef struct mg__member {
  const char *path; /* without "./" */
  const char *data;
  size_t bytes;
  bool link; /* symbolic or hard: no data */
} mg__member;
typedef mg_status (*mg__member_function)(void *user, const mg__member *member);
/* Visits the files and links of a tar archive; `where` names it in messages. */
mg_status mg__tar_walk(mg_context *context, const char *where, const char *data, size_t bytes,
                       mg__member_function member, void *user);
/* Appends the unpacked bytes of a gzip file. */
mg_status mg__gzip_unpack(mg_context *context, const char *where, const char *data, size_t bytes, mg__text *out);
/* Appends the files of a Debian package as a tar archive (data_deb.c). MG_FILE if it is damaged. */
mg_status mg__deb_unpack(mg_context *context, const char *where, const char *archive, size_t bytes, mg__text *tar);

/* ---- the cache (data_cache.c) ---- */

typedef struct mg__section {
  const void *data;
  size_t bytes;
} mg__section;
mg_status mg__entry_write(mg_context *context, const char *path, const mg__section *sections, size_t count);
/* Maps an entry and checks it. *found is false, without failure, if it is missing, truncated or damaged. */
mg_status mg__entry_open(mg_context *context, const char *path, mg__entry *entry, bool *found);
void mg__entry_close(mg__entry *entry);
/* Waits for the only right to make `path`; other processes and threads wait meanwhile. */
mg_status mg__lock_take(mg_context *context, const char *path, int *lock);
void mg__lock_release(int lock);

/* ---- near duplicates (data_duplicates.c) ---- */

/* Gives documents whose estimated similarity is at least `threshold` the same `cluster` (the smallest hash among them).
 * Documents that are marked as dropped are left out. */
mg_status mg__documents_cluster(mg__pipeline *pipeline, double threshold);
/* A rolling hash over windows of MG__WINDOW bytes, called for each window with its 64-bit hash. */
enum { MG__WINDOW = 24 };
uint64_t mg__window_first(const char *text);
uint64_t mg__window_next(uint64_t rolling, char leaving, char entering);

/* roff to text (data_roff.c): appends to *out; *skipped is a reason or NULL. */
mg_status mg__roff_to_text(mg_context *context, const char *source, size_t bytes, mg__text *out, const char **skipped);
/* Appends a piece of a line with its escapes resolved (data_roff_escapes.c); sets *glue if it ends in \c. */
mg_status mg__roff_put_text(mg_context *context, mg__text *out, const char *at, const char *end, bool *glue);

/* ---- running (data_pipeline.c) ---- */

/* Runs the recipe as far as needed: the packed streams, layout, tokenizer and report are in *pipeline afterwards. */
mg_status mg__pipeline_run(mg__pipeline *pipeline, const mg__recipe *recipe, const char collected[MG_HASH_TEXT_BYTES]);
/* The key of the first `steps` steps: 32 hexadecimal digits of all that goes in. `collected` is the corpus's identity.
 */
mg_status mg__recipe_key(const mg__pipeline *pipeline, const mg__recipe *recipe, size_t steps,
                         const char collected[MG_HASH_TEXT_BYTES], char key[MG_HASH_TEXT_BYTES]);

#endif
