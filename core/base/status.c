/* The words and exit codes of the statuses, from their one list. */
#include "moegauge/status.h"

typedef struct status_row {
  int exit_code;
  const char *name;
  const char *meaning;
} status_row;

static const status_row rows[MG_STATUS_COUNT] = {
#define ROW(name, exit_code, word, meaning) [MG_##name] = {exit_code, word, meaning},
    MG_STATUS_LIST(ROW)
#undef ROW
};

static const status_row *row_of(mg_status status) {
  return (unsigned)status < MG_STATUS_COUNT ? &rows[status] : &rows[MG_BUG];
}

const char *mg_status_name(mg_status status) {
  return row_of(status)->name;
}
const char *mg_status_meaning(mg_status status) {
  return row_of(status)->meaning;
}
int mg_status_exit_code(mg_status status) {
  return row_of(status)->exit_code;
}
