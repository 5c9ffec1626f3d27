/* model.safetensors.index.json: {"weight_map": {tensor: file}, "metadata": {"total_size": bytes}}. The index and the files
 * must say the same: every tensor in the file that the index names, no tensor that it does not list, and all sizes. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/checkpoint/internal.h"
#include "model/checkpoint/json.h"

/* A row of the weight map: offsets into the index of the tensor's name and of its file's name. */
typedef struct row {
  uint32_t name, shard;
} row;

typedef struct shard_index {
  mg_checkpoint *checkpoint;
  mg__file file;
  mg__json json;
  bool keep, map_seen, total_seen;
  uint64_t total_bytes;
  row *rows;
  size_t count, room, rows_bytes;
  uint32_t *shards; /* the distinct names: a row of each */
  mg__names shard_names;
  size_t shards_count, shards_room, shards_bytes;
} shard_index;

static mg_status refuse(const shard_index *index, const char *kind, const char *name, const char *rule) {
  return mg__file_refuse(index->checkpoint, &index->file, MG__NOWHERE, kind, name, "%s", rule);
}

/* ---- the index's JSON ------------------------------------------------------------------------------------------ */

static bool broken(shard_index *index, const char *rule) {
  if (!index->json.wrong) index->json.wrong = rule;
  return false;
}

static bool walk_map(shard_index *index) {
  bool first = true;
  mg__json_text name, shard;
  if (index->map_seen) return broken(index, "weight_map occurs twice");
  index->map_seen = true;
  while (mg__json_member(&index->json, &first, &name)) {
    if (!mg__json_at_string(&index->json)) return broken(index, "a weight_map that does not map names to files");
    if (!mg__json_string(&index->json, &shard)) return false;
    if (index->count == index->checkpoint->limits.tensors) return broken(index, "more tensors than the limit allows");
    if (name.bytes > index->checkpoint->limits.name_bytes || shard.bytes > NAME_MAX)
      return broken(index, "a name that is too long");
    if (index->keep) {
      const uint32_t settled = mg__json_settle(&index->json, name, index->file.header);
      index->rows[index->count] = (row){settled, mg__json_settle(&index->json, shard, index->file.header)};
    }
    index->count++;
  }
  return !index->json.wrong;
}

static bool walk_metadata(shard_index *index) {
  bool first = true;
  mg__json_text key;
  while (mg__json_member(&index->json, &first, &key)) {
    const bool total = mg__json_equals(&index->json, key, "total_size");
    if (total && index->total_seen) return broken(index, "total_size occurs twice");
    if (!(total ? mg__json_whole(&index->json, &index->total_bytes) : mg__json_skip(&index->json))) return false;
    index->total_seen = index->total_seen || total;
  }
  return !index->json.wrong;
}

static mg_status walk(shard_index *index, bool keep) {
  bool first = true;
  mg__json_text key;
  index->json = (mg__json){.text = index->file.header, .bytes = index->file.header_bytes};
  index->keep = keep;
  index->count = 0;
  index->map_seen = index->total_seen = false;
  while (mg__json_member(&index->json, &first, &key)) {
    const bool good = mg__json_equals(&index->json, key, "weight_map") ? walk_map(index)
                      : mg__json_equals(&index->json, key, "metadata") ? walk_metadata(index)
                                                                       : mg__json_skip(&index->json);
    if (!good) break;
  }
  if (!index->json.wrong && !mg__json_end(&index->json)) broken(index, "something follows the JSON object");
  if (!index->json.wrong && !index->map_seen) broken(index, "there is no weight_map");
  if (!index->json.wrong) return MG_OK;
  return mg__file_refuse(index->checkpoint, &index->file, index->json.at, NULL, NULL, "%s", index->json.wrong);
}

/* Room for `count` items, exactly: a vector's doubling could pass twice the index. */
static void *make_list(mg_context *context, size_t count, size_t item_bytes, size_t *bytes) {
  uint64_t all;
  if (!mg__multiply(count, item_bytes, &all)) return NULL; /* count was limited */
  void *items = mg_alloc(context, (size_t)all);
  *bytes = items ? (size_t)all : 0;
  return items;
}

