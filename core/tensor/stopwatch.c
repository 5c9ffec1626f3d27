/* Time of a backend's calls. */
#include "tensor/stopwatch.h"

#include "base/clock.h"

static bool has_clock(const mg_backend_plugin *plugin) {
  return plugin->clock_start && plugin->clock_stop;
}

mg_status mg_stopwatch_start(mg_backend *backend, mg_stopwatch *watch) {
  if (has_clock(backend->plugin)) return backend->plugin->clock_start(backend);
  watch->start_ns = mg_clock_ns();
  return MG_OK;
}

mg_status mg_stopwatch_stop(mg_backend *backend, const mg_stopwatch *watch, int64_t *out_ns) {
  if (has_clock(backend->plugin)) return backend->plugin->clock_stop(backend, out_ns);
  MG_TRY(backend->plugin->synchronize(backend));
  *out_ns = mg_clock_ns() - watch->start_ns;
  return MG_OK;
}
