/* Which files make a checkpoint, and the life of one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/checkpoint/internal.h"

mg_checkpoint_limits mg_checkpoint_default_limits(void) {
  return (mg_checkpoint_limits){.header_bytes = 1 << 30,
                                .text_bytes = 16 << 20,
                                .list_elements = 16 << 20,
                                .name_bytes = 1024,
                                .keys = 65536,
                                .tensors = 1 << 20,
                                .files = 1024};
}

/* ---- which files ------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end) {
  const size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* A GGUF file that begins a model: not a later part of one. */
static bool is_first_gguf(const char *name) {
  unsigned part, parts;
  const char *tail = name + strlen(name) - strlen("-00001-of-00001.gguf");
  if (!ends_with(name, ".gguf")) return false;
  if (tail < name || sscanf(tail, "-%5u-of-%5u.gguf", &part, &parts) != 2) return true;
  return part == 1;
}

static mg_status find_gguf(mg_context *context, const char *folder, char path[PATH_MAX]) {
  int found = 0, length = 0;
  DIR *opened = opendir(folder);
  if (!opened) return mg_fail(context, MG_FILE, "%s: cannot be read: %s", folder, strerror(errno));
  for (struct dirent *entry; (entry = readdir(opened));)
    if (is_first_gguf(entry->d_name) && found++ == 0) length = snprintf(path, PATH_MAX, "%s/%s", folder, entry->d_name);
  closedir(opened);
  if (found == 1 && length > 0 && length < PATH_MAX) return MG_OK;
  return mg_fail(context, MG_FILE,
                 found ? "%s: holds several GGUF models; name one of its files"
                       : "%s: holds neither model.safetensors.index.json, nor model.safetensors, nor a .gguf file",
                 folder);
}

/* The file to open for what the user named. */
static mg_status choose_file(mg_context *context, const char *named, char path[PATH_MAX]) {
  static const char *const usual[] = {"model.safetensors.index.json", "model.safetensors"};
  struct stat about;
  if (stat(named, &about) != 0) return mg_fail(context, MG_FILE, "%s: cannot be opened: %s", named, strerror(errno));
  if (!S_ISDIR(about.st_mode)) {
    const int length = snprintf(path, PATH_MAX, "%s", named);
    return length < PATH_MAX ? MG_OK : mg_fail(context, MG_FILE, "%s: the path is too long", named);
  }
  for (size_t i = 0; i < MG_COUNT(usual); i++) {
    const int length = snprintf(path, PATH_MAX, "%s/%s", named, usual[i]);
    if (length < 0 || length >= PATH_MAX) return mg_fail(context, MG_FILE, "%s: the path is too long", named);
    if (lstat(path, &about) == 0) return MG_OK; /* a link that leads nowhere is named when it is opened */
  }
  return find_gguf(context, named, path);
}

static bool begins_as_gguf(const char *path) {
  char magic[4] = {0};
  struct stat about;
  if (stat(path, &about) != 0 || !S_ISREG(about.st_mode)) return false;
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  const bool read_all = file >= 0 && read(file, magic, sizeof magic) == (ssize_t)sizeof magic;
  if (file >= 0) close(file);
  return read_all && memcmp(magic, "GGUF", sizeof magic) == 0;
}

bool mg_checkpoint_names_gguf(mg_context *context, const char *path) {
  char file[PATH_MAX];
  struct stat about;
  if (stat(path, &about) != 0) return false;
  if (S_ISDIR(about.st_mode) && choose_file(context, path, file) != MG_OK) return false;
  const char *chosen = S_ISDIR(about.st_mode) ? file : path;
  return ends_with(chosen, ".gguf") || begins_as_gguf(chosen);
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static mg_status open_file(mg_checkpoint *checkpoint, const char *path) {
  mg__file *file;
  MG_TRY(mg__files_add(checkpoint, path, &file));
  if (mg__gguf_magic(file) || ends_with(path, ".gguf")) {
    checkpoint->format = MG_CHECKPOINT_GGUF;
    MG_TRY(mg__gguf_open(checkpoint));
  } else {
    MG_TRY(mg__safetensors_parse(checkpoint, file));
  }
  return mg__index_tensors(checkpoint);
}

static mg_status open_path(mg_checkpoint *checkpoint, const char *named) {
  char path[PATH_MAX];
  MG_TRY(choose_file(checkpoint->context, named, path));
  MG_TRY(ends_with(path, ".index.json") ? mg__shards_open(checkpoint, path) : open_file(checkpoint, path));
  return mg__index_keys(checkpoint);
}

mg_status mg_checkpoint_open(mg_context *context, const char *path, const mg_checkpoint_limits *limits,
                             mg_checkpoint **out) {
  *out = NULL;
  mg_checkpoint *checkpoint = mg_alloc(context, sizeof *checkpoint);
  if (!checkpoint) return MG_MEMORY;
  checkpoint->context = context;
  checkpoint->limits = limits ? *limits : mg_checkpoint_default_limits();
  /* Places in a header and indices of tensors are kept in 32 bits. */
  if (checkpoint->limits.header_bytes > INT32_MAX) checkpoint->limits.header_bytes = INT32_MAX;
  if (checkpoint->limits.tensors > INT32_MAX) checkpoint->limits.tensors = INT32_MAX;
  const mg_status status = open_path(checkpoint, path);
  if (status == MG_OK)
    *out = checkpoint;
  else
    mg_checkpoint_close(checkpoint);
  return status;
}

void mg_checkpoint_close(mg_checkpoint *checkpoint) {
  if (!checkpoint) return;
  mg_context *context = checkpoint->context;
  for (size_t i = 0; i < checkpoint->files_count; i++) mg__file_close(context, &checkpoint->files[i]);
  mg_free(context, checkpoint->files, checkpoint->files_room * sizeof *checkpoint->files);
  mg_free(context, checkpoint->entries, checkpoint->room * sizeof *checkpoint->entries);
  mg_free(context, checkpoint->keys, checkpoint->keys_count * sizeof *checkpoint->keys);
  mg__names_destroy(context, &checkpoint->names);
  mg__names_destroy(context, &checkpoint->key_names);
  mg_free(context, checkpoint, sizeof *checkpoint);
}

mg_checkpoint_format mg_checkpoint_kind(const mg_checkpoint *checkpoint) {
  return checkpoint->format;
}
const char *mg_checkpoint_path(const mg_checkpoint *checkpoint) {
  return checkpoint->files[0].path;
}

/* ---- views --------------------------------------------------------------------------------------------------------- */

mg_status mg_checkpoint_view(mg_checkpoint *checkpoint, const mg_checkpoint_tensor *tensor, const void **out) {
  mg__file *file = mg__file_of(checkpoint, (size_t)tensor->index);
  const char *change = mg__file_change(file);
  if (change) return mg__file_refuse(checkpoint, file, MG__NOWHERE, "tensor", tensor->name, "%s", change);
  MG_TRY(mg__file_map(checkpoint, file));
  *out = file->mapping + checkpoint->entries[tensor->index].begin;
  return MG_OK;
}

mg_status mg_checkpoint_unchanged(const mg_checkpoint *checkpoint) {
  for (size_t i = 0; i < checkpoint->files_count; i++) {
    const char *change = mg__file_change(&checkpoint->files[i]);
    if (change) return mg__file_refuse(checkpoint, &checkpoint->files[i], MG__NOWHERE, NULL, NULL, "%s", change);
  }
  return MG_OK;
}
