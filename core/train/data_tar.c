/* Reads a tar archive (POSIX ustar with GNU long names) that lies in memory, and unpacks gzip data: a package is read
 * without writing its thousands of files. Every number and length of the archive is checked. */
#include <string.h>
#include <zlib.h>

#include "base/vector.h"
#include "train/data_stage.h"

enum {
  BLOCK = 512,
  NAME = 0,
  NAME_BYTES = 100,
  SIZE = 124,
  SIZE_BYTES = 12,
  TYPE = 156,
  PREFIX = 345,
  PREFIX_BYTES = 155
};
enum { UNPACK_BLOCK = 1 << 16 };
static const size_t unpacked_most = (size_t)1 << 28;

/* An octal field; false if it holds anything else. */
static bool octal(const char *field, size_t bytes, size_t *out) {
  size_t value = 0, digits = 0;
  for (size_t i = 0; i < bytes && field[i] != '\0' && field[i] != ' '; i++, digits++) {
    if (field[i] < '0' || field[i] > '7' || value >> 60) return false;
    value = value * 8 + (size_t)(field[i] - '0');
  }
  *out = value;
  return digits > 0;
}

/* The member's name, without a leading "./". */
static const char *member_name(const char *header, const char *long_name, char name[PATH_MAX]) {
  size_t used = 0;
  if (long_name[0]) return strncmp(long_name, "./", 2) == 0 ? long_name + 2 : long_name;
  const size_t prefix = strnlen(header + PREFIX, PREFIX_BYTES), bytes = strnlen(header + NAME, NAME_BYTES);
  if (prefix > 0 && memcmp(header + 257, "ustar\0", 6) == 0) { /* GNU's own format has other fields there */
    memcpy(name, header + PREFIX, prefix);
    name[prefix] = '/';
    used = prefix + 1;
  }
  memcpy(name + used, header + NAME, bytes);
  name[used + bytes] = '\0';
  return strncmp(name, "./", 2) == 0 ? name + 2 : name;
}

mg_status mg__tar_walk(mg_context *context, const char *where, const char *data, size_t bytes,
                       mg__member_function member, void *user) {
  char name[PATH_MAX], long_name[PATH_MAX] = "";
  for (size_t at = 0; at + BLOCK <= bytes && data[at] != '\0';) {
    const char *header = data + at;
    size_t size;
    at += BLOCK;
    if (!octal(header + SIZE, SIZE_BYTES, &size) || size > bytes - at)
      return mg_fail(context, MG_FILE, "%s: damaged archive at byte %zu; remove it to download it again", where,
                     at - BLOCK);
    const char type = header[TYPE];
    if (type == 'L') {
      const size_t length = size < sizeof long_name ? size : sizeof long_name - 1;
      memcpy(long_name, data + at, length);
      long_name[length] = '\0';
    } else {
      const bool file = type == '0' || type == '\0';
      const mg__member found = {member_name(header, long_name, name), data + at, size, type == '2' || type == '1'};
      if (file || found.link) MG_TRY(member(user, &found));
      long_name[0] = '\0';
    }
    const size_t padded = (size + BLOCK - 1) / BLOCK * BLOCK;
    at = padded > bytes - at ? bytes : at + padded;
  }
  return MG_OK;
}

mg_status mg__gzip_unpack(mg_context *context, const char *where, const char *data, size_t bytes, mg__text *out) {
  z_stream stream = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)bytes};
  if (bytes > UINT32_MAX || inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
    return mg_fail(context, MG_MEMORY, "%s: no memory to unpack it", where);
  mg_status status = MG_OK;
  int result = Z_OK;
  while (status == MG_OK && result == Z_OK) {
    char block[UNPACK_BLOCK];
    stream.next_out = (Bytef *)block;
    stream.avail_out = sizeof block;
    result = inflate(&stream, Z_NO_FLUSH);
    const size_t got = sizeof block - stream.avail_out;
    if ((result != Z_OK && result != Z_STREAM_END) || out->bytes + got > unpacked_most)
      status = mg_fail(context, MG_FILE, "%s: damaged gzip data", where);
    else
      status = mg__text_append(context, out, block, got);
  }
  inflateEnd(&stream);
  return status;
}
