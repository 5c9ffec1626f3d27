/* The registry: folders scanned once, plugins loaded when first asked for. */
#include "host/registry.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "host/plugin.h"

enum { STEM_BYTES = 128, FOLDERS_TEXT_BYTES = 1024, NAMES_MAX = 128 };

typedef enum plugin_state { FOUND, LOADED, REFUSED } plugin_state;

typedef struct plugin_row {
  mg_plugin_kind kind;
  plugin_state state;
  bool trusted; /* from the build or install tree: loaded without a probe */
  bool by_path; /* asked for by path: not to be found by name */
  char *name;
  char *path;    /* NULL when added as a table */
  char *problem; /* why it was refused */
  const void *table;
  void *full; /* our copy of a table that was smaller than ours, the rest zero */
  char hash[MG_HASH_TEXT_BYTES];
} plugin_row;

struct mg_registry {
  mg_context *context;
  plugin_row *plugins; /* in search order */
  size_t count, capacity;
  bool sealed;                      /* loads no file any more */
  char folders[FOLDERS_TEXT_BYTES]; /* those that were scanned, for messages */
};

static char *copy_text(mg_context *context, const char *text) {
  return text ? mg_strdup(context, text) : NULL;
}

static void free_text(mg_context *context, char *text) {
  if (text) mg_free(context, text, strlen(text) + 1);
}

static plugin_row *find(const mg_registry *registry, mg_plugin_kind kind, const char *name) {
  for (size_t i = 0; i < registry->count; i++) {
    plugin_row *p = &registry->plugins[i];
    if (p->kind == kind && !p->by_path && strcmp(p->name, name) == 0) return p;
  }
  return NULL;
}

static plugin_row *find_path(const mg_registry *registry, mg_plugin_kind kind, const char *path) {
  for (size_t i = 0; i < registry->count; i++) {
    plugin_row *p = &registry->plugins[i];
    if (p->kind == kind && p->path && strcmp(p->path, path) == 0) return p;
  }
  return NULL;
}

/* Appends a plugin; `path` may be NULL. */
static mg_status append(mg_registry *registry, mg_plugin_kind kind, const char *name, const char *path,
                        plugin_row **out) {
  if (registry->count == registry->capacity) {
    const size_t capacity = registry->capacity ? 2 * registry->capacity : 16;
    plugin_row *grown =
        mg_resize(registry->context, registry->plugins, registry->capacity * sizeof *grown, capacity * sizeof *grown);
    if (!grown) return MG_MEMORY;
    registry->plugins = grown;
    registry->capacity = capacity;
  }
  plugin_row *p = &registry->plugins[registry->count];
  *p = (plugin_row){
      .kind = kind, .name = mg_strdup(registry->context, name), .path = copy_text(registry->context, path)};
  registry->count++;
  *out = p;
  return p->name && (!path || p->path) ? MG_OK : MG_MEMORY;
}

/* ---- scanning --------------------------------------------------------------------------------------------- */

static mg_status found_file(mg_registry *registry, mg_plugin_kind kind, const char *path, bool trusted) {
  char stem[STEM_BYTES];
  plugin_row *p;
  if (!mg__plugin_stem(path, stem, sizeof stem) || find_path(registry, kind, path)) return MG_OK;
  const plugin_row *first = find(registry, kind, stem);
  char problem[PATH_MAX + 128] = "";
  if (first)
    snprintf(problem, sizeof problem, "another %s '%s' comes first in the search order: %s", mg__plugin_kind_name(kind),
             stem, first->path ? first->path : "one that is built in");
  MG_TRY(append(registry, kind, stem, path, &p));
  p->trusted = trusted;
  if (!first) return MG_OK;
  p->state = REFUSED;
  p->problem = mg_strdup(registry->context, problem);
  return p->problem ? MG_OK : MG_MEMORY;
}

/* Whether a file that lies directly in a folder of MOEGAUGE_PLUGIN_PATH is a plugin of this kind. Its entry tells, but
 * nothing is loaded here: the name of the symbol is looked for in the bytes. */
static bool mentions_entry(mg_context *context, mg_plugin_kind kind, const char *path) {
  char *data;
  size_t size;
  if (mg_file_read(context, path, 1 << 30, &data, &size) != MG_OK) return true; /* loading it will tell why */
  const char *own = kind == MG_PLUGIN_ROUTER ? "mg_router_entry" : "mg_backend_entry";
  const char *other = kind == MG_PLUGIN_ROUTER ? "mg_backend_entry" : "mg_router_entry";
  const bool mentioned = memmem(data, size, own, strlen(own)) || !memmem(data, size, other, strlen(other));
  mg_free(context, data, size + 1);
  return mentioned;
}

