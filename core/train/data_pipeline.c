/* Runs the stages of a recipe in order, accounts for what each kept and dropped, and keeps the documents after the last
 * text stage and the split in the cache, so that another tokenizer starts from there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/options.h"
#include "base/vector.h"
#include "train/data_stage.h"

/* ---- the cache key ---- */

/* {"stage", "version", "options"} of the first steps, the corpus's identity, the seed and the filter, hashed. */
static json_t *key_object(const mg__pipeline *pipeline, const mg__recipe *recipe, size_t steps, const char *collected) {
  json_t *list = json_array();
  bool script = false;
  for (size_t i = 0; i < steps; i++) {
    const mg__step *step = &recipe->steps[i];
    script = script || step->stage == &mg__stage_script;
    json_array_append_new(list,
                          json_pack("{s:s, s:i, s:o}", "stage", step->stage->name, "version", (int)step->stage->version,
                                    "options", mg_options_to_json(step->stage->options, step->options)));
  }
  const char *filter = script && pipeline->filter ? pipeline->filter->identity : "";
  return json_pack("{s:i, s:s, s:s, s:I, s:s, s:o}", "format", 1, "corpus", pipeline->corpus, "collected", collected,
                   "seed", (json_int_t)recipe->seed, "filter", filter, "steps", list);
}

