/* Returns no table. */
#include "zoo.h"

MG_API const mg_router_plugin *mg_router_entry(void);
const mg_router_plugin *mg_router_entry(void) {
  return NULL;
}