static mg_status read_index(shard_index *index) {
  mg_checkpoint *checkpoint = index->checkpoint;
  if (index->file.bytes > checkpoint->limits.header_bytes)
    return refuse(index, NULL, NULL, "an index of that many bytes");
  MG_TRY(mg__file_want(checkpoint, &index->file, index->file.bytes, 0));
  const size_t valid = mg__utf8_valid(index->file.header, index->file.header_bytes);
  if (valid != index->file.header_bytes)
    return mg__file_refuse(checkpoint, &index->file, valid, NULL, NULL, "the index is not UTF-8");
  MG_TRY(walk(index, false));
  index->room = index->count;
  index->rows = make_list(checkpoint->context, index->room, sizeof *index->rows, &index->rows_bytes);
  if (!index->rows && index->room) return MG_MEMORY;
  return walk(index, true);
}

/* ---- the files that it names ------------------------------------------------------------------------------------ */

static const char *shard_of_row(const shard_index *index, size_t i) {
  return &index->file.header[index->rows[i].shard];
}

static const char *shard_name_of(const void *owner, size_t i) {
  const shard_index *index = owner;
  return shard_of_row(index, index->shards[i]);
}

/* The distinct shards, in the order in which the index first names them. */
static mg_status list_shards(shard_index *index) {
  mg_context *context = index->checkpoint->context;
  const size_t most = (size_t)index->checkpoint->limits.files;
  index->shards_room = index->room < most ? index->room : most;
  index->shards = make_list(context, index->shards_room, sizeof *index->shards, &index->shards_bytes);
  if (!index->shards && index->shards_room) return MG_MEMORY;
  MG_TRY(mg__names_create(context, index->shards_room, &index->shard_names));
  for (size_t i = 0; i < index->room; i++) {
    if (mg__names_find(&index->shard_names, index, shard_name_of, shard_of_row(index, i)) >= 0) continue;
    if (index->shards_count == index->shards_room) return refuse(index, NULL, NULL, "more files than the limit allows");
    index->shards[index->shards_count] = (uint32_t)i;
    mg__names_add(&index->shard_names, index, shard_name_of, index->shards_count++);
  }
  return MG_OK;
}

static bool within(const char *path, const char *folder) {
  const size_t length = strlen(folder);
  return strncmp(path, folder, length) == 0 && (path[length] == '/' || (length == 1 && folder[0] == '/'));
}

/* Whether the real path lies in the real folder, or where the Hugging Face cache keeps the files that its folders
 * snapshots/REVISION link to: blobs beside snapshots. */
static bool is_inside(const char *real, const char *folder) {
  char above[PATH_MAX], blobs[PATH_MAX];
  if (within(real, folder)) return true;
  snprintf(above, sizeof above, "%s", folder);
  char *snapshots = dirname(above);
  char *last = strrchr(snapshots, '/');
  if (!last || strcmp(last, "/snapshots") != 0) return false;
  *last = '\0';
  const int length = snprintf(blobs, sizeof blobs, "%s/blobs", above);
  return length > 0 && (size_t)length < sizeof blobs && within(real, blobs);
}

static mg_status open_shard(shard_index *index, const char *folder, const char *name) {
  char path[PATH_MAX], real[PATH_MAX], real_folder[PATH_MAX];
  mg__file *file;
  if (name[0] == '\0' || name[0] == '.' || strchr(name, '/'))
    return refuse(index, "file", name, "no plain name of a file in the folder of the index");
  const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
  if (length < 0 || (size_t)length >= sizeof path) return refuse(index, "file", name, "the path is too long");
  if (!realpath(path, real))
    return mg__file_refuse(index->checkpoint, &index->file, MG__NOWHERE, "file", name, "it cannot be opened: %s",
                           strerror(errno));
  if (!realpath(folder, real_folder) || !is_inside(real, real_folder))
    return refuse(index, "file", name, "a link that leads out of the folder of the index");
  MG_TRY(mg__files_add(index->checkpoint, path, &file));
  return mg__safetensors_parse(index->checkpoint, file);
}

