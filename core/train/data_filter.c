/* Stage "filter": drops documents that teach nothing. In this order, each with its own reason in the report:
 *
 *   too_short, too_long    bytes outside [minimum_bytes, maximum_bytes]
 *   not_text               share of printable characters below minimum_printable, or of U+FFFD above
 *                          maximum_replacement (invalid UTF-8 counts as U+FFFD)
 *   few_letters            share of letters among all but blanks below minimum_letters
 *   repeated_lines         share of bytes in lines that the document has had before above maximum_repeated_lines
 *   repeated_passages      share of its 24-byte windows that it has had before above maximum_repeated_passages
 *   exact_duplicate        the same text as an earlier document, in any domain
 *   near_duplicate         in a cluster (core/train/data_duplicates.c) with a longer document, or as long with a
 * smaller hash
 *
 * The repetition rules follow Rae et al. 2021 ("Gopher", appendix A.1.1), with windows of bytes in place of words,
 * since not all scripts have spaces. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/hash.h"
#include "base/vector.h"
#include "train/data_stage.h"

typedef struct filter_options {
  int64_t minimum_bytes, maximum_bytes;
  double minimum_printable, maximum_replacement, minimum_letters, maximum_repeated_lines, maximum_repeated_passages;
  bool exact_duplicates;
  int64_t near_duplicates;
  double near_threshold;
} filter_options;

enum { NEAR_DROP, NEAR_KEEP };
static const char *const near_choices[] = {"drop", "keep", NULL};

static const mg_option options_table[] = {
    MG_OPTION_INT(filter_options, minimum_bytes, 200, 0, 1e12, "shortest document that stays, in bytes"),
    MG_OPTION_INT(filter_options, maximum_bytes, 4e6, 1, 1e12, "longest document that stays, in bytes"),
    MG_OPTION_FLOAT(filter_options, minimum_printable, 0.95, 0, 1, "least share of printable characters"),
    MG_OPTION_FLOAT(filter_options, maximum_replacement, 0.01, 0, 1, "most share of U+FFFD among characters"),
    MG_OPTION_FLOAT(filter_options, minimum_letters, 0.3, 0, 1, "least share of letters among all but blanks"),
    MG_OPTION_FLOAT(filter_options, maximum_repeated_lines, 0.4, 0, 1, "most share of bytes in lines seen before"),
    MG_OPTION_FLOAT(filter_options, maximum_repeated_passages, 0.6, 0, 1, "most share of 24-byte windows seen before"),
    MG_OPTION_BOOL(filter_options, exact_duplicates, true, "drop all but one of equal documents"),
    MG_OPTION_CHOICE(filter_options, near_duplicates, NEAR_DROP, near_choices,
                     "drop all but one of similar documents, or keep them (the split keeps them on one side)"),
    MG_OPTION_FLOAT(filter_options, near_threshold, 0.8, 0.5, 1,
                    "least estimated Jaccard similarity of near duplicates"),
    MG_OPTION_END};

/* ---- one document ---- */

typedef struct character_counts {
  size_t all, printable, replacement, letters, blanks;
} character_counts;

static void count_character(utf8proc_int32_t code, character_counts *counts) {
  const utf8proc_category_t category = utf8proc_category(code);
  const bool letter = (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
                      category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC;
  const bool blank = code == '\n' || code == '\t' || category == UTF8PROC_CATEGORY_ZS;
  const bool bad = category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CN ||
                   category == UTF8PROC_CATEGORY_CO || category == UTF8PROC_CATEGORY_CS || code == 0xFFFD;
  counts->letters += letter;
  counts->blanks += blank;
  counts->printable += blank || !bad;
  counts->replacement += code == 0xFFFD;
}

static character_counts count_characters(const char *text, size_t bytes) {
  character_counts counts = {0};
  for (size_t at = 0; at < bytes; counts.all++) {
    const size_t left = bytes - at;
    utf8proc_int32_t code;
    const utf8proc_ssize_t used =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, left > 4 ? 4 : (utf8proc_ssize_t)left, &code);
    count_character(used > 0 ? code : 0xFFFD, &counts);
    at += used > 0 ? (size_t)used : 1;
  }
  return counts;
}

static double share(size_t part, size_t whole) {
  return whole ? (double)part / (double)whole : 0.0;
}

/* A set of 64-bit hashes that is emptied for each document. */
typedef struct hash_set {
  uint64_t *slots; /* 0 = empty */
  size_t room, used_slots;
} hash_set;

static mg_status set_empty(mg_context *context, hash_set *set, size_t items) {
  size_t wanted = 64;
  while (wanted < 2 * items) wanted *= 2;
  MG_TRY(MG_VECTOR_RESERVE(context, set->slots, set->room, wanted));
  set->used_slots = wanted;
  memset(set->slots, 0, wanted * sizeof *set->slots);
  return MG_OK;
}

/* True if the hash was there already. */
static bool set_add(hash_set *set, uint64_t hash) {
  hash += hash == 0;
  for (size_t at = hash;; at++) {
    uint64_t *slot = &set->slots[at & (set->used_slots - 1)];
    if (*slot == hash) return true;
    if (*slot != 0) continue;
    *slot = hash;
    return false;
  }
}

static mg_status repeated_lines(mg_context *context, const mg__document *document, hash_set *set, double *out) {
  const char *end = document->text + document->bytes;
  size_t lines = 1, repeated = 0;
  for (const char *at = document->text; at < end; at++) lines += *at == '\n';
  MG_TRY(set_empty(context, set, lines));
  for (const char *at = document->text; at < end;) {
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    const size_t bytes = (size_t)((newline ? newline : end) - at);
    if (bytes > 0 && set_add(set, mg_hash64(at, bytes, 0))) repeated += bytes + 1;
    at += bytes + 1;
  }
  *out = share(repeated, document->bytes);
  return MG_OK;
}

