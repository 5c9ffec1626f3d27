/* What finding and filling the parameters of a checkpoint share. */
#ifndef MG_MODEL_LOAD_INTERNAL_H
#define MG_MODEL_LOAD_INTERNAL_H

#include "model/block.h"
#include "model/load.h"

enum { MG__RULE_TARGETS_MAX = 4, MG__TENSOR_NAME_BYTES = 1100 };

typedef struct mg__load_rule {
  const char *from; /* without _blocks for a pair in MXFP4 */
  size_t from_bytes;
  const char *to[MG__RULE_TARGETS_MAX];
  int64_t to_count;
  const char *second; /* of two tensors that make the parameter; NULL = one does */
  bool pair;          /* MXFP4: NAME_blocks and NAME_scales */
  bool unpermute, unpack, transpose, split_rows, deinterleave_rows, deinterleave_columns, latent_heads;
} mg__load_rule;

typedef struct mg__load_rules {
  mg__load_rule *rule;
  int64_t count;
} mg__load_rules;

/* MG_BUG if `json` is not a list of rules. To be released also after a failure; names are borrowed from `json`. */
mg_status mg__load_rules_read(mg_context *context, const json_t *json, mg__load_rules *out);
void mg__load_rules_release(mg_context *context, mg__load_rules *rules);
/* Whether `name` is the pattern [bytes] with numbers for its marks; *layer and *expert are -1 where it has none. */
bool mg__load_matches(const char *pattern, size_t bytes, const char *name, int64_t *layer, int64_t *expert);
/* The pattern with numbers for its marks; MG_BUG if it does not fit. */
mg_status mg__load_expand(mg_context *context, const char *pattern, size_t bytes, int64_t layer, int64_t expert,
                          char *out, size_t room);
/* Whether each expert's matrix is a tensor of its own. */
bool mg__load_by_expert(const mg__load_rule *rule);

/* Where a parameter comes from. */
typedef struct mg__load_source {
  const mg__load_rule *rule;
  int64_t layer;  /* -1 = the name has none */
  int64_t target; /* which of the rule's parameters it is */
  int64_t before; /* rows of the parameters before it in each matrix (split_rows) */
  int64_t all;    /* rows of all of them */
} mg__load_source;

/* Fills before and all: rows (elements of vectors) of the rule's parameters, where they lie one below the other. */
mg_status mg__load_count_rows(mg_context *context, const mg_params *params, mg__load_source *source);

/* A parameter beside what it is stored in: E matrices of R rows and C columns; a vector is one row. */
typedef struct mg__place {
  const mg_param *param;
  const mg__load_source *source;
  int64_t matrices, rows, columns;
  int64_t head;   /* rows of a head, where `unpermute` moves them; else 0 */
  bool by_expert; /* each matrix is a tensor of its own */
} mg__place;

mg__place mg__place_of(const mg_model *model, const mg_param *param, const mg__load_source *source);
/* Stored without a dimension of rows: a vector, or the vector of one expert. */
bool mg__place_is_vector(const mg__place *place);
/* dims, shape, rows and columns of a tensor of the rule; of one expert, where each has its own. */
mg_checkpoint_tensor mg__place_stored(const mg__place *place);
/* Where element (r, c) of one of the parameter's matrices stands in the matrix of a stored tensor. */
int64_t mg__place_element(const mg__place *place, const mg_checkpoint_tensor *stored, int64_t r, int64_t c);
/* Whether the rows of each of its matrices stand together and in order. */
bool mg__place_keeps_rows(const mg__place *place);
/* Whether each of its rows is one run, wherever it stands. */
bool mg__place_keeps_columns(const mg__place *place);

typedef struct mg__loader {
  mg_context *context;
  mg_model *model;
  mg_params *params;
  mg_checkpoint *checkpoint;
  mg_dtype precision;
  mg__load_rules rules;
  const json_t *ignored; /* patterns; NULL = none */
  bool *used;            /* [stored tensors] */
} mg__loader;

/* The name of a tensor of the rule; `expert` -1 where the rule has no {expert}. */
mg_status mg__load_name(const mg__loader *loader, const mg__load_source *source, int64_t expert,
                        char name[MG__TENSOR_NAME_BYTES]);
/* The tensor `name`, marked as used, which must have the shape of `stored`. */
mg_status mg__load_tensor(mg__loader *loader, const char *name, const mg_checkpoint_tensor *stored,
                          const mg_param *param, mg_checkpoint_tensor *out);
/* Fills the parameter's own memory `out` from the two tensors of `latent_heads`. */
mg_status mg__load_latent(mg__loader *loader, const mg_param *param, const mg__load_source *source,
                          const mg_tensor *out);
/* Binds parameter `index` to its tensors. */
mg_status mg__load_fill(mg__loader *loader, int64_t index, const mg__load_source *source);

#endif
