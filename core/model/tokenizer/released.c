/* The tokenizer of a released model: reads a tokenizer.json, where everything unknown is refused by its name, and runs
 * its stages. */
#include <stdlib.h>
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

enum { GAP_MOST = 1 << 16, FLOW_KEPT_BYTES = 1 << 20 };

typedef struct released {
  mg_tokenizer base;
  char *source; /* the file, as JSON without blanks */
  mg__token_map map;
  mg__model *model;
  mg__stage_list normalizers, pre_tokenizers, decoders;
  bool decodes; /* the file has a decoder; without one tokens are joined by spaces */
  mg__added added;
  mg__surround surround;
  mg__flow flow;
} released;

/* ---- encoding ---- */

/* Lays the text down as pieces: valid UTF-8 and what is not. */
static mg_status start_flow(mg__flow *flow, const char *text, size_t bytes) {
  flow->in.count = flow->in.text.count = flow->out.count = flow->out.text.count = 0;
  for (size_t at = 0; at < bytes;) {
    bool valid;
    const size_t length = mg__utf8_stretch(text + at, bytes - at, &valid);
    const size_t head = at == 0 && valid ? mg__utf8_bytes(text, length) : 0;
    MG_TRY(mg__flow_emit(flow, text + at, length, head, valid ? MG__PIECE_TEXT : MG__PIECE_RAW));
    at += length;
  }
  mg__flow_turn(flow);
  return MG_OK;
}

static mg_status encode_pieces(released *self, mg_token_list *list) {
  const mg__flow *flow = &self->flow;
  mg__model *model = self->model;
  for (size_t i = 0; i < flow->in.count; i++) {
    const mg__piece *piece = &flow->in.pieces[i];
    const char *text = mg__piece_text(flow, piece);
    if (piece->id >= 0)
      MG_TRY(mg__token_list_append(self->base.context, list, piece->id));
    else if (piece->id == MG__PIECE_RAW)
      MG_TRY(model->kind->encode_raw(model, text, piece->bytes, list));
    else
      MG_TRY(model->kind->encode(model, text, piece->bytes, list));
  }
  return MG_OK;
}

static mg_status append_all(mg_context *context, mg_token_list *list, const mg_token_list *added, unsigned flags) {
  for (size_t i = 0; (flags & MG_ENCODE_ADD_SPECIAL) && i < added->count; i++)
    MG_TRY(mg__token_list_append(context, list, added->ids[i]));
  return MG_OK;
}

/* A long text's scratch is given back. */
static void trim_flow(mg__flow *flow) {
  if (flow->in.text.room + flow->out.text.room < FLOW_KEPT_BYTES) return;
  mg__flow_release(flow);
  *flow = (mg__flow){.context = flow->context};
}

static mg_status run_stages(released *self, const char *text, size_t bytes) {
  mg__flow *flow = &self->flow;
  MG_TRY(start_flow(flow, text, bytes));
  MG_TRY(mg__added_find(&self->added, &self->added.raw, flow));
  MG_TRY(mg__stages_run(&self->normalizers, flow));
  MG_TRY(mg__added_find(&self->added, &self->added.normalized, flow));
  return mg__stages_run(&self->pre_tokenizers, flow);
}

static mg_status released_encode(mg_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags,
                                 mg_token_list *list) {
  released *self = (released *)tokenizer;
  self->flow.flags = flags;
  self->flow.keep_empty = false;
  mg_status status = append_all(tokenizer->context, list, &self->surround.before, flags);
  if (status == MG_OK) status = run_stages(self, text, bytes);
  if (status == MG_OK) status = encode_pieces(self, list);
  if (status == MG_OK) status = append_all(tokenizer->context, list, &self->surround.after, flags);
  trim_flow(&self->flow);
  return status == MG_USAGE ? MG_FILE : status; /* a pattern that is too slow is the file's */
}

/* ---- decoding ---- */

static mg_status join(released *self, mg_text *text) {
  const mg__piece_list *tokens = &self->flow.in;
  for (size_t i = 0; i < tokens->count; i++) {
    if (!self->decodes && i > 0) MG_TRY(mg__text_add(self->base.context, text, " ", 1));
    const mg__piece *piece = &tokens->pieces[i];
    MG_TRY(mg__text_add(self->base.context, text, mg__piece_text(&self->flow, piece), piece->bytes));
  }
  return MG_OK;
}

