/* Reads a Debian package that lies in memory, without another program: an ar archive (deb(5)) whose member data.tar.xz,
 * data.tar.gz or data.tar holds the files. Every number and length of the archive is checked. */
#include <lzma.h>
#include <string.h>

#include "base/vector.h"
#include "train/data_stage.h"

enum { MAGIC_BYTES = 8, HEADER_BYTES = 60, NAME_BYTES = 16, SIZE = 48, SIZE_BYTES = 10, END = 58 };
enum { UNPACK_BLOCK = 1 << 16 };
static const size_t unpacked_most = (size_t)1 << 28;
static const uint64_t decoder_memory_most = (uint64_t)1 << 28;
static const char magic[] = "!<arch>\n", data_name[] = "data.tar";

typedef struct member {
  char name[NAME_BYTES + 1];
  const char *data;
  size_t bytes;
} member;

/* The decimal size of a member; false if the field holds anything else. */
static bool read_size(const char *field, size_t *out) {
  size_t value = 0, digits = 0;
  for (; digits < SIZE_BYTES && field[digits] != ' '; digits++) {
    if (field[digits] < '0' || field[digits] > '9') return false;
    value = value * 10 + (size_t)(field[digits] - '0'); /* ten digits fit */
  }
  *out = value;
  return digits > 0;
}

/* The member whose header is at *at, and *at moved behind it; false at the end or at damage. */
static bool next_member(const char *archive, size_t bytes, size_t *at, member *out) {
  if (*at > bytes || bytes - *at < HEADER_BYTES) return false;
  const char *header = archive + *at;
  if (memcmp(header + END, "`\n", 2) != 0 || !read_size(header + SIZE, &out->bytes)) return false;
  *at += HEADER_BYTES;
  if (out->bytes > bytes - *at) return false;
  memcpy(out->name, header, NAME_BYTES);
  out->name[strcspn(out->name, " /")] = '\0';
  out->data = archive + *at;
  *at += out->bytes + out->bytes % 2;
  return true;
}

static mg_status xz_unpack(mg_context *context, const char *where, const member *from, mg__text *out) {
  lzma_stream stream = LZMA_STREAM_INIT;
  stream.next_in = (const uint8_t *)from->data;
  stream.avail_in = from->bytes;
  if (lzma_stream_decoder(&stream, decoder_memory_most, 0) != LZMA_OK)
    return mg_fail(context, MG_MEMORY, "%s: no memory to unpack it", where);
  mg_status status = MG_OK;
  lzma_ret result = LZMA_OK;
  while (status == MG_OK && result == LZMA_OK) {
    char block[UNPACK_BLOCK];
    stream.next_out = (uint8_t *)block;
    stream.avail_out = sizeof block;
    result = lzma_code(&stream, LZMA_FINISH);
    const size_t got = sizeof block - stream.avail_out;
    if ((result != LZMA_OK && result != LZMA_STREAM_END) || out->bytes + got > unpacked_most)
      status = mg_fail(context, MG_FILE, "%s: damaged xz data; remove it to download it again", where);
    else
      status = mg__text_append(context, out, block, got);
  }
  lzma_end(&stream);
  return status;
}

static mg_status unpack(mg_context *context, const char *where, const member *from, mg__text *out) {
  const char *form = from->name + strlen(data_name);
  if (strcmp(form, "") == 0) return mg__text_append(context, out, from->data, from->bytes);
  if (strcmp(form, ".gz") == 0) return mg__gzip_unpack(context, where, from->data, from->bytes, out);
  if (strcmp(form, ".xz") == 0) return xz_unpack(context, where, from, out);
  return mg_fail(context, MG_FILE, "%s: its files are packed as %s; xz, gz and plain tar can be read", where,
                 from->name);
}

mg_status mg__deb_unpack(mg_context *context, const char *where, const char *archive, size_t bytes, mg__text *tar) {
  member found = {0};
  size_t at = MAGIC_BYTES;
  if (bytes < MAGIC_BYTES || memcmp(archive, magic, MAGIC_BYTES) != 0)
    return mg_fail(context, MG_FILE, "%s: is not a Debian package; remove it to download it again", where);
  while (next_member(archive, bytes, &at, &found))
    if (strncmp(found.name, data_name, strlen(data_name)) == 0) return unpack(context, where, &found, tar);
  return mg_fail(context, MG_FILE, "%s: a damaged Debian package; remove it to download it again", where);
}
