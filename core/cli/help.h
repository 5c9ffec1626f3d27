/* Help, man pages and completion scripts, all from the commands' rows. */
#ifndef MG_CLI_HELP_H
#define MG_CLI_HELP_H

#include "cli/commands.h"

/* The overview of all commands. */
void mg__help_overview(const mg_cli *cli);
/* The page of one command: the same for `help NAME`, `NAME --help` and `NAME -h`. */
void mg__help_command(const mg_cli *cli, const mg_command *command);
/* A table of options: `prefix` before each name ("--" on the command line, "" in Lua). */
void mg__help_options(const mg_cli *cli, const mg_option *options, const char *prefix, const char *repeats);
/* A heading, bold on a terminal. */
void mg__help_heading(const mg_cli *cli, const char *text);

/* A man page in roff: of the program when `command` is NULL. */
void mg__man_page(const mg_command *command);

/* "--jobs N", "--json": an option as it is typed. */
void mg__option_usage(const mg_option *option, const char *prefix, char *text, size_t bytes);
/* "<help> (<allowed>; default <default>)". */
void mg__option_meaning(const mg_option *option, const char *repeats, char *text, size_t bytes);

/* Calls `visit` with each exit code and what it means, lowest first as the statuses list them. */
void mg__each_exit_code(void (*visit)(void *user, int code, const char *meaning), void *user);

#endif
