/* A released model in a script's hands, shared by the files that load it, change its routers, and train it. */
#ifndef MG_LUA_RELEASED_H
#define MG_LUA_RELEASED_H

#include "lua/state.h"
#include "model/load.h"
#include "model/tokenizer.h"

/* A model of its own has backend, checkpoint (NULL if it was drawn) and tokenizer; one that was made from another borrows
 * them from it, and Lua keeps the other alive as long. */
typedef struct mg__released {
  mg_context *context;
  struct mg__released *from; /* NULL = a model of its own */
  mg_backend *backend;
  mg_checkpoint *checkpoint;
  mg_tokenizer *tokenizer; /* NULL until asked for */
  mg_model *model;
  mg_tape *tape;
  mg_dtype precision; /* of the tape */
  char *path;         /* "" if it was drawn */
  bool lent;          /* others use its parameters, which must stay where they are */
} mg__released;

/* Pushes an empty one. */
mg__released *mg__released_push(lua_State *L);
/* The one at `index`, which must hold a model. */
mg__released *mg__released_at(lua_State *L, int index);
/* The model of its own that it comes from, or itself. */
mg__released *mg__released_root(mg__released *r);
void mg__released_close(mg__released *r);
/* After a pass: MG_FILE if the checkpoint's file has changed meanwhile. */
mg_status mg__released_check(mg__released *r, mg_status status);

/* The list at `index` as ids in a userdata on the stack. */
int32_t *mg__released_ids(lua_State *L, int index, int64_t *count);

/* Add what goes on from a prompt (generation.c), what changes routers (swap.c), and what trains and measures (tuning.c), to
 * the methods on top of the stack. */
void mg__add_generation_methods(lua_State *L);
void mg__add_swap_methods(lua_State *L);
void mg__add_tuning_methods(lua_State *L);

#endif
