/* Checkpoints: parameters, moments, and all that the run has counted, in one safetensors file per step. The two newest
 * are kept; the older is deleted only after the newer stands. */
#include "train/run.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"

enum { KEPT = 2, STEPS_MAX = 1024, DUMP = JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17) };

/* ---- identity: which run a checkpoint belongs to ------------------------------------------------------------ */

static mg_status identity(const mg__run *run, char text[MG_HASH_TEXT_BYTES]) {
  json_t *spec = json_copy(run->resolved);
  static const char *const elsewhere[] = {"checkpoint",   "checkpoint_every", "timing_steps",
                                          "final_tokens", "specialisation",   "evaluations"};
  for (size_t i = 0; i < MG_COUNT(elsewhere); i++) json_object_del(spec, elsewhere[i]);
  json_t *all = json_pack("{s:s, s:s, s:s, s:I, s:O, s:o}", "version", MG_VERSION, "backend",
                          mg_tape_backend(run->tape)->plugin->name, "data", mg_dataset_checksum(run->data), "seed",
                          (json_int_t)mg_model_seed(run->model), "model", mg_model_spec(run->model), "train", spec);
  char *dump = all ? json_dumps(all, DUMP) : NULL;
  if (dump) mg_hash_bytes(dump, strlen(dump), text);
  free(dump);
  json_decref(all);
  return dump ? MG_OK : mg_fail(run->context, MG_MEMORY, "train: no memory for the checkpoint's identity");
}

/* ---- state --------------------------------------------------------------------------------------------------- */

static json_t *numbers(const double *values, size_t count) {
  json_t *list = json_array();
  for (size_t i = 0; i < count; i++) json_array_append_new(list, mg__number(values[i]));
  return list;
}

static bool read_numbers(const json_t *list, double *values, size_t count) {
  if (json_array_size(list) != count) return false;
  for (size_t i = 0; i < count; i++) {
    if (!json_is_number(json_array_get(list, i))) return false;
    values[i] = json_number_value(json_array_get(list, i));
  }
  return true;
}

static size_t experts_of(const mg__run *run, int64_t layer) {
  return (size_t)mg_moe_describe(mg_model_moe(run->model, layer)).experts;
}

static json_t *state_of(const mg__run *run) {
  json_t *load = json_array();
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++)
    json_array_append_new(load, numbers(run->load[i], experts_of(run, i)));
  return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:O, s:O}", "step", (json_int_t)run->step, "next_batch",
                   (json_int_t)run->step * run->settings.accumulate, "spikes_seen", (json_int_t)run->spikes.seen,
                   "spikes", (json_int_t)run->spikes.count, "spike_window",
                   numbers(run->spikes.window, MG__SPIKE_WINDOW), "totals",
                   numbers((const double *)&run->totals, sizeof run->totals / sizeof(double)), "load", load, "series",
                   run->series, "tables", run->tables);
}

static bool read_state(mg__run *run, const json_t *state) {
  json_t *series = json_object_get(state, "series"), *tables = json_object_get(state, "tables");
  const json_t *load = json_object_get(state, "load");
  const int64_t step = json_integer_value(json_object_get(state, "step"));
  if (!json_is_object(series) || !json_is_object(tables) || step < 1 || step > run->steps) return false;
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++)
    if (!read_numbers(json_array_get(load, (size_t)i), run->load[i], experts_of(run, i))) return false;
  if (!read_numbers(json_object_get(state, "spike_window"), run->spikes.window, MG__SPIKE_WINDOW) ||
      !read_numbers(json_object_get(state, "totals"), (double *)&run->totals, sizeof run->totals / sizeof(double)))
    return false;
  run->spikes.seen = json_integer_value(json_object_get(state, "spikes_seen"));
  run->spikes.count = json_integer_value(json_object_get(state, "spikes"));
  run->step = step;
  json_decref(run->series);
  json_decref(run->tables);
  run->series = json_incref(series);
  run->tables = json_incref(tables);
  return run->spikes.seen >= 0;
}