static mg_status open_shards(shard_index *index) {
  char text[PATH_MAX];
  const int length = snprintf(text, sizeof text, "%s", index->file.path);
  if (length < 0 || (size_t)length >= sizeof text) return refuse(index, NULL, NULL, "the path is too long");
  const char *folder = dirname(text);
  for (size_t i = 0; i < index->shards_count; i++) MG_TRY(open_shard(index, folder, shard_name_of(index, i)));
  return MG_OK;
}

/* ---- do index and files agree? ----------------------------------------------------------------------------------- */

static mg_status check_row(shard_index *index, size_t i, unsigned char *seen) {
  const mg_checkpoint *checkpoint = index->checkpoint;
  const char *name = &index->file.header[index->rows[i].name];
  const int64_t found = mg_checkpoint_find(checkpoint, name);
  const int64_t shard = mg__names_find(&index->shard_names, index, shard_name_of, shard_of_row(index, i));
  const mg__file *file = &checkpoint->files[shard];
  if (found < 0)
    return mg__file_refuse(checkpoint, file, MG__NOWHERE, "tensor", name, "the index lists it here, but it is not");
  if (mg__file_of(checkpoint, (size_t)found) != file)
    return mg__file_refuse(checkpoint, file, MG__NOWHERE, "tensor", name, "the index lists it here, but it is in %s",
                           mg__file_of(checkpoint, (size_t)found)->path);
  if (seen[found]) return refuse(index, "tensor", name, "weight_map lists it twice");
  seen[found] = 1;
  return MG_OK;
}

static mg_status check_rows(shard_index *index, unsigned char *seen) {
  const mg_checkpoint *checkpoint = index->checkpoint;
  uint64_t total = 0;
  mg_checkpoint_tensor tensor;
  for (size_t i = 0; i < index->room; i++) MG_TRY(check_row(index, i, seen));
  for (size_t i = 0; i < checkpoint->count; i++) {
    mg_checkpoint_at(checkpoint, (int64_t)i, &tensor);
    if (!seen[i])
      return mg__file_refuse(checkpoint, mg__file_of(checkpoint, i), MG__NOWHERE, "tensor", tensor.name,
                             "the index does not list it: this file may belong to another model");
    if (!mg__add(total, tensor.bytes, &total)) return refuse(index, NULL, NULL, "more than 2^64 bytes");
  }
  if (!index->total_seen || total == index->total_bytes) return MG_OK;
  return mg__file_refuse(checkpoint, &index->file, MG__NOWHERE, "key", "total_size",
                         "%llu bytes are listed, but the tensors take %llu", (unsigned long long)index->total_bytes,
                         (unsigned long long)total);
}

static mg_status check_agreement(shard_index *index) {
  mg_checkpoint *checkpoint = index->checkpoint;
  MG_TRY(mg__index_tensors(checkpoint));
  const size_t bytes = checkpoint->count ? checkpoint->count : 1; /* so that NULL always means no memory */
  unsigned char *seen = mg_alloc(checkpoint->context, bytes);
  if (!seen) return MG_MEMORY;
  const mg_status status = check_rows(index, seen);
  mg_free(checkpoint->context, seen, bytes);
  return status;
}

static mg_status open_all(shard_index *index, const char *path) {
  MG_TRY(mg__file_open(index->checkpoint->context, path, &index->file));
  MG_TRY(read_index(index));
  MG_TRY(list_shards(index));
  if (index->shards_count == 0) return refuse(index, NULL, NULL, "weight_map is empty");
  MG_TRY(open_shards(index));
  return check_agreement(index);
}

mg_status mg__shards_open(mg_checkpoint *checkpoint, const char *path) {
  mg_context *context = checkpoint->context;
  shard_index index = {.checkpoint = checkpoint};
  const mg_status status = open_all(&index, path);
  mg__names_destroy(context, &index.shard_names);
  mg_free(context, index.shards, index.shards_bytes);
  mg_free(context, index.rows, index.rows_bytes);
  mg__file_close(context, &index.file);
  return status;
}
