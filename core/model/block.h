/* What one decoder block holds, and how it runs. */
#ifndef MG_MODEL_BLOCK_H
#define MG_MODEL_BLOCK_H

#include "model/spec.h"

/* Places of parameters in the store; -1 = there is none. */
typedef struct mg__linear {
  int64_t weight, bias;
} mg__linear;
typedef struct mg__norm {
  int64_t scale, shift;
} mg__norm;

typedef struct mg__block {
  mg__norm attention_norm, feed_norm, query_norm, key_norm;
  mg__linear query, key, value, output; /* attention */
  mg__linear gate, up, down;            /* dense feed-forward */
  mg_moe *moe;                          /* NULL when dense */
} mg__block;

struct mg_model {
  mg_context *context;
  mg_backend *backend;
  mg_params *params;
  mg__model_spec spec;
  uint64_t seed;
  int64_t embedding, head; /* the same when tied */
  mg__norm final_norm;
  mg__block *blocks;
  int64_t moe_layers;
  int64_t *moe_layer; /* [moe_layers] its block */
  mg_moe_record *records;
  double **demand; /* [moe_layers][E] since the last after_step */
  mg_model_size size;
};

/* What the blocks of one forward pass share. */
typedef struct mg__pass {
  const mg_model_batch *batch;
  mg_var *ids, *positions, *frequencies;
  int64_t tokens;
} mg__pass;

mg_var *mg__linear_forward(mg_model *model, mg_tape *tape, mg__linear linear, mg_var *x);
mg_var *mg__norm_forward(mg_model *model, mg_tape *tape, mg__norm norm, mg_var *x);
mg_var *mg__block_forward(mg_model *model, mg_tape *tape, int64_t index, const mg__pass *pass, mg_var *x,
                          mg_moe_record *record);

/* Adds the parameters of a model to its store and counts them by part. */
mg_status mg__model_build(mg_model *model, mg_registry *registry);

#endif
