/* Stages: how they run over pieces, and how they are read from a file, where nothing unknown is passed over. */
#include <stdio.h>
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

enum { STAGES_MOST = 64, NESTING_MOST = 8 };

/* ---- running ---- */

static mg_status run_pieces(const mg__stage *stage, mg__flow *flow) {
  for (size_t i = 0; i < flow->in.count; i++) {
    const mg__piece piece = flow->in.pieces[i];
    if (piece.id == MG__PIECE_TEXT)
      MG_TRY(stage->kind->run_piece(stage, flow, &piece));
    else
      MG_TRY(mg__flow_emit(flow, mg__piece_text(flow, &piece), piece.bytes, piece.head, piece.id));
  }
  return MG_OK;
}

/* The most that a stage may make of a text. NFKD and then a byte-level vocabulary make 22 bytes of one; a short text may
 * get a long beginning. */
static size_t most_of(size_t bytes) {
  enum { FACTOR = 64, ALWAYS = 1 << 20 };
  return bytes > (SIZE_MAX - ALWAYS) / FACTOR ? SIZE_MAX : bytes * FACTOR + ALWAYS;
}

mg_status mg__stages_run(const mg__stage_list *list, mg__flow *flow) {
  flow->bytes_most = most_of(flow->in.text.count);
  for (size_t i = 0; i < list->count; i++) {
    const mg__stage *stage = &list->stages[i];
    MG_TRY(stage->kind->run ? stage->kind->run(stage, flow) : run_pieces(stage, flow));
    MG_TRY(mg__flow_check(flow));
    mg__flow_turn(flow);
  }
  return MG_OK;
}

void mg__stages_release(mg_context *context, mg__stage_list *list) {
  for (size_t i = 0; i < list->count; i++) {
    mg__stage *stage = &list->stages[i];
    mg__pattern_destroy(stage->pattern);
    mg__charsmap_destroy(context, stage->charsmap);
    mg_text_free(context, &stage->literal);
    mg_text_free(context, &stage->content);
  }
  MG_VECTOR_FREE(context, list->stages, list->room);
}

/* ---- reading ---- */

const char *mg__type_of(const json_t *json) {
  const char *type = json_string_value(json_object_get(json, "type"));
  return type ? type : "";
}

mg_status mg__keys_check(mg_context *context, const json_t *json, const char *keys) {
  if (!json_is_object(json)) return mg_fail(context, MG_FILE, "an object {\"type\": ...} was expected");
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)json, key, value) {
    char wanted[68];
    const int length = snprintf(wanted, sizeof wanted, " %s ", key);
    if (strcmp(key, "type") != 0 && (length >= (int)sizeof wanted || strchr(key, ' ') || !strstr(keys, wanted)))
      return mg_fail(context, MG_FILE, "the option '%.64s' is not known; known are:%s", key, *keys ? keys : " none");
  }
  return MG_OK;
}

static const mg__stage_kind *find_kind(const mg__stage_kind *kinds, size_t count, const char *type) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(kinds[i].type, type) == 0) return &kinds[i];
  return NULL;
}

static mg_status refuse_type(mg_context *context, const mg__stage_kind *kinds, size_t count, const char *type) {
  char known[512];
  size_t used = 0;
  for (size_t i = 0; i < count && used < sizeof known; i++) {
    const int length = snprintf(known + used, sizeof known - used, ", %s", kinds[i].type);
    if (length > 0) used += (size_t)length;
  }
  return mg_fail(context, MG_FILE, "the type '%.64s' is not known; known are Sequence%s", type, known);
}

static mg_status read_stage(mg_context *context, const json_t *json, const mg__stage_kind *kind, mg__stage_list *list) {
  if (list->count == STAGES_MOST) return mg_fail(context, MG_FILE, "more than %d stages", STAGES_MOST);
  MG_TRY(MG_VECTOR_RESERVE(context, list->stages, list->room, list->count + 1));
  mg__stage *stage = &list->stages[list->count++];
  *stage = (mg__stage){.kind = kind};
  MG_TRY(mg__keys_check(context, json, kind->keys));
  if (kind->pattern) MG_TRY(mg__pattern_create(context, kind->pattern, &stage->pattern));
  return kind->read ? kind->read(context, stage, json) : MG_OK;
}

typedef struct reader {
  mg_context *context;
  const mg__stage_kind *kinds;
  size_t kinds_count;
  const char *members;
  mg__stage_list *list;
} reader;

static mg_status read_any(const reader *in, const json_t *json, int depth);

static mg_status read_sequence(const reader *in, const json_t *json, int depth) {
  const json_t *members = json_object_get(json, in->members);
  char keys[32];
  snprintf(keys, sizeof keys, " %s ", in->members);
  MG_TRY(mg__keys_check(in->context, json, keys));
  if (!json_is_array(members)) return mg_fail(in->context, MG_FILE, "'%s' must be a list", in->members);
  if (depth == NESTING_MOST) return mg_fail(in->context, MG_FILE, "sequences nest deeper than %d", NESTING_MOST);
  size_t i;
  const json_t *member;
  json_array_foreach(members, i, member) {
    const mg_status status = read_any(in, member, depth + 1);
    if (status != MG_OK) return mg_fail_where(in->context, status, "%s[%zu]", in->members, i);
  }
  return MG_OK;
}

static mg_status read_any(const reader *in, const json_t *json, int depth) {
  const char *type = mg__type_of(json);
  if (strcmp(type, "Sequence") == 0) return read_sequence(in, json, depth);
  const mg__stage_kind *kind = find_kind(in->kinds, in->kinds_count, type);
  if (!kind) return refuse_type(in->context, in->kinds, in->kinds_count, type);
  const mg_status status = read_stage(in->context, json, kind, in->list);
  return status == MG_OK ? MG_OK : mg_fail_where(in->context, status == MG_USAGE ? MG_FILE : status, "%s", type);
}

mg_status mg__stages_read(mg_context *context, const json_t *json, const mg__stage_kind *kinds, size_t kinds_count,
                          const char *members, mg__stage_list *list) {
  if (!json || json_is_null(json)) return MG_OK;
  return read_any(&(reader){context, kinds, kinds_count, members, list}, json, 0);
}

mg_status mg__stage_read_bool(mg_context *context, const json_t *json, const char *key, bool missing, bool *out) {
  const json_t *value = json_object_get(json, key);
  *out = value ? json_is_true(value) : missing;
  if (value && !json_is_boolean(value)) return mg_fail(context, MG_FILE, "'%s' must be true or false", key);
  return MG_OK;
}

mg_status mg__stage_read_text(mg_context *context, const json_t *json, const char *key, mg_text *out) {
  const json_t *value = json_object_get(json, key);
  if (!json_is_string(value)) return mg_fail(context, MG_FILE, "'%s' must be a string", key);
  if (json_string_length(value) > MG__TOKEN_BYTES_MOST)
    return mg_fail(context, MG_FILE, "'%s' is longer than %d bytes", key, MG__TOKEN_BYTES_MOST);
  return mg__text_add(context, out, json_string_value(value), json_string_length(value));
}

mg_status mg__stage_read_character(mg_context *context, const json_t *json, const char *key, mg_text *out) {
  MG_TRY(mg__stage_read_text(context, json, key, out));
  if (out->count == 0 || mg__utf8_bytes(out->bytes, out->count) != out->count)
    return mg_fail(context, MG_FILE, "'%s' must be one character", key);
  return MG_OK;
}
