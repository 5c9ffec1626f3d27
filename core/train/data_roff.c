/* Manual pages to plain text: enough of troff and its "man" macros that running text, headings, lists and code blocks
 * come out as prose and lines. Paragraphs are filled into one line; no-fill blocks keep their lines.
 *
 * Requests that only lay out are dropped; conditionals, definitions and equations are skipped whole. Pages in the other
 * macro language, mdoc, and pages that only point to another (.so) are refused with a reason. */
#include <string.h>

#include "train/data_stage.h"

typedef struct page {
  mg_context *context;
  mg__text *out;
  size_t first;      /* where this page begins in out */
  bool no_fill;      /* in .nf or .EX: keep lines */
  bool table;        /* in .TS */
  bool table_layout; /* before the line of the table's layout that ends with a full stop */
  bool tag;          /* the next text line is a .TP tag: it ends its line */
  bool glue;         /* the last line ended in \c: join without a space */
} page;

static mg_status put(page *in, const char *text, size_t bytes) {
  return mg__text_append(in->context, in->out, text, bytes);
}

static bool at_line_start(const page *in) {
  return in->out->bytes == in->first || in->out->data[in->out->bytes - 1] == '\n';
}

static mg_status end_line(page *in) {
  in->glue = false;
  return at_line_start(in) ? MG_OK : put(in, "\n", 1);
}

static mg_status blank_line(page *in) {
  MG_TRY(end_line(in));
  const mg__text *out = in->out;
  const bool already = out->bytes < in->first + 2 || out->data[out->bytes - 2] == '\n';
  return already ? MG_OK : put(in, "\n", 1);
}

/* ---- lines ---- */

static mg_status put_text(page *in, const char *at, const char *end) {
  return mg__roff_put_text(in->context, in->out, at, end, &in->glue);
}

/* Scripts without spaces (three-byte UTF-8 from U+3000) are joined without one. */
static bool wide(unsigned char lead) {
  return lead >= 0xE3 && lead <= 0xED;
}

/* The space between filled lines. */
static mg_status open_line(page *in, char next) {
  if (at_line_start(in) || in->glue) {
    in->glue = false;
    return MG_OK;
  }
  const size_t bytes = in->out->bytes;
  const bool joined =
      bytes >= in->first + 3 && wide((unsigned char)in->out->data[bytes - 3]) && wide((unsigned char)next);
  return joined ? MG_OK : put(in, " ", 1);
}

static mg_status finish_line(page *in) {
  const bool ends = in->no_fill || in->tag;
  in->tag = false;
  return ends && !in->glue ? end_line(in) : MG_OK;
}

static mg_status text_line(page *in, const char *at, const char *end) {
  if (in->table) { /* cells stand between tabs; the last layout line ends with a full stop */
    if (in->table_layout) {
      in->table_layout = at == end || end[-1] != '.';
      return MG_OK;
    }
    if (end - at == 1 && (*at == '_' || *at == '=')) return MG_OK;
    MG_TRY(put_text(in, at, end));
    return end_line(in);
  }
  if (at == end) return in->no_fill ? put(in, "\n", 1) : blank_line(in);
  if (!in->no_fill && (*at == ' ' || *at == '\t')) MG_TRY(end_line(in)); /* a leading space breaks the line */
  if (!in->no_fill) MG_TRY(open_line(in, *at));
  MG_TRY(put_text(in, at, end));
  return finish_line(in);
}

/* The next macro argument, which may be quoted (a quote inside is doubled); false at the end. */
static bool next_argument(const char **at, const char *end, const char **first, const char **last) {
  while (*at < end && (**at == ' ' || **at == '\t')) ++*at;
  if (*at >= end) return false;
  if (**at == '"') {
    *first = ++*at;
    while (*at < end && (**at != '"' || (*at + 1 < end && (*at)[1] == '"'))) *at += **at == '"' ? 2 : 1;
    *last = *at > end ? end : *at;
    if (*at < end) ++*at;
    return true;
  }
  *first = *at;
  while (*at < end && **at != ' ' && **at != '\t') *at += **at == '\\' && *at + 1 < end ? 2 : 1;
  if (*at > end) *at = end;
  *last = *at;
  return true;
}

