/* Stage "collect" for any folder: its sub-folders are the domains, and every file below them is a document. Files that
 * lie in the folder itself form a domain of the folder's own name. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/options.h"
#include "base/vector.h"
#include "train/data_stage.h"

typedef struct collect_options {
  int64_t document_bytes;
} collect_options;

static const mg_option options_table[] = {
    MG_OPTION_INT(collect_options, document_bytes, 0, 0, 1e9,
                  "cut longer files at line ends into documents of at most this many bytes; 0 = a file is a document"),
    MG_OPTION_END};

typedef struct collecting {
  mg__pipeline *pipeline;
  const collect_options *options;
  mg__text identity; /* "path hash\n" of every file */
} collecting;

/* Writes the domain of a file: the first folder below the corpus, or the corpus folder's own name. */
static void domain_of(const char *corpus, const char *relative, char name[PATH_MAX]) {
  const char *slash = strchr(relative, '/');
  if (slash) {
    snprintf(name, PATH_MAX, "%.*s", (int)(slash - relative), relative);
    return;
  }
  size_t end = strlen(corpus);
  while (end > 1 && corpus[end - 1] == '/') end--;
  size_t start = end;
  while (start > 0 && corpus[start - 1] != '/') start--;
  snprintf(name, PATH_MAX, "%.*s", (int)(end - start), corpus + start);
}

static mg_status add_identity(void *user, const mg__visit *visit) {
  collecting *in = user;
  if (visit->skipped) return MG_OK;
  char hash[MG_HASH_TEXT_BYTES];
  mg_context *context = in->pipeline->context;
  MG_TRY(mg_hash_file(context, visit->path, hash));
  MG_TRY(mg__text_append(context, &in->identity, visit->relative, strlen(visit->relative) + 1));
  return mg__text_append(context, &in->identity, hash, sizeof hash);
}

mg_status mg__folder_check(mg_context *context, const char *corpus) {
  static const char *const words[] = {"manpages", "synthetic"};
  struct stat about;
  errno = 0;
  if (stat(corpus, &about) == 0 && S_ISDIR(about.st_mode)) return MG_OK;
  const char *nearest = mg_nearest_name(corpus, words, MG_COUNT(words));
  return mg_fail(context, MG_FILE,
                 "corpus '%s': %s; give the path of a folder with one sub-folder of text files for each domain, or the "
                 "name manpages or synthetic%s%s%s",
                 corpus, errno == ENOENT ? "there is no such folder" : "is not a folder that can be read",
                 nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "");
}

static mg_status identity(mg__pipeline *pipeline, const void *options, char text[MG_HASH_TEXT_BYTES]) {
  MG_TRY(mg__folder_check(pipeline->context, pipeline->corpus));
  collecting in = {.pipeline = pipeline, .options = options};
  const mg_status status = mg__folder_walk(pipeline->context, pipeline->corpus, add_identity, &in);
  mg_hash_bytes(in.identity.data, in.identity.bytes, text);
  MG_VECTOR_FREE(pipeline->context, in.identity.data, in.identity.room);
  return status;
}

/* Where to cut a text that is too long: after the last line end within `most`, else before a UTF-8 character. */
static size_t cut_at(const char *text, size_t bytes, size_t most) {
  if (most == 0 || bytes <= most) return bytes;
  const char *line = memrchr(text, '\n', most);
  if (line) return (size_t)(line - text) + 1;
  size_t end = most;
  while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80) end--;
  return end ? end : most;
}

static mg_status add_file(void *user, const mg__visit *visit) {
  collecting *in = user;
  mg__pipeline *pipeline = in->pipeline;
  if (visit->skipped) return mg__drop_count(pipeline, visit->skipped, 0);
  char name[PATH_MAX];
  domain_of(pipeline->corpus, visit->relative, name);
  const int32_t domain = mg__domain_index(pipeline, name);
  if (domain < 0) return MG_FILE;
  char *text;
  size_t bytes;
  MG_TRY(mg__text_read(pipeline->context, visit->path, &text, &bytes));
  mg_status status = bytes ? MG_OK : mg__drop_count(pipeline, "empty", 0);
  for (size_t at = 0, length; status == MG_OK && at < bytes; at += length) {
    length = cut_at(text + at, bytes - at, (size_t)in->options->document_bytes);
    status = mg__document_add(pipeline, text + at, length, domain);
  }
  mg_free(pipeline->context, text, bytes + 1);
  return status;
}

static bool has_document(const mg__pipeline *pipeline, const char *domain) {
  for (size_t i = 0; i < pipeline->count; i++)
    if (strcmp(mg__domain_name(pipeline, pipeline->documents[i].domain), domain) == 0) return true;
  return false;
}

/* A sub-folder without a document is an error here, not a domain that silently vanishes. */
static mg_status check_folders(mg__pipeline *pipeline) {
  struct dirent **entries;
  const int count = scandir(pipeline->corpus, &entries, NULL, NULL);
  mg_status status = MG_OK;
  for (int i = 0; i < count; i++) {
    const char *name = entries[i]->d_name;
    char path[PATH_MAX];
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", pipeline->corpus, name);
    const bool folder = name[0] != '.' && lstat(path, &about) == 0 && S_ISDIR(about.st_mode);
    if (status == MG_OK && folder && !has_document(pipeline, name))
      status = mg_fail(pipeline->context, MG_FILE,
                       "%s: the domain '%s' is empty; put text files into this folder or remove it", path, name);
    free(entries[i]);
  }
  if (count >= 0) free(entries);
  return status;
}

static mg_status run(mg__pipeline *pipeline, const void *options) {
  collecting in = {.pipeline = pipeline, .options = options};
  MG_TRY(mg__folder_walk(pipeline->context, pipeline->corpus, add_file, &in));
  if (pipeline->count == 0)
    return mg_fail(pipeline->context, MG_FILE,
                   "%s: holds no documents; put text files into sub-folders, one for each domain", pipeline->corpus);
  return check_folders(pipeline);
}

const mg__stage mg__stage_folder = {.name = "collect",
                                    .summary = "reads every file of a folder, plain or .gz; sub-folders are domains",
                                    .corpus = "folder",
                                    .kind = MG__COLLECT,
                                    .version = 1,
                                    .options = options_table,
                                    .options_size = sizeof(collect_options),
                                    .identity = identity,
                                    .run = run};
