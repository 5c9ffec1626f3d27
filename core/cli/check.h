/* What the two halves of `moegauge check` share. */
#ifndef MG_CLI_CHECK_H
#define MG_CLI_CHECK_H

#include "cli/cli.h"

typedef struct mg_check_options {
  bool json, sandbox;
  int64_t mode; /* an mg_check_mode; backends only */
  char filter[MG_OPTION_STRING_MAX];
  char backend[MG_OPTION_STRING_MAX]; /* routers only */
  char set[MG_OPTION_STRING_MAX];     /* only its repetitions count */
} mg_check_options;

typedef enum mg_check_mode { MG_CHECK_CHECK, MG_CHECK_PERF, MG_CHECK_SUPPORT } mg_check_mode;

mg_status mg__check_backend(mg_cli *cli, const mg_check_options *set, const char *name, const json_t *plugin_options);

/* `name` is a router, a plugin file with a '/' in its path, or a Lua file that defines routers. */
mg_status mg__check_router(mg_cli *cli, const mg_check_options *set, const char *name, const mg_cli_words *words);

/* The `--set key=value` words as a JSON object that `table` accepts; MG_USAGE as the table says. New reference. */
mg_status mg__check_settings(mg_cli *cli, const mg_option *table, size_t options_size, const mg_cli_words *words,
                             const char *where, json_t **out);

#endif
