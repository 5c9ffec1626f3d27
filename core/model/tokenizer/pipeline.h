/* The tokenizer of a released model as a chain of stages: added tokens are found in the text, normalisers rewrite the
 * rest, pre-tokenizers cut it into pieces, the model turns each piece into ids, and decoders lead back.
 *
 * A stage reads a list of pieces and writes another; two lists take turns. What a stage computes is defined by the
 * Hugging Face tokenizers library, whose file format this is, and held equal to it by tests/golden/tokenizers. */
#ifndef MG_MODEL_TOKENIZER_PIPELINE_H
#define MG_MODEL_TOKENIZER_PIPELINE_H

#include <string.h>

#include "model/pattern.h"
#include "model/tokenizer_kind.h"

enum { MG__TOKEN_BYTES_MOST = 4096, MG__PIECE_TEXT = -1, MG__PIECE_RAW = -2 };

/* ---- pieces ---- */

typedef struct mg__piece {
  size_t start, bytes; /* in the list's text */
  size_t head;         /* leading bytes that were made from the first character of the whole input */
  int32_t id;          /* an added token; MG__PIECE_TEXT; MG__PIECE_RAW: bytes that are not UTF-8 */
} mg__piece;

typedef struct mg__piece_list {
  mg_text text;
  mg__piece *pieces;
  size_t count, room;
} mg__piece_list;

typedef struct mg__segment {
  size_t start, end;
  bool match;
} mg__segment;

typedef struct mg__flow {
  mg_context *context;
  mg__piece_list in, out;
  bool keep_empty;       /* decoding: a token stays a token when its text becomes empty */
  unsigned flags;        /* of mg_tokenizer_encode */
  size_t bytes_most;     /* that a stage's output may have */
  mg__segment *segments; /* scratch of the stages that cut */
  size_t segments_count, segments_room;
  mg_text scratch;
} mg__flow;

void mg__flow_release(mg__flow *flow);
/* Room for `count` more bytes. */
mg_status mg__text_reserve(mg_context *context, mg_text *text, size_t count);
static inline mg_status mg__text_add(mg_context *context, mg_text *text, const char *bytes, size_t count) {
  if (count > text->room - text->count) MG_TRY(mg__text_reserve(context, text, count));
  if (count) memcpy(text->bytes + text->count, bytes, count);
  text->count += count;
  return MG_OK;
}
/* Appends a piece to the output; an empty one only if the flow keeps those or it is an added token. */
mg_status mg__flow_emit(mg__flow *flow, const char *bytes, size_t count, size_t head, int32_t id);
/* Begins an output piece whose text is then appended to flow->out.text; mg__flow_end ends it. */
size_t mg__flow_begin(const mg__flow *flow);
mg_status mg__flow_end(mg__flow *flow, size_t start, size_t head);
const char *mg__piece_text(const mg__flow *flow, const mg__piece *piece); /* of flow->in */
/* MG_FILE when the output outgrew its limit: stages that lengthen what they read multiply, and 64 of them would fill any
 * memory. Those that write more than a few bytes for one ask as they go; all are asked when they end. */
mg_status mg__flow_check(const mg__flow *flow);
/* Makes the output the next stage's input. */
void mg__flow_turn(mg__flow *flow);

/* ---- stages ---- */

typedef struct mg__stage mg__stage;
typedef struct mg__charsmap mg__charsmap;
typedef struct mg__stage_kind {
  const char *type; /* as in the file */
  const char *keys; /* the options that may stand there, each between spaces: " pattern content " */
  mg_status (*read)(mg_context *context, mg__stage *stage, const json_t *json); /* NULL = no options */
  /* Either all pieces at once, or the text pieces one by one while all others pass. */
  mg_status (*run)(const mg__stage *stage, mg__flow *flow);
  mg_status (*run_piece)(const mg__stage *stage, mg__flow *flow, const mg__piece *piece);
  const char *pattern; /* a fixed one, in PCRE2 syntax, for kinds that differ in it alone */
} mg__stage_kind;

typedef enum mg__behaviour {
  MG__REMOVED,
  MG__ISOLATED,
  MG__MERGED_WITH_PREVIOUS,
  MG__MERGED_WITH_NEXT,
  MG__CONTIGUOUS
} mg__behaviour;
typedef enum mg__prepend { MG__PREPEND_ALWAYS, MG__PREPEND_FIRST, MG__PREPEND_NEVER } mg__prepend;

