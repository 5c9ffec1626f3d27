/* The list of commands and the search in it. */
#include "cli/commands.h"

#include <string.h>

const mg_command *const mg__commands[] = {
#define ROW(name) &mg__command_##name,
    MG_COMMAND_LIST(ROW)
#undef ROW
        NULL};

const mg_command *mg__command_find(const char *name) {
  for (const mg_command *const *c = mg__commands; *c; c++)
    if (strcmp((*c)->name, name) == 0) return *c;
  return NULL;
}

mg_status mg__command_refuse(mg_cli *cli, const char *name) {
  const char *names[MG_COUNT(mg__commands)];
  size_t count = 0;
  for (const mg_command *const *c = mg__commands; *c; c++)
    if (!(*c)->hidden) names[count++] = (*c)->name;
  names[count] = NULL;
  return mg_cli_refuse_word(cli, "command", name, names);
}
