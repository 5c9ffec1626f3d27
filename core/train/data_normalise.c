/* Stage "normalise": one spelling for the same text, so that duplicates are seen and the tokenizer wastes nothing.
 *
 * Unicode NFC (utf8proc); CR LF, CR, form feed, U+0085, U+2028 and U+2029 become a line end; other control characters
 * and byte order marks go; any Unicode space becomes U+0020; blanks at line ends go; runs of blanks inside a line
 * become one (indentation stays); runs of empty lines are shortened; empty lines at both ends go and the text ends with
 * one line end. Invalid UTF-8 is replaced by U+FFFD, one for each invalid byte, or the document is dropped. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/vector.h"
#include "train/data_stage.h"

typedef struct normalise_options {
  bool compose, collapse_spaces;
  int64_t empty_lines, invalid;
} normalise_options;

enum { INVALID_REPLACE, INVALID_DROP };
static const char *const invalid_choices[] = {"replace", "drop", NULL};

static const mg_option options_table[] = {
    MG_OPTION_BOOL(normalise_options, compose, true, "bring text into Unicode's composed form, NFC"),
    MG_OPTION_BOOL(normalise_options, collapse_spaces, true, "make runs of blanks inside a line one space"),
    MG_OPTION_INT(normalise_options, empty_lines, 1, 0, 1000, "most empty lines in a row that stay"),
    MG_OPTION_CHOICE(normalise_options, invalid, INVALID_REPLACE, invalid_choices,
                     "what to do about invalid UTF-8: replace the bytes by U+FFFD, or drop the document"),
    MG_OPTION_END};

typedef struct writer {
  mg_context *context;
  const normalise_options *options;
  mg__text out;
  int64_t empty_lines; /* since the last line with text */
  size_t line;         /* where the line at work begins in out */
  bool invalid, ascii;
} writer;

static bool blank(char c) {
  return c == ' ' || c == '\t';
}

/* Ends the line at work: trims its end and counts it if it is empty. */
static mg_status end_line(writer *in) {
  mg__text *out = &in->out;
  while (out->bytes > in->line && blank(out->data[out->bytes - 1])) out->bytes--;
  const bool empty = out->bytes == in->line;
  in->empty_lines = empty ? in->empty_lines + 1 : 0;
  if (empty && (in->line == 0 || in->empty_lines > in->options->empty_lines)) return MG_OK;
  MG_TRY(mg__text_append(in->context, out, "\n", 1));
  in->line = out->bytes;
  return MG_OK;
}

static mg_status add_blank(writer *in, char c) {
  mg__text *out = &in->out;
  const bool after_blank = out->bytes > in->line && blank(out->data[out->bytes - 1]);
  if (in->options->collapse_spaces && after_blank) {
    size_t start = out->bytes;
    while (start > in->line && blank(out->data[start - 1])) start--;
    if (start > in->line) { /* not indentation */
      out->bytes = start;
      c = ' ';
    }
  }
  return mg__text_append(in->context, out, &c, 1);
}

static bool is_space(utf8proc_int32_t code) {
  return code > 0x7F && utf8proc_category(code) == UTF8PROC_CATEGORY_ZS;
}

static mg_status add_character(writer *in, utf8proc_int32_t code, const char *text, size_t bytes) {
  if (code == '\n' || code == '\f' || code == 0x85 || code == 0x2028 || code == 0x2029) return end_line(in);
  if (code == ' ' || code == '\t') return add_blank(in, (char)code);
  if (is_space(code)) return add_blank(in, ' ');
  if (code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0xFEFF) return MG_OK;
  in->ascii = in->ascii && code < 0x80;
  return mg__text_append(in->context, &in->out, text, bytes);
}

static mg_status rewrite(writer *in, const char *text, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    if (text[at] == '\r') { /* CR LF is one line end, a lone CR too */
      if (at + 1 == bytes || text[at + 1] != '\n') MG_TRY(end_line(in));
      at++;
      continue;
    }
    size_t plain = at; /* the fast way through printable ASCII */
    while (plain < bytes && text[plain] > ' ' && text[plain] < 0x7F) plain++;
    if (plain > at) {
      MG_TRY(mg__text_append(in->context, &in->out, text + at, plain - at));
      at = plain;
      continue;
    }
    utf8proc_int32_t code;
    const size_t left = bytes - at;
    const utf8proc_ssize_t used =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, left > 4 ? 4 : (utf8proc_ssize_t)left, &code);
    in->invalid = in->invalid || used < 1;
    MG_TRY(used > 0 ? add_character(in, code, text + at, (size_t)used) : add_character(in, 0xFFFD, "\xEF\xBF\xBD", 3));
    at += used > 0 ? (size_t)used : 1;
  }
  MG_TRY(end_line(in));
  while (in->out.bytes > 1 && in->out.data[in->out.bytes - 1] == '\n' && in->out.data[in->out.bytes - 2] == '\n')
    in->out.bytes--;
  return MG_OK;
}

static mg_status compose_and_replace(mg__pipeline *pipeline, mg__document *document, const writer *in) {
  if (in->ascii || !in->options->compose) return mg__document_replace(pipeline, document, in->out.data, in->out.bytes);
  utf8proc_uint8_t *composed = NULL;
  const utf8proc_ssize_t bytes = utf8proc_map((const utf8proc_uint8_t *)in->out.data, (utf8proc_ssize_t)in->out.bytes,
                                              &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  if (bytes < 0)
    return mg_fail(pipeline->context, MG_MEMORY, "normalise: NFC of %zu bytes failed: %s", in->out.bytes,
                   utf8proc_errmsg(bytes));
  const mg_status status = mg__document_replace(pipeline, document, (const char *)composed, (size_t)bytes);
  free(composed);
  return status;
}

static mg_status run(mg__pipeline *pipeline, const void *options) {
  writer in = {.context = pipeline->context, .options = options};
  mg_status status = MG_OK;
  for (size_t i = 0; i < pipeline->count && status == MG_OK; i++) {
    mg__document *document = &pipeline->documents[i];
    in.out.bytes = in.line = 0;
    in.empty_lines = 0;
    in.invalid = false;
    in.ascii = true;
    status = rewrite(&in, document->text, document->bytes);
    if (status != MG_OK) break;
    if (in.out.bytes == 0)
      status = mg__document_drop(pipeline, document, "empty");
    else if (in.invalid && in.options->invalid == INVALID_DROP)
      status = mg__document_drop(pipeline, document, "invalid_utf8");
    else
      status = compose_and_replace(pipeline, document, &in);
  }
  MG_VECTOR_FREE(pipeline->context, in.out.data, in.out.room);
  return status;
}

const mg__stage mg__stage_normalise = {.name = "normalise",
                                       .summary = "Unicode NFC, line ends, white space, control characters",
                                       .kind = MG__TEXT,
                                       .version = 1,
                                       .options = options_table,
                                       .options_size = sizeof(normalise_options),
                                       .run = run};
