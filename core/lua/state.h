/* What the files of this layer share: the engine behind a lua_State, how errors are raised, and values that cross. */
#ifndef MG_LUA_STATE_H
#define MG_LUA_STATE_H

#include <lauxlib.h>
#include <lua.h>

#include "lua/engine.h"
#include "moegauge/tape.h"

struct mg_engine {
  mg_context *context;
  mg_engine_settings settings;
  lua_State *state;
  char *scripts; /* folder of the library */
  char *folder;  /* of the experiment file; "" before one is loaded */
  size_t used_bytes, most_bytes;
  bool probing;                   /* a run function is called to see what it would train */
  int64_t instructions_left;      /* of that probe */
  json_t *run_settings;           /* run-wide settings of the loaded experiment, for mg.core.train */
  json_t *provenance;             /* what the running case reported */
  json_t *partial;                /* what a failed training recorded */
  struct mg__lua_router *routers; /* those that scripts defined */
  int64_t generation;             /* counts calls of route functions; a Var belongs to one */
  mg_tape *tape;                  /* of the call that runs now; NULL between calls */
  struct route_call *route;       /* the same */
  char place[512];                /* file, or file:line of the run function, that runs now; "" = none */
};

mg_engine *mg__engine_of(lua_State *L);

/* ---- errors ------------------------------------------------------------------------------------------------- */

/* Raises the context's message as an error object that carries `status`, at the first line on the stack that is not
 * the library's own. Hold no resource when calling it. */
_Noreturn void mg__raise(lua_State *L, mg_status status);
_Noreturn void mg__raise_plain(lua_State *L, mg_status status, const char *message); /* adds no line */
_Noreturn void mg__raise_text(lua_State *L, mg_status status, const char *format, ...) MG_PRINTF(3, 4);
/* Calls the function on the stack below its `arguments`; an error becomes a status and a message. */
mg_status mg__protected_call(mg_engine *engine, int arguments, int results, mg_status otherwise);
/* Makes the metatable of error objects. */
void mg__open_errors(lua_State *L);

/* ---- values ------------------------------------------------------------------------------------------------- */

typedef enum mg__numbers { MG__NUMBERS_STRICT, MG__NUMBERS_TYPED, MG__NUMBERS_RESULT } mg__numbers;

/* The value at `index` as JSON, or NULL with a message that names the path ("feed_forward.router.k"). Whole floats
 * become integers, core.null becomes null. MG__NUMBERS_STRICT refuses NaN and infinity, MG__NUMBERS_RESULT writes null; MG__NUMBERS_TYPED refuses them
 * and keeps whole floats as reals, for readers that tell the two apart. Raises no Lua error. */
json_t *mg__to_json(lua_State *L, int index, mg__numbers numbers, const char *where);
/* Pushes a JSON value; may raise a memory error, so `json` must be in a box (below). null becomes nil in an object and
 * NaN in a list. */
void mg__push_json(lua_State *L, const json_t *json);
/* A box: a full userdata that releases what it holds when collected. Pushed on the stack; set *box at once. */
json_t **mg__push_box(lua_State *L);
void mg__open_values(lua_State *L);

/* ---- parts -------------------------------------------------------------------------------------------------- */

/* Opens the safe part of the standard library, `require` and `load`. */
void mg__open_libraries(lua_State *L);
/* Loads a file as text under its path as chunk name: LUA_OK and a function, or an error text. Raises where the file cannot
 * be read, or is compiled Lua. */
int mg__load_file(lua_State *L, const char *path);
/* Counts instructions: asks settings.stopped and ends a probe. */
void mg__watch(lua_State *L);

/* Pushes the table mg.core. */
void mg__push_core(lua_State *L);
void mg__add_training(lua_State *L); /* adds to the table on top */
void mg__add_inspect(lua_State *L);
void mg__add_gguf(lua_State *L);
void mg__add_released(lua_State *L);
void mg__add_routers(lua_State *L);
void mg__add_serving(lua_State *L);
void mg__add_cluster(lua_State *L);
void mg__free_routers(mg_engine *engine);

/* XXH3 of a value and all that it can depend on in the script: stripped bytecode, constants, upvalues, fields. */
void mg__value_hash(lua_State *L, int index, char text[MG_HASH_TEXT_BYTES]);
/* Over the library's own files that may take part in computing a result. */
mg_status mg__library_hash(mg_engine *engine, char text[MG_HASH_TEXT_BYTES]);

/* Runs gnuplot on `script` without a shell; *svg is malloc'd. */
mg_status mg__gnuplot(mg_context *context, const char *script, size_t bytes, char **svg, size_t *svg_bytes);

#endif