static mg_status run_decoders(released *self, const int32_t *ids, int64_t count, unsigned flags, mg_text *text) {
  mg__flow *flow = &self->flow;
  flow->in.count = flow->in.text.count = flow->out.count = flow->out.text.count = 0;
  flow->keep_empty = true;
  for (int64_t i = 0; i < count; i++) {
    const mg_token_text token = mg_tokenizer_token(&self->base, ids[i]);
    if (token.count == 0 || ((flags & MG_DECODE_SKIP_SPECIAL) && mg_tokenizer_is_special(&self->base, ids[i])))
      continue;
    const mg_token_text spelling = mg__added_spelling(&self->added, ids[i], token);
    MG_TRY(mg__flow_emit(flow, spelling.bytes, spelling.count, 0, MG__PIECE_TEXT));
  }
  mg__flow_turn(flow);
  MG_TRY(mg__stages_run(&self->decoders, flow));
  return join(self, text);
}

static mg_status released_decode(mg_tokenizer *tokenizer, const int32_t *ids, int64_t count, unsigned flags,
                                 mg_text *text) {
  released *self = (released *)tokenizer;
  const mg_status status = run_decoders(self, ids, count, flags, text);
  trim_flow(&self->flow);
  return status == MG_USAGE ? MG_FILE : status;
}

/* ---- life ---- */

static bool released_to_json(const mg_tokenizer *tokenizer, json_t *object) {
  const released *self = (const released *)tokenizer;
  json_t *source = json_loads(self->source, JSON_ALLOW_NUL, NULL);
  return source && json_object_set_new(object, "tokenizer", source) == 0;
}

static void released_release(mg_tokenizer *tokenizer) {
  released *self = (released *)tokenizer;
  mg_context *context = tokenizer->context;
  if (self->model) self->model->kind->destroy(self->model);
  mg__token_map_release(context, &self->map);
  mg__stages_release(context, &self->normalizers);
  mg__stages_release(context, &self->pre_tokenizers);
  mg__stages_release(context, &self->decoders);
  mg__added_release(context, &self->added);
  mg_token_list_free(context, &self->surround.before);
  mg_token_list_free(context, &self->surround.after);
  mg__flow_release(&self->flow);
  free(self->source);
}

static const mg__tokenizer_kind released_kind = {.name = "released",
                                                 .encode = released_encode,
                                                 .decode = released_decode,
                                                 .to_json = released_to_json,
                                                 .release = released_release};

/* ---- reading the vocabulary ---- */

typedef struct vocabulary {
  mg_context *context;
  mg_token_text *tokens; /* by id; bytes NULL = no token has it */
  size_t count, room;
  int32_t *ids; /* of the model's own tokens */
  size_t ids_count, ids_room;
} vocabulary;

static mg_status grow(vocabulary *v, size_t count) {
  if (count <= v->count) return MG_OK;
  MG_TRY(MG_VECTOR_RESERVE(v->context, v->tokens, v->room, count));
  memset(v->tokens + v->count, 0, (count - v->count) * sizeof *v->tokens);
  v->count = count;
  return MG_OK;
}

static mg_status add_own(vocabulary *v, json_int_t id, const char *text, size_t bytes, size_t tokens) {
  if (id < 0 || (size_t)id >= tokens + GAP_MOST || id >= INT32_MAX / 4)
    return mg_fail(v->context, MG_FILE, "vocab: '%.64s' has the id %lld; %zu tokens have ids from 0 to %zu", text,
                   (long long)id, tokens, tokens + GAP_MOST - 1);
  if (bytes > MG__TOKEN_BYTES_MOST)
    return mg_fail(v->context, MG_FILE, "vocab: token %lld has %zu bytes; the most is %d", (long long)id, bytes,
                   MG__TOKEN_BYTES_MOST);
  MG_TRY(grow(v, (size_t)id + 1));
  if (v->tokens[id].bytes)
    return mg_fail(v->context, MG_FILE, "vocab: '%.64s' and '%.*s' both have the id %lld", text,
                   (int)v->tokens[id].count, v->tokens[id].bytes, (long long)id);
  v->tokens[id] = (mg_token_text){text, bytes};
  v->ids[v->ids_count++] = (int32_t)id;
  return MG_OK;
}

/* {"token": id} (BPE) */
static mg_status collect_object(vocabulary *v, const json_t *json) {
  const size_t tokens = json_object_size(json);
  const char *text;
  json_t *id;
  json_object_foreach((json_t *)json, text, id) {
    if (!json_is_integer(id)) return mg_fail(v->context, MG_FILE, "vocab: '%.64s' has no id", text);
    MG_TRY(add_own(v, json_integer_value(id), text, strlen(text), tokens));
  }
  return MG_OK;
}

