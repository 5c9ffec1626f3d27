/* Shuts a process in, for good, before it runs a script that nobody has read: what it may read, write and start, and how
 * much it may use. core/lab/README.md says against what this stands. */
#ifndef MG_LAB_SANDBOX_H
#define MG_LAB_SANDBOX_H

#include "moegauge/context.h"

typedef struct mg_sandbox {
  const char *const *readable; /* files, and folders with all below them; those that are not there are left out */
  int64_t readable_count;
  const char *writable; /* the one folder below which files may be written; NULL = none */
  const char *program;  /* the one program that may be started, by its path; NULL = none, and no process either */
  int64_t memory_bytes; /* of address space; 0 = unlimited. Left out under the sanitizers, which reserve terabytes */
  int64_t cpu_seconds;  /* of all threads together; 0 = unlimited */
} mg_sandbox;

/* Enters the sandbox: the calling process, which must have one thread, and all that it starts. Files by Landlock, system
 * calls by seccomp (no network, no other processes, no mapping of files as code), capabilities dropped, resources by limits.
 * MG_UNSUPPORTED when the kernel lacks Landlock or seccomp, MG_BUG when threads run already: the caller must then run
 * nothing, as the process may be shut in by half. */
mg_status mg_sandbox_enter(mg_context *context, const mg_sandbox *sandbox);

/* Whether this kernel can: MG_OK or MG_UNSUPPORTED with the reason. Changes nothing. */
mg_status mg_sandbox_check(mg_context *context);

#endif
