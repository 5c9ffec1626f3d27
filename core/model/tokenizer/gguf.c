/* The vocabulary of a GGUF file, written as the tokenizer.json that means the same, which the one reader then checks and
 * builds. What a GGUF file does not say has the value that the format's own tools use. */
#include "model/tokenizer/gguf.h"

#include <math.h>
#include <string.h>

#include "model/tokenizer/pipeline.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { TOKENS_MOST = 1 << 24, MERGES_MOST = 1 << 25 };

#define MARK "\xE2\x96\x81" /* U+2581, which stands for a space */

typedef struct translation {
  mg_context *context;
  const mg_gguf_vocabulary *from;
} translation;

static int type_of(const translation *t, int64_t id) {
  return t->from->types ? t->from->types[id] : NORMAL;
}

static int or_default(int said, int otherwise) {
  return said < 0 ? otherwise : said != 0;
}

/* The token's text as JSON; NULL with a message if it is no UTF-8 or too long. */
static json_t *token_json(const translation *t, const char *what, size_t index, mg_token_text token) {
  json_t *text = token.count <= MG__TOKEN_BYTES_MOST ? json_stringn(token.count ? token.bytes : "", token.count) : NULL;
  if (!text) mg_fail(t->context, MG_FILE, "%s %zu is not UTF-8 of at most %d bytes", what, index, MG__TOKEN_BYTES_MOST);
  return text;
}

static mg_status check_tables(const translation *t) {
  const mg_gguf_vocabulary *from = t->from;
  if (from->count < 1 || from->count > TOKENS_MOST)
    return mg_fail(t->context, MG_FILE, "tokens: from 1 to %d were expected, not %lld", TOKENS_MOST,
                   (long long)from->count);
  if (from->merges_count > MERGES_MOST)
    return mg_fail(t->context, MG_FILE, "merges: %zu are too many", from->merges_count);
  for (int64_t id = 0; from->types && id < from->count; id++)
    if (from->types[id] < NORMAL || from->types[id] > BYTE)
      return mg_fail(t->context, MG_FILE, "token_type: token %lld has the type %d; types are 1 to 6", (long long)id,
                     from->types[id]);
  for (int64_t id = 0; from->scores && id < from->count; id++)
    if (!isfinite(from->scores[id]))
      return mg_fail(t->context, MG_FILE, "scores: that of token %lld is no finite number", (long long)id);
  const int64_t ids[] = {from->bos, from->eos, from->unknown};
  for (size_t i = 0; i < 3; i++)
    if (ids[i] < -1 || ids[i] >= from->count)
      return mg_fail(t->context, MG_FILE, "%s_token_id: %lld is not in the vocabulary of %lld tokens",
                     (const char *[]){"bos", "eos", "unknown"}[i], (long long)ids[i], (long long)from->count);
  return MG_OK;
}

/* Tokens that are found in the text as they are: control ones are special, user-defined ones are text. */
static mg_status add_added(const translation *t, json_t *list) {
  for (int64_t id = 0; id < t->from->count; id++) {
    const int type = type_of(t, id);
    if ((type != CONTROL && type != USER_DEFINED) || t->from->tokens[id].count == 0) continue;
    json_t *content = token_json(t, "tokens: token", (size_t)id, t->from->tokens[id]);
    if (!content) return MG_FILE;
    const bool special = type == CONTROL;
    if (json_array_append_new(list, json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content",
                                              content, "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0,
                                              "special", special)) != 0)
      return mg_fail(t->context, MG_MEMORY, "no memory for the vocabulary");
  }
  return MG_OK;
}

/* BOS and EOS around the text, where the model wants them. */
static mg_status post_processor(const translation *t, int add_bos, int add_eos, json_t **out) {
  const int64_t ends[] = {add_bos ? t->from->bos : -1, add_eos ? t->from->eos : -1};
  if ((add_bos && ends[0] < 0) || (add_eos && ends[1] < 0))
    return mg_fail(t->context, MG_FILE, "add_%s_token is true, but there is no %s_token_id",
                   add_bos && ends[0] < 0 ? "bos" : "eos", add_bos && ends[0] < 0 ? "bos" : "eos");
  json_t *single = json_array(), *specials = json_object();
  for (int i = 0; i < 2; i++) {
    const char *name = i ? "eos" : "bos";
    if (ends[i] >= 0) {
      json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", name, "type_id", 0));
      json_object_set_new(specials, name,
                          json_pack("{s:s, s:[I], s:[s]}", "id", name, "ids", (json_int_t)ends[i], "tokens", name));
    }
    if (i == 0) json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
  }
  *out = json_pack("{s:s, s:o, s:[], s:o}", "type", "TemplateProcessing", "single", single, "pair", "special_tokens",
                   specials);
  return *out ? MG_OK : mg_fail(t->context, MG_MEMORY, "no memory for the vocabulary");
}

