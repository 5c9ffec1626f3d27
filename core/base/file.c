/* Durable files (temporary name, fsync, rename, fsync of the folder) and XXH3 hashes. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <xxhash.h>
#pragma GCC diagnostic pop

static bool read_all(int descriptor, char *data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = read(descriptor, data + done, bytes - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += (size_t)got;
  }
  return true;
}

static bool write_all(int descriptor, const char *data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t put = write(descriptor, data + done, bytes - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    done += (size_t)put;
  }
  return true;
}

/* Opens a regular file and tells its size; -1 after a message. O_NONBLOCK keeps a FIFO from blocking the open. */
static int open_regular(mg_context *context, const char *path, size_t *bytes) {
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    mg_fail(context, MG_FILE, "%s: cannot be opened: %s", path, strerror(errno));
    return -1;
  }
  struct stat about;
  if (fstat(descriptor, &about) != 0 || !S_ISREG(about.st_mode)) {
    mg_fail(context, MG_FILE, "%s: is not a regular file", path);
    close(descriptor);
    return -1;
  }
  *bytes = (size_t)about.st_size;
  return descriptor;
}

mg_status mg_file_read(mg_context *context, const char *path, size_t most_bytes, char **out, size_t *bytes) {
  *out = NULL;
  *bytes = 0;
  size_t size;
  const int descriptor = open_regular(context, path, &size);
  if (descriptor < 0) return MG_FILE;
  mg_status status = MG_OK;
  char *data = NULL;
  if (size > most_bytes) {
    status = mg_fail(context, MG_FILE, "%s: has %zu bytes; at most %zu are read", path, size, most_bytes);
  } else if (!(data = mg_alloc(context, size + 1))) {
    status = MG_MEMORY;
  } else if (!read_all(descriptor, data, size)) {
    status = mg_fail(context, MG_FILE, "%s: could not be read whole: %s", path, errno ? strerror(errno) : "it shrank");
    mg_free(context, data, size + 1);
    data = NULL;
  }
  close(descriptor);
  if (status == MG_OK) {
    *out = data;
    *bytes = size;
  }
  return status;
}

static mg_status sync_folder_of(mg_context *context, const char *path) {
  char folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%s", path);
  char *slash = strrchr(folder, '/');
  if (slash == folder)
    folder[1] = '\0';
  else if (slash)
    *slash = '\0';
  else
    snprintf(folder, sizeof folder, ".");
  const int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && fsync(descriptor) == 0;
  if (descriptor >= 0) close(descriptor);
  return synced ? MG_OK : mg_fail(context, MG_WRITE, "%s: folder could not be synced: %s", folder, strerror(errno));
}

struct mg_file_stream {
  mg_context *context;
  int descriptor;
  char path[PATH_MAX], temporary[PATH_MAX];
};

