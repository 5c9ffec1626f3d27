/* A corpus made ready for training: collected, normalised, filtered, tokenized, encoded, packed and split by named
 * stages, each of which reports what it kept and dropped. core/train/README.md lists the stages and their options. */
#ifndef MG_TRAIN_DATA_H
#define MG_TRAIN_DATA_H

#include <jansson.h>

#include "moegauge/context.h"

typedef struct mg_dataset mg_dataset;
typedef enum mg_split { MG_SPLIT_TRAIN, MG_SPLIT_VALID } mg_split;

/* `spec`: {"corpus": "manpages" | "synthetic" | "/some/folder", "tokenizer": "bpe", "vocabulary": 4096, "seed": 1,
 * "domain_bytes": 4000000, "stages": ["normalise", {"stage": "filter", "minimum_bytes": 50}, ...], "STAGE": {options}}.
 * Finished stages are cached under `cache` by the hash of all that went in, so that the cases of a sweep share one
 * copy. MG_FILE for an unreadable corpus or an empty domain, MG_USAGE for a wrong key. */
mg_status mg_dataset_open(mg_context *context, const json_t *spec, const char *cache, mg_dataset **out);

/* What is wrong with a specification, as far as it can be told without reading the text: keys, stages and their options, and
 * a folder that is not there. `filtered`: a filter of the caller's own comes with it. */
mg_status mg_dataset_check(mg_context *context, const json_t *spec, bool filtered);

/* A filter of the caller's own (a Lua function, for example), called once per document where the stage list says
 * "script" (after "filter" if the spec has no list). */
typedef struct mg_document_verdict {
  bool keep;          /* true when called */
  const char *reason; /* for the report when dropped; NULL = "script"; copied after the call */
  const char *text;   /* the document's new text, copied after the call; NULL = as it was */
  size_t bytes;
} mg_document_verdict;
typedef struct mg_document_filter {
  mg_status (*decide)(void *user, const char *text, size_t bytes, const char *domain, mg_document_verdict *verdict);
  void *user;
  const char *identity; /* changes whenever the filter would decide otherwise (a hash of its source): part of the
                           cache key */
} mg_document_filter;
mg_status mg_dataset_open_filtered(mg_context *context, const json_t *spec, const char *cache,
                                   const mg_document_filter *filter, mg_dataset **out);

/* Every stage with its options, as JSON: [{"stage", "corpus", "summary", "options": [...]}, ...]; the caller's own
 * reference, NULL without memory. */
json_t *mg_dataset_stages(void);

void mg_dataset_close(mg_dataset *dataset);

int64_t mg_dataset_vocabulary(const mg_dataset *dataset);
int64_t mg_dataset_domains(const mg_dataset *dataset);
const char *mg_dataset_domain_name(const mg_dataset *dataset, int64_t domain);
int64_t mg_dataset_tokens(const mg_dataset *dataset, mg_split split);
/* Adds to counts [vocabulary] how often each token id occurs in a split. */
void mg_dataset_count_tokens(const mg_dataset *dataset, mg_split split, int64_t *counts);
/* Writes at most `most` token ids of a split in running order, -1 behind each document: the beginning of every domain, as
 * large a share of it as of the others. Returns how many were written. */
int64_t mg_dataset_sample_tokens(const mg_dataset *dataset, mg_split split, int32_t *ids, int64_t most);
/* The exact entropy in nats per target, given the domain and all earlier tokens of the document, for `synthetic`; NaN
 * where it is not known. No predictor is better on average. */
double mg_dataset_entropy(const mg_dataset *dataset);
/* XXH3-128 over the domain names, the tokenizer and the token streams: equal for equal text, however it was obtained.
 */
const char *mg_dataset_checksum(const mg_dataset *dataset);
/* What every stage kept and dropped, as JSON: [{"stage": "filter", "in": {"documents", "bytes"}, "out": {..},
 * "dropped": {REASON: {"documents", "bytes"}}, "domains": {NAME: {"documents", "bytes"}}, "seconds": ..}, ...]. */
const json_t *mg_dataset_report(const mg_dataset *dataset);

/* Fills B sequences of S tokens: inputs and targets [B*S] (target -1 at a document's end), domains [B]. Training batch
 * `index` is drawn by (seed, index) without replacement within an epoch. Validation batches run through the split once
 * in one fixed mixed order, so that the first few already hold every domain, and *sequences_filled tells how many there
 * were (less than B at the end, then 0). S may be any length: a sequence never mixes domains, and every token is a
 * target at most once per epoch (core/train/README.md, "pack"). Allocates nothing. */
typedef struct mg_batch {
  int32_t *inputs, *targets, *domains;
  int64_t sequences, sequence_tokens;
} mg_batch;
mg_status mg_dataset_batch(mg_dataset *dataset, mg_split split, uint64_t seed, int64_t index, mg_batch *batch,
                           int64_t *sequences_filled);

/* Bytes of text that the targets of a batch's first `sequences` sequences stand for, which turns nats into bits per byte;
 * one for each target of `synthetic`. */
mg_status mg_dataset_target_bytes(const mg_dataset *dataset, const mg_batch *batch, int64_t sequences, int64_t *bytes);

/* Its tokenizer as mg_tokenizer_to_json writes it, a new reference; NULL where it has none (synthetic). */
json_t *mg_dataset_tokenizer(const mg_dataset *dataset);

/* The text of token ids, for looking at data; returns the bytes it would need, writing at most `bytes`. */
size_t mg_dataset_decode(const mg_dataset *dataset, const int32_t *ids, int64_t count, char *text, size_t bytes);

#endif