/* ---- gpt2: byte-level BPE ---- */

static mg_status bpe_vocabulary(const translation *t, json_t *vocabulary) {
  for (int64_t id = 0; id < t->from->count; id++) {
    const mg_token_text token = t->from->tokens[id];
    json_t *text = token_json(t, "tokens: token", (size_t)id, token);
    if (!text) return MG_FILE;
    const bool clean = !memchr(json_string_value(text), 0, token.count);
    const bool twice = clean && json_object_get(vocabulary, json_string_value(text));
    if (clean && !twice) json_object_set_new(vocabulary, json_string_value(text), json_integer(id));
    json_decref(text);
    if (!clean) return mg_fail(t->context, MG_FILE, "tokens: token %lld holds a NUL", (long long)id);
    if (twice)
      return mg_fail(t->context, MG_FILE, "tokens: token %lld, '%.*s', stands there twice", (long long)id,
                     (int)token.count, token.bytes);
  }
  return MG_OK;
}

static mg_status bpe_merges(const translation *t, json_t *merges) {
  for (size_t i = 0; i < t->from->merges_count; i++) {
    json_t *text = token_json(t, "merges: merge", i, t->from->merges[i]);
    if (!text) return MG_FILE;
    json_array_append_new(merges, text);
  }
  return MG_OK;
}

static json_t *cut_json(const mg__gguf_cut *cut) {
  json_t *stages = json_array();
  for (int i = 0; i < MG__GGUF_PATTERNS_MOST && cut->patterns[i]; i++)
    json_array_append_new(stages, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                                            cut->patterns[i], "behavior", "Isolated", "invert", 0));
  json_array_append_new(stages, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                          "trim_offsets", 0, "use_regex", 0));
  return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", stages);
}

static mg_status translate_gpt2(const translation *t, json_t *file) {
  const mg__gguf_cut *cut = t->from->pre ? mg__gguf_cut_find(t->from->pre) : NULL;
  if (!cut)
    return mg_fail(t->context, MG_FILE,
                   "pre: the cut '%.64s' is not known; core/model/README.md lists those that are, and a tokenizer.json "
                   "beside the file says its own",
                   t->from->pre ? t->from->pre : "(none)");
  json_t *model =
      json_pack("{s:s, s:b, s:{}, s:[]}", "type", "BPE", "ignore_merges", cut->ignore_merges, "vocab", "merges");
  json_object_set_new(file, "model", model);
  MG_TRY(bpe_vocabulary(t, json_object_get(model, "vocab")));
  MG_TRY(bpe_merges(t, json_object_get(model, "merges")));
  if (cut->nfc) json_object_set_new(file, "normalizer", json_pack("{s:s}", "type", "NFC"));
  json_object_set_new(file, "pre_tokenizer", cut_json(cut));
  json_object_set_new(
      file, "decoder",
      json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 0, "use_regex", 0));
  json_t *around;
  MG_TRY(post_processor(t, or_default(t->from->add_bos, cut->add_bos), or_default(t->from->add_eos, 0), &around));
  json_object_set_new(file, "post_processor", around);
  return MG_OK;
}

/* ---- llama: SentencePiece BPE ---- */

static mg_status scored_vocabulary(const translation *t, json_t *vocabulary, bool all_scores) {
  if (!t->from->scores) return mg_fail(t->context, MG_FILE, "scores: missing");
  for (int64_t id = 0; id < t->from->count; id++) {
    json_t *text = token_json(t, "tokens: token", (size_t)id, t->from->tokens[id]);
    if (!text) return MG_FILE;
    const bool scored = all_scores || type_of(t, id) == NORMAL;
    json_array_append_new(vocabulary,
                          json_pack("[o, o]", text, scored ? json_real((double)t->from->scores[id]) : json_null()));
  }
  return MG_OK;
}

static json_t *replace_json(const char *from, const char *to) {
  return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", from, "content", to);
}

