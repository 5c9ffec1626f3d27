/* The documents at work: adding, replacing, dropping with a counted reason, and letting go. */
#include <string.h>

#include "base/hash.h"
#include "base/vector.h"
#include "train/data_stage.h"

enum { TEXT_CHUNK_BYTES = 1 << 20 };

static mg_status keep_text(mg__pipeline *pipeline, mg__document *document, const char *text, size_t bytes) {
  if (!pipeline->texts) MG_TRY(mg_arena_create(pipeline->context, TEXT_CHUNK_BYTES, &pipeline->texts));
  char *copy = mg_arena_alloc(pipeline->texts, bytes + 1);
  if (!copy) return MG_MEMORY;
  memcpy(copy, text, bytes);
  document->text = copy;
  document->bytes = bytes;
  document->hash = document->cluster = mg_hash64(text, bytes, 0);
  return MG_OK;
}

mg_status mg__document_add(mg__pipeline *pipeline, const char *text, size_t bytes, int32_t domain) {
  MG_TRY(MG_VECTOR_RESERVE(pipeline->context, pipeline->documents, pipeline->room, pipeline->count + 1));
  mg__document *document = &pipeline->documents[pipeline->count];
  *document = (mg__document){.domain = domain};
  if (text) MG_TRY(keep_text(pipeline, document, text, bytes));
  pipeline->count++;
  return MG_OK;
}

mg_status mg__document_replace(mg__pipeline *pipeline, mg__document *document, const char *text, size_t bytes) {
  pipeline->clustered = false; /* whom the new text resembles is not known */
  return keep_text(pipeline, document, text, bytes);
}

static bool add_to(json_t *object, const char *key, size_t amount) {
  const json_int_t before = json_integer_value(json_object_get(object, key));
  return json_object_set_new(object, key, json_integer(before + (json_int_t)amount)) == 0;
}

mg_status mg__drop_count(mg__pipeline *pipeline, const char *reason, size_t bytes) {
  json_t *counts = json_object_get(pipeline->dropped, reason);
  if (!counts) {
    counts = json_object();
    if (json_object_set_new(pipeline->dropped, reason, counts) != 0)
      return mg_fail(pipeline->context, MG_MEMORY, "no memory for the report of dropped documents");
  }
  if (!add_to(counts, "documents", 1) || !add_to(counts, "bytes", bytes))
    return mg_fail(pipeline->context, MG_MEMORY, "no memory for the report of dropped documents");
  return MG_OK;
}

mg_status mg__document_drop(mg__pipeline *pipeline, mg__document *document, const char *reason) {
  document->dropped = true;
  return mg__drop_count(pipeline, reason, document->bytes);
}

void mg__documents_compact(mg__pipeline *pipeline) {
  size_t kept = 0;
  for (size_t i = 0; i < pipeline->count; i++)
    if (!pipeline->documents[i].dropped) pipeline->documents[kept++] = pipeline->documents[i];
  pipeline->count = kept;
}

int32_t mg__domain_index(mg__pipeline *pipeline, const char *name) {
  const size_t count = json_array_size(pipeline->domains);
  for (size_t i = 0; i < count; i++)
    if (strcmp(json_string_value(json_array_get(pipeline->domains, i)), name) == 0) return (int32_t)i;
  if (json_array_append_new(pipeline->domains, json_string(name)) != 0) {
    mg_fail(pipeline->context, MG_FILE, "the domain name '%s' is not valid UTF-8; rename its folder", name);
    return -1;
  }
  return (int32_t)count;
}

const char *mg__domain_name(const mg__pipeline *pipeline, int32_t domain) {
  return json_string_value(json_array_get(pipeline->domains, (size_t)domain));
}

void mg__pipeline_release(mg__pipeline *pipeline) {
  mg_context *context = pipeline->context;
  json_decref(pipeline->domains);
  json_decref(pipeline->layout);
  json_decref(pipeline->report);
  json_decref(pipeline->dropped);
  json_decref(pipeline->facts);
  MG_VECTOR_FREE(context, pipeline->documents, pipeline->room);
  if (pipeline->texts) mg_arena_destroy(pipeline->texts);
  mg__entry_close(&pipeline->mapped);
  mg_tokenizer_destroy(pipeline->tokenizer);
  mg_token_list_free(context, &pipeline->tokens);
  MG_VECTOR_FREE(context, pipeline->streams, pipeline->streams_count);
  *pipeline = (mg__pipeline){0};
}
