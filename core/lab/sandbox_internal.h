/* The two walls of a sandbox, in files of their own. Each function is called with no_new_privs set. */
#ifndef MG_LAB_SANDBOX_INTERNAL_H
#define MG_LAB_SANDBOX_INTERNAL_H

#include "lab/sandbox.h"

/* Landlock: which files may be read, written and executed. */
mg_status mg__sandbox_files(mg_context *context, const mg_sandbox *sandbox);
/* MG_UNSUPPORTED without Landlock. */
mg_status mg__sandbox_files_check(mg_context *context);
/* seccomp: which system calls may be made; with `programs` also those that start a process. */
mg_status mg__sandbox_calls(mg_context *context, bool programs);
mg_status mg__sandbox_calls_check(mg_context *context);

#endif