/* Writes the arguments of a font macro: alternating ones stand close together, the others with spaces. */
static mg_status put_arguments(page *in, const char *at, const char *end, bool close, size_t most) {
  const char *first, *last;
  for (size_t i = 0; i < most && next_argument(&at, end, &first, &last); i++) {
    if (i == 0 && !in->no_fill) MG_TRY(open_line(in, first < last ? *first : ' '));
    if (i > 0 && !close) MG_TRY(put(in, " ", 1));
    MG_TRY(put_text(in, first, last));
  }
  return MG_OK;
}

static mg_status heading(page *in, const char *at, const char *end) {
  in->no_fill = false;
  MG_TRY(blank_line(in));
  MG_TRY(put_arguments(in, at, end, false, SIZE_MAX));
  return end_line(in);
}

static mg_status item(page *in, const char *at, const char *end) {
  MG_TRY(end_line(in));
  MG_TRY(put_arguments(in, at, end, false, 1));
  return in->no_fill && !at_line_start(in) ? put(in, " ", 1) : MG_OK; /* filled text brings its own space */
}

/* ---- requests ---- */

typedef enum action {
  IGNORE,     /* layout only */
  FONT,       /* arguments with spaces */
  FONT_CLOSE, /* arguments close together */
  FONT_ONE,   /* the first argument: .UR and .MT */
  HEADING,
  PARAGRAPH,
  BREAK,
  ITEM,
  TAG,
  NO_FILL,
  FILL,
  TABLE,
  TABLE_END,
  ALIAS,
  OTHER_MACROS,
  SKIP_DEFINITION, /* to the line ".." */
  SKIP_EQUATION,   /* to ".EN" */
  SKIP_CONDITION   /* the line, or to its closing brace */
} action;

typedef struct request {
  const char *name;
  action action;
} request;

static const request requests[] = {{"B", FONT},
                                   {"I", FONT},
                                   {"SM", FONT},
                                   {"SB", FONT},
                                   {"R", FONT},
                                   {"BR", FONT_CLOSE},
                                   {"IR", FONT_CLOSE},
                                   {"RB", FONT_CLOSE},
                                   {"RI", FONT_CLOSE},
                                   {"BI", FONT_CLOSE},
                                   {"IB", FONT_CLOSE},
                                   {"MR", FONT_CLOSE},
                                   {"UR", FONT_ONE},
                                   {"MT", FONT_ONE},
                                   {"SH", HEADING},
                                   {"SS", HEADING},
                                   {"PP", PARAGRAPH},
                                   {"P", PARAGRAPH},
                                   {"LP", PARAGRAPH},
                                   {"sp", PARAGRAPH},
                                   {"Sp", PARAGRAPH},
                                   {"HP", PARAGRAPH},
                                   {"RS", BREAK},
                                   {"RE", BREAK},
                                   {"br", BREAK},
                                   {"ti", BREAK},
                                   {"ce", BREAK},
                                   {"IP", ITEM},
                                   {"TP", TAG},
                                   {"TQ", TAG},
                                   {"nf", NO_FILL},
                                   {"EX", NO_FILL},
                                   {"Vb", NO_FILL},
                                   {"fi", FILL},
                                   {"EE", FILL},
                                   {"Ve", FILL},
                                   {"TS", TABLE},
                                   {"TE", TABLE_END},
                                   {"so", ALIAS},
                                   {"Dd", OTHER_MACROS},
                                   {"de", SKIP_DEFINITION},
                                   {"de1", SKIP_DEFINITION},
                                   {"ig", SKIP_DEFINITION},
                                   {"am", SKIP_DEFINITION},
                                   {"EQ", SKIP_EQUATION},
                                   {"if", SKIP_CONDITION},
                                   {"ie", SKIP_CONDITION},
                                   {"el", SKIP_CONDITION},
                                   {"while", SKIP_CONDITION}};

static action action_of(const char *name, size_t bytes) {
  for (size_t i = 0; i < MG_COUNT(requests); i++)
    if (strlen(requests[i].name) == bytes && memcmp(requests[i].name, name, bytes) == 0) return requests[i].action;
  return IGNORE;
}

