/* What every command is made of: one row of data that gives parsing, help, man page and completion, and one function.
 * core/cli/README.md shows how to add one. */
#ifndef MG_CLI_CLI_H
#define MG_CLI_CLI_H

#include <jansson.h>
#include <stdio.h>

#include "host/registry.h"

/* One run of the program. */
typedef struct mg_cli {
  mg_context *context;
  const char *program;     /* path of the running executable, for commands that start it again */
  bool colour;             /* standard output is a terminal that wants colour */
  bool colour_errors;      /* the same for standard error */
  int (*interrupts)(void); /* how often Ctrl-C was pressed; only counted for commands with `counts_interrupts` */
  mg_registry *registry;   /* NULL until mg_cli_registry was called */
} mg_cli;

/* What stood on the command line beside the options. */
typedef struct mg_cli_words {
  const char *const *word; /* in order */
  int64_t count;
  const char *const *repeated; /* values of the option that `command->repeats` names, in order */
  int64_t repeated_count;
} mg_cli_words;

typedef struct mg_example {
  const char *line;    /* "moegauge list routers --json": a test parses it */
  const char *meaning; /* a clause without a full stop */
} mg_example;

typedef struct mg_command {
  const char *name;
  const char *words;        /* the arguments as shown in help: "EXPERIMENT.lua"; "" for none */
  const char *summary;      /* one line without a full stop */
  const char *details;      /* more sentences for the help page; NULL = none */
  const mg_option *options; /* fields `dry_run` are typed `--dry-run`; ends with MG_OPTION_END; NULL = none */
  size_t options_size;
  const char *repeats; /* name of a string option that may be given several times; NULL = none */
  int64_t words_least, words_most;
  const char *const *first_words; /* what the first argument may be, for completion; NULL = files */
  const mg_example *examples;     /* at least two; ends with {NULL, NULL} */
  bool hidden;                    /* not shown in help: for the program's own use */
  bool counts_interrupts;         /* Ctrl-C is counted instead of ending the program at once */
  /* Prints results on standard output. On failure the message is in cli->context; the framework prints it. */
  mg_status (*run)(mg_cli *cli, const void *options, const mg_cli_words *words);
} mg_command;
#define MG_EXAMPLE_END                                                                                                 \
  { NULL, NULL }

/* The registry of this run, made when first asked for. */
mg_status mg_cli_registry(mg_cli *cli, mg_registry **out);

/* Prints a JSON value as the only thing on standard output and releases it. NULL is out of memory. */
mg_status mg_cli_print_json(mg_cli *cli, json_t *json);

/* Prints `text` in lines of at most 80 columns, all but the first indented; the cursor stands at `column`. */
void mg_cli_print_wrapped(FILE *out, const char *text, int indent, int column);

/* MG_USAGE for a word that is none of `known` (NULL-terminated), with the nearest one: "there is no command 'rnu'". */
mg_status mg_cli_refuse_word(mg_cli *cli, const char *what, const char *word, const char *const *known);

#endif
