/* Runs work that may die in a process of its own. */
#ifndef MG_CLI_ISOLATE_H
#define MG_CLI_ISOLATE_H

#include "cli/cli.h"

/* Calls `work` in a forked child whose standard output is ours, and returns its status with its message. A child that
 * dies is MG_PLUGIN with a message that begins with `where` and names the signal or exit code. No thread may have been
 * started before. */
mg_status mg_cli_isolated(mg_cli *cli, const char *where, mg_status (*work)(mg_cli *cli, void *user), void *user);

/* The same for work that is not trusted: what it prints, and its message, reach us through a pipe, and control characters,
 * which could do more to a terminal than print, as '?'. */
mg_status mg_cli_isolated_filtered(mg_cli *cli, const char *where, mg_status (*work)(mg_cli *cli, void *user),
                                   void *user);

#endif