/* The start of the line after the one that holds exactly `line`, or the end. */
static const char *skip_to(const char *at, const char *end, const char *line) {
  const size_t bytes = strlen(line);
  while (at < end) {
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    const char *stop = newline ? newline : end;
    const bool found = (size_t)(stop - at) >= bytes && memcmp(at, line, bytes) == 0;
    at = newline ? newline + 1 : end;
    if (found) return at;
  }
  return end;
}

/* After a conditional line: skips the lines of its braces, if it opened any. */
static const char *skip_condition(const char *line, const char *line_end, const char *end) {
  int depth = 0;
  const char *at = line;
  do {
    for (; at + 1 < line_end; at++) {
      if (*at != '\\') continue;
      depth += at[1] == '{' ? 1 : at[1] == '}' ? -1 : 0;
      at++;
    }
    at = line_end < end ? line_end + 1 : end;
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    line_end = newline ? newline : end;
  } while (depth > 0 && at < end);
  return at;
}

static mg_status layout(page *in, action what, const char *at, const char *end) {
  switch (what) {
  case FONT:
  case FONT_CLOSE: MG_TRY(put_arguments(in, at, end, what == FONT_CLOSE, SIZE_MAX)); return finish_line(in);
  case FONT_ONE: return put_arguments(in, at, end, true, 1);
  case HEADING: return heading(in, at, end);
  case PARAGRAPH: return blank_line(in);
  case BREAK: return end_line(in);
  case ITEM: return item(in, at, end);
  case TAG: in->tag = true; return end_line(in);
  case NO_FILL: in->no_fill = true; return end_line(in);
  case FILL: in->no_fill = false; return end_line(in);
  case TABLE: in->table = in->table_layout = true; return end_line(in);
  case TABLE_END: in->table = false; return end_line(in);
  default: return MG_OK;
  }
}

/* One line that begins with a control character. *next is where to go on. */
static mg_status control_line(page *in, const char *at, const char *line_end, const char *end, const char **next,
                              const char **skipped) {
  const char *name = at + 1;
  while (name < line_end && (*name == ' ' || *name == '\t')) name++;
  const char *after = name;
  while (after < line_end && *after != ' ' && *after != '\t' && *after != '\\') after++;
  const action what = action_of(name, (size_t)(after - name));
  switch (what) {
  case ALIAS: *skipped = in->out->bytes == in->first ? "alias" : NULL; return MG_OK;
  case OTHER_MACROS: *skipped = "mdoc"; return MG_OK;
  case SKIP_DEFINITION: *next = skip_to(*next, end, ".."); return MG_OK;
  case SKIP_EQUATION: *next = skip_to(*next, end, ".EN"); return MG_OK;
  case SKIP_CONDITION: *next = skip_condition(at, line_end, end); return MG_OK;
  default: return layout(in, what, after, line_end);
  }
}

static mg_status all_lines(page *in, const char *at, const char *end, const char **skipped) {
  for (const char *next; at < end && !*skipped; at = next) {
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    const char *line_end = newline ? newline : end;
    next = newline ? newline + 1 : end;
    if (*at == '.' || *at == '\'')
      MG_TRY(control_line(in, at, line_end, end, &next, skipped));
    else
      MG_TRY(text_line(in, at, line_end));
  }
  return *skipped ? MG_OK : end_line(in);
}

/* Copies the source with every line that ends in a lone backslash joined to the next. Returns the bytes written. */
static size_t join_lines(const char *source, size_t bytes, char *out) {
  size_t written = 0;
  for (size_t i = 0; i < bytes; i++) {
    if (source[i] == '\\' && i + 1 < bytes) {
      if (source[i + 1] != '\n') out[written++] = source[i], out[written++] = source[i + 1];
      i++;
    } else {
      out[written++] = source[i];
    }
  }
  return written;
}

mg_status mg__roff_to_text(mg_context *context, const char *source, size_t bytes, mg__text *out, const char **skipped) {
  page in = {.context = context, .out = out, .first = out->bytes};
  *skipped = NULL;
  char *joined = mg_alloc(context, bytes);
  if (bytes && !joined) return MG_MEMORY;
  const size_t length = join_lines(source, bytes, joined);
  const mg_status status = all_lines(&in, joined, joined + length, skipped);
  mg_free(context, joined, bytes);
  return status;
}