static int is_shared_object(const struct dirent *entry) {
  const size_t length = strlen(entry->d_name);
  return length > 3 && strcmp(entry->d_name + length - 3, ".so") == 0;
}

static mg_status scan_folder(mg_registry *registry, mg_plugin_kind kind, const char *folder, bool trusted, bool mixed) {
  struct dirent **files;
  const int count = scandir(folder, &files, is_shared_object, alphasort);
  if (count < 0) return MG_OK; /* a folder that is not there holds nothing */
  mg_status status = MG_OK;
  for (int i = 0; i < count; i++) {
    char path[PATH_MAX];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, files[i]->d_name);
    const bool fits = length > 0 && (size_t)length < sizeof path;
    if (status == MG_OK && fits && (!mixed || mentions_entry(registry->context, kind, path)))
      status = found_file(registry, kind, path, trusted);
    free(files[i]);
  }
  free(files);
  return status;
}

static void note_folder(mg_registry *registry, const char *folder) {
  const size_t used = strlen(registry->folders);
  snprintf(registry->folders + used, sizeof registry->folders - used, "%s%s", used ? ", " : "", folder);
}

/* A folder with `routers/` and `backends/` below it; `mixed` also takes plugins directly inside. */
static mg_status scan_tree(mg_registry *registry, const char *folder, bool trusted, bool mixed) {
  static const char *const below[] = {[MG_PLUGIN_ROUTER] = "routers", [MG_PLUGIN_BACKEND] = "backends"};
  note_folder(registry, folder);
  for (int kind = MG_PLUGIN_ROUTER; kind <= MG_PLUGIN_BACKEND; kind++) {
    char path[PATH_MAX];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, below[kind]);
    if (mixed) MG_TRY(scan_folder(registry, (mg_plugin_kind)kind, folder, trusted, true));
    if (length > 0 && (size_t)length < sizeof path)
      MG_TRY(scan_folder(registry, (mg_plugin_kind)kind, path, trusted, false));
  }
  return MG_OK;
}

/* MOEGAUGE_PLUGIN_PATH. Entries that are not absolute would depend on the current folder and are left out. */
static mg_status scan_path_variable(mg_registry *registry) {
  const char *cursor = getenv("MOEGAUGE_PLUGIN_PATH");
  while (cursor && *cursor) {
    const size_t length = strcspn(cursor, ":");
    char folder[PATH_MAX], real[PATH_MAX];
    if (length > 0 && length < sizeof folder) {
      memcpy(folder, cursor, length);
      folder[length] = '\0';
      if (folder[0] != '/')
        mg_log_line(registry->context, MG_LOG_WARNING,
                    "MOEGAUGE_PLUGIN_PATH: '%s' is left out because it is not an absolute path", folder);
      else if (realpath(folder, real))
        MG_TRY(scan_tree(registry, real, false, true));
      else
        mg_log_line(registry->context, MG_LOG_WARNING, "MOEGAUGE_PLUGIN_PATH: there is no folder '%s'", folder);
    }
    cursor += length;
    if (*cursor) cursor++;
  }
  return MG_OK;
}

/* The plugins beside libmoegauge.so. A program into which the core is linked has none: it adds tables. */
static mg_status scan_own_tree(mg_registry *registry) {
  static const char anchor = 0; /* any address inside this library */
  Dl_info about;
  char library[PATH_MAX], folder[PATH_MAX];
  if (!dladdr(&anchor, &about) || !about.dli_fname || !realpath(about.dli_fname, library)) return MG_OK;
  char *slash = strrchr(library, '/');
  if (!slash || strncmp(slash + 1, "libmoegauge.so", strlen("libmoegauge.so")) != 0) return MG_OK;
  *slash = '\0';
  const int length = snprintf(folder, sizeof folder, "%s/moegauge", library);
  return length > 0 && (size_t)length < sizeof folder ? scan_tree(registry, folder, true, false) : MG_OK;
}

mg_context *mg__registry_context(const mg_registry *registry) {
  return registry->context;
}

mg_status mg_registry_create(mg_context *context, mg_registry **out) {
  mg_registry *registry = mg_alloc(context, sizeof *registry);
  *out = NULL;
  if (!registry) return MG_MEMORY;
  registry->context = context;
  mg_status status = scan_path_variable(registry);
  if (status == MG_OK) status = scan_own_tree(registry);
  if (status != MG_OK) {
    mg_registry_destroy(registry);
    return status;
  }
  *out = registry;
  return MG_OK;
}

