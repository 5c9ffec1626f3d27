/* Finds and reads the config.json of a released model. */
#include "model/config.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"

static mg_status find_file(mg_context *context, const char *path, char file[MG_CONFIG_PATH_BYTES]) {
  struct stat about;
  const bool folder = stat(path, &about) == 0 && S_ISDIR(about.st_mode);
  const int length = snprintf(file, MG_CONFIG_PATH_BYTES, folder ? "%s/config.json" : "%s", path);
  if (length > 0 && length < MG_CONFIG_PATH_BYTES) return MG_OK;
  return mg_fail(context, MG_FILE, "the path of a model must have 1 to %d bytes, not %d", MG_CONFIG_PATH_BYTES - 16,
                 length);
}

static mg_status parse(mg_context *context, const char *file, const char *text, size_t bytes, json_t **out) {
  json_error_t error;
  *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
  if (!*out)
    return mg_fail(context, MG_FILE, "%s: line %d, column %d: not the JSON of a configuration: %s", file, error.line,
                   error.column, error.text);
  if (json_is_object(*out)) return MG_OK;
  json_decref(*out);
  *out = NULL;
  return mg_fail(context, MG_FILE, "%s: a configuration is a JSON object { ... }", file);
}

mg_status mg_config_read(mg_context *context, const char *path, char file[MG_CONFIG_PATH_BYTES], json_t **out) {
  char *text;
  size_t bytes;
  *out = NULL;
  MG_TRY(find_file(context, path, file));
  MG_TRY(mg_file_read(context, file, MG_CONFIG_BYTES_MAX, &text, &bytes));
  const mg_status status = parse(context, file, text, bytes, out);
  mg_free(context, text, bytes + 1);
  return status;
}
