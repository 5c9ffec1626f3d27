/* Is a backend, and is asked for as a router. */
#include "zoo.h"

MG_API const mg_backend_plugin *mg_backend_entry(void);
const mg_backend_plugin *mg_backend_entry(void) {
  return NULL;
}
