/* Progress of a run on standard error: one line that renews itself on a terminal, plain lines elsewhere. */
#ifndef MG_CLI_PROGRESS_H
#define MG_CLI_PROGRESS_H

#include "lab/runner.h"

typedef struct mg_progress mg_progress;

/* `cases` is the number of the whole plan. `live`: standard error is a terminal. */
mg_status mg_progress_create(mg_context *context, int64_t cases, bool live, mg_progress **out);
/* Wipes the live line. */
void mg_progress_destroy(mg_progress *progress);
/* What mg_run_request.changed wants; `user` is the mg_progress. */
void mg_progress_changed(void *user, const mg_case *what, const char *status, const char *reason,
                         const json_t *progress);

#endif