static mg_status translate_llama(const translation *t, json_t *file) {
  const bool prefix = or_default(t->from->add_space_prefix, 1);
  json_t *model = json_pack("{s:s, s:[], s:I}", "type", "SentencePieceBPE", "vocab", "unk_id",
                            (json_int_t)(t->from->unknown < 0 ? 0 : t->from->unknown));
  json_object_set_new(file, "model", model);
  MG_TRY(scored_vocabulary(t, json_object_get(model, "vocab"), false));
  json_t *before = json_pack("{s:s, s:[o]}", "type", "Sequence", "normalizers", replace_json(" ", MARK));
  if (prefix)
    json_array_insert_new(json_object_get(before, "normalizers"), 0,
                          json_pack("{s:s, s:s}", "type", "Prepend", "prepend", MARK));
  json_object_set_new(file, "normalizer", before);
  json_object_set_new(file, "decoder",
                      json_pack("{s:s, s:[o, {s:s}, {s:s}, {s:s, s:s, s:i, s:i}]}", "type", "Sequence", "decoders",
                                replace_json(MARK, " "), "type", "ByteFallback", "type", "Fuse", "type", "Strip",
                                "content", " ", "start", prefix, "stop", 0));
  json_t *around;
  MG_TRY(post_processor(t, or_default(t->from->add_bos, 1), or_default(t->from->add_eos, 0), &around));
  json_object_set_new(file, "post_processor", around);
  return MG_OK;
}

/* ---- t5: SentencePiece Unigram ---- */

static json_t *charsmap_json(const translation *t) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const size_t bytes = t->from->charsmap_bytes, room = (bytes + 2) / 3 * 4;
  char *text = mg_alloc(t->context, room);
  if (!text) return NULL;
  for (size_t i = 0, at = 0; i < bytes; i += 3) {
    const unsigned char *from = t->from->charsmap + i;
    const unsigned bits =
        (unsigned)from[0] << 16 | (i + 1 < bytes ? (unsigned)from[1] << 8 : 0) | (i + 2 < bytes ? from[2] : 0);
    for (size_t k = 0; k < 4; k++) text[at++] = i + k <= bytes ? digits[bits >> (18 - 6 * k) & 63] : '=';
  }
  json_t *json = json_stringn(text, room);
  mg_free(t->context, text, room);
  return json;
}

static mg_status translate_t5(const translation *t, json_t *file) {
  const bool prefix = or_default(t->from->add_space_prefix, 1);
  json_t *model = json_pack("{s:s, s:[], s:I}", "type", "Unigram", "vocab", "unk_id",
                            (json_int_t)(t->from->unknown < 0 ? 2 : t->from->unknown));
  json_object_set_new(file, "model", model);
  MG_TRY(scored_vocabulary(t, json_object_get(model, "vocab"), true));
  json_t *before = json_array();
  if (t->from->charsmap && t->from->charsmap_bytes)
    json_array_append_new(before,
                          json_pack("{s:s, s:o}", "type", "Precompiled", "precompiled_charsmap", charsmap_json(t)));
  json_object_set_new(file, "normalizer", json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", before));
  json_t *mark = json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", MARK, "prepend_scheme",
                           prefix ? "always" : "never", "split", 1);
  const bool one_space = or_default(t->from->remove_spaces, 1);
  json_object_set(file, "decoder", mark);
  json_object_set_new(
      file, "pre_tokenizer",
      one_space ? json_pack("{s:s, s:[{s:s}, o]}", "type", "Sequence", "pretokenizers", "type", "WhitespaceSplit", mark)
                : mark);
  json_t *around;
  MG_TRY(post_processor(t, or_default(t->from->add_bos, 0), or_default(t->from->add_eos, 1), &around));
  json_object_set_new(file, "post_processor", around);
  return MG_OK;
}

static mg_status translate(const translation *t, json_t *file) {
  const char *model = t->from->model ? t->from->model : "";
  json_t *added = json_array();
  json_object_set_new(file, "version", json_string("1.0"));
  json_object_set_new(file, "added_tokens", added);
  MG_TRY(check_tables(t));
  MG_TRY(add_added(t, added));
  if (strcmp(model, "gpt2") == 0) return translate_gpt2(t, file);
  if (strcmp(model, "llama") == 0) return translate_llama(t, file);
  if (strcmp(model, "t5") == 0) return translate_t5(t, file);
  return mg_fail(t->context, MG_FILE, "model: '%.64s' is not known; known are gpt2, llama, t5", model);
}

mg_status mg_tokenizer_create_gguf(mg_context *context, const mg_gguf_vocabulary *vocabulary, mg_tokenizer **out) {
  *out = NULL;
  json_t *file = json_object();
  mg_status status = translate(&(translation){context, vocabulary}, file);
  if (status == MG_OK) status = mg__released_from_json(context, file, out);
  json_decref(file);
  if (status != MG_OK) return mg_fail_where(context, status, "tokenizer.ggml");
  if (vocabulary->bos >= 0) (*out)->bos = (int32_t)vocabulary->bos;
  if (vocabulary->eos >= 0) (*out)->eos = (int32_t)vocabulary->eos;
  return MG_OK;
}
