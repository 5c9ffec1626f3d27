/* Pre-tokenizers: cut pieces where the model must not join. */
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

/* White space as Unicode defines it; PCRE2's \s adds U+180E. */
#define SPACES                                                                                                         \
  "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORDS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"

/* Punctuation of Unicode 8, by which existing vocabularies were cut, and the ASCII symbols: what became punctuation
 * later is left out, and two characters were punctuation then. */
#define LATER_PUNCTUATION                                                                                              \
  "\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b7d}\\x{1b7e}\\x{2e43}-\\x{2e4f}\\x{2e52}-\\x{2e5d}\\x{10ead}"         \
  "\\x{10f55}-\\x{10f59}\\x{10f86}-\\x{10f89}\\x{1144b}-\\x{1144f}\\x{1145a}\\x{1145b}\\x{1145d}\\x{11660}-\\x{1166c}" \
  "\\x{116b9}\\x{1183b}\\x{11944}-\\x{11946}\\x{119e2}\\x{11a3f}-\\x{11a46}\\x{11a9a}-\\x{11a9c}\\x{11a9e}-\\x{11aa2}" \
  "\\x{11c41}-\\x{11c45}\\x{11c70}\\x{11c71}\\x{11ef7}\\x{11ef8}\\x{11fff}\\x{12ff1}\\x{12ff2}\\x{16e97}-\\x{16e9a}"   \
  "\\x{16fe2}\\x{1e95e}\\x{1e95f}"
static const char punctuation_pattern[] = "(?![" LATER_PUNCTUATION "])[\\p{P}$+<=>^`|~\\x{166d}\\x{111c9}]";
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES "\\p{L}\\p{N}]+|[" SPACES
                                   "]+(?![^" SPACES "])|[" SPACES "]+";

/* ---- cutting ---- */

/* Joins neighbouring segments as the behaviour says; those with `match` still set are dropped afterwards. */
static void apply_behaviour(mg__flow *flow, mg__behaviour behaviour) {
  mg__segment *segments = flow->segments;
  size_t kept = 0;
  bool previous = false;
  for (size_t i = 0; i < flow->segments_count; i++) {
    const mg__segment segment = segments[i];
    const bool join = behaviour == MG__CONTIGUOUS             ? segment.match == previous
                      : behaviour == MG__MERGED_WITH_PREVIOUS ? segment.match && !previous
                                                              : false;
    if (join && kept > 0)
      segments[kept - 1].end = segment.end;
    else
      segments[kept++] = (mg__segment){segment.start, segment.end, behaviour == MG__REMOVED && segment.match};
    previous = segment.match;
  }
  flow->segments_count = kept;
}

/* Joins each match with what follows it, from the end, so that of several matches in a row the last is joined. */
static void merge_with_next(mg__flow *flow) {
  mg__segment *segments = flow->segments;
  size_t first = flow->segments_count;
  bool previous = false;
  for (size_t i = flow->segments_count; i-- > 0;) {
    const mg__segment segment = segments[i];
    if (segment.match && !previous && first < flow->segments_count)
      segments[first].start = segment.start;
    else
      segments[--first] = (mg__segment){segment.start, segment.end, false};
    previous = segment.match;
  }
  flow->segments_count -= first;
  memmove(segments, segments + first, flow->segments_count * sizeof *segments);
}

/* Emits the cut of a text, which may lie in scratch. */
static mg_status cut(const mg__stage *stage, mg__flow *flow, const char *text, size_t bytes, size_t head) {
  MG_TRY(mg__stage_find_all(stage, flow, text, bytes));
  for (size_t i = 0; stage->invert && i < flow->segments_count; i++) flow->segments[i].match = !flow->segments[i].match;
  if (stage->behaviour == MG__MERGED_WITH_NEXT)
    merge_with_next(flow);
  else
    apply_behaviour(flow, stage->behaviour);
  for (size_t i = 0; i < flow->segments_count; i++) {
    const mg__segment *segment = &flow->segments[i];
    if (segment->match) continue;
    const size_t left = segment->start < head ? head - segment->start : 0;
    MG_TRY(mg__flow_emit(flow, text + segment->start, segment->end - segment->start, left, MG__PIECE_TEXT));
  }
  return MG_OK;
}

static mg_status run_cut(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  return cut(stage, flow, mg__piece_text(flow, piece), piece->bytes, piece->head);
}