/* ---- tensors ------------------------------------------------------------------------------------------------- */

typedef struct tensor_list {
  mg_safetensors_item *items;
  char (*names)[MG_PARAM_NAME_BYTES + 16];
  int64_t count, most;
} tensor_list;

static void list_add(tensor_list *list, const char *prefix, const char *name, const mg_tensor *tensor) {
  if (!tensor->data) return;
  snprintf(list->names[list->count], sizeof list->names[0], "%s%s", prefix, name);
  list->items[list->count] = (mg_safetensors_item){.name = list->names[list->count], .tensor = tensor};
  list->count++;
}

static void list_destroy(mg_context *context, tensor_list *list) {
  mg_free(context, list->items, list->items ? (size_t)list->most * sizeof *list->items : 0);
  mg_free(context, list->names, list->names ? (size_t)list->most * sizeof *list->names : 0);
}

/* Every tensor that a run goes on from, under the names of the file. */
static mg_status list_create(mg__run *run, tensor_list *list) {
  mg_params *params = mg_model_params(run->model);
  *list = (tensor_list){.most = 3 * mg_params_count(params)};
  list->items = mg_alloc(run->context, (size_t)list->most * sizeof *list->items);
  list->names = mg_alloc(run->context, (size_t)list->most * sizeof *list->names);
  if (!list->items || !list->names) {
    list_destroy(run->context, list);
    return MG_MEMORY;
  }
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_at(params, i);
    list_add(list, "", param->name, &param->value);
    list_add(list, "first.", param->name, &param->first);
    list_add(list, "second.", param->name, &param->second);
  }
  return MG_OK;
}

/* ---- files --------------------------------------------------------------------------------------------------- */

static mg_status path_of(const mg__run *run, int64_t step, char path[PATH_MAX]) {
  const int length = snprintf(path, PATH_MAX, "%s/step-%09lld.safetensors", run->settings.checkpoint, (long long)step);
  if (length > 0 && length < PATH_MAX) return MG_OK;
  return mg_fail(run->context, MG_USAGE, "train: the path of 'checkpoint' is too long");
}

static int newest_first(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (y > x) - (y < x);
}

/* The steps of which the folder has a checkpoint, newest first; also removes what a killed run left half-written. */
static mg_status list_steps(const mg__run *run, int64_t steps[STEPS_MAX], int64_t *count) {
  *count = 0;
  DIR *folder = opendir(run->settings.checkpoint);
  if (!folder)
    return mg_fail(run->context, MG_FILE, "%s: cannot be read: %s", run->settings.checkpoint, strerror(errno));
  for (struct dirent *entry; (entry = readdir(folder));) {
    long long step;
    int used = 0;
    if (sscanf(entry->d_name, "step-%lld.safetensors%n", &step, &used) != 1 || used == 0) continue;
    if (strncmp(entry->d_name + used, ".tmp.", 5) == 0) unlinkat(dirfd(folder), entry->d_name, 0);
    if (entry->d_name[used] == '\0' && *count < STEPS_MAX) steps[(*count)++] = step;
  }
  closedir(folder);
  qsort(steps, (size_t)*count, sizeof *steps, newest_first);
  return MG_OK;
}

static mg_status delete_old(const mg__run *run) {
  int64_t steps[STEPS_MAX], count;
  char path[PATH_MAX];
  MG_TRY(list_steps(run, steps, &count));
  for (int64_t i = KEPT; i < count; i++) {
    MG_TRY(path_of(run, steps[i], path));
    unlink(path);
  }
  return MG_OK;
}

