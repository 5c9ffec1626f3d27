/* The lists that are not of plugins. */
#ifndef MG_CLI_LIST_H
#define MG_CLI_LIST_H

#include "cli/cli.h"

mg_status mg__list_metrics(mg_cli *cli, bool json, bool names_only);
mg_status mg__list_families(mg_cli *cli, bool json, bool names_only);
/* `sandboxed`: each file is loaded in a sandbox. */
mg_status mg__list_experiments(mg_cli *cli, bool json, bool names_only, bool sandboxed);

#endif