static mg_status read_behaviour(mg_context *context, mg__stage *stage, const json_t *json) {
  static const char *const names[] = {
      [MG__REMOVED] = "Removed",
      [MG__ISOLATED] = "Isolated",
      [MG__MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
      [MG__MERGED_WITH_NEXT] = "MergedWithNext",
      [MG__CONTIGUOUS] = "Contiguous",
  };
  const char *name = json_string_value(json_object_get(json, "behavior"));
  for (int i = 0; name && i <= MG__CONTIGUOUS; i++)
    if (strcmp(names[i], name) == 0) {
      stage->behaviour = (mg__behaviour)i;
      return MG_OK;
    }
  return mg_fail(context, MG_FILE,
                 "the behavior '%.64s' is not known; known are Removed, Isolated, MergedWithPrevious, MergedWithNext, "
                 "Contiguous",
                 name ? name : "");
}

static mg_status read_split(mg_context *context, mg__stage *stage, const json_t *json) {
  MG_TRY(mg__stage_read_pattern(context, stage, json));
  MG_TRY(read_behaviour(context, stage, json));
  return mg__stage_read_bool(context, json, "invert", false, &stage->invert);
}

static mg_status read_punctuation(mg_context *context, mg__stage *stage, const json_t *json) {
  stage->behaviour = MG__ISOLATED;
  return json_object_get(json, "behavior") ? read_behaviour(context, stage, json) : MG_OK;
}

static mg_status read_digits(mg_context *context, mg__stage *stage, const json_t *json) {
  bool individual;
  MG_TRY(mg__stage_read_bool(context, json, "individual_digits", false, &individual));
  stage->behaviour = individual ? MG__ISOLATED : MG__CONTIGUOUS;
  return MG_OK;
}

static mg_status read_words(mg_context *context, mg__stage *stage, const json_t *json) {
  (void)context;
  (void)json;
  stage->invert = true;
  stage->behaviour = MG__REMOVED;
  return MG_OK;
}

static mg_status read_removed(mg_context *context, mg__stage *stage, const json_t *json) {
  (void)context;
  (void)json;
  stage->behaviour = MG__REMOVED;
  return MG_OK;
}

/* ---- bytes as characters ---- */

static mg_status read_byte_level(mg_context *context, mg__stage *stage, const json_t *json) {
  bool trim_offsets; /* concerns offsets alone, which are not computed here */
  MG_TRY(mg__stage_read_bool(context, json, "trim_offsets", true, &trim_offsets));
  MG_TRY(mg__stage_read_bool(context, json, "add_prefix_space", true, &stage->add_prefix_space));
  MG_TRY(mg__stage_read_bool(context, json, "use_regex", true, &stage->use_regex));
  stage->behaviour = MG__ISOLATED;
  return mg__pattern_create(context, gpt2_pattern, &stage->pattern);
}

static mg_status emit_bytes(mg__flow *flow, const mg__byte_table *table, const char *text, size_t bytes, size_t head) {
  const size_t start = mg__flow_begin(flow);
  size_t new_head = 0;
  mg_text *out = &flow->out.text;
  if (bytes > SIZE_MAX / 2) return mg_fail(flow->context, MG_MEMORY, "%zu bytes of text are too many", bytes);
  MG_TRY(mg__text_reserve(flow->context, out, 2 * bytes));
  for (size_t i = 0; i < bytes; i++) {
    const unsigned char byte = (unsigned char)text[i];
    out->bytes[out->count++] = table->text[byte][0];
    if (table->bytes[byte] > 1) out->bytes[out->count++] = table->text[byte][1];
    if (i < head) new_head += table->bytes[byte];
  }
  return mg__flow_end(flow, start, new_head);
}

static mg_status byte_level_piece(const mg__stage *stage, mg__flow *flow, const mg__byte_table *table,
                                  const mg__piece *piece) {
  const char *text = mg__piece_text(flow, piece);
  size_t bytes = piece->bytes, head = piece->head;
  if (piece->id == MG__PIECE_RAW) return emit_bytes(flow, table, text, bytes, head);
  if (stage->add_prefix_space && bytes > 0 && *text != ' ') {
    flow->scratch.count = 0;
    MG_TRY(mg__text_add(flow->context, &flow->scratch, " ", 1));
    MG_TRY(mg__text_add(flow->context, &flow->scratch, text, bytes));
    text = flow->scratch.bytes;
    bytes++;
    if (head) head++;
  }
  if (!stage->use_regex) return emit_bytes(flow, table, text, bytes, head);
  MG_TRY(mg__stage_find_all(stage, flow, text, bytes));
  for (size_t i = 0; i < flow->segments_count; i++) {
    const mg__segment segment = flow->segments[i];
    const size_t left = segment.start < head ? head - segment.start : 0;
    MG_TRY(emit_bytes(flow, table, text + segment.start, segment.end - segment.start, left));
  }
  return MG_OK;
}

static mg_status run_byte_level(const mg__stage *stage, mg__flow *flow) {
  mg__byte_table table;
  mg__byte_table_fill(&table);
  for (size_t i = 0; i < flow->in.count; i++) {
    const mg__piece piece = flow->in.pieces[i];
    MG_TRY(piece.id >= 0 ? mg__flow_emit(flow, "", 0, 0, piece.id) : byte_level_piece(stage, flow, &table, &piece));
  }
  return MG_OK;
}

/* ---- spaces as a character ---- */

static mg_status read_metaspace(mg_context *context, mg__stage *stage, const json_t *json) {
  static const char *const schemes[] = {"always", "first", "never"};
  MG_TRY(mg__stage_read_character(context, json, "replacement", &stage->literal));
  MG_TRY(mg__stage_read_bool(context, json, "split", true, &stage->split));
  bool add_prefix_space;
  MG_TRY(mg__stage_read_bool(context, json, "add_prefix_space", true, &add_prefix_space));
  const json_t *given = json_object_get(json, "prepend_scheme");
  const char *name = given ? json_string_value(given) : "always";
  int scheme = 0;
  while (name && scheme < 3 && strcmp(schemes[scheme], name) != 0) scheme++;
  if (!name || scheme == 3) return mg_fail(context, MG_FILE, "'prepend_scheme' must be always, first or never");
  if (!add_prefix_space && given && scheme != MG__PREPEND_NEVER)
    return mg_fail(context, MG_FILE, "'add_prefix_space' is false, but 'prepend_scheme' is %s", name);
  stage->prepend = add_prefix_space ? (mg__prepend)scheme : MG__PREPEND_NEVER;
  stage->behaviour = MG__MERGED_WITH_NEXT;
  return MG_OK;
}

/* Writes the text to scratch with its spaces replaced and the replacement in front where it belongs. */
static mg_status metaspace_text(const mg__stage *stage, mg__flow *flow, const char *text, size_t bytes, size_t *head) {
  mg_text *out = &flow->scratch;
  const mg_text *mark = &stage->literal;
  out->count = 0;
  const bool marked =
      bytes > 0 && (*text == ' ' || (bytes >= mark->count && memcmp(text, mark->bytes, mark->count) == 0));
  const bool wanted = stage->prepend == MG__PREPEND_ALWAYS || (stage->prepend == MG__PREPEND_FIRST && *head > 0);
  if (wanted && !marked) MG_TRY(mg__text_add(flow->context, out, mark->bytes, mark->count));
  size_t new_head = *head ? out->count : 0;
  for (size_t i = 0; i < bytes; i++) {
    const bool space = text[i] == ' ';
    MG_TRY(mg__text_add(flow->context, out, space ? mark->bytes : text + i, space ? mark->count : 1));
    if (i < *head) new_head = out->count;
  }
  *head = new_head;
  return MG_OK;
}

static mg_status run_metaspace(const mg__stage *stage, mg__flow *flow, const mg__piece *piece) {
  size_t head = piece->head;
  MG_TRY(metaspace_text(stage, flow, mg__piece_text(flow, piece), piece->bytes, &head));
  return stage->split ? cut(stage, flow, flow->scratch.bytes, flow->scratch.count, head)
                      : mg__flow_emit(flow, flow->scratch.bytes, flow->scratch.count, head, MG__PIECE_TEXT);
}

static const mg__stage_kind kinds[] = {
    {"ByteLevel", " add_prefix_space trim_offsets use_regex ", read_byte_level, run_byte_level, NULL, NULL},
    {"Split", " pattern behavior invert ", read_split, NULL, run_cut, NULL},
    {"Digits", " individual_digits ", read_digits, NULL, run_cut, "\\p{N}"},
    {"Punctuation", " behavior ", read_punctuation, NULL, run_cut, punctuation_pattern},
    {"Whitespace", "", read_words, NULL, run_cut, "[" WORDS "]+|[^" WORDS SPACES "]+"},
    {"WhitespaceSplit", "", read_removed, NULL, run_cut, "[" SPACES "]"},
    {"Metaspace", " replacement prepend_scheme split add_prefix_space str_rep ", read_metaspace, NULL, run_metaspace,
     NULL},
};

mg_status mg__pre_tokenizers_read(mg_context *context, const json_t *json, mg__stage_list *list) {
  return mg__stages_read(context, json, kinds, sizeof kinds / sizeof *kinds, "pretokenizers", list);
}