void mg_registry_destroy(mg_registry *registry) {
  if (!registry) return;
  mg_context *context = registry->context;
  for (size_t i = 0; i < registry->count; i++) {
    plugin_row *p = &registry->plugins[i];
    free_text(context, p->name);
    free_text(context, p->path);
    free_text(context, p->problem);
    mg_free(context, p->full, p->full ? mg__plugin_table_bytes(p->kind) : 0);
  }
  mg_free(context, registry->plugins, registry->capacity * sizeof *registry->plugins);
  mg_free(context, registry, sizeof *registry);
}

/* ---- loading ---------------------------------------------------------------------------------------------- */

/* Takes a checked table; a smaller one (an older header of the same ABI) is copied into a full one, the rest zero. */
static mg_status take_table(mg_registry *registry, plugin_row *p, const void *table) {
  const size_t full = mg__plugin_table_bytes(p->kind);
  uint32_t words[2];
  memcpy(words, table, sizeof words);
  p->table = table;
  if (words[1] < full) {
    p->full = mg_alloc(registry->context, full);
    if (!p->full) return MG_MEMORY;
    memcpy(p->full, table, words[1]);
    p->table = p->full;
  }
  p->state = LOADED;
  return MG_OK;
}

static mg_status load_file(mg_registry *registry, plugin_row *p) {
  const void *table;
  MG_TRY(mg__plugin_file_check(registry->context, p->path));
  MG_TRY(mg_hash_file(registry->context, p->path, p->hash));
  if (!p->trusted) MG_TRY(mg__plugin_probe(registry->context, p->kind, p->path));
  MG_TRY(mg__plugin_map(registry->context, p->kind, p->path, &table));
  return take_table(registry, p, table);
}

/* Loads once; a refusal is remembered and told again. */
static mg_status load(mg_registry *registry, plugin_row *p) {
  if (p->state == LOADED) return MG_OK;
  if (p->state == REFUSED) return mg_fail(registry->context, MG_PLUGIN, "%s: %s", p->path, p->problem);
  const mg_status status = load_file(registry, p);
  if (status == MG_OK || status == MG_MEMORY) return status;
  const char *reason = mg_context_message(registry->context);
  const size_t path = strlen(p->path); /* the path is a column of its own in a listing */
  if (strncmp(reason, p->path, path) == 0 && strncmp(reason + path, ": ", 2) == 0) reason += path + 2;
  p->problem = mg_strdup(registry->context, reason);
  if (!p->problem) return MG_MEMORY;
  p->state = REFUSED;
  return mg_fail(registry->context, MG_PLUGIN, "%s: %s", p->path, p->problem);
}

static mg_status refuse_name(mg_registry *registry, mg_plugin_kind kind, const char *name) {
  const char *names[NAMES_MAX], *noun = mg__plugin_kind_name(kind);
  size_t count = 0, used = 0;
  char known[1024] = "";
  for (size_t i = 0; i < registry->count && count < NAMES_MAX; i++) {
    const plugin_row *p = &registry->plugins[i];
    if (p->kind != kind || p->by_path || p->state == REFUSED) continue;
    names[count++] = p->name;
    if (used < sizeof known)
      used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", p->name);
  }
  if (count == 0)
    return mg_fail(registry->context, MG_PLUGIN,
                   "there is no %s '%s': no %s was found in %s; name their folder in MOEGAUGE_PLUGIN_PATH", noun, name,
                   noun, *registry->folders ? registry->folders : "any folder");
  const char *nearest = mg_nearest_name(name, names, count);
  return mg_fail(registry->context, MG_PLUGIN,
                 "there is no %s '%s'; %s%s%sknown: %s (a file is named with its folder: ./%s)", noun, name,
                 nearest ? "did you mean '" : "", nearest ? nearest : "", nearest ? "'? " : "", known, name);
}

static mg_status find_by_path(mg_registry *registry, mg_plugin_kind kind, const char *name, plugin_row **out) {
  char real[PATH_MAX], stem[STEM_BYTES];
  if (registry->sealed)
    return mg_fail(registry->context, MG_PLUGIN,
                   "%s: in a sandbox no plugin is loaded by its path; put its folder into MOEGAUGE_PLUGIN_PATH if you "
                   "trust it, and name it without a folder",
                   name);
  if (!realpath(name, real)) return mg_fail(registry->context, MG_PLUGIN, "%s: there is no such file", name);
  if (!mg__plugin_stem(real, stem, sizeof stem))
    return mg_fail(registry->context, MG_PLUGIN, "%s: is not called NAME.so", name);
  *out = find_path(registry, kind, real);
  if (*out && (*out)->state != REFUSED) return MG_OK;
  if (*out && find(registry, kind, stem) == *out) return MG_OK; /* refused on its own account, not for its name */
  MG_TRY(append(registry, kind, stem, real, out));
  (*out)->by_path = true;
  return MG_OK;
}

