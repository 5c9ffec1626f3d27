/* Returns an address at which there is no table. */
#include "zoo.h"

MG_API const mg_router_plugin *mg_router_entry(void);
const mg_router_plugin *mg_router_entry(void) {
  return (const mg_router_plugin *)(uintptr_t)4096;
}
