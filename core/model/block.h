/* What one block holds, and how it runs. */
#ifndef MG_MODEL_BLOCK_H
#define MG_MODEL_BLOCK_H

#include "model/spec.h"
#include "tensor/tape_work.h"

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
  int64_t *moe_layer; /* [moe_layers] its block; the encoder's come first */
  mg_moe_record *records;
  double **demand; /* [moe_layers][E] since the last after_step */
  mg_var **hidden; /* encoder.count + 1, then decoder.count + 1: of the last forward pass */
};

/* Rotary frequencies on the tape, shared by layers that rotate alike. */
enum { MG__TABLES_MAX = 8 };
typedef struct mg__table {
  const mg__rope *rope;
  mg_var *frequencies; /* f32 [columns / 2] */
  double scale;        /* of the rotated columns */
} mg__table;

/* What the blocks of one stack share in one forward pass. */
typedef struct mg__pass {
  const mg_model_batch *batch;
  const mg__stack_spec *stack;
  const mg__block *blocks;
  mg_moe_record *records;          /* of the stack's MoE layers */
  mg_cache *cache;                 /* NULL = none */
  int64_t tokens, sequence_tokens; /* in all, and of each sequence */
  int64_t past;                    /* tokens of each sequence before these, in the cache */
  bool causal;
  mg_var *ids, *positions;     /* i32 [T] */
  mg_var *bias;                /* on scores, by distance [heads, distances]; NULL = none */
  mg_var *source;              /* the encoder's output; NULL = there is none, or the cache keeps what it gave */
  const struct mg__pass *seen; /* over all tokens, which those of this pass attend to; NULL = to each other */
  /* Where only logits are wanted: the residual stream [T,D], to which branches are added where it lies, room for the
   * logits of a router, which the next one may look at, and the place behind which each branch has its memory. */
  mg_var *stream, *logits;
  mg_tape_place place;
  mg__table tables[MG__TABLES_MAX];
} mg__pass;

mg_var *mg__linear_forward(mg_model *model, mg_tape *tape, mg__linear linear, mg_var *x);
mg_var *mg__norm_forward(mg_model *model, mg_tape *tape, mg__norm norm, mg_var *x);
/* Block `index` of the pass's stack; `record` is NULL where it has no MoE layer. */
mg_var *mg__block_forward(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x,
                          mg_moe_record *record);

/* Puts on the tape what the pass's stack knows of positions: ids' places, rotary tables, the relative bias whose table is
 * parameter `relative` (-1 = none). */
mg_status mg__pass_positions(mg_model *model, mg_tape *tape, int64_t relative, mg__pass *pass);
/* Absolute positions of the pass's tokens [T,D]; NULL where the specification has none. */
mg_var *mg__absolute_positions(mg_model *model, mg_tape *tape, const mg__pass *pass);

/* A model whose parameters wait for mg_params_bind. */
mg_status mg__model_create_empty(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                                 uint64_t seed, mg_model **out);
/* Adds the parameters of a model to its store. */
mg_status mg__model_build(mg_model *model, mg_registry *registry);

#endif
