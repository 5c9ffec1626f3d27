/* The families of released models, for moegauge list. */
#include <stdio.h>
#include <string.h>

#include "cli/list.h"
#include "cli/session.h"

enum { NAME_COLUMN = 22 };

static void print_family(const json_t *row) {
  char text[512];
  size_t index;
  json_t *name;
  size_t used = (size_t)snprintf(text, sizeof text, "%s",
                                 json_is_true(json_object_get(row, "runs")) ? "runs" : "accounting only");
  used += (size_t)snprintf(text + used, sizeof text - used,
                           "; %s; model_type:", json_string_value(json_object_get(row, "paper")));
  json_array_foreach(json_object_get(row, "model_types"), index, name) {
    if (used < sizeof text) used += (size_t)snprintf(text + used, sizeof text - used, " %s", json_string_value(name));
  }
  printf("%-*s ", NAME_COLUMN - 1, json_string_value(json_object_get(row, "name")));
  mg_cli_print_wrapped(stdout, text, NAME_COLUMN, NAME_COLUMN);
}

mg_status mg__list_families(mg_cli *cli, bool json, bool names_only) {
  json_t *rows = NULL, *row;
  size_t index;
  mg_session session;
  mg_status status = mg_session_open(cli, &(mg_session_request){0}, &session);
  if (status == MG_OK) status = mg_engine_families(session.engine, &rows);
  mg_session_close(&session);
  if (status != MG_OK) return status;
  if (json) return mg_cli_print_json(cli, rows);
  json_array_foreach(rows, index, row) {
    if (names_only)
      puts(json_string_value(json_object_get(row, "name")));
    else
      print_family(row);
  }
  json_decref(rows);
  return MG_OK;
}
