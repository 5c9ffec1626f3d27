/* moegauge list metrics: the metrics that the Lua library knows by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/list.h"
#include "cli/session.h"

enum { NAME_COLUMN = 28 };

static int by_name(const void *a, const void *b) {
  const char *const *x = a, *const *y = b;
  return strcmp(*x, *y);
}

/* The metrics as [{"name", "unit", "better", "help"}, ...] in name order. */
static json_t *in_order(mg_context *context, json_t *known) {
  json_t *rows = json_array(), *metric;
  size_t count = 0;
  const size_t bytes = json_object_size(known) * sizeof(char *);
  const char **names = mg_alloc(context, bytes), *name;
  json_object_foreach(known, name, metric) if (names) names[count++] = name;
  if (count) qsort(names, count, sizeof *names, by_name);
  for (size_t i = 0; i < count; i++) {
    const json_t *of = json_object_get(known, names[i]);
    json_array_append_new(rows,
                          json_pack("{s:s, s:O?, s:O?, s:O?}", "name", names[i], "unit", json_object_get(of, "unit"),
                                    "better", json_object_get(of, "better"), "help", json_object_get(of, "help")));
  }
  mg_free(context, names, bytes);
  return rows;
}

static const char *text_of(const json_t *row, const char *key) {
  const char *text = json_string_value(json_object_get(row, key));
  return text ? text : "";
}

static void print_rows(const json_t *rows, bool names_only) {
  size_t i;
  json_t *row;
  json_array_foreach(rows, i, row) {
    if (names_only) {
      puts(text_of(row, "name"));
      continue;
    }
    char text[512];
    const char *unit = text_of(row, "unit"), *better = text_of(row, "better");
    snprintf(text, sizeof text, "%s%s%s%s%s%s", text_of(row, "help"), *unit ? ", in " : "", unit, *better ? " (" : "",
             better, *better ? " is better)" : "");
    printf("%-*s", NAME_COLUMN, text_of(row, "name"));
    mg_cli_print_wrapped(stdout, text, NAME_COLUMN, NAME_COLUMN);
  }
}

mg_status mg__list_metrics(mg_cli *cli, bool json, bool names_only) {
  mg_session session;
  const mg_session_request request = {0};
  json_t *known = NULL;
  mg_status status = mg_session_open(cli, &request, &session);
  if (status == MG_OK)
    status = mg_engine_run_text(session.engine, "return require('moegauge.metrics').known", "=metrics", &known);
  mg_session_close(&session);
  MG_TRY(status);
  json_t *rows = in_order(cli->context, known);
  json_decref(known);
  if (json) return mg_cli_print_json(cli, rows);
  print_rows(rows, names_only);
  json_decref(rows);
  return MG_OK;
}
