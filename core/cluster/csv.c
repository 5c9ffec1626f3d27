/* Lines are split in place. */
#include "cluster/csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static const size_t most_bytes = (size_t)256 << 20;

/* Splits one line at commas into `fields`; MG_FILE if there are too many or one is quoted. */
static mg_status split(mg_csv *csv, char *line, const char **fields, int *count) {
  *count = 0;
  if (strchr(line, '"'))
    return mg_fail(csv->context, MG_FILE, "%s: line %lld: quoted fields are not read", csv->path, (long long)csv->line);
  for (char *rest = line, *field; (field = strsep(&rest, ","));) {
    if (*count == MG_CSV_COLUMNS_MAX)
      return mg_fail(csv->context, MG_FILE, "%s: line %lld: more than %d columns", csv->path, (long long)csv->line,
                     MG_CSV_COLUMNS_MAX);
    fields[(*count)++] = field;
  }
  return MG_OK;
}

/* The next line that is neither empty nor a comment; NULL at the end. */
static char *take_line(mg_csv *csv) {
  while (csv->next) {
    char *line = strsep(&csv->next, "\n");
    csv->line++;
    const size_t length = strlen(line);
    if (length > 0 && line[length - 1] == '\r') line[length - 1] = '\0';
    if (*line && *line != '#') return line;
  }
  return NULL;
}

mg_status mg_csv_open(mg_context *context, const char *path, mg_csv *csv) {
  *csv = (mg_csv){.context = context, .path = path};
  MG_TRY(mg_file_read(context, path, most_bytes, &csv->text, &csv->bytes));
  csv->next = csv->text;
  char *header = take_line(csv);
  mg_status status = MG_OK;
  if (!header) status = mg_fail(context, MG_FILE, "%s: has no header line", path);
  if (status == MG_OK) status = split(csv, header, csv->name, &csv->columns);
  if (status != MG_OK) mg_csv_close(csv);
  return status;
}

void mg_csv_close(mg_csv *csv) {
  mg_free(csv->context, csv->text, csv->bytes + 1);
  csv->text = NULL;
}

mg_status mg_csv_next(mg_csv *csv, bool *more) {
  char *line = take_line(csv);
  int count;
  *more = line != NULL;
  if (!line) return MG_OK;
  MG_TRY(split(csv, line, csv->field, &count));
  if (count == csv->columns) return MG_OK;
  return mg_fail(csv->context, MG_FILE, "%s: line %lld has %d fields, the header %d", csv->path, (long long)csv->line,
                 count, csv->columns);
}

int mg_csv_column(const mg_csv *csv, const char *name) {
  for (int c = 0; c < csv->columns; c++)
    if (strcmp(csv->name[c], name) == 0) return c;
  return -1;
}

const char *mg_csv_text(const mg_csv *csv, const char *name) {
  const int column = mg_csv_column(csv, name);
  return column < 0 ? "" : csv->field[column];
}

mg_status mg_csv_number(const mg_csv *csv, const char *name, double *out) {
  const int column = mg_csv_column(csv, name);
  if (column < 0) return mg_fail(csv->context, MG_FILE, "%s: has no column '%s'", csv->path, name);
  char *end;
  *out = strtod(csv->field[column], &end);
  if (end != csv->field[column] && *end == '\0' && isfinite(*out)) return MG_OK;
  return mg_fail(csv->context, MG_FILE, "%s: line %lld: '%s' must be a number, not '%.40s'", csv->path,
                 (long long)csv->line, name, csv->field[column]);
}