static mg_status repeated_passages(mg_context *context, const mg__document *document, hash_set *set, double *out) {
  *out = 0.0;
  if (document->bytes < MG__WINDOW) return MG_OK;
  const size_t windows = document->bytes - MG__WINDOW + 1;
  size_t repeated = 0;
  MG_TRY(set_empty(context, set, windows));
  uint64_t rolling = mg__window_first(document->text);
  for (size_t i = 0; i < windows; i++) {
    repeated += set_add(set, mg_mix64(rolling));
    if (i + 1 < windows) rolling = mg__window_next(rolling, document->text[i], document->text[i + MG__WINDOW]);
  }
  *out = share(repeated, windows);
  return MG_OK;
}

/* Why a document should go, or NULL. */
static mg_status judge(mg_context *context, const filter_options *options, const mg__document *document, hash_set *set,
                       const char **reason) {
  *reason = NULL;
  if ((int64_t)document->bytes < options->minimum_bytes) return *reason = "too_short", MG_OK;
  if ((int64_t)document->bytes > options->maximum_bytes) return *reason = "too_long", MG_OK;
  const character_counts counts = count_characters(document->text, document->bytes);
  if (share(counts.printable, counts.all) < options->minimum_printable ||
      share(counts.replacement, counts.all) > options->maximum_replacement)
    return *reason = "not_text", MG_OK;
  if (share(counts.letters, counts.all - counts.blanks) < options->minimum_letters)
    return *reason = "few_letters", MG_OK;
  double repeated;
  MG_TRY(repeated_lines(context, document, set, &repeated));
  if (repeated > options->maximum_repeated_lines) return *reason = "repeated_lines", MG_OK;
  MG_TRY(repeated_passages(context, document, set, &repeated));
  if (repeated > options->maximum_repeated_passages) *reason = "repeated_passages";
  return MG_OK;
}

static mg_status judge_each(mg__pipeline *pipeline, const filter_options *options) {
  hash_set set = {0};
  mg_status status = MG_OK;
  for (size_t i = 0; i < pipeline->count && status == MG_OK; i++) {
    const char *reason;
    status = judge(pipeline->context, options, &pipeline->documents[i], &set, &reason);
    if (status == MG_OK && reason) status = mg__document_drop(pipeline, &pipeline->documents[i], reason);
  }
  MG_VECTOR_FREE(pipeline->context, set.slots, set.room);
  return status;
}

/* ---- duplicates ---- */

static int by_text(const void *a, const void *b) {
  const mg__document *left = *(mg__document *const *)a, *right = *(mg__document *const *)b;
  if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
  if (left->bytes != right->bytes) return left->bytes < right->bytes ? -1 : 1;
  return left < right ? -1 : left > right; /* the earlier document first */
}

/* The best document of a cluster first: the longest, then the smallest hash. */
static int by_cluster(const void *a, const void *b) {
  const mg__document *left = *(mg__document *const *)a, *right = *(mg__document *const *)b;
  if (left->cluster != right->cluster) return left->cluster < right->cluster ? -1 : 1;
  if (left->bytes != right->bytes) return left->bytes > right->bytes ? -1 : 1;
  if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
  return left < right ? -1 : left > right;
}

static bool same_text(const mg__document *a, const mg__document *b) {
  return a->hash == b->hash && a->bytes == b->bytes && memcmp(a->text, b->text, a->bytes) == 0;
}

static bool same_cluster(const mg__document *a, const mg__document *b) {
  return a->cluster == b->cluster;
}

/* Sorts the documents that are left and drops each that is `same` as the last one kept. */
static mg_status drop_same(mg__pipeline *pipeline, int (*order)(const void *, const void *),
                           bool (*same)(const mg__document *, const mg__document *), const char *reason) {
  mg__document **sorted = mg_alloc(pipeline->context, pipeline->count * sizeof *sorted);
  if (pipeline->count && !sorted) return MG_MEMORY;
  size_t count = 0;
  for (size_t i = 0; i < pipeline->count; i++)
    if (!pipeline->documents[i].dropped) sorted[count++] = &pipeline->documents[i];
  if (count) qsort(sorted, count, sizeof *sorted, order);
  mg_status status = MG_OK;
  for (size_t i = 1, kept = 0; i < count && status == MG_OK; i++) {
    if (same(sorted[kept], sorted[i]))
      status = mg__document_drop(pipeline, sorted[i], reason);
    else
      kept = i;
  }
  mg_free(pipeline->context, sorted, pipeline->count * sizeof *sorted);
  return status;
}

static mg_status run(mg__pipeline *pipeline, const void *chosen) {
  const filter_options *options = chosen;
  MG_TRY(judge_each(pipeline, options));
  if (options->exact_duplicates) MG_TRY(drop_same(pipeline, by_text, same_text, "exact_duplicate"));
  MG_TRY(mg__documents_cluster(pipeline, options->near_threshold));
  if (options->near_duplicates == NEAR_KEEP) return MG_OK;
  return drop_same(pipeline, by_cluster, same_cluster, "near_duplicate");
}

const mg__stage mg__stage_filter = {.name = "filter",
                                    .summary = "length, junk, repetition, exact and near duplicates",
                                    .kind = MG__TEXT,
                                    .version = 1,
                                    .options = options_table,
                                    .options_size = sizeof(filter_options),
                                    .run = run};
