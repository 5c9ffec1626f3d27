/* Parses a CSV of requests. Numbers come from outside: each is held to its range before it is used. */
#include "cluster/recorded.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/vector.h"

enum { FIELDS_MAX = 4, TOKENS_MAX = 100000000 };
static const size_t file_bytes_most = (size_t)1 << 30;
static const double seconds_most = 1e9;
static const char short_header[] = "seconds,prompt_tokens,output_tokens",
                  long_header[] = "seconds,prompt_tokens,output_tokens,cached_tokens";

struct mg__recorded {
  mg_context *context;
  mg_request *requests;
  size_t count, room, next;
};

typedef struct reader {
  mg__recorded *into;
  const char *path;
  size_t line; /* counted from 1 */
  int fields;  /* of a line */
} reader;

static mg_status refuse(const reader *r, const char *why) {
  return mg_fail(r->into->context, MG_FILE, "%s:%zu: %s", r->path, r->line, why);
}

/* Splits a line into exactly r->fields numbers. */
static mg_status split(const reader *r, const char *line, double values[FIELDS_MAX]) {
  for (int i = 0; i < r->fields; i++) {
    char *end;
    values[i] = strtod(line, &end);
    if (end == line || !isfinite(values[i])) return refuse(r, "a number was expected in every field");
    if (*end != (i + 1 < r->fields ? ',' : '\0')) return refuse(r, "the line does not have the fields of the header");
    line = end + 1;
  }
  return MG_OK;
}

static mg_status check_tokens(const reader *r, const double values[FIELDS_MAX]) {
  for (int i = 1; i < r->fields; i++)
    if (!(values[i] >= (i < 3) && values[i] <= TOKENS_MAX && values[i] == floor(values[i])))
      return refuse(r,
                    "tokens must be whole numbers, prompt and output from 1 up, cached from 0 up, at most 100000000");
  if (r->fields == FIELDS_MAX && values[3] >= values[1])
    return refuse(r, "cached_tokens must be fewer than prompt_tokens: the last token is always computed");
  return MG_OK;
}

static mg_status take_line(const reader *r, const char *line) {
  double values[FIELDS_MAX] = {0};
  mg__recorded *into = r->into;
  MG_TRY(split(r, line, values));
  MG_TRY(check_tokens(r, values));
  if (!(values[0] >= 0 && values[0] <= seconds_most)) return refuse(r, "seconds must be a number from 0 to 1e9");
  if (into->count > 0 && values[0] < into->requests[into->count - 1].seconds)
    return refuse(r, "times must not go back; sort the file by its first column");
  MG_TRY(MG_VECTOR_RESERVE(into->context, into->requests, into->room, into->count + 1));
  into->requests[into->count++] = (mg_request){values[0], (int32_t)values[1], (int32_t)values[2], (int32_t)values[3]};
  return MG_OK;
}

static mg_status take_header(reader *r, const char *line) {
  if (strcmp(line, short_header) == 0)
    r->fields = FIELDS_MAX - 1;
  else if (strcmp(line, long_header) == 0)
    r->fields = FIELDS_MAX;
  else
    return refuse(r, "the first line must be seconds,prompt_tokens,output_tokens and perhaps ,cached_tokens");
  return MG_OK;
}

static mg_status take_all(reader *r, char *text, size_t bytes) {
  if (memchr(text, '\0', bytes)) return refuse(r, "the file is no text: it holds a zero byte");
  for (char *line = text, *end; *line; line = end, r->line++) {
    end = line + strcspn(line, "\n");
    if (*end) *end++ = '\0';
    const size_t length = strlen(line);
    if (length > 0 && line[length - 1] == '\r') line[length - 1] = '\0';
    MG_TRY(r->fields == 0 ? take_header(r, line) : take_line(r, line));
  }
  if (r->into->count == 0) return refuse(r, "the file holds no request");
  return MG_OK;
}

mg_status mg__recorded_open(mg_context *context, const char *path, mg__recorded **out) {
  *out = NULL;
  char *text;
  size_t bytes;
  MG_TRY(mg_file_read(context, path, file_bytes_most, &text, &bytes));
  mg__recorded *recorded = mg_alloc(context, sizeof *recorded);
  mg_status status = recorded ? MG_OK : MG_MEMORY;
  if (recorded) {
    recorded->context = context;
    reader r = {.into = recorded, .path = path, .line = 1};
    status = take_all(&r, text, bytes);
  }
  mg_free(context, text, bytes + 1);
  if (status == MG_OK)
    *out = recorded;
  else
    mg__recorded_close(recorded);
  return status;
}

void mg__recorded_close(mg__recorded *recorded) {
  if (!recorded) return;
  MG_VECTOR_FREE(recorded->context, recorded->requests, recorded->room);
  mg_free(recorded->context, recorded, sizeof *recorded);
}

bool mg__recorded_next(mg__recorded *recorded, mg_request *out) {
  if (recorded->next == recorded->count) return false;
  *out = recorded->requests[recorded->next++];
  return true;
}