/* One stage with its options; each kind uses some of them. */
struct mg__stage {
  const mg__stage_kind *kind;
  mg__pattern *pattern; /* NULL: `literal` is searched */
  mg_text literal, content;
  mg__charsmap *charsmap;
  mg__behaviour behaviour;
  mg__prepend prepend;
  bool invert, add_prefix_space, use_regex, split, left, right;
  int64_t start, stop;
};

typedef struct mg__stage_list {
  mg__stage *stages;
  size_t count, room;
} mg__stage_list;

/* Runs the stages over flow->in, where the result lies. */
mg_status mg__stages_run(const mg__stage_list *list, mg__flow *flow);
void mg__stages_release(mg_context *context, mg__stage_list *list);
/* Appends the stages of one part of a file: null, one stage, or {"type": "Sequence", `members`: [...]}. MG_FILE with
 * the type's name if it is none of `kinds`. */
mg_status mg__stages_read(mg_context *context, const json_t *json, const mg__stage_kind *kinds, size_t kinds_count,
                          const char *members, mg__stage_list *list);
mg_status mg__normalizers_read(mg_context *context, const json_t *json, mg__stage_list *list);
mg_status mg__pre_tokenizers_read(mg_context *context, const json_t *json, mg__stage_list *list);
mg_status mg__decoders_read(mg_context *context, const json_t *json, mg__stage_list *list);

/* The `pattern` option: {"String": "..."} or {"Regex": "..."}. */
mg_status mg__stage_read_pattern(mg_context *context, mg__stage *stage, const json_t *json);
mg_status mg__stage_read_bool(mg_context *context, const json_t *json, const char *key, bool missing, bool *out);
mg_status mg__stage_read_text(mg_context *context, const json_t *json, const char *key, mg_text *out);
/* One Unicode character. */
mg_status mg__stage_read_character(mg_context *context, const json_t *json, const char *key, mg_text *out);
/* Collects in flow->segments what the stage's pattern matches in the text and what lies between, in order. */
mg_status mg__stage_find_all(const mg__stage *stage, mg__flow *flow, const char *text, size_t bytes);
/* Replaces every match by stage->content; what decoders and normalisers call Replace. */
mg_status mg__stage_replace(const mg__stage *stage, mg__flow *flow, const mg__piece *piece);
extern const char mg__replace_keys[];
mg_status mg__stage_read_replace(mg_context *context, mg__stage *stage, const json_t *json);

/* A piece in NFC, NFD, NFKC or NFKD. */
mg_status mg__unicode_form(mg__flow *flow, const mg__piece *piece, bool compose, bool compatible);

/* The table of byte-level vocabularies: byte b is written as the character mg__byte_characters[b], of 1 or 2 bytes. */
typedef struct mg__byte_table {
  char text[256][2];
  uint8_t bytes[256];
  int16_t byte_of[512]; /* by code point; -1 = none */
} mg__byte_table;
void mg__byte_table_fill(mg__byte_table *table);

/* Oniguruma's syntax (Ruby's), in which tokenizer.json writes patterns, as PCRE2 syntax in *out. MG_FILE with the
 * construct's name where the two cannot be made to mean the same. */
mg_status mg__oniguruma_translate(mg_context *context, const char *pattern, size_t bytes, mg_text *out);

/* ---- tables of texts ---- */

/* A trie over texts, searched byte by byte. Nodes are in breadth-first order, children sorted by label. */
typedef struct mg__trie_node {
  uint32_t child; /* the first */
  int32_t value;  /* -1 = no text ends here */
  uint16_t children;
  uint8_t label;
} mg__trie_node;
typedef struct mg__trie_entry {
  const char *bytes; /* borrowed for the call */
  size_t count;      /* > 0 */
  int32_t value;
} mg__trie_entry;
typedef struct mg__trie {
  mg__trie_node *nodes; /* [0] is the root; NULL = no text */
  size_t count, room;
  uint32_t first[256]; /* the root's children by label; 0 = none */
} mg__trie;
/* Sorts the entries. MG_FILE if a text comes twice. */
mg_status mg__trie_build(mg_context *context, mg__trie_entry *entries, size_t count, mg__trie *trie);
void mg__trie_release(mg_context *context, mg__trie *trie);
/* The child of `node` under `label`, or 0. */
uint32_t mg__trie_step(const mg__trie *trie, uint32_t node, unsigned char label);

