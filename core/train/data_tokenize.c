/* Stages "tokenize", which makes the tokenizer, and "encode", which turns every document into token ids.
 *
 * A BPE is trained on the training side of the split alone, taking documents of all domains in turn up to
 * `training_bytes`, so that validation text has no part in the vocabulary and no domain is left out. */
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint_vocabulary.h"
#include "train/data_stage.h"

typedef struct tokenize_options {
  int64_t kind, vocabulary, training_bytes;
  char pattern[MG_OPTION_STRING_MAX], path[MG_OPTION_STRING_MAX], checksum[MG_OPTION_STRING_MAX];
} tokenize_options;

enum { KIND_BPE, KIND_BYTES, KIND_FILE };
static const char *const kinds[] = {"bpe", "bytes", "file", NULL};

static const mg_option options_table[] = {
    MG_OPTION_CHOICE(tokenize_options, kind, KIND_BPE, kinds,
                     "byte-level BPE trained on the corpus, plain bytes, or a tokenizer that is there already"),
    MG_OPTION_INT(tokenize_options, vocabulary, 4096, 256, 1 << 24, "tokens of the BPE, its 256 bytes included"),
    MG_OPTION_INT(tokenize_options, training_bytes, 1e9, 1, 1e15, "most bytes of text the BPE is trained on"),
    MG_OPTION_STRING(tokenize_options, pattern, "", "PCRE2 pattern that cuts text into words; empty = GPT-4's cut"),
    MG_OPTION_STRING(tokenize_options, path, "", "of kind \"file\": a tokenizer.json, or a model that has one"),
    MG_OPTION_STRING(tokenize_options, checksum, "",
                     "of that tokenizer; filled in, so that another one is another key"),
    MG_OPTION_END};

static int by_hash(const void *a, const void *b) {
  const mg__document *left = *(const mg__document *const *)a, *right = *(const mg__document *const *)b;
  if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
  return left < right ? -1 : left > right;
}

/* Adds training documents in the order of their hashes, which mixes the domains. */
static mg_status add_documents(mg__pipeline *pipeline, mg_bpe_trainer *trainer, size_t most, size_t *used) {
  const mg__document **sorted = mg_alloc(pipeline->context, pipeline->count * sizeof *sorted);
  if (!sorted) return MG_MEMORY;
  size_t count = 0;
  for (size_t i = 0; i < pipeline->count; i++)
    if (pipeline->documents[i].split == MG_SPLIT_TRAIN) sorted[count++] = &pipeline->documents[i];
  qsort(sorted, count, sizeof *sorted, by_hash);
  mg_status status = MG_OK;
  for (size_t i = 0; i < count && status == MG_OK && (i == 0 || sorted[i]->bytes <= most - *used); i++) {
    status = mg_bpe_trainer_add(trainer, sorted[i]->text, sorted[i]->bytes);
    *used += sorted[i]->bytes;
    if (*used >= most) break;
  }
  mg_free(pipeline->context, sorted, pipeline->count * sizeof *sorted);
  return status;
}

static mg_status train_bpe(mg__pipeline *pipeline, const tokenize_options *options) {
  mg_bpe_trainer *trainer;
  MG_TRY(mg_bpe_trainer_create(pipeline->context, options->pattern[0] ? options->pattern : NULL, &trainer));
  size_t used = 0;
  mg_status status = add_documents(pipeline, trainer, (size_t)options->training_bytes, &used);
  if (status == MG_OK) status = mg_bpe_trainer_finish(trainer, options->vocabulary, &pipeline->tokenizer);
  mg_bpe_trainer_destroy(trainer);
  if (status != MG_OK) return status;
  json_object_set_new(pipeline->facts, "training_bytes", json_integer((json_int_t)used));
  const int64_t got = mg_tokenizer_vocabulary(pipeline->tokenizer);
  if (got < options->vocabulary)
    mg_log_line(
        pipeline->context, MG_LOG_WARNING,
        "tokenize: the training text has only %lld tokens' worth of repeated pairs, not %lld; the vocabulary is "
        "that small",
        (long long)got, (long long)options->vocabulary);
  return MG_OK;
}

/* Of what is in it, so that another tokenizer under the same path makes another dataset. */
static mg_status hash_tokenizer(mg_context *context, tokenize_options *options) {
  mg_tokenizer *tokenizer;
  MG_TRY(mg_model_tokenizer(context, options->path, &tokenizer));
  json_t *json = mg_tokenizer_to_json(tokenizer);
  char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
  json_decref(json);
  mg_tokenizer_destroy(tokenizer);
  if (!text) return mg_fail(context, MG_MEMORY, "no memory for the tokenizer of %s", options->path);
  mg_hash_bytes(text, strlen(text), options->checksum);
  free(text);
  return MG_OK;
}

static mg_status settle_tokenize(mg_context *context, void *chosen) {
  tokenize_options *options = chosen;
  if ((options->kind == KIND_FILE) != (options->path[0] != '\0'))
    return mg_fail(context, MG_USAGE, "data: tokenize: kind \"file\" and 'path' go together");
  return options->kind == KIND_FILE ? hash_tokenizer(context, options) : MG_OK;
}

static mg_status run_tokenize(mg__pipeline *pipeline, const void *chosen) {
  const tokenize_options *options = chosen;
  if (options->kind == KIND_BPE) MG_TRY(train_bpe(pipeline, options));
  if (options->kind == KIND_BYTES) MG_TRY(mg_tokenizer_create_bytes(pipeline->context, &pipeline->tokenizer));
  if (options->kind == KIND_FILE) MG_TRY(mg_model_tokenizer(pipeline->context, options->path, &pipeline->tokenizer));
  pipeline->vocabulary = mg_tokenizer_vocabulary(pipeline->tokenizer);
  json_object_set_new(pipeline->facts, "vocabulary", json_integer(pipeline->vocabulary));
  return MG_OK;
}

static mg_status run_encode(mg__pipeline *pipeline, const void *options) {
  (void)options;
  for (size_t i = 0; i < pipeline->count; i++) {
    mg__document *document = &pipeline->documents[i];
    document->token_start = pipeline->tokens.count;
    MG_TRY(mg_tokenizer_encode(pipeline->tokenizer, document->text, document->bytes, 0, &pipeline->tokens));
    document->token_count = pipeline->tokens.count - document->token_start;
  }
  json_object_set_new(pipeline->facts, "tokens", json_integer((json_int_t)pipeline->tokens.count));
  return MG_OK;
}

const mg__stage mg__stage_tokenize = {.name = "tokenize",
                                      .summary =
                                          "trains a byte-level BPE on the training side, or takes bytes or a tokenizer",
                                      .kind = MG__TOKENIZE,
                                      .version = 1,
                                      .options = options_table,
                                      .options_size = sizeof(tokenize_options),
                                      .settle = settle_tokenize,
                                      .run = run_tokenize};

static const mg_option no_options[] = {MG_OPTION_END};

const mg__stage mg__stage_encode = {.name = "encode",
                                    .summary = "turns every document into token ids",
                                    .kind = MG__ENCODE,
                                    .version = 1,
                                    .options = no_options,
                                    .run = run_encode};