static mg_status get(mg_registry *registry, mg_plugin_kind kind, const char *name, plugin_row **out) {
  if (strchr(name, '/'))
    MG_TRY(find_by_path(registry, kind, name, out));
  else if (!(*out = find(registry, kind, name)))
    return refuse_name(registry, kind, name);
  return load(registry, *out);
}

mg_status mg_registry_router(mg_registry *registry, const char *name, const mg_router_plugin **out) {
  plugin_row *p;
  *out = NULL;
  MG_TRY(get(registry, MG_PLUGIN_ROUTER, name, &p));
  *out = p->table;
  return MG_OK;
}

mg_status mg_registry_backend(mg_registry *registry, const char *name, const mg_backend_plugin **out) {
  plugin_row *p;
  *out = NULL;
  MG_TRY(get(registry, MG_PLUGIN_BACKEND, name, &p));
  *out = p->table;
  return MG_OK;
}

static mg_status add(mg_registry *registry, mg_plugin_kind kind, const void *table) {
  char where[32];
  snprintf(where, sizeof where, "the added %s", mg__plugin_kind_name(kind));
  MG_TRY(mg__plugin_table_check(registry->context, kind, table, where));
  const char *name =
      kind == MG_PLUGIN_ROUTER ? ((const mg_router_plugin *)table)->name : ((const mg_backend_plugin *)table)->name;
  const plugin_row *taken = find(registry, kind, name);
  if (taken && taken->table == table) return MG_OK;
  if (taken)
    return mg_fail(registry->context, MG_USAGE, "the name of %s '%s' is taken by %s; choose another",
                   mg__plugin_kind_name(kind), name, taken->path ? taken->path : "one added before");
  plugin_row *p;
  MG_TRY(append(registry, kind, name, NULL, &p));
  return take_table(registry, p, table);
}

mg_status mg_registry_add_router(mg_registry *registry, const mg_router_plugin *plugin) {
  return add(registry, MG_PLUGIN_ROUTER, plugin);
}

mg_status mg_registry_add_backend(mg_registry *registry, const mg_backend_plugin *plugin) {
  return add(registry, MG_PLUGIN_BACKEND, plugin);
}

mg_status mg_registry_seal(mg_registry *registry) {
  for (size_t i = 0; i < registry->count; i++)
    if (load(registry, &registry->plugins[i]) == MG_MEMORY) return MG_MEMORY;
  registry->sealed = true;
  return MG_OK;
}

/* ---- listing ---------------------------------------------------------------------------------------------- */

static void fill_entry(const plugin_row *p, mg_plugin_entry *out) {
  *out = (mg_plugin_entry){.name = p->name, .path = p->path ? p->path : "", .summary = "", .problem = p->problem};
  memcpy(out->hash, p->hash, sizeof out->hash);
  if (p->state != LOADED) return;
  out->summary = p->kind == MG_PLUGIN_ROUTER ? ((const mg_router_plugin *)p->table)->summary
                                             : ((const mg_backend_plugin *)p->table)->summary;
}

mg_status mg_registry_entry(mg_registry *registry, mg_plugin_kind kind, const char *name, mg_plugin_entry *out) {
  plugin_row *p;
  MG_TRY(get(registry, kind, name, &p));
  fill_entry(p, out);
  return MG_OK;
}

static int by_name(const void *a, const void *b) {
  const plugin_row *const *x = a, *const *y = b;
  const int order = strcmp((*x)->name, (*y)->name);
  return order ? order : (*x > *y) - (*x < *y); /* one name: in search order */
}

mg_status mg_registry_each(mg_registry *registry, mg_plugin_kind kind,
                           bool (*visit)(void *user, const mg_plugin_entry *), void *user) {
  const size_t bytes = registry->count * sizeof(plugin_row *);
  plugin_row **sorted = mg_alloc(registry->context, bytes);
  if (!sorted) return bytes ? MG_MEMORY : MG_OK;
  size_t count = 0;
  for (size_t i = 0; i < registry->count; i++)
    if (registry->plugins[i].kind == kind && !registry->plugins[i].by_path) sorted[count++] = &registry->plugins[i];
  if (count) qsort(sorted, count, sizeof *sorted, by_name);
  mg_status status = MG_OK;
  for (size_t i = 0; i < count && status == MG_OK; i++) {
    mg_plugin_entry entry;
    if (load(registry, sorted[i]) == MG_MEMORY) status = MG_MEMORY;
    fill_entry(sorted[i], &entry);
    if (status == MG_OK && !visit(user, &entry)) break;
  }
  mg_free(registry->context, sorted, bytes);
  return status;
}
