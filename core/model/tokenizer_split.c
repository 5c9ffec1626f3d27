/* Cuts text into words by a PCRE2 pattern with UTF and UCP, in time linear in the text.
 *
 * PCRE2 would check a subject's UTF-8 again at every call, which is quadratic on a long line; so valid stretches are
 * found here once and matched without that check. */
#include <string.h>
#include <utf8proc.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "model/tokenizer_kind.h"

/* The cut of GPT-4's vocabulary, in PCRE2 syntax. Letters of scripts without spaces form long words. */
const char mg_bpe_default_pattern[] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}[\\p{L}\\p{M}]*+|\\p{N}{1,3}|"
                                      " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";

enum { JIT_STACK_FIRST_BYTES = 1 << 15, JIT_STACK_MOST_BYTES = 1 << 23 };

struct mg__splitter {
  mg_context *context;
  char *pattern;
  pcre2_code *code;
  pcre2_match_data *match;
  pcre2_match_context *settings;
  pcre2_jit_stack *stack;
};

static mg_status compile(mg__splitter *splitter) {
  int error;
  PCRE2_SIZE at;
  splitter->code =
      pcre2_compile((PCRE2_SPTR)splitter->pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
  if (!splitter->code) {
    char reason[128] = "";
    pcre2_get_error_message(error, (PCRE2_UCHAR *)reason, sizeof reason);
    return mg_fail(splitter->context, MG_USAGE, "tokenizer pattern '%s': %s at offset %zu; give a PCRE2 pattern",
                   splitter->pattern, reason, (size_t)at);
  }
  splitter->match = pcre2_match_data_create(1, NULL);
  splitter->settings = pcre2_match_context_create(NULL);
  if (!splitter->match || !splitter->settings)
    return mg_fail(splitter->context, MG_MEMORY, "no memory for matching the tokenizer pattern");
  if (pcre2_jit_compile(splitter->code, PCRE2_JIT_COMPLETE) == 0) { /* without JIT the interpreter does the same */
    splitter->stack = pcre2_jit_stack_create(JIT_STACK_FIRST_BYTES, JIT_STACK_MOST_BYTES, NULL);
    pcre2_jit_stack_assign(splitter->settings, NULL, splitter->stack);
  }
  return MG_OK;
}

mg_status mg__splitter_create(mg_context *context, const char *pattern, mg__splitter **out) {
  *out = NULL;
  mg__splitter *splitter = mg_alloc(context, sizeof *splitter);
  if (!splitter) return MG_MEMORY;
  splitter->context = context;
  splitter->pattern = mg_strdup(context, pattern);
  const mg_status status = splitter->pattern ? compile(splitter) : MG_MEMORY;
  if (status != MG_OK) {
    mg__splitter_destroy(splitter);
    return status;
  }
  *out = splitter;
  return MG_OK;
}

void mg__splitter_destroy(mg__splitter *splitter) {
  if (!splitter) return;
  pcre2_jit_stack_free(splitter->stack);
  pcre2_match_context_free(splitter->settings);
  pcre2_match_data_free(splitter->match);
  pcre2_code_free(splitter->code);
  if (splitter->pattern) mg_free(splitter->context, splitter->pattern, strlen(splitter->pattern) + 1);
  mg_free(splitter->context, splitter, sizeof *splitter);
}

const char *mg__splitter_pattern(const mg__splitter *splitter) {
  return splitter->pattern;
}

/* Bytes of the UTF-8 character at `text`, 0 if it is invalid. */
static size_t character_bytes(const char *text, size_t bytes) {
  if ((unsigned char)*text < 0x80) return 1;
  utf8proc_int32_t code;
  const utf8proc_ssize_t used =
      utf8proc_iterate((const utf8proc_uint8_t *)text, bytes > 4 ? 4 : (utf8proc_ssize_t)bytes, &code);
  return used > 0 ? (size_t)used : 0;
}

/* Length of the stretch from `text` that is all valid, or all invalid; *valid tells which. */
static size_t stretch(const char *text, size_t bytes, bool *valid) {
  size_t end = 0, step;
  while (end < bytes && (step = character_bytes(text + end, bytes - end)) > 0) end += step;
  *valid = end > 0;
  if (end > 0) return end;
  while (end < bytes && character_bytes(text + end, bytes - end) == 0) end++;
  return end;
}

static mg_status each_match(mg__splitter *splitter, const char *text, size_t bytes, mg__word_function word,
                            void *user) {
  const PCRE2_SIZE *range = pcre2_get_ovector_pointer(splitter->match);
  for (size_t at = 0; at < bytes;) {
    const int found = pcre2_match(splitter->code, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                                  splitter->match, splitter->settings);
    if (found == PCRE2_ERROR_NOMATCH) return word(user, text + at, bytes - at);
    if (found < 0)
      return mg_fail(splitter->context, MG_USAGE, "tokenizer pattern '%s' fails on the text with PCRE2 error %d",
                     splitter->pattern, found);
    const size_t start = range[0], end = range[1];
    if (start < at || end <= start)
      return mg_fail(splitter->context, MG_USAGE, "tokenizer pattern '%s' matches before its start; leave out \\K",
                     splitter->pattern);
    if (start > at) MG_TRY(word(user, text + at, start - at));
    MG_TRY(word(user, text + start, end - start));
    at = end;
  }
  return MG_OK;
}

mg_status mg__splitter_each(mg__splitter *splitter, const char *text, size_t bytes, mg__word_function word,
                            void *user) {
  for (size_t at = 0; at < bytes;) {
    bool valid;
    const size_t length = stretch(text + at, bytes - at, &valid);
    MG_TRY(valid ? each_match(splitter, text + at, length, word, user) : word(user, text + at, length));
    at += length;
  }
  return MG_OK;
}
