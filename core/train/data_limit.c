/* Stage "limit": at most so many bytes of each domain, so that domains weigh alike and a first run is quick. Documents
 * are taken in the order of their hashes, which is a random sample that does not depend on names or order. */
#include <stdlib.h>

#include "train/data_stage.h"

typedef struct limit_options {
  int64_t domain_bytes;
} limit_options;

static const mg_option options_table[] = {
    MG_OPTION_INT(limit_options, domain_bytes, 0, 0, 1e15, "most bytes of text of each domain; 0 = all"),
    MG_OPTION_END};

static int by_hash(const void *a, const void *b) {
  const mg__document *left = *(mg__document *const *)a, *right = *(mg__document *const *)b;
  if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
  return left < right ? -1 : left > right;
}

static mg_status run(mg__pipeline *pipeline, const void *chosen) {
  const size_t most = (size_t)((const limit_options *)chosen)->domain_bytes;
  if (most == 0) return MG_OK;
  const size_t domains = json_array_size(pipeline->domains);
  mg__document **sorted = mg_alloc(pipeline->context, pipeline->count * sizeof *sorted);
  size_t *taken = mg_alloc(pipeline->context, domains * sizeof *taken);
  mg_status status = sorted && taken ? MG_OK : MG_MEMORY;
  for (size_t i = 0; i < pipeline->count && status == MG_OK; i++) sorted[i] = &pipeline->documents[i];
  if (status == MG_OK) qsort(sorted, pipeline->count, sizeof *sorted, by_hash);
  for (size_t i = 0; i < pipeline->count && status == MG_OK; i++) {
    size_t *sum = &taken[sorted[i]->domain];
    if (sorted[i]->bytes <= most - *sum)
      *sum += sorted[i]->bytes;
    else
      status = mg__document_drop(pipeline, sorted[i], "over_limit");
  }
  mg_free(pipeline->context, sorted, pipeline->count * sizeof *sorted);
  mg_free(pipeline->context, taken, domains * sizeof *taken);
  return status;
}

const mg__stage mg__stage_limit = {.name = "limit",
                                   .summary = "takes at most so many bytes of each domain",
                                   .kind = MG__TEXT,
                                   .version = 1,
                                   .options = options_table,
                                   .options_size = sizeof(limit_options),
                                   .run = run};
