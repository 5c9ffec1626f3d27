/* What troff's escapes stand for in plain text: named glyphs as UTF-8; fonts, sizes, motions and comments as nothing. */
#include <stdlib.h>
#include <string.h>

#include "train/data_stage.h"

typedef struct line {
  mg_context *context;
  mg__text *out;
  bool *glue; /* the line ends in \c */
} line;

static mg_status put(const line *in, const char *text, size_t bytes) {
  return mg__text_append(in->context, in->out, text, bytes);
}

typedef struct named_character {
  const char *name, *text;
} named_character;

static const named_character named_characters[] = {{"lq", "\xE2\x80\x9C"},
                                                   {"rq", "\xE2\x80\x9D"},
                                                   {"oq", "\xE2\x80\x98"},
                                                   {"cq", "\xE2\x80\x99"},
                                                   {"aq", "'"},
                                                   {"dq", "\""},
                                                   {"em", "\xE2\x80\x94"},
                                                   {"en", "\xE2\x80\x93"},
                                                   {"hy", "-"},
                                                   {"mi", "-"},
                                                   {"bu", "\xE2\x80\xA2"},
                                                   {"co", "\xC2\xA9"},
                                                   {"rg", "\xC2\xAE"},
                                                   {"tm", "\xE2\x84\xA2"},
                                                   {"mu", "\xC3\x97"},
                                                   {"<=", "\xE2\x89\xA4"},
                                                   {">=", "\xE2\x89\xA5"},
                                                   {"!=", "\xE2\x89\xA0"},
                                                   {"==", "\xE2\x89\xA1"},
                                                   {"->", "\xE2\x86\x92"},
                                                   {"<-", "\xE2\x86\x90"},
                                                   {"+-", "\xC2\xB1"},
                                                   {"de", "\xC2\xB0"},
                                                   {"Fo", "\xC2\xAB"},
                                                   {"Fc", "\xC2\xBB"},
                                                   {"ti", "~"},
                                                   {"ha", "^"},
                                                   {"at", "@"},
                                                   {"sh", "#"},
                                                   {"ga", "`"},
                                                   {"aa", "\xC2\xB4"},
                                                   {"rs", "\\"},
                                                   {"ul", "_"},
                                                   {"ba", "|"},
                                                   {"lB", "["},
                                                   {"rB", "]"},
                                                   {"lC", "{"},
                                                   {"rC", "}"},
                                                   {"la", "<"},
                                                   {"ra", ">"},
                                                   {"sc", "\xC2\xA7"},
                                                   {"if", "\xE2\x88\x9E"},
                                                   {"*a", "\xCE\xB1"},
                                                   {"*b", "\xCE\xB2"},
                                                   {"*p", "\xCF\x80"},
                                                   {"*e", "\xCE\xB5"},
                                                   {"ss", "\xC3\x9F"},
                                                   {"Eu", "\xE2\x82\xAC"},
                                                   {"eu", "\xE2\x82\xAC"},
                                                   {"12", "\xC2\xBD"},
                                                   {"14", "\xC2\xBC"},
                                                   {"R", "\xC2\xAE"},
                                                   {"Tm", "\xE2\x84\xA2"},
                                                   {"Aq", "'"},
                                                   {"bv", "|"},
                                                   {"br", "|"},
                                                   {"pl", "+"},
                                                   {"eq", "="},
                                                   {"**", "*"},
                                                   {"pc", "\xC2\xB7"},
                                                   {"u2026", "\xE2\x80\xA6"}};

/* The name after an escape: (xx, [name] or one character. Returns the bytes it takes. */
static size_t escape_name(const char *at, const char *end, const char **name, size_t *bytes) {
  *name = at;
  *bytes = 0;
  if (at >= end) return 0;
  if (*at == '(') {
    *name = at + 1;
    *bytes = end - at > 2 ? 2 : (size_t)(end - at - 1);
    return *bytes + 1;
  }
  if (*at == '[') {
    const char *close = memchr(at, ']', (size_t)(end - at));
    *name = at + 1;
    *bytes = (size_t)((close ? close : end) - at - 1);
    return *bytes + (close ? 2 : 1);
  }
  *bytes = 1;
  return 1;
}

