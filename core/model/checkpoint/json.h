/* Reads JSON where it lies: no tree, no recursion, no allocation. Every function that returns false has set `wrong`,
 * but those that ask for a next member or element, which also return false at the end. */
#ifndef MG_MODEL_CHECKPOINT_JSON_H
#define MG_MODEL_CHECKPOINT_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mg__json {
  const char *text; /* valid UTF-8 (mg__utf8_valid) */
  size_t bytes, at;
  const char *wrong; /* the rule that was broken; NULL while none was */
} mg__json;

/* A string as it stands between its quotes, escapes included. */
typedef struct mg__json_text {
  size_t begin, bytes;
} mg__json_text;

/* The offset of the first byte that is not UTF-8 (RFC 3629: shortest forms, no surrogates); `bytes` if all are. */
size_t mg__utf8_valid(const char *text, size_t bytes);

/* True when only white space is left. */
bool mg__json_end(mg__json *json);
/* Takes a quote, a colon or an opening bracket. */
bool mg__json_take(mg__json *json, char c);
/* Whether a string comes next. */
bool mg__json_at_string(mg__json *json);
/* Reads and checks a string. Lone surrogates and NULs are refused. */
bool mg__json_string(mg__json *json, mg__json_text *out);
/* Writes the string without escapes, at most `text.bytes` bytes, and returns how many; `out` may be where it stands. */
size_t mg__json_unescape(const mg__json *json, mg__json_text text, char *out);
/* Writes it over itself in `text`, which is json->text, with a NUL after it at the latest on its closing quote. Returns
 * where it begins. */
uint32_t mg__json_settle(const mg__json *json, mg__json_text place, char *text);
/* Whether the string, without escapes, is `word`. */
bool mg__json_equals(const mg__json *json, mg__json_text text, const char *word);
/* A number of 0 .. 2^64 - 1 written with digits alone. */
bool mg__json_whole(mg__json *json, uint64_t *out);
/* Passes over any value that is nested at most 64 deep. */
bool mg__json_skip(mg__json *json);

/* The next key of an object, up to its colon, or the start of the next element of a list. `first` begins as true; the
 * opening bracket is taken by the first call and the closing one by the last. */
bool mg__json_member(mg__json *json, bool *first, mg__json_text *key);
bool mg__json_element(mg__json *json, bool *first);

#endif
