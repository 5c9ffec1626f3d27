/* What the files that train have in common. */
#ifndef MG_LUA_TRAINING_H
#define MG_LUA_TRAINING_H

#include "lua/state.h"
#include "train/trainer.h"

/* A training's hook, `user` being the engine: passes progress on, and asks whether to stop. */
bool mg__pass_progress(void *user, const mg_train_progress *progress);
/* The value at `index` as JSON in a box on the stack, borrowed from it; raises at what cannot be JSON. */
json_t *mg__boxed(lua_State *L, int index, const char *where);
/* Ends a function that trains or measures: pushes the result, which must be in a box, or keeps what a failed one recorded
 * and raises. */
int mg__push_training(lua_State *L, mg_status status, const json_t *result);

#endif
