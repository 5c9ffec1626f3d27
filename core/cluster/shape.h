/* The sizes of a decoder as the simulator needs them, and the operations of its parts. */
#ifndef MG_CLUSTER_SHAPE_H
#define MG_CLUSTER_SHAPE_H

#include <jansson.h>

#include "cluster/forms.h"

typedef enum mg_attention_kind { MG_ATTENTION_MLA, MG_ATTENTION_GQA } mg_attention_kind;

typedef struct mg_shape {
  int64_t layers, dense_layers; /* the first of them have a dense feed-forward */
  int64_t width, heads;
  int64_t attention;            /* mg_attention_kind */
  int64_t kv_heads, head_width; /* gqa */
  int64_t query_rank, latent;   /* mla: ranks of the query and of the key-value projection; query_rank 0 = none */
  int64_t plain_width, rope_width, value_width; /* mla: of a head */
  int64_t experts, choices, expert_hidden, shared_hidden, dense_hidden;
  int64_t vocabulary;
  int64_t prediction_layers; /* further blocks with a head that training runs to predict later tokens */
} mg_shape;
extern const mg_option mg_shape_options[];

mg_status mg_shape_read(mg_context *context, const json_t *json, mg_shape *out);

/* One product of matrices of a part. `parallel` tensor-parallel ranks share it. */
typedef struct mg_product {
  double outputs, inputs, matrices; /* matrices: each token's row meets all of them */
} mg_product;
enum { MG_PRODUCTS_MAX = 6 };

/* Projections of attention: as trained and in prefill, or with the latent absorbed (decode of mla). */
int mg_shape_projections(const mg_shape *shape, bool absorbed, int64_t parallel, mg_product *out);
/* Both products of a gated feed-forward. */
int mg_shape_feed_forward(const mg_shape *shape, int64_t hidden, int64_t parallel, mg_product *out);

double mg_shape_attention_parameters(const mg_shape *shape, int64_t parallel); /* of one layer, on a rank */
double mg_shape_expert_parameters(const mg_shape *shape);                      /* of one expert */
/* Of one block without its routed experts, on a rank: block `layers` and those after it are prediction blocks. */
double mg_shape_block_parameters(const mg_shape *shape, int64_t block, int64_t parallel);
/* Keys and values of one token and layer on a rank: heads are shared out, each on at least one; a latent is on all. */
double mg_shape_cache_elements(const mg_shape *shape, int64_t parallel);
/* FLOPs of the scores and their use for one query and one key: as trained, or absorbed. */
double mg_shape_core_flops(const mg_shape *shape, bool absorbed);
/* Bytes that kernels without products move for one token and layer, forward, and how many kernels that are. */
double mg_shape_moved_bytes(const mg_shape *shape, bool expert_layer);
/* Of them, those of the two norms. */
double mg_shape_norm_bytes(const mg_shape *shape);
int64_t mg_shape_moving_kernels(bool expert_layer);
/* Forward FLOPs of one token in products and attention, with `keys` keys for each query. */
double mg_shape_token_flops(const mg_shape *shape, double keys);

#endif
