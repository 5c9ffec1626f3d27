/* A GGUF model in several files NAME-00001-of-0000N.gguf: each says in its metadata which part it is (split.no, from 0),
 * of how many (split.count), and how many tensors all have together (split.tensors.count). */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "model/checkpoint/gguf.h"

/* The path of part `number` of `count`; false if the first part's path does not end in -00001-of-COUNT.gguf. */
static bool path_of_part(const char *first, int64_t number, int64_t count, char path[PATH_MAX]) {
  char tail[64];
  const size_t length = strlen(first);
  const int tail_length = snprintf(tail, sizeof tail, "-00001-of-%05lld.gguf", (long long)count);
  if (length >= PATH_MAX || (size_t)tail_length > length) return false;
  const size_t stem = length - (size_t)tail_length;
  if (strcmp(&first[stem], tail) != 0) return false;
  const int written =
      snprintf(path, PATH_MAX, "%.*s-%05lld-of-%05lld.gguf", (int)stem, first, (long long)number, (long long)count);
  return written > 0 && written < PATH_MAX;
}

static mg_status open_part(mg_checkpoint *checkpoint, const mg__gguf *first, int64_t number) {
  char path[PATH_MAX];
  mg__file *file;
  mg__gguf part;
  int64_t after;
  if (__builtin_add_overflow(number, 1, &after) ||
      !path_of_part(checkpoint->files[0].path, after, first->split_count, path))
    return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", "split.count",
                           "the first of %lld parts must be called NAME-00001-of-%05lld.gguf",
                           (long long)first->split_count, (long long)first->split_count);
  MG_TRY(mg__files_add(checkpoint, path, &file));
  MG_TRY(mg__gguf_parse(&part, checkpoint, file));
  if (part.split_number != number || part.split_count != first->split_count ||
      part.split_tensors != first->split_tensors)
    return mg__file_refuse(checkpoint, file, MG__NOWHERE, "key", "split.no",
                           "it says part %lld of %lld with %lld tensors, but part %lld of %lld with %lld belongs here",
                           (long long)part.split_number, (long long)part.split_count, (long long)part.split_tensors,
                           (long long)number, (long long)first->split_count, (long long)first->split_tensors);
  return MG_OK;
}

mg_status mg__gguf_open(mg_checkpoint *checkpoint) {
  mg__gguf first;
  MG_TRY(mg__gguf_parse(&first, checkpoint, &checkpoint->files[0]));
  if (first.split_count <= 1) return MG_OK;
  if (first.split_number != 0)
    return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", "split.no",
                           "this is not the first part: open NAME-00001-of-%05lld.gguf", (long long)first.split_count);
  if ((uint64_t)first.split_count > checkpoint->limits.files)
    return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", "split.count",
                           "more parts than the limit of files allows");
  for (int64_t i = 1; i < first.split_count; i++) MG_TRY(open_part(checkpoint, &first, i));
  if (first.split_tensors < 0 || (uint64_t)first.split_tensors == checkpoint->count) return MG_OK;
  return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", "split.tensors.count",
                         "%lld tensors are declared, but the parts hold %zu", (long long)first.split_tensors,
                         checkpoint->count);
}
