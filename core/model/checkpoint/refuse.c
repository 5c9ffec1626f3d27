/* The one form of a refusal. */
#include <stdio.h>
#include <string.h>

#include "model/checkpoint/internal.h"
#include "model/checkpoint/json.h"

const char *mg__printable(const char *name, char text[MG__PRINTABLE_BYTES]) {
  enum { LONGEST = MG__PRINTABLE_BYTES - 8 };
  const size_t bytes = strnlen(name, LONGEST), good = mg__utf8_valid(name, bytes);
  size_t used = 0;
  for (size_t i = 0; i < bytes; i++) {
    const unsigned char c = (unsigned char)name[i];
    const bool plain = c >= 0x20 && c != 0x7f && i < good;
    if (used + 4 > LONGEST) {
      memcpy(&text[used], "...", 4);
      return text;
    }
    used += (size_t)(plain ? snprintf(&text[used], 5, "%c", c) : snprintf(&text[used], 5, "\\x%02x", c));
  }
  if (bytes == LONGEST) used += (size_t)snprintf(&text[used], 4, "...");
  text[used] = '\0';
  return text;
}

mg_status mg__file_refuse(const mg_checkpoint *checkpoint, const mg__file *file, uint64_t at, const char *kind,
                          const char *name, const char *rule, ...) {
  char what[512], where[48] = "", who[MG__PRINTABLE_BYTES + 32] = "", text[MG__PRINTABLE_BYTES];
  va_list arguments;
  va_start(arguments, rule);
  vsnprintf(what, sizeof what, rule, arguments);
  va_end(arguments);
  if (at != MG__NOWHERE) snprintf(where, sizeof where, " byte %llu:", (unsigned long long)at);
  if (kind) snprintf(who, sizeof who, " %s '%s':", kind, mg__printable(name, text));
  return mg_fail(checkpoint->context, MG_FILE,
                 "%s:%s%s %s; the file may be damaged or another kind than its name says: fetch or write it again",
                 file->path, where, who, what);
}
