/* Added tokens: found in the text before anything else is done with it, the longest at the leftmost place first. */
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

enum { CONTENT_BYTES_MOST = 1024 };

#define WORD "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]"

static mg_status read_flag(mg_context *context, const json_t *json, const char *key, bool *out) {
  if (!json_object_get(json, key)) return mg_fail(context, MG_FILE, "'%s' is missing", key);
  return mg__stage_read_bool(context, json, key, false, out);
}

static mg_status read_token(mg_context *context, const json_t *json, mg__added_token *token) {
  MG_TRY(mg__keys_check(context, json, " id content single_word lstrip rstrip normalized special "));
  MG_TRY(mg__stage_read_text(context, json, "content", &token->content));
  if (token->content.count == 0 || token->content.count > CONTENT_BYTES_MOST)
    return mg_fail(context, MG_FILE, "'content' must have 1 to %d bytes", CONTENT_BYTES_MOST);
  const json_t *id = json_object_get(json, "id");
  if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX - 1)
    return mg_fail(context, MG_FILE, "'id' must be an integer from 0");
  token->id = (int32_t)json_integer_value(id);
  MG_TRY(read_flag(context, json, "single_word", &token->single_word));
  MG_TRY(read_flag(context, json, "lstrip", &token->left));
  MG_TRY(read_flag(context, json, "rstrip", &token->right));
  MG_TRY(read_flag(context, json, "normalized", &token->normalized));
  return read_flag(context, json, "special", &token->special);
}

mg_status mg__added_read(mg_context *context, const json_t *json, mg__added *added) {
  if (!json || json_is_null(json)) return MG_OK;
  if (!json_is_array(json)) return mg_fail(context, MG_FILE, "'added_tokens' must be a list");
  MG_TRY(MG_VECTOR_RESERVE(context, added->tokens, added->room, json_array_size(json)));
  size_t i;
  const json_t *item;
  json_array_foreach(json, i, item) {
    mg__added_token *token = &added->tokens[added->count++];
    *token = (mg__added_token){0};
    const mg_status status = read_token(context, item, token);
    if (status != MG_OK) return mg_fail_where(context, status, "[%zu]", i);
  }
  return MG_OK;
}

/* Notes what the normalisers make of the token's content. */
static mg_status normalise(mg__added *added, mg__added_token *token, const mg__stage_list *normalizers,
                           mg__flow *flow) {
  const mg_text *content = &token->content, *made = &flow->in.text;
  flow->in.count = flow->in.text.count = flow->out.count = flow->out.text.count = 0;
  MG_TRY(mg__flow_emit(flow, content->bytes, content->count, content->count, MG__PIECE_TEXT));
  mg__flow_turn(flow);
  MG_TRY(mg__stages_run(normalizers, flow));
  if (made->count == 0)
    return mg_fail(flow->context, MG_FILE, "'%.*s' is empty after the normalizer", (int)content->count, content->bytes);
  if (made->count == content->count && memcmp(made->bytes, content->bytes, made->count) == 0) return MG_OK;
  added->respelt++;
  return mg__text_add(flow->context, &token->spelling, made->bytes, made->count);
}

mg_token_text mg__added_spelling(const mg__added *added, int32_t id, mg_token_text own) {
  for (size_t i = 0; added->respelt && i < added->count; i++) {
    const mg__added_token *token = &added->tokens[i];
    if (token->id == id && token->spelling.count) return (mg_token_text){token->spelling.bytes, token->spelling.count};
  }
  return own;
}

/* Builds the trie of the tokens with this value of `normalized`. */
static mg_status build_trie(mg__added *added, bool normalized, const mg__stage_list *normalizers, mg__flow *flow,
                            mg__trie_entry *entries) {
  size_t count = 0;
  for (size_t i = 0; i < added->count; i++) {
    mg__added_token *token = &added->tokens[i];
    if (token->normalized != normalized) continue;
    if (normalized) MG_TRY(normalise(added, token, normalizers, flow));
    const mg_text *searched = token->spelling.count ? &token->spelling : &token->content;
    entries[count++] = (mg__trie_entry){searched->bytes, searched->count, (int32_t)i};
  }
  return mg__trie_build(flow->context, entries, count, normalized ? &added->normalized : &added->raw);
}