mg_status mg__recipe_key(const mg__pipeline *pipeline, const mg__recipe *recipe, size_t steps,
                         const char collected[MG_HASH_TEXT_BYTES], char key[MG_HASH_TEXT_BYTES]) {
  json_t *object = key_object(pipeline, recipe, steps, collected);
  char *text = object ? json_dumps(object, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
  json_decref(object);
  if (!text) return mg_fail(pipeline->context, MG_MEMORY, "no memory for the key of the cache");
  mg_hash_bytes(text, strlen(text), key);
  free(text);
  return MG_OK;
}

/* ---- one step ---- */

static json_t *totals(const mg__pipeline *pipeline, int32_t domain) {
  json_int_t documents = 0, bytes = 0;
  for (size_t i = 0; i < pipeline->count; i++) {
    if (domain >= 0 && pipeline->documents[i].domain != domain) continue;
    documents++;
    bytes += (json_int_t)pipeline->documents[i].bytes;
  }
  return json_pack("{s:I, s:I}", "documents", documents, "bytes", bytes);
}

/* Adds the finished stage to the report, and says the same in one log line. */
static mg_status report(mg__pipeline *pipeline, const mg__stage *stage, json_t *before, int64_t start_ns) {
  json_t *domains = json_object();
  for (int32_t i = 0; i < (int32_t)json_array_size(pipeline->domains); i++)
    json_object_set_new(domains, mg__domain_name(pipeline, i), totals(pipeline, i));
  const double seconds = (double)(mg_clock_ns() - start_ns) / 1e9;
  json_t *row = json_pack("{s:s, s:o, s:o, s:O, s:o, s:f}", "stage", stage->name, "in", before, "out",
                          totals(pipeline, -1), "dropped", pipeline->dropped, "domains", domains, "seconds", seconds);
  if (!row || json_object_update_missing(row, pipeline->facts) != 0 ||
      json_array_append_new(pipeline->report, row) != 0)
    return mg_fail(pipeline->context, MG_MEMORY, "no memory for the report of the stage '%s'", stage->name);
  const json_t *after = json_object_get(row, "out");
  mg_log_line(pipeline->context, MG_LOG_INFO, "data: %s: %lld documents, %.1f MB, %.2f s", stage->name,
              (long long)json_integer_value(json_object_get(after, "documents")),
              (double)json_integer_value(json_object_get(after, "bytes")) / 1e6, seconds);
  return MG_OK;
}

/* A domain that a stage emptied is an error that says which stage, and why its documents went. */
static mg_status check_domains(mg__pipeline *pipeline, const mg__stage *stage) {
  for (int32_t domain = 0; domain < (int32_t)json_array_size(pipeline->domains); domain++) {
    bool found = false;
    for (size_t i = 0; i < pipeline->count && !found; i++) found = pipeline->documents[i].domain == domain;
    if (found) continue;
    char *why = json_dumps(pipeline->dropped, JSON_COMPACT | JSON_SORT_KEYS);
    const mg_status status =
        mg_fail(pipeline->context, MG_FILE,
                "%s: the domain '%s' has no document left after the stage '%s', which dropped %s; add text to it or "
                "loosen the stage's options",
                pipeline->corpus, mg__domain_name(pipeline, domain), stage->name, why ? why : "some");
    free(why);
    return status;
  }
  return MG_OK;
}

static mg_status run_step(mg__pipeline *pipeline, const mg__step *step) {
  const int64_t start_ns = mg_clock_ns();
  json_decref(pipeline->dropped);
  json_decref(pipeline->facts);
  pipeline->dropped = json_object();
  pipeline->facts = json_object();
  json_t *before = totals(pipeline, -1);
  if (!pipeline->dropped || !pipeline->facts || !before)
    return mg_fail(pipeline->context, MG_MEMORY, "no memory for the report");
  mg_status status = step->stage->run(pipeline, step->options);
  if (status == MG_OK) mg__documents_compact(pipeline);
  if (status == MG_OK) status = check_domains(pipeline, step->stage);
  if (status != MG_OK) {
    json_decref(before);
    return status;
  }
  return report(pipeline, step->stage, before, start_ns);
}

/* ---- documents in the cache: {domains, report} as JSON, rows, texts ---- */

typedef struct stored_document {
  uint64_t start, bytes, hash, cluster;
  int32_t domain, split;
} stored_document;

enum { ABOUT, ROWS, TEXTS, SECTIONS };

static void store_documents(const mg__pipeline *pipeline, stored_document *rows, char *texts) {
  size_t at = 0;
  for (size_t i = 0; i < pipeline->count; i++) {
    const mg__document *document = &pipeline->documents[i];
    rows[i] =
        (stored_document){at, document->bytes, document->hash, document->cluster, document->domain, document->split};
    memcpy(texts + at, document->text, document->bytes);
    at += document->bytes;
  }
}

static mg_status save_documents(mg__pipeline *pipeline, const char *path) {
  size_t bytes = 0;
  for (size_t i = 0; i < pipeline->count; i++) bytes += pipeline->documents[i].bytes;
  const size_t rows_bytes = pipeline->count * sizeof(stored_document);
  stored_document *rows = mg_alloc(pipeline->context, rows_bytes);
  char *texts = mg_alloc(pipeline->context, bytes);
  json_t *object = json_pack("{s:O, s:O}", "domains", pipeline->domains, "report", pipeline->report);
  char *about = object ? json_dumps(object, JSON_COMPACT) : NULL;
  json_decref(object);
  mg_status status = rows && texts && about ? MG_OK : MG_MEMORY;
  if (status == MG_OK) {
    store_documents(pipeline, rows, texts);
    const mg__section sections[SECTIONS] = {{about, strlen(about)}, {rows, rows_bytes}, {texts, bytes}};
    status = mg__entry_write(pipeline->context, path, sections, SECTIONS);
  }
  free(about);
  mg_free(pipeline->context, rows, rows_bytes);
  mg_free(pipeline->context, texts, bytes);
  return status;
}

/* Documents whose texts lie in the mapped entry; false if a row does not fit. */
static bool take_rows(mg__pipeline *pipeline) {
  const mg__entry *entry = &pipeline->mapped;
  const stored_document *rows = entry->section[ROWS];
  const size_t texts = entry->section_bytes[TEXTS], domains = json_array_size(pipeline->domains);
  for (size_t i = 0; i < pipeline->count; i++) {
    const stored_document *row = &rows[i];
    if (row->start > texts || row->bytes > texts - row->start || row->domain < 0 || (size_t)row->domain >= domains ||
        row->split < MG_SPLIT_TRAIN || row->split > MG_SPLIT_VALID)
      return false;
    pipeline->documents[i] = (mg__document){.text = (const char *)entry->section[TEXTS] + row->start,
                                            .bytes = (size_t)row->bytes,
                                            .hash = row->hash,
                                            .cluster = row->cluster,
                                            .domain = row->domain,
                                            .split = row->split};
  }
  return true;
}

static mg_status load_documents(mg__pipeline *pipeline, const char *path, bool *found) {
  MG_TRY(mg__entry_open(pipeline->context, path, &pipeline->mapped, found));
  if (!*found) return MG_OK;
  const mg__entry *entry = &pipeline->mapped;
  json_t *about =
      entry->sections == SECTIONS ? json_loadb(entry->section[ABOUT], entry->section_bytes[ABOUT], 0, NULL) : NULL;
  json_t *domains = json_object_get(about, "domains"), *rows = json_object_get(about, "report");
  if (json_is_array(domains) && json_is_array(rows)) {
    json_decref(pipeline->domains);
    json_decref(pipeline->report);
    pipeline->domains = json_incref(domains);
    pipeline->report = json_incref(rows);
    pipeline->count = entry->section_bytes[ROWS] / sizeof(stored_document);
    MG_TRY(MG_VECTOR_RESERVE(pipeline->context, pipeline->documents, pipeline->room, pipeline->count));
    *found = take_rows(pipeline);
  } else {
    *found = false;
  }
  json_decref(about);
  return *found ? MG_OK : mg_fail(pipeline->context, MG_FILE, "%s: not a cache of documents; remove it", path);
}

/* ---- all steps ---- */

static size_t steps_to_documents(const mg__recipe *recipe) {
  size_t steps = 0;
  while (steps < recipe->count && recipe->steps[steps].stage->kind <= MG__SPLIT) steps++;
  return steps;
}

static mg_status run_steps(mg__pipeline *pipeline, const mg__recipe *recipe, size_t first, size_t end) {
  for (size_t i = first; i < end; i++) MG_TRY(run_step(pipeline, &recipe->steps[i]));
  return MG_OK;
}

/* The documents after the split, from the cache or made and put there, one process at a time. */
static mg_status make_documents(mg__pipeline *pipeline, const mg__recipe *recipe, size_t steps, const char *path) {
  int lock;
  bool found;
  MG_TRY(mg__lock_take(pipeline->context, path, &lock));
  mg_status status = load_documents(pipeline, path, &found);
  if (status == MG_OK && !found) {
    status = run_steps(pipeline, recipe, 0, steps);
    if (status == MG_OK) status = save_documents(pipeline, path);
  }
  mg__lock_release(lock);
  return status;
}

mg_status mg__pipeline_run(mg__pipeline *pipeline, const mg__recipe *recipe, const char collected[MG_HASH_TEXT_BYTES]) {
  pipeline->domains = json_array();
  pipeline->report = json_array();
  pipeline->entropy = NAN;
  if (!pipeline->domains || !pipeline->report) return mg_fail(pipeline->context, MG_MEMORY, "no memory for the report");
  size_t done = 0;
  if (recipe->steps[0].stage != &mg__stage_synthetic) {
    char key[MG_HASH_TEXT_BYTES], path[PATH_MAX];
    done = steps_to_documents(recipe);
    MG_TRY(mg__recipe_key(pipeline, recipe, done, collected, key));
    if ((size_t)snprintf(path, sizeof path, "%s/documents-%s", pipeline->cache, key) >= sizeof path)
      return mg_fail(pipeline->context, MG_WRITE, "%s: the path is too long", pipeline->cache);
    MG_TRY(make_documents(pipeline, recipe, done, path));
  }
  return run_steps(pipeline, recipe, done, recipe->count);
}
