/* From the syntax of Oniguruma (as Ruby has it), which tokenizer.json uses, to PCRE2's.
 *
 * Both engines take the leftmost alternative; what differs is rewritten, and what cannot be is refused by name:
 *   \s \S    are Unicode's white space; PCRE2 adds U+180E
 *   \w \W \b are letters, marks, decimal digits, connectors and six fractions and superscripts of Latin-1
 *   \p{Han}  is the script, not the script's extensions
 *   ^ $      match at every line; (?m) lets the dot match a newline
 *   \h \R \K \G \X \k \g, POSIX brackets, nested classes, &&, x{n}? and x{n,m}+ are refused */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer/pipeline.h"

#define SPACE                                                                                                          \
  "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define BOUNDARY "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"
#define NO_BOUNDARY "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))"

enum { PATTERN_BYTES_MOST = 1 << 16 };

typedef struct translation {
  mg_context *context;
  const char *text;
  size_t bytes, at;
  mg_text *out;
  bool caseless;
} translation;

static mg_status put(translation *t, const char *text) {
  return mg__text_add(t->context, t->out, text, strlen(text));
}

static mg_status copy(translation *t, size_t bytes) {
  MG_TRY(mg__text_add(t->context, t->out, t->text + t->at, bytes));
  t->at += bytes;
  return MG_OK;
}

static mg_status refuse(const translation *t, const char *what) {
  return mg_fail(t->context, MG_FILE, "the pattern has %s at offset %zu, which cannot be translated to PCRE2", what,
                 t->at);
}

/* The byte `ahead` of the place of work, or NUL at the end. */
static char peek(const translation *t, size_t ahead) {
  return t->at + ahead < t->bytes ? t->text[t->at + ahead] : '\0';
}

static bool letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool decimal(char c) {
  return c >= '0' && c <= '9';
}

/* ---- escapes ---- */

static mg_status translate_property(translation *t, bool negative) {
  size_t begin = 3, end;
  if (peek(t, 2) != '{') return refuse(t, "\\p without braces");
  if (peek(t, begin) == '^') {
    negative = !negative;
    begin++;
  }
  for (end = begin; letter(peek(t, end)) || peek(t, end) == '_';) end++;
  if (peek(t, end) != '}' || end == begin || end - begin > 40)
    return refuse(t, "a property name with other than letters");
  const bool category = end - begin <= 2;
  MG_TRY(put(t, negative ? "\\P{" : "\\p{"));
  if (!category) MG_TRY(put(t, "sc:"));
  MG_TRY(mg__text_add(t->context, t->out, t->text + t->at + begin, end - begin));
  t->at += end + 1;
  return put(t, "}");
}

/* \x{H...}, \xHH below 80, \uHHHH */
static mg_status translate_code(translation *t) {
  char digits[9] = "", made[16];
  const bool braces = peek(t, 2) == '{', wide = peek(t, 1) == 'u';
  const size_t begin = braces ? 3 : 2, most = braces ? 8 : wide ? 4 : 2;
  size_t count = 0;
  while (count < most && strchr("0123456789abcdefABCDEF", peek(t, begin + count)) && peek(t, begin + count)) {
    digits[count] = peek(t, begin + count);
    count++;
  }
  const unsigned long code = strtoul(digits, NULL, 16);
  if (count == 0 || (braces && (wide || peek(t, begin + count) != '}')) || (!braces && !wide && code > 0x7f) ||
      (wide && count != 4) || code > 0x10ffff)
    return refuse(t, "a code that names no character");
  t->at += begin + count + braces;
  snprintf(made, sizeof made, "\\x{%lx}", code);
  return put(t, made);
}

/* A set that may stand in a class and outside. */
static mg_status translate_set(translation *t, const char *members, bool negative, bool in_class) {
  if (negative && in_class) return refuse(t, "\\W in a class");
  const char before = t->at > 0 ? t->text[t->at - 1] : '\0';
  if (in_class && (before == '-' || (peek(t, 2) == '-' && peek(t, 3) != ']')))
    return refuse(t, "a range that ends in a set");
  t->at += 2;
  if (in_class) return put(t, members);
  MG_TRY(put(t, negative ? "[^" : "["));
  MG_TRY(put(t, members));
  return put(t, "]");
}

static mg_status translate_boundary(translation *t, bool negative, bool in_class) {
  if (in_class && negative) return refuse(t, "\\B in a class");
  t->at += 2;
  return put(t, in_class ? "\\x{8}" : negative ? NO_BOUNDARY : BOUNDARY);
}

