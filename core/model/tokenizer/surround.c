/* Post-processors: which tokens go before and after a text. Templates for pairs of texts are read and not used. */
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

enum { NESTING_MOST = 8 };

static mg_status read_id(mg_context *context, const json_t *json, mg_token_list *list) {
  if (!json_is_integer(json) || json_integer_value(json) < 0 || json_integer_value(json) > INT32_MAX - 1)
    return mg_fail(context, MG_FILE, "an id must be an integer from 0");
  return mg__token_list_append(context, list, (int32_t)json_integer_value(json));
}

/* Appends the ids that a special token of the template stands for. */
static mg_status read_special(mg_context *context, const json_t *specials, const json_t *piece, mg_token_list *list) {
  const char *name = json_string_value(json_object_get(piece, "id"));
  const json_t *special = name ? json_object_get(specials, name) : NULL;
  const json_t *ids = json_object_get(special, "ids");
  if (!json_is_array(ids))
    return mg_fail(context, MG_FILE, "the template's token '%.64s' is not among 'special_tokens'", name ? name : "");
  MG_TRY(mg__keys_check(context, special, " id ids tokens "));
  size_t i;
  const json_t *id;
  json_array_foreach(ids, i, id) MG_TRY(read_id(context, id, list));
  return MG_OK;
}

static mg_status read_piece(mg_context *context, const json_t *specials, const json_t *item, mg__surround *found,
                            bool *inside) {
  const json_t *special = json_object_get(item, "SpecialToken"), *text = json_object_get(item, "Sequence");
  if (json_object_size(item) != 1 || (!special && !text))
    return mg_fail(context, MG_FILE, "a template holds {\"SpecialToken\": ...} and {\"Sequence\": ...}");
  if (special) return read_special(context, specials, special, *inside ? &found->after : &found->before);
  const char *which = json_string_value(json_object_get(text, "id"));
  if (*inside || !which || strcmp(which, "A") != 0)
    return mg_fail(context, MG_FILE, "the template 'single' must hold the sequence A once");
  *inside = true;
  return MG_OK;
}

static mg_status read_template(mg_context *context, const json_t *json, mg__surround *found) {
  MG_TRY(mg__keys_check(context, json, " single pair special_tokens "));
  const json_t *single = json_object_get(json, "single"), *specials = json_object_get(json, "special_tokens");
  if (!json_is_array(single) || !json_is_array(json_object_get(json, "pair")) || !json_is_object(specials))
    return mg_fail(context, MG_FILE, "'single' and 'pair' must be lists and 'special_tokens' an object");
  bool inside = false;
  size_t i;
  const json_t *item;
  json_array_foreach(single, i, item) MG_TRY(read_piece(context, specials, item, found, &inside));
  return inside ? MG_OK : mg_fail(context, MG_FILE, "the template 'single' must hold the sequence A once");
}

/* BertProcessing and RobertaProcessing: "cls" before, "sep" after, each [token, id]. */
static mg_status read_ends(mg_context *context, const json_t *json, mg__surround *found) {
  MG_TRY(mg__keys_check(context, json, " cls sep trim_offsets add_prefix_space "));
  MG_TRY(read_id(context, json_array_get(json_object_get(json, "cls"), 1), &found->before));
  return read_id(context, json_array_get(json_object_get(json, "sep"), 1), &found->after);
}

static mg_status append_all(mg_context *context, mg_token_list *to, const mg_token_list *from) {
  for (size_t i = 0; i < from->count; i++) MG_TRY(mg__token_list_append(context, to, from->ids[i]));
  return MG_OK;
}

/* Puts `outer` around what `surround` has put. */
static mg_status wrap(mg_context *context, mg__surround *surround, mg__surround *outer) {
  MG_TRY(append_all(context, &outer->before, &surround->before));
  MG_TRY(append_all(context, &surround->after, &outer->after));
  const mg_token_list inner = surround->before;
  surround->before = outer->before;
  outer->before = inner;
  return MG_OK;
}

static mg_status read_any(mg_context *context, const json_t *json, mg__surround *surround, int depth);

static mg_status read_sequence(mg_context *context, const json_t *json, mg__surround *surround, int depth) {
  const json_t *members = json_object_get(json, "processors");
  MG_TRY(mg__keys_check(context, json, " processors "));
  if (!json_is_array(members)) return mg_fail(context, MG_FILE, "'processors' must be a list");
  if (depth == NESTING_MOST) return mg_fail(context, MG_FILE, "sequences nest deeper than %d", NESTING_MOST);
  size_t i;
  const json_t *member;
  json_array_foreach(members, i, member) {
    const mg_status status = read_any(context, member, surround, depth + 1);
    if (status != MG_OK) return mg_fail_where(context, status, "processors[%zu]", i);
  }
  return MG_OK;
}

static mg_status read_outer(mg_context *context, const json_t *json, mg__surround *outer) {
  const char *type = mg__type_of(json);
  if (strcmp(type, "TemplateProcessing") == 0) return read_template(context, json, outer);
  if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0)
    return read_ends(context, json, outer);
  if (strcmp(type, "ByteLevel") == 0) /* concerns offsets alone */
    return mg__keys_check(context, json, " add_prefix_space trim_offsets use_regex ");
  return mg_fail(context, MG_FILE,
                 "the type '%.64s' is not known; known are Sequence, TemplateProcessing, ByteLevel, BertProcessing, "
                 "RobertaProcessing",
                 type);
}

static mg_status read_any(mg_context *context, const json_t *json, mg__surround *surround, int depth) {
  if (strcmp(mg__type_of(json), "Sequence") == 0) return read_sequence(context, json, surround, depth);
  mg__surround outer = {0};
  mg_status status = read_outer(context, json, &outer);
  if (status == MG_OK) status = wrap(context, surround, &outer);
  mg_token_list_free(context, &outer.before);
  mg_token_list_free(context, &outer.after);
  return status;
}

mg_status mg__surround_read(mg_context *context, const json_t *json, mg__surround *surround) {
  return json && !json_is_null(json) ? read_any(context, json, surround, 0) : MG_OK;
}
