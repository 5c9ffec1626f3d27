/* Corpora opened for a script, and a document filter written in Lua: mg.corpus { ..., filter = function(text, domain) ... end } returns true to keep a
 * document, another text to replace it, or false and a reason to drop it. */
#include "lua/documents.h"

#include <stdio.h>

#include "lua/state.h"

static const char answer_key[] = "moegauge.document";

typedef struct decision {
  mg__document_filter *filter;
  const char *text, *domain;
  size_t bytes;
  mg_document_verdict *verdict;
} decision;

/* Keeps the text on top alive until the next document: the pipeline copies it after the call. */
static const char *hold(lua_State *L, size_t *bytes) {
  const char *text = lua_tolstring(L, -1, bytes);
  lua_setfield(L, LUA_REGISTRYINDEX, answer_key);
  return text;
}

static int ask(lua_State *L) {
  const decision *d = lua_touserdata(L, 1);
  size_t bytes;
  lua_rawgeti(L, LUA_REGISTRYINDEX, d->filter->reference);
  lua_pushlstring(L, d->text, d->bytes);
  lua_pushstring(L, d->domain);
  lua_call(L, 2, 2); /* answer, reason */
  switch (lua_type(L, -2)) {
  case LUA_TBOOLEAN:
    d->verdict->keep = lua_toboolean(L, -2);
    if (!d->verdict->keep && lua_type(L, -1) == LUA_TSTRING) d->verdict->reason = hold(L, &bytes);
    return 0;
  case LUA_TSTRING:
    lua_pop(L, 1);
    d->verdict->text = hold(L, &d->verdict->bytes);
    return 0;
  default:
    mg__raise_text(L, MG_USAGE, "a corpus's filter must return true, false and a reason, or a text, not a %s",
                   luaL_typename(L, -2));
  }
}

static mg_status decide(void *user, const char *text, size_t bytes, const char *domain, mg_document_verdict *verdict) {
  mg__document_filter *filter = user;
  decision d = {filter, text, domain, bytes, verdict};
  if (!lua_checkstack(filter->engine->state, 8))
    return mg_fail(filter->engine->context, MG_MEMORY, "no memory for Lua");
  lua_pushcfunction(filter->engine->state, ask);
  lua_pushlightuserdata(filter->engine->state, &d);
  return mg__protected_call(filter->engine, 1, 0, MG_USAGE);
}

void mg__document_filter_open(lua_State *L, int index, mg__document_filter *filter) {
  *filter = (mg__document_filter){.engine = mg__engine_of(L), .reference = LUA_NOREF};
  if (!lua_isfunction(L, index)) return;
  mg__value_hash(L, index, filter->identity);
  lua_pushvalue(L, index);
  filter->reference = luaL_ref(L, LUA_REGISTRYINDEX);
  filter->filter = (mg_document_filter){.decide = decide, .user = filter, .identity = filter->identity};
}

void mg__document_filter_close(lua_State *L, const mg__document_filter *filter) {
  luaL_unref(L, LUA_REGISTRYINDEX, filter->reference);
}

const mg_document_filter *mg__document_filter_of(const mg__document_filter *filter) {
  return filter->reference == LUA_NOREF ? NULL : &filter->filter;
}

mg_status mg__data_open(mg_engine *engine, json_t *spec, const mg__document_filter *filter, mg_dataset **out) {
  *out = NULL;
  if (!engine->settings.cache)
    return mg_fail(engine->context, MG_USAGE, "a corpus needs a cache folder, and this program gave none");
  json_t *noted = json_deep_copy(spec);
  json_object_del(spec, "filter");
  const mg_status status =
      mg_dataset_open_filtered(engine->context, spec, engine->settings.cache, mg__document_filter_of(filter), out);
  if (engine->provenance) json_object_set(engine->provenance, "data", noted);
  json_decref(noted);
  if (status == MG_OK && engine->provenance)
    json_object_set_new(engine->provenance, "data_checksum", json_string(mg_dataset_checksum(*out)));
  return status;
}
