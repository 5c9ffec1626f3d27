/* Stage "pack": one stream of tokens for each side of the split and domain, documents one after another in the order of
 * their hashes. A sequence of any length S is then S tokens of one stream (core/train/data_batch.c), so it never mixes
 * domains and any S can be asked for. A document's last token carries the mark MG__END: it has no target. */
#include <stdlib.h>
#include <string.h>

#include "train/data_stage.h"

static int by_stream(const void *a, const void *b) {
  const mg__document *left = *(const mg__document *const *)a, *right = *(const mg__document *const *)b;
  if (left->split != right->split) return left->split < right->split ? -1 : 1;
  if (left->domain != right->domain) return left->domain < right->domain ? -1 : 1;
  if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
  return left < right ? -1 : left > right;
}

/* Starts an empty layout: [split][domain] = [first token, tokens, bytes]. */
static json_t *empty_layout(size_t domains) {
  json_t *layout = json_array();
  for (int split = 0; split < 2; split++) {
    json_t *side = json_array();
    for (size_t i = 0; i < domains; i++) json_array_append_new(side, json_pack("[i, i, i]", 0, 0, 0));
    json_array_append_new(layout, side);
  }
  return layout;
}

static void add_number(json_t *stream, size_t index, size_t amount) {
  const json_int_t before = json_integer_value(json_array_get(stream, index));
  json_array_set_new(stream, index, json_integer(before + (json_int_t)amount));
}

static void lay_out(mg__pipeline *pipeline, const mg__document *const *sorted) {
  size_t written = 0;
  for (size_t i = 0; i < pipeline->count; i++) {
    const mg__document *document = sorted[i];
    if (document->token_count == 0) continue;
    memcpy(pipeline->streams + written, pipeline->tokens.ids + document->token_start,
           document->token_count * sizeof *pipeline->streams);
    json_t *stream =
        json_array_get(json_array_get(pipeline->layout, (size_t)document->split), (size_t)document->domain);
    if (json_integer_value(json_array_get(stream, 1)) == 0) add_number(stream, 0, written);
    add_number(stream, 1, document->token_count);
    add_number(stream, 2, document->bytes);
    written += document->token_count;
    pipeline->streams[written - 1] |= MG__END;
  }
}

static mg_status run(mg__pipeline *pipeline, const void *options) {
  (void)options;
  pipeline->layout = empty_layout(json_array_size(pipeline->domains));
  pipeline->streams = mg_alloc(pipeline->context, pipeline->tokens.count * sizeof *pipeline->streams);
  const mg__document **sorted = mg_alloc(pipeline->context, pipeline->count * sizeof *sorted);
  if (!pipeline->layout || !pipeline->streams || !sorted) {
    mg_free(pipeline->context, sorted, pipeline->count * sizeof *sorted);
    return pipeline->count ? MG_MEMORY : mg_fail(pipeline->context, MG_FILE, "pack: there are no documents");
  }
  pipeline->streams_count = pipeline->tokens.count;
  for (size_t i = 0; i < pipeline->count; i++) sorted[i] = &pipeline->documents[i];
  qsort(sorted, pipeline->count, sizeof *sorted, by_stream);
  lay_out(pipeline, sorted);
  mg_free(pipeline->context, sorted, pipeline->count * sizeof *sorted);
  json_object_set(pipeline->facts, "streams", pipeline->layout);
  return MG_OK;
}

static const mg_option no_options[] = {MG_OPTION_END};

const mg__stage mg__stage_pack = {.name = "pack",
                                  .summary = "lays documents one after another, one stream for each side and domain",
                                  .kind = MG__PACK,
                                  .version = 1,
                                  .options = no_options,
                                  .run = run};
