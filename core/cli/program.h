/* The program as one function of libmoegauge, so that the executable is an empty shell around it. */
#ifndef MG_CLI_PROGRAM_H
#define MG_CLI_PROGRAM_H

#include "moegauge/api.h"

/* Runs one command line and returns the process exit code (moegauge/status.h lists them). */
MG_API int mg_main(int argc, char **argv);

#endif
