/* Cache entries: files of up to four sections that are written once under a lock, renamed into place, and read through
 * a memory map after their hashes were checked.
 *
 * Layout: 64 bytes of {magic, section count, XXH3-128 of the table}, a table of {offset, bytes, XXH3-128}, then the
 * sections, each at a multiple of 64. A finished entry is never changed, only replaced. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "train/data_stage.h"

enum { ALIGNMENT = 64, HASH_BYTES = MG_HASH_TEXT_BYTES - 1 };
static const char magic[8] = "MGDATA1";

typedef struct row {
  uint64_t offset, bytes;
  char hash[HASH_BYTES];
  char padding[16];
} row;
typedef struct header {
  char magic[8];
  uint64_t sections;
  char hash[HASH_BYTES];
  char padding[16];
} header;

static void hash_into(char out[HASH_BYTES], const void *data, size_t bytes) {
  char text[MG_HASH_TEXT_BYTES];
  mg_hash_bytes(data, bytes, text);
  memcpy(out, text, HASH_BYTES);
}

static size_t aligned(size_t bytes) {
  return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static mg_status append_sections(mg_file_stream *stream, const mg__section *sections, size_t count) {
  static const char zeros[ALIGNMENT] = {0};
  row table[MG__SECTIONS_MAX] = {0};
  header head = {.sections = count};
  size_t at = sizeof head + count * sizeof *table;
  for (size_t i = 0; i < count; i++) {
    table[i].offset = at;
    table[i].bytes = sections[i].bytes;
    hash_into(table[i].hash, sections[i].data, sections[i].bytes);
    at += aligned(sections[i].bytes);
  }
  memcpy(head.magic, magic, sizeof magic);
  hash_into(head.hash, table, count * sizeof *table);
  MG_TRY(mg_file_stream_append(stream, &head, sizeof head));
  MG_TRY(mg_file_stream_append(stream, table, count * sizeof *table));
  for (size_t i = 0; i < count; i++) {
    MG_TRY(mg_file_stream_append(stream, sections[i].data, sections[i].bytes));
    MG_TRY(mg_file_stream_append(stream, zeros, aligned(sections[i].bytes) - sections[i].bytes));
  }
  return MG_OK;
}

mg_status mg__entry_write(mg_context *context, const char *path, const mg__section *sections, size_t count) {
  mg_file_stream *stream;
  MG_TRY(mg_file_stream_open(context, path, &stream));
  const mg_status status = append_sections(stream, sections, count);
  if (status == MG_OK) return mg_file_stream_commit(stream);
  mg_file_stream_abandon(stream);
  return status;
}

/* Fills the sections from the map; false if anything does not fit or a hash differs. */
static bool check(mg__entry *entry) {
  const char *start = entry->map;
  header head;
  row table[MG__SECTIONS_MAX];
  char hash[HASH_BYTES];
  if (entry->bytes < sizeof head) return false;
  memcpy(&head, start, sizeof head);
  if (memcmp(head.magic, magic, sizeof magic) != 0 || head.sections > MG__SECTIONS_MAX) return false;
  const size_t table_bytes = (size_t)head.sections * sizeof *table;
  if (entry->bytes - sizeof head < table_bytes) return false;
  memcpy(table, start + sizeof head, table_bytes);
  hash_into(hash, table, table_bytes);
  if (memcmp(hash, head.hash, HASH_BYTES) != 0) return false;
  entry->sections = (size_t)head.sections;
  for (size_t i = 0; i < entry->sections; i++) {
    if (table[i].offset % ALIGNMENT || table[i].offset > entry->bytes ||
        table[i].bytes > entry->bytes - table[i].offset)
      return false;
    entry->section[i] = start + table[i].offset;
    entry->section_bytes[i] = (size_t)table[i].bytes;
    hash_into(hash, entry->section[i], entry->section_bytes[i]);
    if (memcmp(hash, table[i].hash, HASH_BYTES) != 0) return false;
  }
  return true;
}

mg_status mg__entry_open(mg_context *context, const char *path, mg__entry *entry, bool *found) {
  *entry = (mg__entry){0};
  *found = false;
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0 && errno == ENOENT) return MG_OK;
  if (descriptor < 0) return mg_fail(context, MG_FILE, "%s: cannot be opened: %s", path, strerror(errno));
  struct stat about;
  void *map = MAP_FAILED;
  if (fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0)
    map = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
  close(descriptor);
  if (map != MAP_FAILED) {
    *entry = (mg__entry){.map = map, .bytes = (size_t)about.st_size};
    *found = check(entry);
    if (*found) return MG_OK;
    mg__entry_close(entry);
  }
  mg_log_line(context, MG_LOG_WARNING, "%s: the cached data is damaged and is made again", path);
  return MG_OK;
}

void mg__entry_close(mg__entry *entry) {
  if (entry->map) munmap(entry->map, entry->bytes);
  *entry = (mg__entry){0};
}

mg_status mg__lock_take(mg_context *context, const char *path, int *lock) {
  char name[PATH_MAX];
  *lock = -1;
  if ((size_t)snprintf(name, sizeof name, "%s.lock", path) >= sizeof name)
    return mg_fail(context, MG_WRITE, "%s: the path is too long", path);
  const int descriptor = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return mg_fail(context, MG_WRITE, "%s: cannot be made: %s", name, strerror(errno));
  int result = flock(descriptor, LOCK_EX | LOCK_NB);
  if (result != 0 && errno == EWOULDBLOCK)
    mg_log_line(context, MG_LOG_INFO, "waiting for another process that prepares %s", path);
  while (result != 0 && (errno == EWOULDBLOCK || errno == EINTR)) result = flock(descriptor, LOCK_EX);
  if (result != 0) {
    const int reason = errno;
    close(descriptor);
    return mg_fail(context, MG_WRITE, "%s: cannot be locked: %s", name, strerror(reason));
  }
  *lock = descriptor;
  return MG_OK;
}

void mg__lock_release(int lock) {
  if (lock >= 0) close(lock); /* the lock goes with the descriptor; the file stays, so that nobody locks a ghost */
}
