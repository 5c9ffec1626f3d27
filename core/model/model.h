/* Decoders, and encoders with decoders: blocks of norm, attention, norm and feed-forward (dense or MoE), built from a
 * specification, so that a released model is the same code with other data. README.md lists every key and default:
 *
 *   {"layers": 4, "width": 128, "vocabulary": 4096, "heads": 4, "kv_heads": 0, "head_width": 0, "norm": "rms",
 *    "norm_epsilon": 1e-5, "qk_norm": false, "biases": false, "rope_base": 10000, "rotary": -1,
 *    "rope_interleaved": false, "window": 0, "tie_embeddings": true, "final_norm": true, "initial_deviation": 0.02,
 *    "embedding_scale": 1,
 *    "attention": {"kind": "grouped" | "latent", "heads": 4, "rope": {...}, ...},
 *    "feed_forward": {"kind": "dense", "width": 512, "activation": "silu", "gated": true} | {"kind": "moe", ...},
 *    "encoder": {"layers": 4, "feed_forward": {...}}, "prediction": {"modules": 1}}
 *
 * "window", "attention" and "feed_forward" may be lists with one entry per layer. */
#ifndef MG_MODEL_MODEL_H
#define MG_MODEL_MODEL_H

#include "base/options.h"
#include "moe/layer.h"

typedef struct mg_model mg_model;
typedef struct mg_cache mg_cache; /* model/cache.h */

/* The keys whose values are neither tables nor lists, of a model, of attention, of a dense feed-forward. */
const mg_option *mg_model_options(void);
const mg_option *mg_model_attention_options(void);
const mg_option *mg_model_dense_options(void);

/* MG_USAGE with the key, what came and what is allowed; nothing is allocated. */
mg_status mg_model_check_spec(mg_context *context, mg_registry *registry, const json_t *spec);
/* Weights drawn from `seed`; parameters have `dtype`. */
mg_status mg_model_create(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                          mg_dtype dtype, uint64_t seed, mg_model **out);
/* A model without weights or backend, of any size: it can be counted, and its parameters have names and shapes. It also
 * holds what mg_model_create refuses because it cannot run. */
mg_status mg_model_describe(mg_context *context, mg_registry *registry, const json_t *spec, mg_model **out);
/* Whether mg_model_create would make what is described; MG_USAGE with the first thing that cannot run. */
mg_status mg_model_runs(const mg_model *model);
/* A model whose weights nobody trained, drawn from `seed` as mg_model_create draws them, but without gradients and in no
 * more memory than they need to run: matrices in `precision`, vectors and buffers in f32. */
mg_status mg_model_draw(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                        mg_dtype precision, uint64_t seed, mg_model **out);

/* Where the parameters of a derived model's routers come from: the old model, which must have them all; the old model, and
 * those that it lacks are drawn; all are drawn. */
typedef enum mg_routers { MG_ROUTERS_KEEP, MG_ROUTERS_DRAW_MISSING, MG_ROUTERS_DRAW_ALL } mg_routers;
typedef struct mg_model_change {
  const json_t *spec;
  const json_t
      *experts; /* a list for each mixture: its experts as numbers of the old ones, from 0; NULL = all as they stand */
  mg_routers routers;
  uint64_t seed; /* of what is drawn; 0 = the old model's */
} mg_model_change;
/* A model of another specification with the parameters of `from`, found by name: the same weights under another capacity
 * policy, another router, or without a part. Buffers count as parameters. It uses the memory of `from`, which must outlive
 * it and keep its parameters where they are; only the experts of a layer with a list, and what is drawn, take memory of
 * their own. MG_USAGE names a parameter that `from` lacks or holds in another shape. Nothing in it is trained until
 * mg_params_train. */
mg_status mg_model_derive(mg_model *from, const mg_model_change *change, mg_model **out);
void mg_model_destroy(mg_model *model);

/* One batch: B sequences of S tokens, row by row. */
typedef struct mg_model_batch {
  const int32_t *inputs;  /* [B*S] */
  const int32_t *targets; /* [B*S], -1 = no target; NULL when only logits are wanted */
  int64_t sequences, sequence_tokens;
  bool training;
  uint64_t number; /* of the batch in its training or evaluation: chooses the routers' random numbers */
  bool last_only;  /* logits of each sequence's last token alone: [B,V] */
  bool
      logits_only; /* nothing else is wanted: blocks use the same memory one after the other. The tape must not record */
  mg_cache *cache; /* the tokens follow those that it holds, and are added to it; NULL = none */
  /* What an encoder reads, [B*source_tokens]; NULL without one, and when the cache has its output. */
  const int32_t *source;
  int64_t source_tokens;
} mg_model_batch;

