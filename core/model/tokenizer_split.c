/* Cuts text into words by a pattern, invalid UTF-8 included. */
#include <string.h>

#include "model/pattern.h"
#include "model/tokenizer_kind.h"

/* The cut of GPT-4's vocabulary, in PCRE2 syntax. Letters of scripts without spaces form long words. */
const char mg_bpe_default_pattern[] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}[\\p{L}\\p{M}]*+|\\p{N}{1,3}|"
                                      " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";

struct mg__splitter {
  mg_context *context;
  mg__pattern *pattern;
};

mg_status mg__splitter_create(mg_context *context, const char *pattern, mg__splitter **out) {
  *out = NULL;
  mg__splitter *splitter = mg_alloc(context, sizeof *splitter);
  if (!splitter) return MG_MEMORY;
  splitter->context = context;
  const mg_status status = mg__pattern_create(context, pattern, &splitter->pattern);
  if (status == MG_OK)
    *out = splitter;
  else
    mg__splitter_destroy(splitter);
  return status;
}

void mg__splitter_destroy(mg__splitter *splitter) {
  if (!splitter) return;
  mg__pattern_destroy(splitter->pattern);
  mg_free(splitter->context, splitter, sizeof *splitter);
}

const char *mg__splitter_pattern(const mg__splitter *splitter) {
  return mg__pattern_text(splitter->pattern);
}

static mg_status each_match(mg__splitter *splitter, const char *text, size_t bytes, mg__word_function word,
                            void *user) {
  mg__match match;
  for (size_t at = 0; at < bytes; at = match.end) {
    MG_TRY(mg__pattern_find(splitter->pattern, text, bytes, at, false, &match));
    if (match.start > at) MG_TRY(word(user, text + at, match.start - at));
    if (match.found) MG_TRY(word(user, text + match.start, match.end - match.start));
  }
  return MG_OK;
}

mg_status mg__splitter_each(mg__splitter *splitter, const char *text, size_t bytes, mg__word_function word,
                            void *user) {
  for (size_t at = 0; at < bytes;) {
    bool valid;
    const size_t length = mg__utf8_stretch(text + at, bytes - at, &valid);
    MG_TRY(valid ? each_match(splitter, text + at, length, word, user) : word(user, text + at, length));
    at += length;
  }
  return MG_OK;
}
