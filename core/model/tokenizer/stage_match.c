/* What stages do with patterns: find all matches, replace them. */
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

static mg_status read_regex(mg_context *context, mg__stage *stage, const json_t *regex) {
  mg_text pattern = {0};
  mg_status status = mg__oniguruma_translate(context, json_string_value(regex), json_string_length(regex), &pattern);
  if (status == MG_OK) status = mg__text_add(context, &pattern, "", 1); /* the NUL */
  if (status == MG_OK) status = mg__pattern_create(context, pattern.bytes, &stage->pattern);
  mg_text_free(context, &pattern);
  return status == MG_USAGE ? MG_FILE : status;
}

mg_status mg__stage_read_pattern(mg_context *context, mg__stage *stage, const json_t *json) {
  const json_t *pattern = json_object_get(json, "pattern");
  const json_t *literal = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
  if (json_object_size(pattern) != 1 || (!json_is_string(literal) && !json_is_string(regex)))
    return mg_fail(context, MG_FILE, "'pattern' must be {\"String\": \"...\"} or {\"Regex\": \"...\"}");
  if (regex) return read_regex(context, stage, regex);
  MG_TRY(mg__stage_read_text(context, pattern, "String", &stage->literal));
  return stage->literal.count ? MG_OK : mg_fail(context, MG_FILE, "'pattern' is empty");
}

const char mg__replace_keys[] = " pattern content ";

mg_status mg__stage_read_replace(mg_context *context, mg__stage *stage, const json_t *json) {
  MG_TRY(mg__stage_read_pattern(context, stage, json));
  return mg__stage_read_text(context, json, "content", &stage->content);
}

static mg_status find_from(const mg__stage *stage, const char *text, size_t bytes, size_t from, mg__match *match) {
  if (stage->pattern) return mg__pattern_find(stage->pattern, text, bytes, from, true, match);
  const char *at = memmem(text + from, bytes - from, stage->literal.bytes, stage->literal.count);
  const size_t start = at ? (size_t)(at - text) : bytes;
  *match = (mg__match){start, at ? start + stage->literal.count : bytes, at != NULL};
  return MG_OK;
}

static mg_status add_segment(mg__flow *flow, size_t start, size_t end, bool match) {
  MG_TRY(MG_VECTOR_RESERVE(flow->context, flow->segments, flow->segments_room, flow->segments_count + 1));
  flow->segments[flow->segments_count++] = (mg__segment){start, end, match};
  return MG_OK;
}

/* Like the search of the library that defines this: an empty match is kept unless it directly follows a match. */
mg_status mg__stage_find_all(const mg__stage *stage, mg__flow *flow, const char *text, size_t bytes) {
  size_t from = 0, covered = 0, last_end = SIZE_MAX;
  const size_t last_start = stage->pattern && mg__pattern_matches_empty(stage->pattern) ? bytes : bytes - 1;
  flow->segments_count = 0;
  while (bytes > 0 && from <= last_start) {
    mg__match match;
    MG_TRY(find_from(stage, text, bytes, from, &match));
    if (!match.found) break;
    if (match.start == match.end && match.end == last_end) {
      from += from < bytes ? mg__utf8_bytes(text + from, bytes - from) : 1;
      continue;
    }
    if (match.start > covered) MG_TRY(add_segment(flow, covered, match.start, false));
    MG_TRY(add_segment(flow, match.start, match.end, true));
    from = covered = last_end = match.end;
  }
  return covered < bytes ? add_segment(flow, covered, bytes, false) : MG_OK;
}

/* Replaces in valid UTF-8; *head, the leading bytes of `text` from the input's first character, becomes the output's. */
static mg_status replace_valid(const mg__stage *stage, mg__flow *flow, const char *text, size_t bytes, size_t *head) {
  mg_text *out = &flow->out.text;
  const size_t begin = out->count, old_head = *head;
  MG_TRY(mg__stage_find_all(stage, flow, text, bytes));
  *head = 0;
  for (size_t i = 0; i < flow->segments_count; i++) {
    const mg__segment segment = flow->segments[i];
    if (segment.match) {
      MG_TRY(mg__text_add(flow->context, out, stage->content.bytes, stage->content.count));
      MG_TRY(mg__flow_check(flow));
      if (segment.end <= old_head) *head = out->count - begin;
    } else {
      MG_TRY(mg__text_add(flow->context, out, text + segment.start, segment.end - segment.start));
      if (segment.start < old_head) *head = out->count - begin - (segment.end > old_head ? segment.end - old_head : 0);
    }
  }
  return MG_OK;
}

mg_status mg__stage_replace(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  const size_t start = mg__flow_begin(flow);
  const char *text = mg__piece_text(flow, piece);
  size_t head = piece->head;
  for (size_t at = 0; at < piece->bytes;) { /* decoded text may hold halves of characters */
    bool valid;
    const size_t length = mg__utf8_stretch(text + at, piece->bytes - at, &valid);
    size_t stretch_head = at == 0 ? head : 0;
    MG_TRY(valid ? replace_valid(stage, flow, text + at, length, &stretch_head)
                 : mg__text_add(flow->context, &flow->out.text, text + at, length));
    if (at == 0) head = stretch_head;
    at += length;
  }
  return mg__flow_end(flow, start, head);
}
