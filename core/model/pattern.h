/* Compiled regular expressions over UTF-8, and the walk over text that may not be UTF-8. */
#ifndef MG_MODEL_PATTERN_H
#define MG_MODEL_PATTERN_H

#include "moegauge/context.h"

typedef struct mg__pattern mg__pattern;
typedef struct mg__match {
  size_t start, end;
  bool found;
} mg__match;

/* PCRE2 syntax, UTF and UCP. MG_USAGE with PCRE2's reason and the offset if it does not compile. */
mg_status mg__pattern_create(mg_context *context, const char *pattern, mg__pattern **out);
void mg__pattern_destroy(mg__pattern *pattern);
const char *mg__pattern_text(const mg__pattern *pattern);
/* False if no match can be empty. */
bool mg__pattern_matches_empty(const mg__pattern *pattern);
/* The first match that starts at or after `from`; `text` must be valid UTF-8 and is looked at as a whole. Empty matches
 * count if `empty`. MG_USAGE if matching takes more than PCRE2's limit of 10 million steps, or matches backwards. */
mg_status mg__pattern_find(mg__pattern *pattern, const char *text, size_t bytes, size_t from, bool empty,
                           mg__match *match);

int32_t mg__utf8_code_beyond_ascii(const char *text, size_t bytes, size_t *used);
/* The character at `text`, of which `bytes` > 0 are there; *used is set to its bytes, 0 if they are no UTF-8. */
static inline int32_t mg__utf8_code(const char *text, size_t bytes, size_t *used) {
  *used = 1;
  return (unsigned char)*text < 0x80 ? *text : mg__utf8_code_beyond_ascii(text, bytes, used);
}
/* Its bytes alone. */
static inline size_t mg__utf8_bytes(const char *text, size_t bytes) {
  size_t used;
  mg__utf8_code(text, bytes, &used);
  return used;
}
/* Length of the stretch from `text` that is all valid UTF-8, or holds no valid character; *valid tells which. */
size_t mg__utf8_stretch(const char *text, size_t bytes, bool *valid);

#endif
