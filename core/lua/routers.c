#include "lua/state.h"
void mg__add_routers(lua_State *L) {
  (void)L;
}
void mg__free_routers(mg_engine *engine) {
  (void)engine;
}
