#include "support/serving.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

json_t *mg_serving_spec(const char *format, ...) {
  char text[4096];
  json_error_t error;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (char *c = text; *c; c++)
    if (*c == '\'') *c = '"';
  json_t *spec = json_loads(text, 0, &error);
  if (!spec) fail_msg("column %d: %s in %s", error.column, error.text, text);
  return spec;
}

json_t *mg_serving_result(mg_context *context, json_t *spec) {
  json_t *result;
  assert_ok(context, mg_serving_check(context, spec));
  assert_ok(context, mg_serving_run(context, spec, NULL, &result));
  json_decref(spec);
  return result;
}

mg_status mg_serving_refused(mg_context *context, json_t *spec) {
  json_t *result;
  const mg_status status = mg_serving_check(context, spec);
  assert_int_equal(mg_serving_run(context, spec, NULL, &result), status);
  assert_null(result);
  json_decref(spec);
  return status;
}

double mg_serving_metric(const json_t *result, const char *name) {
  const json_t *value = json_object_get(json_object_get(result, "metrics"), name);
  if (!value) fail_msg("there is no metric %s", name);
  return json_is_number(value) ? json_number_value(value) : NAN;
}

double mg_serving_seconds(const json_t *result, const char *pool, const char *state) {
  const json_t *table = json_object_get(json_object_get(result, "tables"), "instance_seconds");
  const json_t *value = json_object_get(json_object_get(table, pool), state);
  if (!value) fail_msg("there is no time '%s' of %s", state, pool);
  return json_number_value(value);
}

const char *mg_serving_recorded(const char *text) {
  static char path[64];
  snprintf(path, sizeof path, "/tmp/moegauge-requests-XXXXXX");
  const int file = mkstemp(path);
  assert_true(file >= 0);
  assert_int_equal(write(file, text, strlen(text)), strlen(text));
  close(file);
  return path;
}
