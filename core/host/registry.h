/* The registry: which routers and backends there are, found by scanning folders, loaded when first asked for.
 *
 * Folders, in order: each entry of MOEGAUGE_PLUGIN_PATH (colon-separated; NAME.so directly inside, or in `routers/` and
 * `backends/` below it), then `routers/` and `backends/` beside libmoegauge.so, or `moegauge/routers` and
 * `moegauge/backends` in an install tree. The first plugin of a name wins. Nothing is ever unloaded. */
#ifndef MG_HOST_REGISTRY_H
#define MG_HOST_REGISTRY_H

#include <jansson.h>

#include "base/file.h"
#include "moegauge/backend.h"
#include "moegauge/router.h"

typedef struct mg_registry mg_registry;
typedef enum mg_plugin_kind { MG_PLUGIN_ROUTER, MG_PLUGIN_BACKEND } mg_plugin_kind;

mg_status mg_registry_create(mg_context *context, mg_registry **out);
void mg_registry_destroy(mg_registry *registry);

/* A plugin by name, or by path when `name` contains a '/'. MG_PLUGIN with the reason and the fix (wrong ABI: the file,
 * both numbers, "rebuild it against this moegauge"); an unknown name lists the nearest known ones. */
mg_status mg_registry_router(mg_registry *registry, const char *name, const mg_router_plugin **out);
mg_status mg_registry_backend(mg_registry *registry, const char *name, const mg_backend_plugin **out);

/* Adds a table that is not in a file (written in Lua, or linked in). It must outlive the registry. MG_USAGE if the name
 * is taken by another table. */
mg_status mg_registry_add_router(mg_registry *registry, const mg_router_plugin *plugin);
mg_status mg_registry_add_backend(mg_registry *registry, const mg_backend_plugin *plugin);

/* Loads every plugin that was found; from then on no file is loaded, and one asked for by its path is MG_PLUGIN. */
mg_status mg_registry_seal(mg_registry *registry);

/* One row of a listing. */
typedef struct mg_plugin_entry {
  const char *name;
  const char *path;              /* "" when not from a file */
  const char *summary;           /* "" when it did not load */
  const char *problem;           /* NULL when it loaded; else why not */
  char hash[MG_HASH_TEXT_BYTES]; /* of the file; "" when not from a file */
} mg_plugin_entry;

/* Loads everything of a kind and calls `visit` in name order; stops when it returns false. */
mg_status mg_registry_each(mg_registry *registry, mg_plugin_kind kind,
                           bool (*visit)(void *user, const mg_plugin_entry *), void *user);
/* The entry of one plugin, loading it. */
mg_status mg_registry_entry(mg_registry *registry, mg_plugin_kind kind, const char *name, mg_plugin_entry *out);

/* Opens a backend with options from JSON (NULL = defaults). */
mg_status mg_backend_open(mg_context *context, mg_registry *registry, const char *name, const json_t *options,
                          mg_backend **out);
void mg_backend_close(mg_backend *backend);

#endif