static size_t utf8_of(unsigned long code, char out[4]) {
  if (code < 0x80) return out[0] = (char)code, 1;
  if (code < 0x800) return out[0] = (char)(0xC0 | code >> 6), out[1] = (char)(0x80 | (code & 63)), 2;
  if (code > 0xFFFF || (code >= 0xD800 && code < 0xE000)) return 0;
  out[0] = (char)(0xE0 | code >> 12);
  out[1] = (char)(0x80 | (code >> 6 & 63));
  out[2] = (char)(0x80 | (code & 63));
  return 3;
}

static mg_status put_named(const line *in, const char *name, size_t bytes) {
  for (size_t i = 0; i < MG_COUNT(named_characters); i++)
    if (strlen(named_characters[i].name) == bytes && memcmp(named_characters[i].name, name, bytes) == 0)
      return put(in, named_characters[i].text, strlen(named_characters[i].text));
  char digits[8] = "", text[4];
  if (bytes >= 5 && bytes <= 6 && name[0] == 'u') {
    memcpy(digits, name + 1, bytes - 1);
    return put(in, text, utf8_of(strtoul(digits, NULL, 16), text));
  }
  return MG_OK; /* an unknown glyph is left out */
}

/* An argument in quotes of any character, as in \h'1i'. Returns the bytes it takes. */
static size_t quoted_bytes(const char *at, const char *end) {
  if (at >= end) return 0;
  const char *close = memchr(at + 1, *at, (size_t)(end - at - 1));
  return (size_t)((close ? close + 1 : end) - at);
}

/* \s-2, \s+2, \s8, \s(10: the bytes after the s. */
static size_t size_bytes(const char *at, const char *end) {
  size_t used = 0;
  if (at < end && (*at == '+' || *at == '-')) used++;
  if (at + used < end && (at[used] == '(' || at[used] == '[' || at[used] == '\'')) {
    const char *name;
    size_t bytes;
    return used + (at[used] == '\'' ? quoted_bytes(at + used, end) : escape_name(at + used, end, &name, &bytes));
  }
  return used + (at + used < end);
}

/* Writes what one escape stands for; `at` is after the backslash. Returns the bytes used by *used. */
static mg_status put_escape(const line *in, const char *at, const char *end, size_t *used) {
  const char *name;
  size_t bytes;
  *used = 1;
  switch (*at) {
  case '-':
  case '.':
  case '\'':
  case '`':
  case '_': return put(in, at, 1);
  case 'e':
  case 'E':
  case '\\': return put(in, "\\", 1);
  case ' ':
  case '~':
  case '0': return put(in, " ", 1);
  case 't': return put(in, "\t", 1);
  case '(':
  case '[': *used = escape_name(at, end, &name, &bytes); return put_named(in, name, bytes);
  case '*': *used += escape_name(at + 1, end, &name, &bytes); return put_named(in, name, bytes);
  case 'f':
  case 'F':
  case 'm':
  case 'M':
  case 'g':
  case 'k': *used += escape_name(at + 1, end, &name, &bytes); return MG_OK;
  case 'n':
    if (at + 1 < end && (at[1] == '+' || at[1] == '-')) ++*used;
    *used += escape_name(at + *used, end, &name, &bytes);
    return MG_OK;
  case 's': *used += size_bytes(at + 1, end); return MG_OK;
  case 'h':
  case 'v':
  case 'w':
  case 'l':
  case 'L':
  case 'D':
  case 'o':
  case 'b':
  case 'N':
  case 'S':
  case 'H':
  case 'X':
  case 'x': *used += quoted_bytes(at + 1, end); return MG_OK;
  case 'c': *in->glue = true; return MG_OK;
  case '"':
  case '#': *used = (size_t)(end - at); return MG_OK; /* a comment */
  default: return MG_OK;                              /* \& \, \/ \| \^ \% \: \) \z \d \u and the like set nothing */
  }
}

mg_status mg__roff_put_text(mg_context *context, mg__text *out, const char *at, const char *end, bool *glue) {
  const line in = {context, out, glue};
  while (at < end) {
    const char *escape = memchr(at, '\\', (size_t)(end - at));
    MG_TRY(put(&in, at, (size_t)((escape ? escape : end) - at)));
    if (!escape || escape + 1 >= end) return MG_OK;
    size_t used;
    MG_TRY(put_escape(&in, escape + 1, end, &used));
    at = escape + 1 + used;
  }
  return MG_OK;
}
