/* Normalisers: rewrite text before it is cut. */
#include <string.h>
#include <utf8proc.h>

#include "model/tokenizer/pipeline.h"

/* ---- Unicode forms ---- */

static mg_status run_nfc(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  (void)stage;
  return mg__unicode_form(flow, piece, true, false);
}

static mg_status run_nfd(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  (void)stage;
  return mg__unicode_form(flow, piece, false, false);
}

static mg_status run_nfkc(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  (void)stage;
  return mg__unicode_form(flow, piece, true, true);
}

static mg_status run_nfkd(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  (void)stage;
  return mg__unicode_form(flow, piece, false, true);
}

/* ---- single characters ---- */

static mg_status append_code(mg__flow *flow, int32_t code) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t length = utf8proc_encode_char(code, bytes);
  return mg__text_add(flow->context, &flow->out.text, (char *)bytes, (size_t)length);
}

static mg_status run_lowercase(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  enum { CAPITAL_I_DOT = 0x130, DOT_ABOVE = 0x307 }; /* the one character whose lower case is two */
  (void)stage;
  const char *text = mg__piece_text(flow, piece);
  const size_t start = mg__flow_begin(flow);
  size_t head = 0;
  for (size_t at = 0, used; at < piece->bytes; at += used) {
    const int32_t code = mg__utf8_code(text + at, piece->bytes - at, &used);
    MG_TRY(append_code(flow, code == CAPITAL_I_DOT ? 'i' : utf8proc_tolower(code)));
    if (code == CAPITAL_I_DOT) MG_TRY(append_code(flow, DOT_ABOVE));
    if (at < piece->head) head = flow->out.text.count - start;
  }
  return mg__flow_end(flow, start, head);
}

static bool white_space(int32_t code) {
  return (code >= 0x9 && code <= 0xd) || code == 0x20 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
         code == 0x3000;
}

size_t mg__leading_space(const char *text, size_t bytes) {
  size_t end = 0, used;
  while (end < bytes && white_space(mg__utf8_code(text + end, bytes - end, &used))) end += used;
  return end;
}

size_t mg__trailing_space(const char *text, size_t bytes) {
  size_t start = bytes, used;
  while (start > 0) {
    size_t at = start - 1;
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
    if (!white_space(mg__utf8_code(text + at, start - at, &used))) break;
    start = at;
  }
  return bytes - start;
}

static mg_status read_strip(mg_context *context, mg__stage *stage, const json_t *json) {
  MG_TRY(mg__stage_read_bool(context, json, "strip_left", false, &stage->left));
  return mg__stage_read_bool(context, json, "strip_right", false, &stage->right);
}

static mg_status run_strip(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  const char *text = mg__piece_text(flow, piece);
  const size_t left = stage->left ? mg__leading_space(text, piece->bytes) : 0;
  const size_t rest = piece->bytes - left;
  const size_t right = stage->right ? mg__trailing_space(text + left, rest) : 0;
  return mg__flow_emit(flow, text + left, rest - right, piece->head > left ? piece->head - left : 0, MG__PIECE_TEXT);
}

/* ---- texts ---- */

static mg_status read_prepend(mg_context *context, mg__stage *stage, const json_t *json) {
  return mg__stage_read_text(context, json, "prepend", &stage->content);
}

static mg_status run_prepend(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  if (piece->bytes == 0) return MG_OK;
  const size_t start = mg__flow_begin(flow);
  MG_TRY(mg__text_add(flow->context, &flow->out.text, stage->content.bytes, stage->content.count));
  MG_TRY(mg__text_add(flow->context, &flow->out.text, mg__piece_text(flow, piece), piece->bytes));
  MG_TRY(mg__flow_check(flow));
  return mg__flow_end(flow, start, piece->head ? stage->content.count + piece->head : 0);
}

static mg_status read_charsmap(mg_context *context, mg__stage *stage, const json_t *json) {
  return mg__charsmap_read(context, json_object_get(json, "precompiled_charsmap"), &stage->charsmap);
}

/* Bytes of the grapheme cluster at `text` (Unicode's extended ones). */
static size_t grapheme(const char *text, size_t bytes) {
  utf8proc_int32_t state = 0;
  size_t end, used;
  if (bytes > 1 && *text != '\r' && (unsigned char)text[0] < 0x80 && (unsigned char)text[1] < 0x80) return 1;
  int32_t previous = mg__utf8_code(text, bytes, &end);
  for (; end < bytes; end += used) {
    const int32_t code = mg__utf8_code(text + end, bytes - end, &used);
    if (utf8proc_grapheme_break_stateful(previous, code, &state)) break;
    previous = code;
  }
  return end;
}

static mg_status map_character(const mg__stage *stage, mg__flow *flow, const char *text, size_t bytes, bool *mapped) {
  mg_token_text to;
  *mapped = mg__charsmap_find(stage->charsmap, text, bytes, &to);
  return *mapped ? mg__text_add(flow->context, &flow->out.text, to.bytes, to.count) : MG_OK;
}

/* A short cluster is replaced by what its beginning maps to, whole; otherwise each character is mapped by itself. */
static mg_status map_grapheme(const mg__stage *stage, mg__flow *flow, const char *text, size_t bytes) {
  enum { WHOLE_BYTES_MOST = 5 };
  bool mapped = false;
  if (bytes <= WHOLE_BYTES_MOST) MG_TRY(map_character(stage, flow, text, bytes, &mapped));
  for (size_t at = 0, used; !mapped && at < bytes; at += used) {
    bool alone;
    used = mg__utf8_bytes(text + at, bytes - at);
    MG_TRY(map_character(stage, flow, text + at, used, &alone));
    if (!alone) MG_TRY(mg__text_add(flow->context, &flow->out.text, text + at, used));
  }
  return MG_OK;
}

static mg_status run_charsmap(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  const char *text = mg__piece_text(flow, piece);
  const size_t start = mg__flow_begin(flow);
  size_t head = 0;
  for (size_t at = 0, used; at < piece->bytes; at += used) {
    used = grapheme(text + at, piece->bytes - at);
    MG_TRY(map_grapheme(stage, flow, text + at, used));
    MG_TRY(mg__flow_check(flow));
    if (at < piece->head) head = flow->out.text.count - start;
  }
  return mg__flow_end(flow, start, head);
}

static const mg__stage_kind kinds[] = {
    {"NFC", "", NULL, NULL, run_nfc, NULL},
    {"NFD", "", NULL, NULL, run_nfd, NULL},
    {"NFKC", "", NULL, NULL, run_nfkc, NULL},
    {"NFKD", "", NULL, NULL, run_nfkd, NULL},
    {"Lowercase", "", NULL, NULL, run_lowercase, NULL},
    {"Strip", " strip_left strip_right ", read_strip, NULL, run_strip, NULL},
    {"Prepend", " prepend ", read_prepend, NULL, run_prepend, NULL},
    {"Replace", mg__replace_keys, mg__stage_read_replace, NULL, mg__stage_replace, NULL},
    {"Precompiled", " precompiled_charsmap ", read_charsmap, NULL, run_charsmap, NULL},
};

mg_status mg__normalizers_read(mg_context *context, const json_t *json, mg__stage_list *list) {
  return mg__stages_read(context, json, kinds, sizeof kinds / sizeof *kinds, "normalizers", list);
}
