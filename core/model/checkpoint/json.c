/* RFC 8259, scanned in place. */
#include "model/checkpoint/json.h"

#include <string.h>
#include <utf8proc.h>

enum { NESTING_MAX = 64 };

size_t mg__utf8_valid(const char *text, size_t bytes) {
  size_t at = 0;
  while (at < bytes) {
    uint64_t eight;
    while (bytes - at >= sizeof eight) { /* ASCII, eight bytes a step */
      memcpy(&eight, &text[at], sizeof eight);
      if (eight & UINT64_C(0x8080808080808080)) break;
      at += sizeof eight;
    }
    if (at == bytes) break;
    utf8proc_int32_t point;
    const size_t left = bytes - at < 4 ? bytes - at : 4;
    const utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)&text[at], (utf8proc_ssize_t)left, &point);
    if (used <= 0) return at;
    at += (size_t)used;
  }
  return bytes;
}

static bool wrong(mg__json *json, const char *rule) {
  if (!json->wrong) json->wrong = rule;
  return false;
}

/* The next byte that is no white space; NUL at the end. */
static char look(mg__json *json) {
  for (; json->at < json->bytes; json->at++) {
    const char c = json->text[json->at];
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return c;
  }
  return '\0';
}

bool mg__json_end(mg__json *json) {
  look(json);
  return json->at == json->bytes;
}

static const char *expected(char c) {
  return c == '"'   ? "malformed JSON: a string was expected"
         : c == '{' ? "malformed JSON: an object was expected"
         : c == '[' ? "malformed JSON: a list was expected"
                    : "malformed JSON: a colon was expected";
}

bool mg__json_take(mg__json *json, char c) {
  if (look(json) != c || json->at == json->bytes) return wrong(json, expected(c));
  json->at++;
  return true;
}

bool mg__json_at_string(mg__json *json) {
  return look(json) == '"';
}

/* Four hexadecimal digits; -1 if they are not. */
static int32_t hex4(const char *text) {
  int32_t value = 0;
  for (int i = 0; i < 4; i++) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

/* The code point of \uXXXX, or of a pair of them, at text[0] = 'u', and how many bytes it takes from there; -1 if it is
 * none, a lone surrogate or NUL. */
static int32_t escaped_point(const char *text, size_t left, size_t *used) {
  const int32_t high = left >= 5 ? hex4(&text[1]) : -1;
  *used = 5;
  if (high <= 0 || (high >= 0xdc00 && high <= 0xdfff)) return -1;
  if (high < 0xd800 || high > 0xdfff) return high;
  if (left < 11 || text[5] != '\\' || text[6] != 'u') return -1;
  const int32_t low = hex4(&text[7]);
  *used = 11;
  return low >= 0xdc00 && low <= 0xdfff ? 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00) : -1;
}

/* The byte that a one-letter escape stands for; NUL if there is no such escape. */
static char simple_escape(char c) {
  static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  const char *found = c ? strchr(letters, c) : NULL;
  return found ? meanings[found - letters] : '\0';
}

bool mg__json_string(mg__json *json, mg__json_text *out) {
  if (!mg__json_take(json, '"')) return false;
  out->begin = json->at;
  for (; json->at < json->bytes; json->at++) {
    const unsigned char c = (unsigned char)json->text[json->at];
    if (c == '"') {
      out->bytes = json->at++ - out->begin;
      return true;
    }
    if (c < 0x20) return wrong(json, "a control character in a JSON string");
    if (c != '\\') continue;
    size_t used = 1;
    const size_t left = json->bytes - ++json->at;
    if (left == 0) break;
    if (json->text[json->at] == 'u') {
      if (escaped_point(&json->text[json->at], left, &used) < 0)
        return wrong(json, "an escape that is no character in a JSON string");
    } else if (!simple_escape(json->text[json->at])) {
      return wrong(json, "an unknown escape in a JSON string");
    }
    json->at += used - 1;
  }
  return wrong(json, "a JSON string without end");
}

size_t mg__json_unescape(const mg__json *json, mg__json_text text, char *out) {
  const char *in = &json->text[text.begin];
  size_t length = 0;
  for (size_t i = 0; i < text.bytes;) {
    if (in[i] != '\\') {
      out[length++] = in[i++];
      continue;
    }
    size_t used = 1;
    if (in[++i] == 'u')
      length +=
          (size_t)utf8proc_encode_char(escaped_point(&in[i], text.bytes - i, &used), (utf8proc_uint8_t *)&out[length]);
    else
      out[length++] = simple_escape(in[i]);
    i += used;
  }
  return length;
}

