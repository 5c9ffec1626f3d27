/* A small reader of comma-separated tables with a header; lines that begin with # are comments. */
#ifndef MG_CLUSTER_CSV_H
#define MG_CLUSTER_CSV_H

#include "moegauge/context.h"

enum { MG_CSV_COLUMNS_MAX = 64 };

typedef struct mg_csv {
  mg_context *context;
  const char *path;
  char *text; /* the file; separators become NULs as lines are read */
  size_t bytes;
  char *next;                           /* the line to read next */
  int64_t line;                         /* number of the line in `field` */
  const char *name[MG_CSV_COLUMNS_MAX]; /* of each column */
  const char *field[MG_CSV_COLUMNS_MAX];
  int columns;
} mg_csv;

/* Reads the file (at most 256 MiB) and its header. `path` is borrowed. MG_FILE on failure. */
mg_status mg_csv_open(mg_context *context, const char *path, mg_csv *csv);
void mg_csv_close(mg_csv *csv);
/* Moves to the next line: *more is false at the end. MG_FILE names a line with another number of fields or a quote. */
mg_status mg_csv_next(mg_csv *csv, bool *more);
/* The column of that name; -1 = none. */
int mg_csv_column(const mg_csv *csv, const char *name);
/* The present line's text in a column, "" if there is no such column. */
const char *mg_csv_text(const mg_csv *csv, const char *name);
/* The present line's number in a column: MG_FILE names line and column if it is missing or no finite number. */
mg_status mg_csv_number(const mg_csv *csv, const char *name, double *out);

#endif
