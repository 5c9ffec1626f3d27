/* Unicode's normal forms, as vocabularies were made with them: the library that defines the file format normalises by
 * Unicode 9, so a character that came later neither decomposes, nor composes, nor moves past another. The text is cut
 * at such characters and utf8proc normalises what lies between. */
#include <stdlib.h>
#include <utf8proc.h>

#include "model/tokenizer/pipeline.h"

/* Characters after Unicode 9 that have a combining class, a decomposition, or a part in one; sorted ranges. */
static const int32_t later[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0xece, 0xece},     {0x1715, 0x1715},   {0x1abf, 0x1ace},
    {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xa82c, 0xa82c},   {0xab69, 0xab69},
    {0x10781, 0x10785}, {0x10787, 0x107b0}, {0x107b2, 0x107ba}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac},
    {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b},
    {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193d, 0x1193e},
    {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99},
    {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1},
    {0x1e030, 0x1e06d}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
    {0x1e4ec, 0x1e4ef}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
};

static bool is_later(int32_t code) {
  size_t low = 0, high = sizeof later / sizeof *later;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (code > later[middle][1])
      low = middle + 1;
    else if (code < later[middle][0])
      high = middle;
    else
      return true;
  }
  return false;
}

/* Appends the form of text that holds no later character. */
static mg_status append_form(mg_context *context, const char *text, size_t bytes, int options, mg_text *out) {
  utf8proc_uint8_t *made = NULL;
  if (bytes == 0) return MG_OK;
  const utf8proc_ssize_t length =
      utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &made, (utf8proc_option_t)options);
  if (length < 0)
    return mg_fail(context, MG_MEMORY, "%zu bytes of text cannot be normalised: %s", bytes, utf8proc_errmsg(length));
  const mg_status status = mg__text_add(context, out, (char *)made, (size_t)length);
  free(made);
  return status;
}

static bool is_ascii(char byte) {
  return (unsigned char)byte < 0x80;
}

/* ASCII stays as it is, but for the last character before others, which may compose with what follows. */
static mg_status append_all(mg_context *context, const char *text, size_t bytes, int options, mg_text *out) {
  size_t start = 0, end;
  for (size_t at = 0; at < bytes; at = end) {
    const bool plain = is_ascii(text[at]);
    end = at + 1;
    if (!plain && !is_later(mg__utf8_code(text + at, bytes - at, &end))) {
      end += at;
      continue;
    }
    MG_TRY(append_form(context, text + start, at - start, options, out));
    if (!plain) end += at;
    while (plain && end < bytes && is_ascii(text[end])) end++;
    start = plain ? end - 1 : end;
    MG_TRY(mg__text_add(context, out, text + at, start - at));
  }
  return append_form(context, text + start, bytes - start, options, out);
}

static bool ascii(const char *text, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (!is_ascii(text[i])) return false;
  return true;
}

mg_status mg__unicode_form(mg__flow *flow, const mg__piece *piece, bool compose, bool compatible) {
  const char *text = mg__piece_text(flow, piece);
  const int options =
      UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compatible ? UTF8PROC_COMPAT : 0);
  if (ascii(text, piece->bytes)) return mg__flow_emit(flow, text, piece->bytes, piece->head, MG__PIECE_TEXT);
  flow->scratch.count = 0; /* what the input's first character becomes, to know its length */
  MG_TRY(append_all(flow->context, text, piece->head, options, &flow->scratch));
  const size_t start = mg__flow_begin(flow);
  MG_TRY(append_all(flow->context, text, piece->bytes, options, &flow->out.text));
  size_t head = flow->scratch.count;
  while (start + head < flow->out.text.count && ((unsigned char)flow->out.text.bytes[start + head] & 0xc0) == 0x80)
    head++;
  return mg__flow_end(flow, start, head);
}