static mg_status translate_escape(translation *t, bool in_class) {
  const char c = peek(t, 1);
  char what[32];
  switch (c) {
  case 'p':
  case 'P': return translate_property(t, c == 'P');
  case 's': return translate_set(t, SPACE, false, in_class);
  case 'S': t->at += 2; return put(t, in_class ? "\\S\\x{180e}" : "[^" SPACE "]");
  case 'w':
  case 'W': return translate_set(t, WORD, c == 'W', in_class);
  case 'b':
  case 'B': return translate_boundary(t, c == 'B', in_class);
  case 'x':
  case 'u': return translate_code(t);
  case 'v': t->at += 2; return put(t, "\\x{b}");
  case 'A':
  case 'z':
  case 'Z':
    if (in_class) break;
    return copy(t, 2);
  case 'd':
  case 'D':
  case 'n':
  case 'r':
  case 't':
  case 'f':
  case 'a':
  case 'e': return copy(t, 2);
  default: break;
  }
  if (t->at + 1 == t->bytes) return refuse(t, "a backslash at its end");
  if ((unsigned char)c >= 0x80) { /* a character that needs no escape */
    t->at++;
    return copy(t, mg__utf8_bytes(t->text + t->at, t->bytes - t->at));
  }
  if (!letter(c) && !decimal(c) && c > ' ') return copy(t, 2);
  if (c == ' ') {
    t->at += 2;
    return put(t, "\\x{20}");
  }
  snprintf(what, sizeof what, "\\%c", c);
  return refuse(t, what);
}

/* ---- classes ---- */

static mg_status translate_class(translation *t) {
  MG_TRY(copy(t, 1));
  if (peek(t, 0) == '^') MG_TRY(copy(t, 1));
  if (peek(t, 0) == ']') return refuse(t, "an empty class");
  while (t->at < t->bytes) {
    const char c = peek(t, 0);
    if (c == ']') return copy(t, 1);
    if (c == '[') return refuse(t, peek(t, 1) == ':' ? "a POSIX bracket" : "a class in a class");
    if (c == '&' && peek(t, 1) == '&') return refuse(t, "an intersection of classes (&&)");
    if (c == '\\')
      MG_TRY(translate_escape(t, true));
    else
      MG_TRY(copy(t, mg__utf8_bytes(t->text + t->at, t->bytes - t->at)));
  }
  return refuse(t, "a class without its end");
}

/* ---- groups ---- */

/* (?i:...) (?m:...) (?-i:...), and the same without a colon at the very start. */
static mg_status translate_options(translation *t) {
  const bool at_start = t->at == 0;
  MG_TRY(put(t, "(?"));
  t->at += 2;
  for (bool off = false;; t->at++) {
    const char c = peek(t, 0);
    if (c == ':' || (c == ')' && at_start)) return copy(t, 1);
    if (c == ')') return refuse(t, "an option in mid-pattern");
    if (c != 'i' && c != 'm' && c != '-') return refuse(t, "a group of an unknown kind");
    if (c == '-') off = true;
    if (c == 'i' && !off) t->caseless = true;
    MG_TRY(put(t, c == 'm' ? "s" : c == 'i' ? "i" : "-"));
  }
}

static mg_status translate_group(translation *t) {
  if (peek(t, 1) == '*') return refuse(t, "(*");
  if (peek(t, 1) != '?') return copy(t, 1);
  const char kind = peek(t, 2), after = peek(t, 3);
  if (kind == ':' || kind == '=' || kind == '!' || kind == '>') return copy(t, 3);
  if (kind == '<' && (after == '=' || after == '!')) return copy(t, 4);
  if (kind == '<' && letter(after)) return copy(t, 3);
  return translate_options(t);
}

/* ---- repeats ---- */

static mg_status translate_interval(translation *t) {
  size_t at = 1, first = 0, second = 0;
  bool comma = false;
  for (; decimal(peek(t, at)); at++) first++;
  if (peek(t, at) == ',') {
    comma = true;
    for (at++; decimal(peek(t, at)); at++) second++;
  }
  if (peek(t, at) != '}' || first + second == 0) { /* it stands for itself */
    t->at++;
    return put(t, "\\{");
  }
  if (peek(t, at + 1) == '+') return refuse(t, "a repeated interval {n,m}+");
  if (peek(t, at + 1) == '?' && !comma) return refuse(t, "an optional interval {n}?");
  if (first == 0) {
    t->at++;
    MG_TRY(put(t, "{0"));
    return copy(t, at);
  }
  return copy(t, at + 1);
}

/* Without regard to case, Oniguruma also lets some pairs of letters match one character (ss matches U+00DF). */
static mg_status check_case_pairs(const translation *t) {
  static const char *const pairs[] = {"ss", "ff", "fi", "fl", "st"};
  for (size_t i = 0; t->caseless && i < sizeof pairs / sizeof *pairs; i++)
    if (strcasestr(t->text, pairs[i])) return refuse(t, "'ss', 'ff', 'fi', 'fl' or 'st' without regard to case");
  return MG_OK;
}

static mg_status translate_next(translation *t) {
  switch (peek(t, 0)) {
  case '\\': return translate_escape(t, false);
  case '[': return translate_class(t);
  case '(': return translate_group(t);
  case '{': return translate_interval(t);
  default: return copy(t, mg__utf8_bytes(t->text + t->at, t->bytes - t->at));
  }
}

mg_status mg__oniguruma_translate(mg_context *context, const char *pattern, size_t bytes, mg_text *out) {
  translation t = {.context = context, .text = pattern, .bytes = bytes, .out = out};
  if (bytes == 0 || bytes > PATTERN_BYTES_MOST || strlen(pattern) != bytes)
    return mg_fail(context, MG_FILE, "a pattern has 1 to %d bytes and no NUL", PATTERN_BYTES_MOST);
  MG_TRY(put(&t, "(*LF)(?m)"));
  while (t.at < t.bytes) MG_TRY(translate_next(&t));
  return check_case_pairs(&t);
}
