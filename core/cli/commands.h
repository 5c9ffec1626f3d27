/* All commands, in the order in which help shows them. A row NAME needs `const mg_command mg__command_NAME` in
 * command_NAME.c. */
#ifndef MG_CLI_COMMANDS_H
#define MG_CLI_COMMANDS_H

#include "cli/cli.h"

#define MG_COMMAND_LIST(X)                                                                                             \
  X(run)                                                                                                               \
  X(report)                                                                                                            \
  X(compare)                                                                                                           \
  X(model)                                                                                                             \
  X(cluster)                                                                                                           \
  X(list)                                                                                                              \
  X(help)                                                                                                              \
  X(check)                                                                                                             \
  X(bench)                                                                                                             \
  X(env)                                                                                                               \
  X(completion)                                                                                                        \
  X(case)

#define MG_COMMAND_DECLARE(name) extern const mg_command mg__command_##name;
MG_COMMAND_LIST(MG_COMMAND_DECLARE)
#undef MG_COMMAND_DECLARE

/* NULL-terminated. */
extern const mg_command *const mg__commands[];

/* The command of that name, hidden ones included; NULL if there is none. */
const mg_command *mg__command_find(const char *name);
/* MG_USAGE with the nearest command. */
mg_status mg__command_refuse(mg_cli *cli, const char *name);

#endif
