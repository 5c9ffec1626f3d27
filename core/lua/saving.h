/* Models as folders that others load: model.safetensors, config.json, tokenizer.json. */
#ifndef MG_LUA_SAVING_H
#define MG_LUA_SAVING_H

#include "lua/state.h"
#include "model/model.h"
#include "model/tokenizer.h"

/* What to write, all borrowed. `tokenizer` NULL = none. */
typedef struct mg__saving {
  mg_model *model;
  mg_dtype decoded;     /* what weights of stored dtypes are written in */
  const json_t *rules;  /* of the family's tensors (model/load.h) */
  const json_t *config; /* without what says how weights were quantised, which they no longer are */
  const json_t *tokenizer;
} mg__saving;

/* Makes the folder and its parents; replaces the files. */
mg_status mg__save_folder(mg_context *context, const mg__saving *saving, const char *folder);
/* The tokenizer.json of a tokenizer as mg_tokenizer_to_json has it; *out is NULL if `own` is. */
mg_status mg__saved_tokenizer(mg_context *context, const json_t *own, json_t **out);

#endif