/* [["token", score]] by id (Unigram, SentencePieceBPE) */
static mg_status collect_array(vocabulary *v, const json_t *json) {
  size_t i;
  const json_t *entry;
  json_array_foreach(json, i, entry) {
    const json_t *text = json_array_get(entry, 0);
    if (!json_is_string(text) || json_array_size(entry) != 2)
      return mg_fail(v->context, MG_FILE, "vocab[%zu] is not [\"token\", score]", i);
    MG_TRY(add_own(v, (json_int_t)i, json_string_value(text), json_string_length(text), json_array_size(json)));
  }
  return MG_OK;
}

static mg_status collect_own(vocabulary *v, const json_t *json, bool object) {
  if (object ? !json_is_object(json) : !json_is_array(json))
    return mg_fail(v->context, MG_FILE, "'vocab' must be %s", object ? "an object {\"token\": id}" : "a list");
  const size_t tokens = object ? json_object_size(json) : json_array_size(json);
  if (tokens == 0) return mg_fail(v->context, MG_FILE, "'vocab' is empty");
  MG_TRY(MG_VECTOR_RESERVE(v->context, v->ids, v->ids_room, tokens));
  return object ? collect_object(v, json) : collect_array(v, json);
}

/* The id of the model's own token that is spelt like an added one; the file must agree. Added tokens that are not in the
 * model's vocabulary are numbered on from the number of its tokens, in the order of the file. */
static mg_status collect_added(vocabulary *v, const mg__added *added) {
  for (size_t i = 0; i < added->count; i++) {
    const mg__added_token *token = &added->tokens[i];
    const size_t id = (size_t)token->id;
    if (id >= v->ids_count + added->count + GAP_MOST)
      return mg_fail(v->context, MG_FILE, "added_tokens[%zu]: the id %zu lies far beyond the vocabulary", i, id);
    MG_TRY(grow(v, id + 1));
    const mg_token_text own = v->tokens[id];
    if (own.bytes && (own.count != token->content.count || memcmp(own.bytes, token->content.bytes, own.count) != 0))
      return mg_fail(v->context, MG_FILE, "added_tokens[%zu]: '%.*s' has the id %zu, which is '%.*s'", i,
                     (int)token->content.count, token->content.bytes, id, (int)own.count, own.bytes);
    v->tokens[id] = (mg_token_text){token->content.bytes, token->content.count};
  }
  return MG_OK;
}

/* Ids of added tokens follow from the model's vocabulary where the file is read by others; it must say the same. */
static mg_status check_added_ids(const released *self, size_t own_count) {
  int32_t next = (int32_t)own_count;
  for (size_t i = 0; i < self->added.count; i++) {
    const mg__added_token *token = &self->added.tokens[i];
    const int32_t own = mg__token_map_find(&self->map, token->content.bytes, token->content.count);
    const int32_t wanted = own >= 0 ? own : next++;
    if (token->id != wanted)
      return mg_fail(self->base.context, MG_FILE, "added_tokens[%zu]: '%.*s' has the id %d; %s %d", i,
                     (int)token->content.count, token->content.bytes, token->id,
                     own >= 0 ? "in the model's vocabulary it has" : "the next free one is", wanted);
  }
  return MG_OK;
}

static const mg__model_kind *const model_kinds[] = {&mg__bpe_model, &mg__unigram_model, &mg__scored_bpe_model};

static mg_status find_model_kind(mg_context *context, const json_t *json, const mg__model_kind **out) {
  const char *type = mg__type_of(json);
  if (!*type && json_object_get(json, "merges")) type = "BPE"; /* old files leave it out */
  for (size_t i = 0; i < sizeof model_kinds / sizeof *model_kinds; i++)
    if (strcmp(model_kinds[i]->type, type) == 0) {
      *out = model_kinds[i];
      return mg__keys_check(context, json, (*out)->keys);
    }
  return mg_fail(context, MG_FILE,
                 "the type '%.64s' is not known; known are BPE, Unigram, SentencePieceBPE (and not WordPiece, "
                 "WordLevel)",
                 type);
}

/* ---- reading the file ---- */

static mg_status part_failed(mg_context *context, mg_status status, const char *part) {
  return status == MG_OK ? MG_OK : mg_fail_where(context, status == MG_USAGE ? MG_FILE : status, "%s", part);
}

static mg_status check_top(mg_context *context, const json_t *json) {
  MG_TRY(mg__keys_check(context, json,
                        " version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder "
                        "model "));
  const char *version = json_string_value(json_object_get(json, "version"));
  if (json_object_get(json, "version") && (!version || strcmp(version, "1.0") != 0))
    return mg_fail(context, MG_FILE, "'version' must be \"1.0\"");
  static const char *const absent[] = {"truncation", "padding"};
  for (size_t i = 0; i < 2; i++) {
    const json_t *value = json_object_get(json, absent[i]);
    if (value && !json_is_null(value))
      return mg_fail(context, MG_FILE, "'%s' must be null: texts are encoded whole", absent[i]);
  }
  return MG_OK;
}

