/* What the files of this folder share: one plugin file from its bytes to a checked table. */
#ifndef MG_HOST_PLUGIN_H
#define MG_HOST_PLUGIN_H

#include "host/registry.h"

/* Checks, before the loader maps anything, that `path` is a whole shared object for this machine which no other user
 * can write to. MG_PLUGIN with the reason. */
mg_status mg__plugin_file_check(mg_context *context, const char *path);

/* Checks everything in a table that the core later relies on; calls nothing but reads through its pointers. `where`
 * begins the message. MG_PLUGIN with the reason. */
mg_status mg__plugin_table_check(mg_context *context, mg_plugin_kind kind, const void *table, const char *where);
/* The same for the two first words alone, which must come before anything else is read. */
mg_status mg__plugin_header_check(mg_context *context, mg_plugin_kind kind, const void *table, const char *where);

/* Maps the file, finds its one entry, calls it, and checks the table. The file stays mapped for ever, refused or not:
 * unloading runs destructors of thread-local data and device runtimes that are known to crash. */
mg_status mg__plugin_map(mg_context *context, mg_plugin_kind kind, const char *path, const void **table);

/* Does mg__plugin_map in a forked child first, so that a constructor that crashes, hangs, exits or prints is a refusal
 * and not our end. MG_OK means that the child lived and accepted the table. */
mg_status mg__plugin_probe(mg_context *context, mg_plugin_kind kind, const char *path);

/* Bytes of a full table of this kind in this moegauge. */
size_t mg__plugin_table_bytes(mg_plugin_kind kind);
/* Where the registry leaves its messages. */
mg_context *mg__registry_context(const mg_registry *registry);
/* "router", "backend". */
const char *mg__plugin_kind_name(mg_plugin_kind kind);
/* "topk" for ".../topk.so"; false if the path does not end in NAME.so or the name is too long. */
bool mg__plugin_stem(const char *path, char *stem, size_t bytes);

#endif