static mg_status save_as(mg__run *run, const char *path) {
  char hash[MG_HASH_TEXT_BYTES];
  tensor_list list;
  MG_TRY(identity(run, hash));
  MG_TRY(list_create(run, &list));
  json_t *state = state_of(run);
  char *state_text = state ? json_dumps(state, DUMP) : NULL, *spec = json_dumps(mg_model_spec(run->model), DUMP);
  json_t *metadata = json_pack("{s:s, s:s, s:s, s:s}", "format", "moegauge checkpoint 1", "identity", hash, "model",
                               spec ? spec : "", "state", state_text ? state_text : "");
  mg_status status = state_text && spec && metadata ? MG_OK : MG_MEMORY;
  if (status != MG_OK) mg_fail(run->context, status, "%s: no memory to write it", path);
  if (status == MG_OK)
    status = mg_safetensors_write(run->context, mg_tape_backend(run->tape), path, list.items, list.count, metadata);
  json_decref(metadata);
  json_decref(state);
  free(state_text);
  free(spec);
  list_destroy(run->context, &list);
  return status;
}

mg_status mg__checkpoint_save(mg__run *run) {
  char path[PATH_MAX];
  if (run->settings.checkpoint[0] == '\0') return MG_OK;
  MG_TRY(path_of(run, run->step, path));
  MG_TRY(save_as(run, path));
  return delete_old(run);
}

/* ---- resuming ------------------------------------------------------------------------------------------------ */

static mg_status load_tensors(mg__run *run, const mg_checkpoint *file) {
  tensor_list list;
  MG_TRY(list_create(run, &list));
  mg_status status = MG_OK;
  for (int64_t i = 0; i < list.count && status == MG_OK; i++)
    status = mg_checkpoint_load(file, mg_tape_backend(run->tape), list.items[i].name, list.items[i].tensor);
  list_destroy(run->context, &list);
  return status;
}

static mg_status load_state(mg__run *run, const mg_checkpoint *file, const char *path) {
  const char *text;
  MG_TRY(mg_checkpoint_text(file, "state", &text));
  json_t *state = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
  const bool good = state && read_state(run, state);
  json_decref(state);
  return good ? MG_OK : mg_fail(run->context, MG_FILE, "%s: its state does not fit this run; delete it", path);
}

static mg_status resume_from(mg__run *run, const mg_checkpoint *file, const char *path) {
  char mine[MG_HASH_TEXT_BYTES];
  const char *theirs;
  MG_TRY(identity(run, mine));
  if (mg_checkpoint_text(file, "identity", &theirs) != MG_OK || strcmp(mine, theirs) != 0)
    return mg_fail(run->context, MG_USAGE,
                   "train: %s belongs to another model, corpus or training specification; give this run a 'checkpoint' "
                   "folder of its own, or delete that one",
                   path);
  MG_TRY(load_tensors(run, file));
  MG_TRY(load_state(run, file, path));
  mg_log_line(run->context, MG_LOG_INFO, "resumed from %s", path);
  return MG_OK;
}

static mg_status open_verified(mg_context *context, const char *path, mg_checkpoint **out) {
  MG_TRY(mg_checkpoint_open(context, path, NULL, out));
  const mg_status status = mg_checkpoint_verify(*out);
  if (status != MG_OK) {
    mg_checkpoint_close(*out);
    *out = NULL;
  }
  return status;
}

mg_status mg__checkpoint_resume(mg__run *run) {
  int64_t steps[STEPS_MAX], count;
  char path[PATH_MAX];
  if (run->settings.checkpoint[0] == '\0') return MG_OK;
  MG_TRY(mg_folder_make(run->context, run->settings.checkpoint));
  MG_TRY(list_steps(run, steps, &count));
  for (int64_t i = 0; i < count; i++) {
    mg_checkpoint *file;
    MG_TRY(path_of(run, steps[i], path));
    const mg_status opened = open_verified(run->context, path, &file);
    if (opened == MG_OK) {
      const mg_status status = resume_from(run, file, path);
      mg_checkpoint_close(file);
      return status;
    }
    if (opened != MG_FILE) return opened;
    mg_log_line(run->context, MG_LOG_WARNING, "skipped a damaged checkpoint: %s", mg_context_message(run->context));
  }
  return MG_OK;
}