mg_status mg__added_prepare(mg__added *added, const mg__stage_list *normalizers, mg__flow *flow) {
  if (added->count == 0) return MG_OK;
  MG_TRY(mg__pattern_create(flow->context, WORD, &added->word));
  mg__trie_entry *entries = mg_alloc(flow->context, added->count * sizeof *entries);
  if (!entries) return MG_MEMORY;
  mg_status status = build_trie(added, false, normalizers, flow, entries);
  if (status == MG_OK) status = build_trie(added, true, normalizers, flow, entries);
  mg_free(flow->context, entries, added->count * sizeof *entries);
  return status;
}

void mg__added_release(mg_context *context, mg__added *added) {
  for (size_t i = 0; i < added->count; i++) {
    mg_text_free(context, &added->tokens[i].content);
    mg_text_free(context, &added->tokens[i].spelling);
  }
  MG_VECTOR_FREE(context, added->tokens, added->room);
  mg__trie_release(context, &added->raw);
  mg__trie_release(context, &added->normalized);
  mg__pattern_destroy(added->word);
}

/* ---- finding ---- */

/* The longest token that begins at `at`; its index, or -1, and its end. */
static int32_t longest(const mg__trie *trie, const char *text, size_t bytes, size_t at, size_t *end) {
  int32_t found = -1;
  uint32_t node = 0;
  while (at < bytes && (node = mg__trie_step(trie, node, (unsigned char)text[at++])) != 0)
    if (trie->nodes[node].value >= 0) {
      found = trie->nodes[node].value;
      *end = at;
    }
  return found;
}

static mg_status is_word(const mg__added *added, const char *character, size_t bytes, bool *word) {
  mg__match match;
  MG_TRY(mg__pattern_find(added->word, character, bytes, 0, false, &match));
  *word = match.found;
  return MG_OK;
}

/* True if neither neighbour of text[start .. end) is part of a word. */
static mg_status stands_alone(const mg__added *added, const char *text, size_t bytes, size_t start, size_t end,
                              bool *alone) {
  bool left = false, right = false;
  size_t at = start;
  while (at > 0 && ((unsigned char)text[--at] & 0xc0) == 0x80) continue;
  if (start > 0) MG_TRY(is_word(added, text + at, start - at, &left));
  if (end < bytes) MG_TRY(is_word(added, text + end, mg__utf8_bytes(text + end, bytes - end), &right));
  *alone = !left && !right;
  return MG_OK;
}

static mg_status find_in(const mg__added *added, const mg__trie *trie, mg__flow *flow, const mg__piece *piece) {
  const char *text = mg__piece_text(flow, piece);
  const size_t bytes = piece->bytes;
  size_t covered = 0, match_end = 0;
  for (size_t at = 0; at < bytes; at = match_end) {
    const int32_t index = longest(trie, text, bytes, at, &match_end);
    if (index < 0) {
      match_end = at + 1;
      continue;
    }
    const mg__added_token *token = &added->tokens[index];
    size_t start = at, end = match_end;
    bool wanted = !(token->special && (flow->flags & MG_ENCODE_SPECIAL_AS_TEXT));
    if (wanted && token->single_word) MG_TRY(stands_alone(added, text, bytes, start, end, &wanted));
    if (!wanted) continue;
    if (token->left) start -= mg__trailing_space(text, start);
    if (token->left && start < covered) start = covered;
    if (token->right) end += mg__leading_space(text + end, bytes - end);
    if (start > covered)
      MG_TRY(mg__flow_emit(flow, text + covered, start - covered, piece->head > covered ? piece->head - covered : 0,
                           MG__PIECE_TEXT));
    MG_TRY(mg__flow_emit(flow, "", 0, 0, token->id));
    covered = end;
  }
  if (covered >= bytes) return MG_OK;
  return mg__flow_emit(flow, text + covered, bytes - covered, piece->head > covered ? piece->head - covered : 0,
                       MG__PIECE_TEXT);
}

mg_status mg__added_find(const mg__added *added, const mg__trie *trie, mg__flow *flow) {
  if (trie->count == 0) return MG_OK;
  for (size_t i = 0; i < flow->in.count; i++) {
    const mg__piece piece = flow->in.pieces[i];
    MG_TRY(piece.id == MG__PIECE_TEXT
               ? find_in(added, trie, flow, &piece)
               : mg__flow_emit(flow, mg__piece_text(flow, &piece), piece.bytes, piece.head, piece.id));
  }
  mg__flow_turn(flow);
  return MG_OK;
}