/* The ids of a model's own vocabulary by text. */
typedef struct mg__token_map {
  const mg_tokenizer *tokenizer;
  int32_t *slots;
  size_t mask;
} mg__token_map;
/* Enters the ids of `ids`. MG_FILE if two have one text. */
mg_status mg__token_map_build(const mg_tokenizer *tokenizer, const int32_t *ids, size_t count, mg__token_map *map);
void mg__token_map_release(mg_context *context, mg__token_map *map);
int32_t mg__token_map_find(const mg__token_map *map, const char *text, size_t bytes); /* -1 = none */

/* ---- sentencepiece's compiled table of replacements ---- */

mg_status mg__charsmap_read(mg_context *context, const json_t *base64, mg__charsmap **out);
void mg__charsmap_destroy(mg_context *context, mg__charsmap *map);
/* What the shortest entry that begins `text` is replaced by. False if there is none; the result is borrowed. */
bool mg__charsmap_find(const mg__charsmap *map, const char *text, size_t bytes, mg_token_text *to);

/* ---- models ---- */

typedef struct mg__model mg__model;
typedef struct mg__model_kind {
  const char *type, *keys;
  /* Sets the model up; `json` is the file's model, `owner` has its texts, `map` its ids. */
  mg_status (*create)(mg_context *context, const json_t *json, const mg_tokenizer *owner, const mg__token_map *map,
                      mg__model **out);
  mg_status (*encode)(mg__model *model, const char *text, size_t bytes, mg_token_list *list);
  mg_status (*encode_raw)(mg__model *model, const char *text, size_t bytes, mg_token_list *list);
  void (*destroy)(mg__model *model);
} mg__model_kind;
struct mg__model { /* the first member of every model */
  const mg__model_kind *kind;
  mg_context *context;
  const mg_tokenizer *owner;
  const mg__token_map *map;
};
extern const mg__model_kind mg__bpe_model, mg__scored_bpe_model, mg__unigram_model;

/* The model's token of byte b, "<0x0A>"; -1 = none. */
int32_t mg__byte_token(const mg__token_map *map, unsigned char byte);

/* ---- added tokens ---- */

typedef struct mg__added_token {
  mg_text content;
  mg_text spelling; /* what the normalisers make of it, if that differs: what is searched, and what decodes */
  int32_t id;
  bool special, single_word, left, right, normalized;
} mg__added_token;
typedef struct mg__added {
  mg__added_token *tokens;
  size_t count, room;
  mg__trie raw, normalized; /* value: index into tokens */
  size_t respelt;           /* tokens that have a spelling */
  mg__pattern *word;
} mg__added;

/* Bytes of Unicode white space that begin or end the text. */
size_t mg__leading_space(const char *text, size_t bytes);
size_t mg__trailing_space(const char *text, size_t bytes);

/* Reads the list; the ids are as the file says. */
mg_status mg__added_read(mg_context *context, const json_t *json, mg__added *added);
/* Builds the tries; normalised tokens are searched as the normalisers leave them. */
mg_status mg__added_prepare(mg__added *added, const mg__stage_list *normalizers, mg__flow *flow);
/* The text by which an id is decoded: `own`, unless it is an added token that has another spelling. */
mg_token_text mg__added_spelling(const mg__added *added, int32_t id, mg_token_text own);
void mg__added_release(mg_context *context, mg__added *added);
/* Cuts the tokens of the trie out of the flow's pieces. */
mg_status mg__added_find(const mg__added *added, const mg__trie *trie, mg__flow *flow);

/* ---- what surrounds a text ---- */

typedef struct mg__surround {
  mg_token_list before, after;
} mg__surround;
mg_status mg__surround_read(mg_context *context, const json_t *json, mg__surround *surround);

/* ---- reading ---- */

/* MG_FILE unless every key of the object is "type" or in `keys`. */
mg_status mg__keys_check(mg_context *context, const json_t *json, const char *keys);
/* The part's "type"; "" if it has none. */
const char *mg__type_of(const json_t *json);

mg_status mg__released_from_json(mg_context *context, const json_t *json, mg_tokenizer **out);

#endif
