/* Decoders: lead from the spelling of tokens back to text. A token is a piece here, and stays one when it is empty. */
#include <string.h>

#include "model/tokenizer/pipeline.h"

static mg_status read_byte_level(mg_context *context, mg__stage *stage, const json_t *json) {
  bool unused; /* these options concern encoding */
  (void)stage;
  MG_TRY(mg__stage_read_bool(context, json, "trim_offsets", true, &unused));
  MG_TRY(mg__stage_read_bool(context, json, "add_prefix_space", true, &unused));
  return mg__stage_read_bool(context, json, "use_regex", true, &unused);
}

/* The bytes that a token's characters spell; a token with a character that spells none stands for itself. */
static mg_status spell_bytes(mg__flow *flow, const mg__byte_table *table, const char *text, size_t bytes) {
  mg_text *out = &flow->out.text;
  const size_t start = out->count;
  MG_TRY(mg__text_reserve(flow->context, out, bytes));
  for (size_t at = 0, used; at < bytes; at += used) {
    const int32_t code = mg__utf8_code(text + at, bytes - at, &used);
    const int16_t byte = used && code < 512 ? table->byte_of[code] : -1;
    if (byte < 0) {
      out->count = start;
      return mg__text_add(flow->context, out, text, bytes);
    }
    out->bytes[out->count++] = (char)byte;
  }
  return MG_OK;
}

static mg_status run_byte_level(const mg__stage *stage, mg__flow *flow) {
  (void)stage;
  mg__byte_table table;
  mg__byte_table_fill(&table);
  const size_t start = mg__flow_begin(flow);
  for (size_t i = 0; i < flow->in.count; i++) {
    const mg__piece *piece = &flow->in.pieces[i];
    MG_TRY(spell_bytes(flow, &table, mg__piece_text(flow, piece), piece->bytes));
  }
  return mg__flow_end(flow, start, 0);
}

static int hexadecimal(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "<0x0A>" names, or -1. */
static int named_byte(const char *text, size_t bytes) {
  if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
  const int high = hexadecimal(text[3]), low = hexadecimal(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Tokens of single bytes in a row become one piece. */
static mg_status run_byte_fallback(const mg__stage *stage, mg__flow *flow) {
  (void)stage;
  for (size_t i = 0; i < flow->in.count;) {
    const size_t start = mg__flow_begin(flow), first = i;
    for (; i < flow->in.count; i++) {
      const mg__piece *piece = &flow->in.pieces[i];
      const int byte = named_byte(mg__piece_text(flow, piece), piece->bytes);
      if (byte < 0) break;
      MG_TRY(mg__text_add(flow->context, &flow->out.text, &(char){(char)byte}, 1));
    }
    if (i > first) MG_TRY(mg__flow_end(flow, start, 0));
    if (i == flow->in.count) break;
    const mg__piece *piece = &flow->in.pieces[i++];
    MG_TRY(mg__flow_emit(flow, mg__piece_text(flow, piece), piece->bytes, 0, MG__PIECE_TEXT));
  }
  return MG_OK;
}

static mg_status run_fuse(const mg__stage *stage, mg__flow *flow) {
  (void)stage;
  return mg__flow_emit(flow, flow->in.text.bytes, flow->in.text.count, 0, MG__PIECE_TEXT);
}

static mg_status read_strip(mg_context *context, mg__stage *stage, const json_t *json) {
  MG_TRY(mg__stage_read_character(context, json, "content", &stage->content));
  const json_t *start = json_object_get(json, "start"), *stop = json_object_get(json, "stop");
  if (!json_is_integer(start) || !json_is_integer(stop) || json_integer_value(start) < 0 ||
      json_integer_value(stop) < 0)
    return mg_fail(context, MG_FILE, "'start' and 'stop' must be integers from 0");
  stage->start = json_integer_value(start);
  stage->stop = json_integer_value(stop);
  return MG_OK;
}

static mg_status run_strip(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  const char *text = mg__piece_text(flow, piece), *mark = stage->content.bytes;
  const size_t width = stage->content.count;
  size_t begin = 0, end = piece->bytes;
  for (int64_t i = 0; i < stage->start && end - begin >= width && memcmp(text + begin, mark, width) == 0; i++)
    begin += width;
  for (int64_t i = 0; i < stage->stop && end - begin >= width && memcmp(text + end - width, mark, width) == 0; i++)
    end -= width;
  return mg__flow_emit(flow, text + begin, end - begin, 0, MG__PIECE_TEXT);
}

static mg_status read_metaspace(mg_context *context, mg__stage *stage, const json_t *json) {
  MG_TRY(mg__stage_read_character(context, json, "replacement", &stage->literal));
  MG_TRY(mg__stage_read_bool(context, json, "split", true, &stage->split));
  const json_t *scheme = json_object_get(json, "prepend_scheme");
  const char *name = scheme ? json_string_value(scheme) : "always";
  if (!name || (strcmp(name, "always") != 0 && strcmp(name, "first") != 0 && strcmp(name, "never") != 0))
    return mg_fail(context, MG_FILE, "'prepend_scheme' must be always, first or never");
  bool add_prefix_space;
  MG_TRY(mg__stage_read_bool(context, json, "add_prefix_space", true, &add_prefix_space));
  stage->prepend = add_prefix_space && strcmp(name, "never") != 0 ? MG__PREPEND_ALWAYS : MG__PREPEND_NEVER;
  return MG_OK;
}

/* The mark is a space again, but nothing in the first token if one was put there. */
static mg_status run_metaspace(const mg__stage *stage, mg__flow *flow) {
  const mg_text *mark = &stage->literal;
  for (size_t i = 0; i < flow->in.count; i++) {
    const mg__piece *piece = &flow->in.pieces[i];
    const char *text = mg__piece_text(flow, piece);
    const size_t start = mg__flow_begin(flow), space = i == 0 && stage->prepend != MG__PREPEND_NEVER ? 0 : 1;
    for (size_t at = 0; at < piece->bytes;) {
      const bool here = piece->bytes - at >= mark->count && memcmp(text + at, mark->bytes, mark->count) == 0;
      MG_TRY(mg__text_add(flow->context, &flow->out.text, here ? " " : text + at, here ? space : 1));
      at += here ? mark->count : 1;
    }
    MG_TRY(mg__flow_end(flow, start, 0));
  }
  return MG_OK;
}

static const mg__stage_kind kinds[] = {
    {"ByteLevel", " add_prefix_space trim_offsets use_regex ", read_byte_level, run_byte_level, NULL, NULL},
    {"ByteFallback", "", NULL, run_byte_fallback, NULL, NULL},
    {"Fuse", "", NULL, run_fuse, NULL, NULL},
    {"Strip", " content start stop ", read_strip, NULL, run_strip, NULL},
    {"Replace", mg__replace_keys, mg__stage_read_replace, NULL, mg__stage_replace, NULL},
    {"Metaspace", " replacement prepend_scheme split add_prefix_space str_rep ", read_metaspace, run_metaspace, NULL,
     NULL},
};

mg_status mg__decoders_read(mg_context *context, const json_t *json, mg__stage_list *list) {
  return mg__stages_read(context, json, kinds, sizeof kinds / sizeof *kinds, "decoders", list);
}