static mg_status read_model(released *self, const json_t *json, const mg__model_kind *kind, const vocabulary *v) {
  MG_TRY(mg__token_map_build(&self->base, v->ids, v->ids_count, &self->map));
  return kind->create(self->base.context, json, &self->base, &self->map, &self->model);
}

static mg_status mark_special(released *self) {
  mg_context *context = self->base.context;
  self->base.special = mg_alloc(context, (size_t)self->base.vocabulary * sizeof *self->base.special);
  if (!self->base.special) return MG_MEMORY;
  for (size_t i = 0; i < self->added.count; i++)
    self->base.special[self->added.tokens[i].id] = self->added.tokens[i].special;
  return MG_OK;
}

static mg_status check_surround(released *self) {
  const mg_token_list *lists[] = {&self->surround.before, &self->surround.after};
  for (size_t k = 0; k < 2; k++)
    for (size_t i = 0; i < lists[k]->count; i++)
      if (mg_tokenizer_token(&self->base, lists[k]->ids[i]).count == 0)
        return mg_fail(self->base.context, MG_FILE, "no token has the id %d", lists[k]->ids[i]);
  if (lists[0]->count) self->base.bos = lists[0]->ids[0];
  if (lists[1]->count) self->base.eos = lists[1]->ids[lists[1]->count - 1];
  return MG_OK;
}

static mg_status read_parts(released *self, const json_t *json, const mg__model_kind *kind, const vocabulary *v) {
  mg_context *context = self->base.context;
  const json_t *decoder = json_object_get(json, "decoder"), *model = json_object_get(json, "model");
  self->decodes = decoder && !json_is_null(decoder);
  MG_TRY(part_failed(context, read_model(self, model, kind, v), "model"));
  MG_TRY(check_added_ids(self, v->ids_count));
  MG_TRY(mark_special(self));
  MG_TRY(part_failed(context, mg__normalizers_read(context, json_object_get(json, "normalizer"), &self->normalizers),
                     "normalizer"));
  MG_TRY(part_failed(context,
                     mg__pre_tokenizers_read(context, json_object_get(json, "pre_tokenizer"), &self->pre_tokenizers),
                     "pre_tokenizer"));
  MG_TRY(part_failed(context, mg__decoders_read(context, decoder, &self->decoders), "decoder"));
  MG_TRY(part_failed(context, mg__surround_read(context, json_object_get(json, "post_processor"), &self->surround),
                     "post_processor"));
  MG_TRY(part_failed(context, check_surround(self), "post_processor"));
  MG_TRY(part_failed(context, mg__added_prepare(&self->added, &self->normalizers, &self->flow), "added_tokens"));
  self->source = json_dumps(json, JSON_COMPACT);
  return self->source ? MG_OK : mg_fail(context, MG_MEMORY, "no memory to keep the tokenizer's file");
}

/* `added` is handed over. */
static mg_status create(mg_context *context, const json_t *json, const mg__model_kind *kind, const vocabulary *v,
                        mg__added *added, mg_tokenizer **out) {
  mg_tokenizer *base;
  MG_TRY(mg__tokenizer_create(context, &released_kind, sizeof(released), v->tokens, (int64_t)v->count, &base));
  released *self = (released *)base;
  self->flow.context = context;
  self->added = *added;
  *added = (mg__added){0};
  const mg_status status = read_parts(self, json, kind, v);
  if (status == MG_OK)
    *out = base;
  else
    mg_tokenizer_destroy(base);
  return status;
}

static mg_status read_file(mg_context *context, const json_t *json, vocabulary *v, mg__added *added,
                           mg_tokenizer **out) {
  const mg__model_kind *kind = NULL;
  const json_t *model = json_object_get(json, "model");
  MG_TRY(check_top(context, json));
  MG_TRY(part_failed(context, find_model_kind(context, model, &kind), "model"));
  MG_TRY(part_failed(context, collect_own(v, json_object_get(model, "vocab"), kind == &mg__bpe_model), "model"));
  MG_TRY(part_failed(context, mg__added_read(context, json_object_get(json, "added_tokens"), added), "added_tokens"));
  MG_TRY(collect_added(v, added));
  return create(context, json, kind, v, added, out);
}

mg_status mg__released_from_json(mg_context *context, const json_t *json, mg_tokenizer **out) {
  vocabulary v = {.context = context};
  mg__added added = {0};
  *out = NULL;
  const mg_status status = read_file(context, json, &v, &added, out);
  mg__added_release(context, &added);
  MG_VECTOR_FREE(context, v.tokens, v.room);
  MG_VECTOR_FREE(context, v.ids, v.ids_room);
  return status;
}
