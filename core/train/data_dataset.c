/* A dataset: the packed streams in a mapped cache entry, and what is known about them.
 *
 * The entry's first section is JSON: domain names, layout, tokenizer, vocabulary, entropy, report, checksum. Its second
 * is the streams' tokens. */
#include "train/data_dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ABOUT, TOKENS, SECTIONS };

/* ---- writing ---- */

/* Over the domain names, layout, tokenizer and tokens: the text itself, however it was obtained. */
static mg_status checksum(const mg__pipeline *pipeline, json_t *tokenizer, char text[MG_HASH_TEXT_BYTES]) {
  char tokens[MG_HASH_TEXT_BYTES];
  mg_hash_bytes(pipeline->streams, pipeline->streams_count * sizeof *pipeline->streams, tokens);
  json_t *object = json_pack("{s:O, s:O, s:O, s:s}", "domains", pipeline->domains, "layout", pipeline->layout,
                             "tokenizer", tokenizer, "tokens", tokens);
  char *all = object ? json_dumps(object, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
  json_decref(object);
  if (!all) return mg_fail(pipeline->context, MG_MEMORY, "no memory for the checksum of the data");
  mg_hash_bytes(all, strlen(all), text);
  free(all);
  return MG_OK;
}

static mg_status save(mg__pipeline *pipeline, const char *path) {
  json_t *tokenizer = pipeline->tokenizer ? mg_tokenizer_to_json(pipeline->tokenizer) : json_null();
  char sum[MG_HASH_TEXT_BYTES] = "";
  mg_status status = tokenizer ? checksum(pipeline, tokenizer, sum)
                               : mg_fail(pipeline->context, MG_MEMORY, "no memory to write the tokenizer");
  json_t *object = json_pack("{s:O, s:O, s:O, s:I, s:o, s:O, s:s}", "domains", pipeline->domains, "layout",
                             pipeline->layout, "tokenizer", tokenizer, "vocabulary", (json_int_t)pipeline->vocabulary,
                             "entropy", isnan(pipeline->entropy) ? json_null() : json_real(pipeline->entropy), "report",
                             pipeline->report, "checksum", sum);
  char *about = object ? json_dumps(object, JSON_COMPACT) : NULL;
  if (status == MG_OK && !about) status = mg_fail(pipeline->context, MG_MEMORY, "no memory to describe the data");
  if (status == MG_OK) {
    const mg__section sections[SECTIONS] = {{about, strlen(about)},
                                            {pipeline->streams, pipeline->streams_count * sizeof *pipeline->streams}};
    status = mg__entry_write(pipeline->context, path, sections, SECTIONS);
  }
  free(about);
  json_decref(object);
  json_decref(tokenizer);
  return status;
}

/* ---- reading ---- */

static bool read_stream(const json_t *row, mg__stream *stream, size_t tokens) {
  json_int_t numbers[3];
  for (size_t i = 0; i < 3; i++) {
    const json_t *number = json_array_get(row, i);
    numbers[i] = json_integer_value(number);
    if (!json_is_integer(number) || numbers[i] < 0) return false;
  }
  *stream = (mg__stream){(size_t)numbers[0], (size_t)numbers[1]};
  return stream->start <= tokens && stream->count <= tokens - stream->start;
}

static bool read_layout(mg_dataset *dataset, const json_t *layout) {
  const size_t tokens = dataset->entry.section_bytes[TOKENS] / sizeof(int32_t);
  for (size_t split = 0; split < 2; split++)
    for (size_t domain = 0; domain < dataset->domains; domain++) {
      mg__stream *stream = &dataset->streams[split * dataset->domains + domain];
      if (!read_stream(json_array_get(json_array_get(layout, split), domain), stream, tokens)) return false;
      dataset->tokens[split] += stream->count;
    }
  return true;
}

static mg_status read_about(mg_dataset *dataset) {
  const json_t *about = dataset->about;
  const json_t *domains = json_object_get(about, "domains"), *tokenizer = json_object_get(about, "tokenizer");
  dataset->domains = json_array_size(domains);
  dataset->vocabulary = json_integer_value(json_object_get(about, "vocabulary"));
  const json_t *entropy = json_object_get(about, "entropy");
  dataset->entropy = json_is_number(entropy) ? json_number_value(entropy) : NAN;
  dataset->ids = dataset->entry.section[TOKENS];
  dataset->streams = mg_alloc(dataset->context, 2 * dataset->domains * sizeof *dataset->streams);
  if (!dataset->streams && dataset->domains) return MG_MEMORY;
  if (dataset->domains == 0 || dataset->vocabulary < 1 || !json_string_value(json_object_get(about, "checksum")) ||
      !read_layout(dataset, json_object_get(about, "layout")))
    return mg_fail(dataset->context, MG_FILE,
                   "the cached data is not what this version writes; remove the cache folder");
  if (json_is_null(tokenizer)) return MG_OK;
  return mg_tokenizer_from_json(dataset->context, tokenizer, &dataset->tokenizer);
}

/* Opens a finished entry; *found is false if it is missing or damaged. */
static mg_status load(mg_dataset *dataset, const char *path, bool *found) {
  MG_TRY(mg__entry_open(dataset->context, path, &dataset->entry, found));
  if (!*found) return MG_OK;
  const mg__entry *entry = &dataset->entry;
  if (entry->sections == SECTIONS)
    dataset->about = json_loadb(entry->section[ABOUT], entry->section_bytes[ABOUT], 0, NULL);
  if (!dataset->about) return mg_fail(dataset->context, MG_FILE, "%s: not a cache of tokens; remove it", path);
  const mg_status status = read_about(dataset);
  return status == MG_OK ? MG_OK : mg_fail_where(dataset->context, status, "%s", path);
}

/* ---- opening ---- */

static mg_status make(mg__pipeline *pipeline, const mg__recipe *recipe, const char *collected, const char *path) {
  mg_status status = mg__pipeline_run(pipeline, recipe, collected);
  if (status == MG_OK) status = save(pipeline, path);
  return status;
}

/* Loads the entry, or makes it while others wait and loads it then. */
static mg_status load_or_make(mg_dataset *dataset, mg__pipeline *pipeline, const mg__recipe *recipe) {
  char collected[MG_HASH_TEXT_BYTES], key[MG_HASH_TEXT_BYTES], path[PATH_MAX];
  const mg__step *collect = &recipe->steps[0];
  MG_TRY(collect->stage->identity(pipeline, collect->options, collected));
  MG_TRY(mg__recipe_key(pipeline, recipe, recipe->count, collected, key));
  if ((size_t)snprintf(path, sizeof path, "%s/tokens-%s", pipeline->cache, key) >= sizeof path)
    return mg_fail(pipeline->context, MG_WRITE, "%s: the path is too long", pipeline->cache);
  bool found;
  MG_TRY(load(dataset, path, &found));
  if (found) return MG_OK;
  int lock;
  MG_TRY(mg__lock_take(dataset->context, path, &lock));
  mg_status status = load(dataset, path, &found); /* another process may have made it meanwhile */
  if (status == MG_OK && !found) status = make(pipeline, recipe, collected, path);
  if (status == MG_OK && !found) status = load(dataset, path, &found);
  mg__lock_release(lock);
  if (status == MG_OK && !found)
    return mg_fail(dataset->context, MG_WRITE, "%s: was written but reads back damaged; check the disk", path);
  return status;
}

static mg_status open_recipe(mg_dataset *dataset, const mg__recipe *recipe, const char *cache,
                             const mg_document_filter *filter) {
  mg__pipeline pipeline = {
      .context = dataset->context, .corpus = recipe->corpus, .cache = cache, .seed = recipe->seed, .filter = filter};
  MG_TRY(mg_folder_make(dataset->context, cache));
  const mg_status status = load_or_make(dataset, &pipeline, recipe);
  mg__pipeline_release(&pipeline);
  return status;
}

mg_status mg_dataset_open_filtered(mg_context *context, const json_t *spec, const char *cache,
                                   const mg_document_filter *filter, mg_dataset **out) {
  *out = NULL;
  if (filter && (!filter->decide || !filter->identity))
    return mg_fail(context, MG_USAGE,
                   "data: a filter needs 'decide' and an 'identity', which is part of the cache key");
  mg__recipe recipe;
  MG_TRY(mg__recipe_read(context, spec, filter != NULL, &recipe));
  mg_dataset *dataset = mg_alloc(context, sizeof *dataset);
  mg_status status = dataset ? MG_OK : MG_MEMORY;
  if (dataset) {
    dataset->context = context;
    status = open_recipe(dataset, &recipe, cache, filter);
  }
  mg__recipe_release(context, &recipe);
  if (status != MG_OK) {
    mg_dataset_close(dataset);
    return status;
  }
  *out = dataset;
  return MG_OK;
}

mg_status mg_dataset_open(mg_context *context, const json_t *spec, const char *cache, mg_dataset **out) {
  return mg_dataset_open_filtered(context, spec, cache, NULL, out);
}

void mg_dataset_close(mg_dataset *dataset) {
  if (!dataset) return;
  mg_context *context = dataset->context;
  mg_tokenizer_destroy(dataset->tokenizer);
  mg_free(context, dataset->streams, 2 * dataset->domains * sizeof *dataset->streams);
  json_decref(dataset->about);
  mg__entry_close(&dataset->entry);
  mg_free(context, dataset, sizeof *dataset);
}

/* ---- what is known ---- */

int64_t mg_dataset_vocabulary(const mg_dataset *dataset) {
  return dataset->vocabulary;
}

int64_t mg_dataset_domains(const mg_dataset *dataset) {
  return (int64_t)dataset->domains;
}

const char *mg_dataset_domain_name(const mg_dataset *dataset, int64_t domain) {
  return json_string_value(json_array_get(json_object_get(dataset->about, "domains"), (size_t)domain));
}

int64_t mg_dataset_tokens(const mg_dataset *dataset, mg_split split) {
  return (int64_t)dataset->tokens[split];
}

void mg_dataset_count_tokens(const mg_dataset *dataset, mg_split split, int64_t *counts) {
  for (size_t domain = 0; domain < dataset->domains; domain++) {
    const mg__stream *stream = &dataset->streams[split * dataset->domains + domain];
    for (size_t i = 0; i < stream->count; i++) {
      const int32_t id = dataset->ids[stream->start + i] & ~MG__END;
      if (id < dataset->vocabulary) counts[id]++;
    }
  }
}

int64_t mg_dataset_sample_tokens(const mg_dataset *dataset, mg_split split, int32_t *ids, int64_t most) {
  const double all = 2 * (double)dataset->tokens[split] + 1; /* a document may be a single token and its end */
  int64_t written = 0;
  for (size_t domain = 0; domain < dataset->domains; domain++) {
    const mg__stream *stream = &dataset->streams[split * dataset->domains + domain];
    const double share = fmin(1, (double)most / all) * (double)stream->count;
    for (size_t i = 0; i < (size_t)share; i++) {
      const int32_t token = dataset->ids[stream->start + i], id = token & ~MG__END;
      if (id < dataset->vocabulary) ids[written++] = id;
      if (token & MG__END || i + 1 == (size_t)share) ids[written++] = -1;
    }
  }
  return written;
}

double mg_dataset_entropy(const mg_dataset *dataset) {
  return dataset->entropy;
}

const char *mg_dataset_checksum(const mg_dataset *dataset) {
  return json_string_value(json_object_get(dataset->about, "checksum"));
}

const json_t *mg_dataset_report(const mg_dataset *dataset) {
  return json_object_get(dataset->about, "report");
}

/* Synthetic tokens have no text of their own: they are written as numbers. */
static size_t decode_numbers(const int32_t *ids, int64_t count, char *text, size_t bytes) {
  size_t needed = 0;
  for (int64_t i = 0; i < count; i++) {
    char number[16];
    const size_t length = (size_t)snprintf(number, sizeof number, "%d ", ids[i]);
    if (needed < bytes) memcpy(text + needed, number, length < bytes - needed ? length : bytes - needed);
    needed += length;
  }
  return needed;
}

/* What fits of the tokens' text; nothing when memory runs out. */
static size_t decode_text(mg_context *context, mg_tokenizer *tokenizer, const int32_t *ids, int64_t count, char *text,
                          size_t bytes) {
  mg_text decoded = {0};
  const mg_status status = mg_tokenizer_decode(tokenizer, ids, count, 0, &decoded);
  const size_t needed = status == MG_OK ? decoded.count : 0;
  if (needed) memcpy(text, decoded.bytes, needed < bytes ? needed : bytes);
  mg_text_free(context, &decoded);
  return needed;
}

static mg_status decoded_bytes(const mg_dataset *dataset, const int32_t *ids, int64_t count, mg_text *text,
                               int64_t *bytes) {
  text->count = 0;
  MG_TRY(mg_tokenizer_decode(dataset->tokenizer, ids, count, 0, text));
  *bytes = (int64_t)text->count;
  return MG_OK;
}

/* Adds the bytes of one sequence. Each run of targets is decoded behind the token before it, because a tokenizer may drop
 * a space that begins a text. */
static mg_status add_target_bytes(const mg_dataset *dataset, const int32_t *inputs, const int32_t *targets,
                                  int64_t length, int32_t *run, mg_text *text, int64_t *bytes) {
  for (int64_t first = 0, count; first < length; first += count + 1) {
    int64_t before, all;
    run[0] = inputs[first];
    for (count = 0; first + count < length && targets[first + count] >= 0; count++)
      run[count + 1] = targets[first + count];
    if (count == 0) continue;
    MG_TRY(decoded_bytes(dataset, run, 1, text, &before));
    MG_TRY(decoded_bytes(dataset, run, count + 1, text, &all));
    *bytes += all - before;
  }
  return MG_OK;
}

static int64_t count_targets(const mg_batch *batch, int64_t sequences) {
  int64_t count = 0;
  for (int64_t i = 0; i < sequences * batch->sequence_tokens; i++) count += batch->targets[i] >= 0;
  return count;
}

mg_status mg_dataset_target_bytes(const mg_dataset *dataset, const mg_batch *batch, int64_t sequences, int64_t *bytes) {
  const int64_t length = batch->sequence_tokens;
  const size_t run_bytes = (size_t)(length + 1) * sizeof(int32_t);
  *bytes = dataset->tokenizer ? 0 : count_targets(batch, sequences);
  if (!dataset->tokenizer) return MG_OK;
  int32_t *run = mg_alloc(dataset->context, run_bytes);
  mg_text text = {0};
  mg_status status = run ? MG_OK : MG_MEMORY;
  for (int64_t i = 0; i < sequences && status == MG_OK; i++)
    status =
        add_target_bytes(dataset, batch->inputs + i * length, batch->targets + i * length, length, run, &text, bytes);
  mg_text_free(dataset->context, &text);
  mg_free(dataset->context, run, run ? run_bytes : 0);
  return status;
}

json_t *mg_dataset_tokenizer(const mg_dataset *dataset) {
  return dataset->tokenizer ? mg_tokenizer_to_json(dataset->tokenizer) : NULL;
}

size_t mg_dataset_decode(const mg_dataset *dataset, const int32_t *ids, int64_t count, char *text, size_t bytes) {
  return dataset->tokenizer ? decode_text(dataset->context, dataset->tokenizer, ids, count, text, bytes)
                            : decode_numbers(ids, count, text, bytes);
}
