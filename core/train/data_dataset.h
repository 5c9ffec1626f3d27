/* The inside of a dataset, shared by its opening and its batches. */
#ifndef MG_TRAIN_DATA_DATASET_H
#define MG_TRAIN_DATA_DATASET_H

#include "train/data_stage.h"

typedef struct mg__stream {
  size_t start, count; /* tokens in `ids` */
} mg__stream;

struct mg_dataset {
  mg_context *context;
  mg__entry entry;
  json_t *about;
  const int32_t *ids; /* in the mapped entry; MG__END marks a document's last token */
  size_t domains;
  mg__stream *streams; /* [2 * domains], by split, then domain */
  size_t tokens[2];
  int64_t vocabulary;
  double entropy;
  mg_tokenizer *tokenizer; /* NULL for synthetic */
};

#endif
