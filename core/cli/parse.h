/* From argv to a command's options struct and words. */
#ifndef MG_CLI_PARSE_H
#define MG_CLI_PARSE_H

#include "cli/cli.h"

typedef struct mg_parsed {
  bool help;     /* --help or -h was there; nothing after it was read */
  void *options; /* filled; NULL if the command has none */
  mg_cli_words words;
  const char **storage; /* behind words */
  size_t storage_count;
} mg_parsed;

/* Parses what follows the command's name. Understands `--name value`, `--name=value`, `--flag`, and `--`, after which
 * everything is a word. MG_USAGE names the option, the nearest known one, or the word that is missing. */
mg_status mg__parse(mg_context *context, const mg_command *command, int count, char *const *arguments, mg_parsed *out);
void mg__parsed_free(mg_context *context, const mg_command *command, mg_parsed *parsed);

enum { MG_FLAG_BYTES = 64 };
/* "dry_run" -> "dry-run". */
const char *mg__flag_name(const char *option, char text[MG_FLAG_BYTES]);

#endif