uint32_t mg__json_settle(const mg__json *json, mg__json_text place, char *text) {
  text[place.begin + mg__json_unescape(json, place, &text[place.begin])] = '\0';
  return (uint32_t)place.begin;
}

bool mg__json_equals(const mg__json *json, mg__json_text text, const char *word) {
  char plain[64];
  return text.bytes <= sizeof plain && mg__json_unescape(json, text, plain) == strlen(word) &&
         memcmp(plain, word, strlen(word)) == 0;
}

static bool digit_next(const mg__json *json) {
  return json->at < json->bytes && json->text[json->at] >= '0' && json->text[json->at] <= '9';
}

bool mg__json_whole(mg__json *json, uint64_t *out) {
  look(json);
  const size_t begin = json->at;
  uint64_t value = 0;
  for (; digit_next(json); json->at++) {
    const uint64_t digit = (uint64_t)(json->text[json->at] - '0');
    if (__builtin_mul_overflow(value, 10U, &value) || __builtin_add_overflow(value, digit, &value))
      return wrong(json, "a number beyond 64 bits");
  }
  const size_t digits = json->at - begin;
  const char after = look(json);
  if (digits == 0 || (digits > 1 && json->text[begin] == '0') || after == '.' || after == 'e' || after == 'E')
    return wrong(json, "a number that is not written as a whole number of at least 0");
  *out = value;
  return true;
}

/* ---- passing over values ------------------------------------------------------------------------------------- */

static bool skip_digits(mg__json *json) {
  if (!digit_next(json)) return wrong(json, "malformed JSON number");
  while (digit_next(json)) json->at++;
  return true;
}

static bool skip_number(mg__json *json) {
  if (json->text[json->at] == '-') json->at++;
  const bool zero = json->at < json->bytes && json->text[json->at] == '0';
  if (zero)
    json->at++;
  else if (!skip_digits(json))
    return false;
  if (json->at < json->bytes && json->text[json->at] == '.') {
    json->at++;
    if (!skip_digits(json)) return false;
  }
  if (json->at < json->bytes && (json->text[json->at] == 'e' || json->text[json->at] == 'E')) {
    json->at++;
    if (json->at < json->bytes && (json->text[json->at] == '+' || json->text[json->at] == '-')) json->at++;
    return skip_digits(json);
  }
  return true;
}

static bool skip_scalar(mg__json *json) {
  static const char *const words[] = {"true", "false", "null"};
  mg__json_text text;
  const char c = look(json);
  if (c == '"') return mg__json_string(json, &text);
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    const size_t length = strlen(words[i]);
    if (json->bytes - json->at < length || memcmp(&json->text[json->at], words[i], length) != 0) continue;
    json->at += length;
    return true;
  }
  if (c != '-' && !digit_next(json)) return wrong(json, "malformed JSON");
  return skip_number(json);
}

bool mg__json_skip(mg__json *json) {
  bool object[NESTING_MAX], first[NESTING_MAX];
  size_t depth = 0;
  mg__json_text key;
  do {
    /* One value, or the next step inside the innermost open bracket. */
    const bool inside = depth > 0;
    if (inside && !(object[depth - 1] ? mg__json_member(json, &first[depth - 1], &key)
                                      : mg__json_element(json, &first[depth - 1]))) {
      if (json->wrong) return false;
      depth--;
      continue;
    }
    const char c = look(json);
    if (c != '{' && c != '[') {
      if (!skip_scalar(json)) return false;
      continue;
    }
    if (depth == NESTING_MAX) return wrong(json, "JSON nested more than 64 deep");
    object[depth] = c == '{';
    first[depth++] = true;
  } while (depth > 0);
  return true;
}

/* ---- objects and lists --------------------------------------------------------------------------------------- */

/* Whether another item follows; takes brackets and commas. */
static bool next_item(mg__json *json, bool *first, char open, char close) {
  if (*first) {
    *first = false;
    if (!mg__json_take(json, open)) return false;
    if (look(json) != close) return true;
    json->at++;
    return false;
  }
  const char c = look(json);
  if (c != ',' && c != close) return wrong(json, "malformed JSON");
  json->at++;
  return c == ',';
}

bool mg__json_member(mg__json *json, bool *first, mg__json_text *key) {
  return next_item(json, first, '{', '}') && mg__json_string(json, key) && mg__json_take(json, ':');
}

bool mg__json_element(mg__json *json, bool *first) {
  return next_item(json, first, '[', ']');
}
