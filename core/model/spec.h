/* A model's specification, checked and with every default written out. */
#ifndef MG_MODEL_SPEC_H
#define MG_MODEL_SPEC_H

#include "model/model.h"
#include "moe/activation.h"

typedef enum mg__norm_choice { MG__NORM_RMS, MG__NORM_LAYER } mg__norm_choice;
typedef enum mg__positions { MG__POSITIONS_NONE, MG__POSITIONS_LEARNED, MG__POSITIONS_SINUSOIDAL } mg__positions;

/* The flat keys of a model. Those of attention are defaults for the entries of "attention". */
typedef struct mg__model_settings {
  int64_t layers, width, vocabulary, heads, kv_heads, head_width, norm, rotary;
  int64_t positions, positions_max, positions_first, relative_buckets, relative_distance;
  double norm_epsilon, rope_base, initial_deviation, embedding_scale, residual_scale, logit_scale;
  bool qk_norm, biases, rope_interleaved, tie_embeddings, final_norm, norm_shift, post_norms, head_bias;
} mg__model_settings;

typedef enum mg__scaling_kind {
  MG__SCALING_NONE,
  MG__SCALING_LINEAR,
  MG__SCALING_YARN,
  MG__SCALING_LLAMA3,
  MG__SCALING_LONGROPE
} mg__scaling_kind;

/* How rotary frequencies are stretched beyond the positions that a model was trained on. */
typedef struct mg__scaling {
  int64_t kind, original_positions;
  double factor, attention_factor, long_attention_factor;
  double beta_fast, beta_slow, mscale, mscale_all_dim;
  double low_frequency, high_frequency;
  bool truncate;
  const json_t *short_factors, *long_factors; /* columns / 2 numbers each, borrowed from `resolved`; NULL = none */
} mg__scaling;

typedef struct mg__rope {
  double base;
  int64_t columns; /* of a head that rotate; 0 = none */
  bool interleaved;
  mg__scaling scaling;
} mg__rope;

typedef enum mg__attention_kind {
  MG__ATTENTION_GROUPED,
  MG__ATTENTION_LATENT,
  MG__ATTENTION_COUNTED,
  MG__ATTENTION_NONE
} mg__attention_kind;
typedef enum mg__qk_norm { MG__QK_NORM_NONE, MG__QK_NORM_HEAD, MG__QK_NORM_WHOLE } mg__qk_norm;
typedef enum mg__biases { MG__BIASES_NONE, MG__BIASES_QKV, MG__BIASES_ALL } mg__biases;

typedef struct mg__attention_settings {
  int64_t kind;
  int64_t heads, kv_heads, head_width, value_width;
  int64_t query_rank, kv_rank, nope_width, rope_width; /* latent */
  int64_t qk_norm, biases;
  int64_t window, chunk, selected; /* which keys a query sees; 0 = no such limit */
  int64_t cache;                   /* counted: elements kept per token */
  int64_t scores, work;            /* multiply-adds beyond the kind's own: per visible pair, per token */
  double scale, clip;
  bool sinks, gated, shares_kv;
  mg__rope rope;
} mg__attention_settings;

typedef struct mg__dense_settings {
  int64_t width, activation;
  double alpha, limit;
  bool gated, biases;
} mg__dense_settings;

typedef enum mg__feed_kind { MG__FEED_DENSE, MG__FEED_MOE, MG__FEED_NONE } mg__feed_kind;

/* Parameters of a part that this program has no formula for: their number and what one token uses of them. */
enum { MG__COUNTED_MAX = 8 };
typedef struct mg__counted {
  int64_t part; /* mg_model_part */
  int64_t parameters, active;
  bool products; /* each active parameter is a multiply-add */
} mg__counted;

typedef struct mg__layer_spec {
  mg__attention_settings attention;
  mg__feed_kind feed;
  mg__dense_settings dense;   /* when dense */
  const json_t *feed_forward; /* borrowed from `resolved` */
  mg__counted counted[MG__COUNTED_MAX];
  int64_t counted_count;
} mg__layer_spec;

typedef struct mg__stack_spec {
  int64_t count;
  mg__layer_spec *layers;
} mg__stack_spec;

typedef struct mg__model_spec {
  mg__model_settings settings;
  mg__stack_spec decoder;
  mg__stack_spec encoder;    /* count 0 = none */
  mg__stack_spec prediction; /* one layer, the block of every module; count 0 = none */
  int64_t prediction_modules;
  json_t *resolved;
} mg__model_spec;

/* Fills *out; to be released with mg__model_spec_release also after a failure. */
mg_status mg__model_spec_read(mg_context *context, mg_registry *registry, const json_t *spec, mg__model_spec *out);
void mg__model_spec_release(mg_context *context, mg__model_spec *spec);
/* MG_USAGE with the first thing that is described and counted but cannot run. */
mg_status mg__model_spec_runs(mg_context *context, const mg__model_spec *spec);

/* One entry of "attention" (NULL: the defaults) for a layer whose window is `window`; *resolved is a new reference. */
mg_status mg__attention_spec_read(mg_context *context, const json_t *entry, const mg__model_settings *model,
                                  int64_t window, mg__layer_spec *out, json_t **resolved);

/* Columns of a query and of a value head. */
int64_t mg__query_width(const mg__attention_settings *attention);
int64_t mg__value_width(const mg__attention_settings *attention);

#endif
