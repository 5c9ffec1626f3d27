/* Options as data: one table gives parsing, defaults, range checks, help text and completion.
 *
 * A table describes the fields of a plain C struct. The core fills the struct from a JSON object (which is what a
 * Lua table, a stored case or `--set key=value` becomes), so that nobody parses by hand:
 *
 *     typedef struct topk_options { int64_t k; double noise; bool renormalise; } topk_options;
 *     static const mg_option options[] = {
 *         MG_OPTION_INT(topk_options, k, 2, 1, 4096, "experts kept per token"),
 *         MG_OPTION_FLOAT(topk_options, noise, 0.0, 0.0, 1e3, "standard deviation of the Gaussian noise"),
 *         MG_OPTION_BOOL(topk_options, renormalise, true, "make the kept weights sum to 1"),
 *         MG_OPTION_END};
 */
#ifndef MOEGAUGE_OPTION_H
#define MOEGAUGE_OPTION_H

#include "moegauge/context.h"

typedef enum mg_option_type {
  MG_OPTION_TYPE_END = 0,
  MG_OPTION_TYPE_BOOL,   /* bool */
  MG_OPTION_TYPE_INT,    /* int64_t */
  MG_OPTION_TYPE_FLOAT,  /* double */
  MG_OPTION_TYPE_CHOICE, /* int64_t: the index into `choices` */
  MG_OPTION_TYPE_STRING, /* char[MG_OPTION_STRING_MAX], NUL-terminated */
  MG_OPTION_TYPE_INTS    /* mg_option_ints: a list of integers */
} mg_option_type;

enum { MG_OPTION_STRING_MAX = 256, MG_OPTION_INTS_MAX = 16 };

typedef struct mg_option_ints {
  int64_t count;
  int64_t value[MG_OPTION_INTS_MAX];
} mg_option_ints;

typedef struct mg_option {
  const char *name; /* the key in Lua and JSON */
  mg_option_type type;
  size_t offset;              /* of the field in the options struct */
  double value;               /* default of bool (0/1), int, float and choice (index) */
  const char *text;           /* default of string; of ints as "2,4" */
  double minimum, maximum;    /* inclusive, for int, float and each of ints */
  const char *const *choices; /* NULL-terminated, for choice */
  const char *help;           /* a clause without a full stop; says the unit */
} mg_option;

#define MG_OPTION_BOOL(type_, field, default_, help_)                                                                  \
  { #field, MG_OPTION_TYPE_BOOL, offsetof(type_, field), (default_), NULL, 0, 1, NULL, help_ }
#define MG_OPTION_INT(type_, field, default_, minimum_, maximum_, help_)                                               \
  { #field, MG_OPTION_TYPE_INT, offsetof(type_, field), (default_), NULL, minimum_, maximum_, NULL, help_ }
#define MG_OPTION_FLOAT(type_, field, default_, minimum_, maximum_, help_)                                             \
  { #field, MG_OPTION_TYPE_FLOAT, offsetof(type_, field), (default_), NULL, minimum_, maximum_, NULL, help_ }
#define MG_OPTION_CHOICE(type_, field, default_, choices_, help_)                                                      \
  { #field, MG_OPTION_TYPE_CHOICE, offsetof(type_, field), (default_), NULL, 0, 0, choices_, help_ }
#define MG_OPTION_STRING(type_, field, default_, help_)                                                                \
  { #field, MG_OPTION_TYPE_STRING, offsetof(type_, field), 0, (default_), 0, 0, NULL, help_ }
#define MG_OPTION_INTS(type_, field, default_, minimum_, maximum_, help_)                                              \
  { #field, MG_OPTION_TYPE_INTS, offsetof(type_, field), 0, (default_), minimum_, maximum_, NULL, help_ }
#define MG_OPTION_END                                                                                                  \
  { NULL, MG_OPTION_TYPE_END, 0, 0, NULL, 0, 0, NULL, NULL }

#endif
