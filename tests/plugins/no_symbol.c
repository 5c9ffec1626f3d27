/* Exports no entry. */
#include "zoo.h"

MG_API int mg_not_an_entry(void);
int mg_not_an_entry(void) {
  return 1;
}
