/* A model's specification, checked and with every default written out. */
#ifndef MG_MODEL_SPEC_H
#define MG_MODEL_SPEC_H

#include "model/model.h"

typedef struct mg__model_settings {
  int64_t layers, width, vocabulary, heads, kv_heads, head_width, norm, rotary;
  double norm_epsilon, rope_base, embedding_scale;
  bool qk_norm, biases, rope_interleaved, tie_embeddings, final_norm;
} mg__model_settings;

typedef struct mg__dense_settings {
  int64_t width, activation;
  bool gated;
} mg__dense_settings;

typedef struct mg__layer_spec {
  int64_t window; /* 0 = none */
  bool moe;
  mg__dense_settings dense;   /* when not moe */
  const json_t *feed_forward; /* borrowed from `resolved` */
} mg__layer_spec;

typedef struct mg__model_spec {
  mg__model_settings settings;
  mg__layer_spec *layers; /* settings.layers of them */
  json_t *resolved;
} mg__model_spec;

/* Fills *out; to be released with mg__model_spec_release also after a failure. */
mg_status mg__model_spec_read(mg_context *context, mg_registry *registry, const json_t *spec, mg__model_spec *out);
void mg__model_spec_release(mg_context *context, mg__model_spec *spec);

/* The activations of a dense feed-forward as the tape knows them. */
mg_glu_kind mg__dense_glu(int64_t activation);
mg_unary mg__dense_unary(int64_t activation);

#endif
