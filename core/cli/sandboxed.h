/* `--sandbox`: the process that was typed never loads the script. Children do, each shut in (lab/sandbox.h): one that
 * plans, one for each case, one for each view of the results. What they send is data, checked here. */
#ifndef MG_CLI_SANDBOXED_H
#define MG_CLI_SANDBOXED_H

#include "cli/session.h"

/* A case without --timeout may take an hour, a plan or a report two minutes. */
enum { MG_SANDBOX_CASE_SECONDS = 3600, MG_SANDBOX_LOOK_SECONDS = 120 };

/* What a child is told about its sandbox. */
typedef struct mg_sandboxed_case {
  const char *folder; /* of the results; below FOLDER/sandbox a case may write */
  const char *script; /* one that is run but is no experiment; NULL = the experiment */
  bool looks;         /* plans or reports: writes nothing */
  bool draws;         /* reports: reads the results, may start gnuplot */
  int64_t memory_bytes, cpu_seconds;
} mg_sandboxed_case;

/* In the parent. Open: MG_UNSUPPORTED where there is no sandbox; all plugins are loaded, and none by its path later. */
mg_status mg__sandboxed_open(mg_session *session, mg_registry *registry);
mg_status mg__sandboxed_plan(mg_session *session, json_t **plan);
mg_status mg__sandboxed_title(mg_session *session, char *text, size_t bytes);
/* Makes what cases may write to, and gives the command of a case: see mg_session_command. */
mg_status mg__sandboxed_cases(mg_session *session, const char *arguments[MG_SESSION_ARGUMENTS_MAX]);
mg_status mg__sandboxed_report(mg_session *session, const char *format, json_t **rendered);

/* In a child, before its script is loaded. */
mg_status mg__sandboxed_enter(mg_session *session, mg_registry *registry);
/* Adds to the message of a refused file what the sandbox allows; returns `status`. */
mg_status mg__sandboxed_explain(const mg_session *session, mg_status status);

#endif
