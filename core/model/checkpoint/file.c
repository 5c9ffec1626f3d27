/* Untrusted files: opened without blocking, read by position, mapped only when somebody wants a view.
 *
 * Headers and conversions go through pread, which reports a file that was cut as a short read, in the thread that asked
 * and without a signal. A guard of sigsetjmp around reads of a mapping would need a handler for the whole process even
 * then, and could not cover the worker threads of a kernel that uses a view. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/vector.h"
#include "model/checkpoint/internal.h"

static int64_t changed_ns(const struct stat *about) {
  return (int64_t)about->st_mtim.tv_sec * 1000000000 + about->st_mtim.tv_nsec;
}

mg_status mg__file_open(mg_context *context, const char *path, mg__file *file) {
  struct stat about;
  *file = (mg__file){.descriptor = -1, .guard = -1};
  file->path = mg_strdup(context, path);
  if (!file->path) return MG_MEMORY;
  file->descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
  if (file->descriptor < 0) return mg_fail(context, MG_FILE, "%s: cannot be opened: %s", path, strerror(errno));
  if (fstat(file->descriptor, &about) != 0 || !S_ISREG(about.st_mode) || about.st_size < 0)
    return mg_fail(context, MG_FILE, "%s: is no regular file; a checkpoint file is wanted", path);
  file->bytes = (uint64_t)about.st_size;
  file->changed_ns = changed_ns(&about);
  return MG_OK;
}

mg_status mg__files_add(mg_checkpoint *checkpoint, const char *path, mg__file **out) {
  mg_context *context = checkpoint->context;
  if (checkpoint->files_count == checkpoint->limits.files)
    return mg_fail(context, MG_FILE, "%s: is one of more than %llu files of its checkpoint", path,
                   (unsigned long long)checkpoint->limits.files);
  MG_TRY(MG_VECTOR_RESERVE(context, checkpoint->files, checkpoint->files_room, checkpoint->files_count + 1));
  *out = &checkpoint->files[checkpoint->files_count++];
  const mg_status status = mg__file_open(context, path, *out);
  (*out)->first = checkpoint->count;
  return status;
}

void mg__file_close(mg_context *context, mg__file *file) {
  mg__guard_remove(file->guard);
  if (file->mapping) munmap(file->mapping, (size_t)file->bytes);
  if (file->descriptor >= 0) close(file->descriptor);
  mg_free(context, file->header, file->header_room);
  mg_free(context, file->path, file->path ? strlen(file->path) + 1 : 0);
}

bool mg__file_read(const mg__file *file, void *out, uint64_t bytes, uint64_t at) {
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t got = pread(file->descriptor, (char *)out + done, (size_t)(bytes - done), (off_t)(at + done));
    if (got > 0)
      done += (uint64_t)got;
    else if (got == 0 || errno != EINTR)
      return false;
  }
  return true;
}

/* Room for one more byte, so that a NUL can follow. */
static mg_status make_room(mg_checkpoint *checkpoint, mg__file *file, uint64_t bytes) {
  char *moved = mg_resize(checkpoint->context, file->header, file->header_room, (size_t)bytes + 1);
  if (!moved) return MG_MEMORY;
  file->header = moved;
  file->header_room = (size_t)bytes + 1;
  return MG_OK;
}

mg_status mg__file_want(mg_checkpoint *checkpoint, mg__file *file, uint64_t bytes, uint64_t ahead) {
  const uint64_t all = file->bytes - file->header_begin, have = file->header_bytes;
  if (bytes > all) return mg__file_refuse(checkpoint, file, file->bytes, NULL, NULL, "the file ends within its header");
  if (bytes > checkpoint->limits.header_bytes)
    return mg__file_refuse(checkpoint, file, bytes, NULL, NULL, "the header is longer than %llu bytes",
                           (unsigned long long)checkpoint->limits.header_bytes);
  if (bytes <= have && file->header) return MG_OK;
  const uint64_t wanted = ahead < all - bytes ? bytes + ahead : all;
  MG_TRY(make_room(checkpoint, file, wanted));
  if (!mg__file_read(file, &file->header[have], wanted - have, file->header_begin + have))
    return mg__file_refuse(checkpoint, file, file->header_begin + have, NULL, NULL,
                           "the header cannot be read: the file shrank, or its disk fails");
  file->header_bytes = (size_t)wanted;
  file->header[wanted] = '\0';
  return MG_OK;
}

mg_status mg__file_trim(mg_checkpoint *checkpoint, mg__file *file, uint64_t bytes) {
  MG_TRY(make_room(checkpoint, file, bytes));
  file->header_bytes = (size_t)bytes;
  file->header[bytes] = '\0';
  return MG_OK;
}

mg_status mg__file_map(const mg_checkpoint *checkpoint, mg__file *file) {
  if (file->mapping || file->bytes == 0) return MG_OK;
  void *mapping = mmap(NULL, (size_t)file->bytes, PROT_READ, MAP_PRIVATE, file->descriptor, 0);
  if (mapping == MAP_FAILED)
    return mg_fail(checkpoint->context, MG_FILE, "%s: cannot be mapped: %s; read its tensors instead", file->path,
                   strerror(errno));
  file->guard = mg__guard_add(mapping, file->bytes);
  if (file->guard >= 0) {
    file->mapping = mapping;
    return MG_OK;
  }
  munmap(mapping, (size_t)file->bytes);
  return mg_fail(checkpoint->context, MG_FILE, "%s: cannot be mapped beside %d others; read its tensors instead",
                 file->path, MG__GUARDED_MAX);
}

const char *mg__file_change(const mg__file *file) {
  struct stat about;
  if (mg__guard_damaged(file->guard)) return "pages of it were lost while they were in use";
  if (fstat(file->descriptor, &about) != 0) return "it can no longer be asked for its size";
  if ((uint64_t)about.st_size < file->bytes) return "it was cut since it was opened";
  if ((uint64_t)about.st_size != file->bytes || changed_ns(&about) != file->changed_ns)
    return "it was written to since it was opened";
  return NULL;
}
