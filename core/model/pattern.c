/* PCRE2 with UTF and UCP, in time linear in the text.
 *
 * PCRE2 would check a subject's UTF-8 again at every call, which is quadratic on a long line; so valid stretches are
 * found here once and matched without that check. */
#include "model/pattern.h"

#include <string.h>
#include <utf8proc.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { JIT_STACK_FIRST_BYTES = 1 << 15, JIT_STACK_MOST_BYTES = 1 << 23, STEPS_MOST = 10 * 1000 * 1000 };
enum { HEAP_MOST_KIB = 1 << 16 };

struct mg__pattern {
  mg_context *context;
  char *text;
  pcre2_code *code;
  pcre2_match_data *match;
  pcre2_match_context *settings;
  pcre2_jit_stack *stack;
  bool compiled; /* to machine code; without it the interpreter does the same */
  bool matches_empty;
};

static mg_status compile(mg__pattern *pattern) {
  int error;
  PCRE2_SIZE at;
  pattern->code =
      pcre2_compile((PCRE2_SPTR)pattern->text, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
  if (!pattern->code) {
    char reason[128] = "";
    pcre2_get_error_message(error, (PCRE2_UCHAR *)reason, sizeof reason);
    return mg_fail(pattern->context, MG_USAGE, "tokenizer pattern '%.200s': %s at offset %zu; give a PCRE2 pattern",
                   pattern->text, reason, (size_t)at);
  }
  pattern->match = pcre2_match_data_create(1, NULL);
  pattern->settings = pcre2_match_context_create(NULL);
  if (!pattern->match || !pattern->settings)
    return mg_fail(pattern->context, MG_MEMORY, "no memory for matching the tokenizer pattern");
  pcre2_set_match_limit(pattern->settings, STEPS_MOST);
  pcre2_set_heap_limit(pattern->settings, HEAP_MOST_KIB);
  uint32_t empty = 1;
  pcre2_pattern_info(pattern->code, PCRE2_INFO_MATCHEMPTY, &empty);
  pattern->matches_empty = empty != 0;
  pattern->compiled = pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE) == 0;
  if (pattern->compiled) {
    pattern->stack = pcre2_jit_stack_create(JIT_STACK_FIRST_BYTES, JIT_STACK_MOST_BYTES, NULL);
    pcre2_jit_stack_assign(pattern->settings, NULL, pattern->stack);
  }
  return MG_OK;
}

mg_status mg__pattern_create(mg_context *context, const char *text, mg__pattern **out) {
  *out = NULL;
  mg__pattern *pattern = mg_alloc(context, sizeof *pattern);
  if (!pattern) return MG_MEMORY;
  pattern->context = context;
  pattern->text = mg_strdup(context, text);
  const mg_status status = pattern->text ? compile(pattern) : MG_MEMORY;
  if (status == MG_OK)
    *out = pattern;
  else
    mg__pattern_destroy(pattern);
  return status;
}

void mg__pattern_destroy(mg__pattern *pattern) {
  if (!pattern) return;
  pcre2_jit_stack_free(pattern->stack);
  pcre2_match_context_free(pattern->settings);
  pcre2_match_data_free(pattern->match);
  pcre2_code_free(pattern->code);
  if (pattern->text) mg_free(pattern->context, pattern->text, strlen(pattern->text) + 1);
  mg_free(pattern->context, pattern, sizeof *pattern);
}

const char *mg__pattern_text(const mg__pattern *pattern) {
  return pattern->text;
}

bool mg__pattern_matches_empty(const mg__pattern *pattern) {
  return pattern->matches_empty;
}

/* pcre2_match without the checks that it makes anew at every call. */
static int match_from(const mg__pattern *pattern, const char *text, size_t bytes, size_t from, bool empty) {
  const uint32_t flags = empty ? 0 : PCRE2_NOTEMPTY;
  if (pattern->compiled)
    return pcre2_jit_match(pattern->code, (PCRE2_SPTR)text, bytes, from, flags, pattern->match, pattern->settings);
  return pcre2_match(pattern->code, (PCRE2_SPTR)text, bytes, from, flags | PCRE2_NO_UTF_CHECK, pattern->match,
                     pattern->settings);
}

mg_status mg__pattern_find(mg__pattern *pattern, const char *text, size_t bytes, size_t from, bool empty,
                           mg__match *match) {
  const int found = match_from(pattern, text, bytes, from, empty);
  *match = (mg__match){bytes, bytes, false};
  if (found == PCRE2_ERROR_NOMATCH) return MG_OK;
  if (found == PCRE2_ERROR_MATCHLIMIT || found == PCRE2_ERROR_JIT_STACKLIMIT || found == PCRE2_ERROR_HEAPLIMIT)
    return mg_fail(
        pattern->context, MG_USAGE,
        "tokenizer pattern '%.200s' takes more than %d steps at byte %zu of the text; it backtracks too much",
        pattern->text, STEPS_MOST, from);
  if (found < 0)
    return mg_fail(pattern->context, MG_USAGE, "tokenizer pattern '%.200s' fails on the text with PCRE2 error %d",
                   pattern->text, found);
  const PCRE2_SIZE *range = pcre2_get_ovector_pointer(pattern->match);
  if (range[0] < from || range[1] < range[0])
    return mg_fail(pattern->context, MG_USAGE, "tokenizer pattern '%.200s' matches before its start; leave out \\K",
                   pattern->text);
  *match = (mg__match){range[0], range[1], true};
  return MG_OK;
}

int32_t mg__utf8_code_beyond_ascii(const char *text, size_t bytes, size_t *used) {
  utf8proc_int32_t code = 0;
  const utf8proc_ssize_t length =
      utf8proc_iterate((const utf8proc_uint8_t *)text, bytes > 4 ? 4 : (utf8proc_ssize_t)bytes, &code);
  *used = length > 0 ? (size_t)length : 0;
  return code;
}

size_t mg__utf8_stretch(const char *text, size_t bytes, bool *valid) {
  size_t end = 0, step;
  while (end < bytes && (step = mg__utf8_bytes(text + end, bytes - end)) > 0) end += step;
  *valid = end > 0;
  if (end > 0) return end;
  while (end < bytes && mg__utf8_bytes(text + end, bytes - end) == 0) end++;
  return end;
}
