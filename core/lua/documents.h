/* Corpora that a script names, and document filters that it wrote. */
#ifndef MG_LUA_DOCUMENTS_H
#define MG_LUA_DOCUMENTS_H

#include <lua.h>

#include "base/file.h"
#include "lua/engine.h"
#include "train/data.h"

typedef struct mg__document_filter {
  mg_engine *engine;
  int reference; /* to the Lua function; none: no filter */
  char identity[MG_HASH_TEXT_BYTES];
  mg_document_filter filter;
} mg__document_filter;

/* Takes the function at `index` (or nil). May raise for want of memory. The struct must stay where it is until closed.
 */
void mg__document_filter_open(lua_State *L, int index, mg__document_filter *filter);
void mg__document_filter_close(lua_State *L, const mg__document_filter *filter);
/* What the pipeline takes; NULL without a function. */
const mg_document_filter *mg__document_filter_of(const mg__document_filter *filter);

/* Opens the corpus of `spec`, which loses its `filter`, a fingerprint that is there for the case's hash, and notes it with its
 * checksum in the case's provenance. */
mg_status mg__data_open(mg_engine *engine, json_t *spec, const mg__document_filter *filter, mg_dataset **out);

#endif
