/* Options, folders and metadata around mg_trace_corpus. */
#include "lua/tracing.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "base/file.h"
#include "base/options.h"

typedef struct trace_settings {
  char path[MG_OPTION_STRING_MAX];
  int64_t tokens, sequence;
} trace_settings;

static const mg_option options[] = {MG_OPTION_STRING(trace_settings, path, "", "the file to write"),
                                    MG_OPTION_INT(trace_settings, tokens, 65536, 1, INT32_MAX,
                                                  "tokens of the validation split, up to a whole sequence"),
                                    MG_OPTION_INT(trace_settings, sequence, 256, 1, 1 << 20, "tokens per sequence"),
                                    MG_OPTION_END};

const mg_option *mg__trace_options(void) {
  return options;
}

static mg_status make_parent(mg_context *context, const char *path) {
  char folder[MG_OPTION_STRING_MAX];
  const char *slash = strrchr(path, '/');
  if (!slash || slash == path) return MG_OK;
  memcpy(folder, path, (size_t)(slash - path));
  folder[slash - path] = '\0';
  return mg_folder_make(context, folder);
}

static mg_status write_file(mg_context *context, const mg_trace *trace, const mg_dataset *data, const char *path) {
  json_t *about = json_pack("{s:s}", "corpus", mg_dataset_checksum(data));
  mg_status status = make_parent(context, path);
  if (status == MG_OK) status = mg_trace_write(trace, path, about);
  json_decref(about);
  return status;
}

mg_status mg__trace_corpus(mg_model *model, mg_tape *tape, mg_dataset *data, const json_t *wanted) {
  mg_context *context = mg_model_backend(model)->context;
  trace_settings set;
  mg_trace *trace;
  mg_options_defaults(options, &set);
  MG_TRY(mg_options_from_json(context, options, wanted, "trace", &set));
  if (!*set.path) return mg_fail(context, MG_USAGE, "trace: 'path' is needed, the file to write");
  MG_TRY(mg_trace_create(model, &trace));
  mg_status status = mg_trace_corpus(trace, tape, data, set.sequence, set.tokens);
  if (status == MG_OK) status = write_file(context, trace, data, set.path);
  mg_trace_destroy(trace);
  return status;
}
