/* Writes a model as a folder that transformers and others load. */
#include "lua/saving.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/save.h"

static mg_status path_in(mg_context *context, const char *folder, const char *name, char path[PATH_MAX]) {
  const int length = snprintf(path, PATH_MAX, "%s/%s", folder, name);
  if (length > 0 && length < PATH_MAX) return MG_OK;
  return mg_fail(context, MG_FILE, "%s/%s: the path is too long", folder, name);
}

static mg_status write_json(mg_context *context, const char *folder, const char *name, const json_t *json,
                            size_t flags) {
  char path[PATH_MAX];
  MG_TRY(path_in(context, folder, name, path));
  char *text = json_dumps(json, flags | JSON_REAL_PRECISION(17));
  if (!text) return mg_fail(context, MG_MEMORY, "%s: no memory to write it", path);
  const mg_status status = mg_file_write_atomic(context, path, text, strlen(text));
  free(text);
  return status;
}

static mg_status write_config(mg_context *context, const char *folder, const json_t *config) {
  json_t *plain = json_copy((json_t *)config);
  if (!plain) return mg_fail(context, MG_MEMORY, "config.json: no memory to write it");
  json_object_del(plain, "quantization_config");
  const mg_status status = write_json(context, folder, "config.json", plain, JSON_INDENT(2) | JSON_SORT_KEYS);
  json_decref(plain);
  return status;
}

mg_status mg__save_folder(mg_context *context, const mg__saving *saving, const char *folder) {
  char path[PATH_MAX];
  MG_TRY(path_in(context, folder, "model.safetensors", path));
  MG_TRY(mg_folder_make(context, folder));
  MG_TRY(mg_model_save(saving->model, saving->rules, saving->decoded, path));
  MG_TRY(write_config(context, folder, saving->config));
  return saving->tokenizer ? write_json(context, folder, "tokenizer.json", saving->tokenizer, JSON_COMPACT) : MG_OK;
}

mg_status mg__saved_tokenizer(mg_context *context, const json_t *own, json_t **out) {
  mg_tokenizer *tokenizer;
  *out = NULL;
  if (!own) return MG_OK;
  MG_TRY(mg_tokenizer_from_json(context, own, &tokenizer));
  const mg_status status = mg_tokenizer_released_json(tokenizer, out);
  mg_tokenizer_destroy(tokenizer);
  return status;
}
