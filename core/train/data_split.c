/* Stage "split": training or validation, by document, so that nothing leaks.
 *
 * The side is a hash of the document's cluster and the seed: u = hash / 2^64 < valid_share means validation. So the
 * same text is on the same side whatever else is in the corpus, and near duplicates, which share a cluster, stay
 * together. Only where a domain would have nothing on one side is its cluster nearest to that side moved there, if that
 * leaves no other domain with nothing on one side. */
#include <math.h>

#include "base/hash.h"
#include "train/data_stage.h"

typedef struct split_options {
  double valid_share, near_threshold;
} split_options;

static const mg_option options_table[] = {
    MG_OPTION_FLOAT(split_options, valid_share, 0.05, 1e-6, 0.9, "share of documents for validation"),
    MG_OPTION_FLOAT(split_options, near_threshold, 0.8, 0.5, 1,
                    "least similarity of documents that stay together, where no filter has found them"),
    MG_OPTION_END};

/* Uniform on [0, 1) by cluster. */
static double position(const mg__pipeline *pipeline, const mg__document *document) {
  return ldexp((double)(mg_hash64(&document->cluster, sizeof document->cluster, pipeline->seed) >> 11), -53);
}

static bool stays_without(const mg__pipeline *pipeline, const mg__document *document) {
  for (size_t i = 0; i < pipeline->count; i++) {
    const mg__document *other = &pipeline->documents[i];
    if (other->domain == document->domain && other->split == document->split && other->cluster != document->cluster)
      return true;
  }
  return false;
}

/* True if each domain of the cluster keeps a document on the side that the cluster leaves. */
static bool can_move(const mg__pipeline *pipeline, uint64_t cluster) {
  for (size_t i = 0; i < pipeline->count; i++) {
    const mg__document *document = &pipeline->documents[i];
    if (document->cluster == cluster && !stays_without(pipeline, document)) return false;
  }
  return true;
}

/* Moves a domain's cluster that lies nearest to `side`'s end there, of those that leave no domain without its other side.
 * MG_FILE if there is none. */
static mg_status move_one(mg__pipeline *pipeline, int32_t domain, mg_split side) {
  const mg__document *nearest = NULL;
  for (size_t i = 0; i < pipeline->count; i++) {
    const mg__document *document = &pipeline->documents[i];
    if (document->domain != domain) continue;
    if (nearest && (side == MG_SPLIT_VALID) != (position(pipeline, document) < position(pipeline, nearest))) continue;
    if (can_move(pipeline, document->cluster)) nearest = document;
  }
  if (!nearest)
    return mg_fail(
        pipeline->context, MG_FILE,
        "%s: the domain '%s' has only one document (or only near duplicates, its own or another domain's), "
        "which cannot be split; add files, or set collect's 'document_bytes' to cut long files into documents",
        pipeline->corpus, mg__domain_name(pipeline, domain));
  const uint64_t cluster = nearest->cluster;
  for (size_t i = 0; i < pipeline->count; i++)
    if (pipeline->documents[i].cluster == cluster) pipeline->documents[i].split = (int32_t)side;
  return MG_OK;
}

static bool has_side(const mg__pipeline *pipeline, int32_t domain, mg_split side) {
  for (size_t i = 0; i < pipeline->count; i++)
    if (pipeline->documents[i].domain == domain && pipeline->documents[i].split == (int32_t)side) return true;
  return false;
}

static void count_sides(mg__pipeline *pipeline) {
  json_int_t documents[2] = {0}, bytes[2] = {0};
  for (size_t i = 0; i < pipeline->count; i++) {
    documents[pipeline->documents[i].split]++;
    bytes[pipeline->documents[i].split] += (json_int_t)pipeline->documents[i].bytes;
  }
  json_object_set_new(pipeline->facts, "train",
                      json_pack("{s:I, s:I}", "documents", documents[MG_SPLIT_TRAIN], "bytes", bytes[MG_SPLIT_TRAIN]));
  json_object_set_new(pipeline->facts, "valid",
                      json_pack("{s:I, s:I}", "documents", documents[MG_SPLIT_VALID], "bytes", bytes[MG_SPLIT_VALID]));
}

static mg_status run(mg__pipeline *pipeline, const void *chosen) {
  const split_options *options = chosen;
  const bool text = pipeline->count > 0 && pipeline->documents[0].text;
  if (text && !pipeline->clustered) MG_TRY(mg__documents_cluster(pipeline, options->near_threshold));
  for (size_t i = 0; i < pipeline->count; i++) {
    mg__document *document = &pipeline->documents[i];
    document->split = position(pipeline, document) < options->valid_share ? MG_SPLIT_VALID : MG_SPLIT_TRAIN;
  }
  const int32_t domains = (int32_t)json_array_size(pipeline->domains);
  for (int32_t domain = 0; domain < domains; domain++)
    for (int side = MG_SPLIT_TRAIN; side <= MG_SPLIT_VALID; side++)
      if (!has_side(pipeline, domain, (mg_split)side)) MG_TRY(move_one(pipeline, domain, (mg_split)side));
  count_sides(pipeline);
  return MG_OK;
}

const mg__stage mg__stage_split = {.name = "split",
                                   .summary = "sends documents to training or validation by a hash of their text",
                                   .kind = MG__SPLIT,
                                   .version = 2,
                                   .options = options_table,
                                   .options_size = sizeof(split_options),
                                   .run = run};
