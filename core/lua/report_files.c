/* Writes the files of a rendered report. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "lua/engine.h"

/* Page, table or chart, in the results' folder or one below it, and not hidden: never the results themselves. */
static bool name_is_good(const char *name) {
  static const char *const endings[] = {".html", ".md", ".csv", ".json", ".svg", ".gp"};
  const char *dot = strrchr(name, '.');
  if (name[0] == '/' || name[0] == '.' || strstr(name, "/.") || !dot) return false;
  for (size_t i = 0; i < MG_COUNT(endings); i++)
    if (strcmp(dot, endings[i]) == 0) return true;
  return false;
}

static mg_status write_one(mg_context *context, const char *folder, const char *name, const json_t *content) {
  char path[PATH_MAX];
  if (!name_is_good(name) || !json_is_string(content))
    return mg_fail(context, MG_BUG, "a report may not write to '%s'", name);
  const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
  if (length < 0 || (size_t)length >= sizeof path)
    return mg_fail(context, MG_WRITE, "%s/%s: the path is too long", folder, name);
  char *slash = strrchr(path, '/');
  *slash = '\0';
  MG_TRY(mg_folder_make(context, path));
  *slash = '/';
  return mg_file_write_atomic(context, path, json_string_value(content), json_string_length(content));
}

mg_status mg_report_write(mg_context *context, const json_t *rendered, const char *folder) {
  const char *name;
  json_t *content;
  json_object_foreach(json_object_get(rendered, "files"), name, content)
      MG_TRY(write_one(context, folder, name, content));
  return MG_OK;
}
