/* Maps a plugin file into this process and takes the table from its one entry. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "host/plugin.h"

enum { STEM_BYTES = 128 };

bool mg__plugin_stem(const char *path, char *stem, size_t bytes) {
  const char *slash = strrchr(path, '/');
  const char *name = slash ? slash + 1 : path;
  const size_t length = strlen(name);
  if (length <= 3 || strcmp(name + length - 3, ".so") != 0 || length - 3 >= bytes) return false;
  memcpy(stem, name, length - 3);
  stem[length - 3] = '\0';
  return true;
}

/* The loader's own message begins with the path in most cases; the path is said once. */
static const char *without_path(const char *message, const char *path) {
  const size_t length = strlen(path);
  if (strncmp(message, path, length) == 0 && strncmp(message + length, ": ", 2) == 0) return message + length + 2;
  return message;
}

static mg_status refuse_dlopen(mg_context *context, const char *path) {
  const char *reason = dlerror();
  return mg_fail(context, MG_PLUGIN,
                 "%s: the dynamic loader refused it: %s; link it to all it uses (-Wl,-z,defs finds gaps)", path,
                 without_path(reason ? reason : "no reason given", path));
}

/* POSIX lets dlsym return functions through void *, which C has no cast for. */
static const void *call_entry(mg_plugin_kind kind, void *symbol) {
  if (kind == MG_PLUGIN_ROUTER) {
    mg_router_entry_function entry;
    memcpy(&entry, &symbol, sizeof entry);
    return entry();
  }
  mg_backend_entry_function entry;
  memcpy(&entry, &symbol, sizeof entry);
  return entry();
}

static mg_status find_entry(mg_context *context, mg_plugin_kind kind, const char *path, void *handle, void **symbol) {
  void *router = dlsym(handle, "mg_router_entry");
  void *backend = dlsym(handle, "mg_backend_entry");
  *symbol = kind == MG_PLUGIN_ROUTER ? router : backend;
  if (router && backend)
    return mg_fail(context, MG_PLUGIN, "%s: exports mg_router_entry and mg_backend_entry; make two plugins of it",
                   path);
  if (*symbol) return MG_OK;
  if (router || backend)
    return mg_fail(context, MG_PLUGIN, "%s: is a %s, but a %s was wanted", path, router ? "router" : "backend",
                   mg__plugin_kind_name(kind));
  return mg_fail(context, MG_PLUGIN,
                 "%s: exports neither mg_router_entry nor mg_backend_entry; end its source with %s(table)", path,
                 kind == MG_PLUGIN_ROUTER ? "MG_ROUTER_PLUGIN" : "MG_BACKEND_PLUGIN");
}

static mg_status check_name(mg_context *context, mg_plugin_kind kind, const char *path, const void *table) {
  const char *name =
      kind == MG_PLUGIN_ROUTER ? ((const mg_router_plugin *)table)->name : ((const mg_backend_plugin *)table)->name;
  char stem[STEM_BYTES];
  if (!mg__plugin_stem(path, stem, sizeof stem)) return mg_fail(context, MG_PLUGIN, "%s: is not called NAME.so", path);
  if (strcmp(stem, name) == 0) return MG_OK;
  return mg_fail(context, MG_PLUGIN, "%s: calls itself '%s'; rename the file to %s.so or set .name = \"%s\"", path,
                 name, name, stem);
}

mg_status mg__plugin_map(mg_context *context, mg_plugin_kind kind, const char *path, const void **table) {
  *table = NULL;
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) return refuse_dlopen(context, path);
  void *symbol;
  MG_TRY(find_entry(context, kind, path, handle, &symbol));
  const void *found = call_entry(kind, symbol);
  MG_TRY(mg__plugin_table_check(context, kind, found, path));
  MG_TRY(check_name(context, kind, path, found));
  *table = found;
  return MG_OK;
}
