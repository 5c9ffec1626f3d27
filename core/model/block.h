/* What one block holds, and how it runs. */
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

typedef struct mg__attention {
  mg__linear query, key, value, output;            /* grouped; `query` and `output` of the latent kind too */
  mg__linear query_down, query_up, kv_down, kv_up; /* latent */
  mg__norm query_norm, key_norm;                   /* of heads or whole projections, or of the latent ranks */
  int64_t sinks;                                   /* [heads] */
} mg__attention;

typedef struct mg__block {
  mg__norm attention_norm, cross_norm, feed_norm;
  mg__norm attention_post_norm, feed_post_norm; /* of what a branch gives */
  mg__attention attention, cross;               /* `cross` looks at the encoder's output */
  mg__linear gate, up, down;                    /* dense feed-forward */
  mg_moe *moe;                                  /* NULL when dense or none */
} mg__block;

/* One more block that predicts a token further ahead from the hidden state and the next token's embedding. */
typedef struct mg__module {
  mg__norm embedding_norm, hidden_norm, final_norm;
  int64_t projection; /* [D, 2D] */
  mg__block block;
} mg__module;

struct mg_model {
  mg_context *context;
  mg_registry *registry; /* for models derived from this one */
  mg_backend *backend;   /* NULL: described only */
  mg_params *params;
  mg__model_spec spec;
  uint64_t seed;
  int64_t embedding, head; /* the same when tied */
  int64_t head_bias, positions, relative, encoder_relative;
  mg__norm final_norm, encoder_norm;
  mg__block *blocks;   /* spec.decoder.count of them */
  mg__block *encoder;  /* spec.encoder.count */
  mg__module *modules; /* spec.prediction_modules; made only in a description */
  int64_t moe_layers;
  int64_t *moe_layer; /* [moe_layers] its block */
  mg_moe_record *records;
  double **demand; /* [moe_layers][E] since the last after_step */
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

/* Adds the parameters of a model to its store. */
mg_status mg__model_build(mg_model *model, mg_registry *registry);

#endif
