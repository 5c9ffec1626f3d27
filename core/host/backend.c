/* Opens and closes backends: options filled from their table, then the plugin's own open. */
#include <stdio.h>

#include "base/options.h"
#include "host/plugin.h"

static void free_backend(mg_backend *backend) {
  mg_context *context = backend->context;
  mg_free(context, (void *)(uintptr_t)backend->options, backend->options ? backend->plugin->options_size : 0);
  mg_free(context, backend, sizeof *backend);
}

static mg_status fill_options(mg_backend *backend, const json_t *json) {
  const mg_backend_plugin *plugin = backend->plugin;
  char where[96];
  snprintf(where, sizeof where, "backend %s", plugin->name);
  if (plugin->options && plugin->options_size > 0) {
    void *options = mg_alloc(backend->context, plugin->options_size);
    if (!options) return MG_MEMORY;
    backend->options = options;
    mg_options_defaults(plugin->options, options);
    return mg_options_from_json(backend->context, plugin->options, json, where, options);
  }
  return mg_options_from_json(backend->context, NULL, json, where, NULL);
}

mg_status mg_backend_open(mg_context *context, mg_registry *registry, const char *name, const json_t *options,
                          mg_backend **out) {
  const mg_backend_plugin *plugin;
  *out = NULL;
  mg_status status = mg_registry_backend(registry, name, &plugin);
  if (status != MG_OK) return mg_fail(context, status, "%s", mg_context_message(mg__registry_context(registry)));
  mg_backend *backend = mg_alloc(context, sizeof *backend);
  if (!backend) return MG_MEMORY;
  backend->plugin = plugin;
  backend->context = context;
  status = fill_options(backend, options);
  if (status == MG_OK) {
    status = plugin->open(backend);
    if (status != MG_OK) mg_fail_where(context, status, "backend %s", plugin->name);
  }
  if (status != MG_OK) {
    free_backend(backend);
    return status;
  }
  *out = backend;
  return MG_OK;
}

void mg_backend_close(mg_backend *backend) {
  if (!backend) return;
  backend->plugin->close(backend);
  free_backend(backend);
}