mg_status mg_file_stream_open(mg_context *context, const char *path, mg_file_stream **out) {
  *out = NULL;
  mg_file_stream *stream = mg_alloc(context, sizeof *stream);
  if (!stream) return MG_MEMORY;
  stream->context = context;
  stream->descriptor = -1;
  const int kept = snprintf(stream->path, sizeof stream->path, "%s", path);
  const int length = snprintf(stream->temporary, sizeof stream->temporary, "%s.tmp.%ld", path, (long)getpid());
  mg_status status = MG_OK;
  if (kept < 0 || length < 0 || (size_t)length >= sizeof stream->temporary)
    status = mg_fail(context, MG_WRITE, "%s: the path is too long", path);
  else if ((stream->descriptor = open(stream->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0)
    status = mg_fail(context, MG_WRITE, "%s: cannot be created: %s", stream->temporary, strerror(errno));
  if (status != MG_OK) {
    mg_free(context, stream, sizeof *stream);
    return status;
  }
  *out = stream;
  return MG_OK;
}

mg_status mg_file_stream_append(mg_file_stream *stream, const void *data, size_t bytes) {
  if (write_all(stream->descriptor, data, bytes)) return MG_OK;
  return mg_fail(stream->context, MG_WRITE, "%s: could not be written: %s", stream->path, strerror(errno));
}

mg_status mg_file_stream_patch(mg_file_stream *stream, size_t offset, const void *data, size_t bytes) {
  const off_t end = lseek(stream->descriptor, 0, SEEK_CUR);
  if (end >= 0 && lseek(stream->descriptor, (off_t)offset, SEEK_SET) >= 0 &&
      write_all(stream->descriptor, data, bytes) && lseek(stream->descriptor, end, SEEK_SET) >= 0)
    return MG_OK;
  return mg_fail(stream->context, MG_WRITE, "%s: could not be written: %s", stream->path, strerror(errno));
}

void mg_file_stream_abandon(mg_file_stream *stream) {
  if (!stream) return;
  if (stream->descriptor >= 0) close(stream->descriptor);
  unlink(stream->temporary);
  mg_free(stream->context, stream, sizeof *stream);
}

mg_status mg_file_stream_commit(mg_file_stream *stream) {
  mg_context *context = stream->context;
  bool good = fsync(stream->descriptor) == 0;
  int reason = errno;
  if (close(stream->descriptor) != 0 && good) {
    good = false;
    reason = errno;
  }
  stream->descriptor = -1;
  if (good && rename(stream->temporary, stream->path) != 0) {
    good = false;
    reason = errno;
  }
  mg_status status = MG_OK;
  if (!good) {
    status = mg_fail(context, MG_WRITE, "%s: could not be written: %s", stream->path, strerror(reason));
    mg_file_stream_abandon(stream);
    return status;
  }
  status = sync_folder_of(context, stream->path);
  mg_free(context, stream, sizeof *stream);
  return status;
}

mg_status mg_file_write_atomic(mg_context *context, const char *path, const void *data, size_t bytes) {
  mg_file_stream *stream;
  MG_TRY(mg_file_stream_open(context, path, &stream));
  const mg_status status = mg_file_stream_append(stream, data, bytes);
  if (status == MG_OK) return mg_file_stream_commit(stream);
  mg_file_stream_abandon(stream);
  return status;
}

mg_status mg_folder_make(mg_context *context, const char *path) {
  char partial[PATH_MAX];
  const size_t length = strlen(path);
  if (length == 0 || length >= sizeof partial) return mg_fail(context, MG_WRITE, "'%s': not a usable path", path);
  memcpy(partial, path, length + 1);
  for (size_t i = 1; i <= length; i++) {
    if (partial[i] != '/' && partial[i] != '\0') continue;
    const char kept = partial[i];
    partial[i] = '\0';
    if (mkdir(partial, 0755) != 0 && errno != EEXIST)
      return mg_fail(context, MG_WRITE, "%s: folder cannot be made: %s", partial, strerror(errno));
    partial[i] = kept;
  }
  struct stat about;
  if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode))
    return mg_fail(context, MG_WRITE, "%s: exists and is not a folder", path);
  return MG_OK;
}

static void hash_text(XXH128_hash_t hash, char text[MG_HASH_TEXT_BYTES]) {
  snprintf(text, MG_HASH_TEXT_BYTES, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

void mg_hash_bytes(const void *data, size_t bytes, char text[MG_HASH_TEXT_BYTES]) {
  hash_text(XXH3_128bits(data, bytes), text);
}

mg_status mg_hash_file(mg_context *context, const char *path, char text[MG_HASH_TEXT_BYTES]) {
  enum { BLOCK = 1 << 16 };
  size_t size;
  const int descriptor = open_regular(context, path, &size);
  if (descriptor < 0) return MG_FILE;
  XXH3_state_t *state = XXH3_createState();
  char *block = mg_alloc(context, BLOCK);
  mg_status status = state && block ? MG_OK : MG_MEMORY;
  if (status == MG_OK) XXH3_128bits_reset(state);
  while (status == MG_OK) {
    const ssize_t got = read(descriptor, block, BLOCK);
    if (got == 0) break;
    if (got > 0)
      XXH3_128bits_update(state, block, (size_t)got);
    else if (errno != EINTR)
      status = mg_fail(context, MG_FILE, "%s: could not be read: %s", path, strerror(errno));
  }
  if (status == MG_OK) hash_text(XXH3_128bits_digest(state), text);
  XXH3_freeState(state);
  mg_free(context, block, block ? BLOCK : 0);
  close(descriptor);
  return status;
}