typedef struct mg_model_output {
  mg_var *logits;     /* [T,V], or [B,V] with last_only */
  mg_var *token_loss; /* [T,1] nats; NULL without targets */
  mg_var *loss;       /* [1]: mean over targets, without auxiliary losses */
  mg_var *total;      /* [1]: loss plus auxiliary losses: what backward starts from */
  /* One per MoE layer, in order; owned by the model, valid until the next forward. None with logits_only. */
  const mg_moe_record *records;
  int64_t records_count;
  mg_var *const *hidden;         /* [layers + 1]: the embedded tokens, then what each block leaves [T,D]; as records */
  mg_var *const *encoder_hidden; /* the same of the encoder; NULL without one or when it did not run */
  mg_var *encoder_output;        /* normed */
} mg_model_output;

mg_status mg_model_forward(mg_model *model, mg_tape *tape, const mg_model_batch *batch, mg_model_output *output);

/* Adds what each expert was asked for in the last forward pass to the model's running demand, before the tape is reset;
 * counts[i] (one per MoE layer) tells what became of the choices of that pass. */
mg_status mg_model_collect_demand(mg_model *model, mg_tape *tape, mg_moe_counts *counts);
/* The running demand [E] of one MoE layer since the last mg_model_after_step. */
const double *mg_model_demand(const mg_model *model, int64_t index);
/* Zeroes it, and tells the routers nothing. */
void mg_model_forget_demand(mg_model *model);
/* After an optimiser step: hands the running demand to every router (balance by bias moves here) and zeroes it. */
mg_status mg_model_after_step(mg_model *model, mg_tape *tape);

/* Before a training: hands routers that want it what they may know of its data, at least "vocabulary" counts; the tape is
 * reset. */
bool mg_model_wants_text(const mg_model *model);
mg_status mg_model_prepare(mg_model *model, mg_tape *tape, const mg_router_text *text);

mg_params *mg_model_params(mg_model *model);
const mg_params *mg_model_description(const mg_model *model); /* the same, to look at */
mg_backend *mg_model_backend(const mg_model *model);
uint64_t mg_model_seed(const mg_model *model);
const json_t *mg_model_spec(const mg_model *model); /* resolved: every default written out */
int64_t mg_model_moe_layers(const mg_model *model);
mg_moe *mg_model_moe(const mg_model *model, int64_t index);
/* The block, counted from 0, that MoE layer `index` stands in; an encoder's blocks come before the decoder's. */
int64_t mg_model_moe_block(const mg_model *model, int64_t index);

/* Analytic forward FLOPs per token at a sequence length (causal attention counted as executed), per part. */
void mg_model_flops_per_token(const mg_model *model, int64_t sequence_tokens, double flops[MG_PART_COUNT]);
/* The same when every query is charged with all keys that its window allows, as papers often count. */
void mg_model_flops_per_token_full(const mg_model *model, int64_t sequence_tokens, double flops[MG_PART_COUNT]);

/* The parts that parameters are counted to. */
// clang-format off
#define MG_MODEL_PART_LIST(X)                                                                      \
  X(EMBEDDING, embedding) X(HEAD, head) X(ATTENTION, attention) X(ROUTER, router)                  \
  X(ROUTER_BIAS, router_bias) X(ROUTED, routed) X(SHARED, shared) X(DENSE, dense) X(NORM, norm)    \
  X(OTHER, other) X(PREDICTION, prediction)
// clang-format on
typedef enum mg_model_part {
#define MG_MODEL_PART_ENUM(NAME, name) MG_MODEL_##NAME,
  MG_MODEL_PART_LIST(MG_MODEL_PART_ENUM)
#undef MG_MODEL_PART_ENUM
      MG_MODEL_PART_COUNT
} mg_model_part;
extern const char *const mg_model_part_names[]; /* "embedding", ...; NULL-terminated */
/* The part of a parameter of a model, by its name. */
mg_model_part mg_model_part_of(const char *parameter);

/* Trained parameters in all, and those that one token uses; the modules of "prediction" are in neither. `buffers` are
 * what a checkpoint holds beside them: selection biases of routers. */
typedef struct mg_model_size {
  int64_t part[MG_MODEL_PART_COUNT]; /* trained, but in PREDICTION buffers too */
  int64_t total, active, buffers;
  int64_t routed_active; /* of part[MG_MODEL_ROUTED] */
  int64_t routed_most;   /* the same when every choice falls on an expert that computes */
} mg_model_size;
mg_model_size mg_model_count(const mg_model *model);

/* Elements that the key-value cache holds per token: of the decoder's own attention, and per token of the encoder what
 * cross attention keeps. */
typedef struct mg_model_cache {
  int64_t own, cross;
} mg_model_cache;
mg_model_cache mg_model_cache_per_token(const mg_model *model);

#endif
