/* What the commands about experiments share: an engine with a loaded experiment, and where its results stay. */
#ifndef MG_CLI_SESSION_H
#define MG_CLI_SESSION_H

#include "cli/cli.h"
#include "lab/store.h"
#include "lua/engine.h"

enum { MG_SESSION_PATH_BYTES = 4096 };

typedef struct mg_session_request {
  const char *experiment;      /* path of the Lua file; NULL = none: the engine alone */
  const char *const *settings; /* "key=value" */
  int64_t settings_count;
  const char *seeds; /* "1..5" or "1,2,3"; "" = as the experiment says */
  bool smoke, allow_files;
  bool sandboxed; /* only children run the script, each in a sandbox: this process never loads it and has no engine */
  /* In such a child: what mg__sandboxed_enter needs; NULL elsewhere. */
  const struct mg_sandboxed_case *inside;
  const char *out;        /* folder for the results; NULL or "" = results/NAME, or results/NAME-smoke */
  double timeout_seconds; /* of a case, 0 = none; and how many run at the same time: for the sandbox's limits */
  int64_t jobs;
  void (*progress)(void *user, const json_t *progress);
  void (*show)(void *user, const char *text);
  void *user;
} mg_session_request;

typedef struct mg_session {
  mg_cli *cli;
  mg_session_request request;
  mg_engine *engine;
  char name[256];                     /* "quickstart" for experiments/quickstart.lua */
  char folder[MG_SESSION_PATH_BYTES]; /* of the results */
  char cache[MG_SESSION_PATH_BYTES];  /* for corpora */
  char memory_text[24], cpu_text[24]; /* limits of a sandbox, as words of a child's command */
} mg_session;

/* The session's name and folder, which need no engine. */
void mg_session_place(mg_session *session, const mg_session_request *request);
/* Opens the engine and loads the experiment; a wrong key, value or seed is MG_USAGE. Close it in any case. */
mg_status mg_session_open(mg_cli *cli, const mg_session_request *request, mg_session *session);
void mg_session_close(mg_session *session);

/* The command of a child: this very program with the same experiment and settings, and `more` words (NULL = none) before
 * them. The words are borrowed from the session. */
enum { MG_SESSION_ARGUMENTS_MAX = 60 };
mg_status mg_session_command(const mg_session *session, const char *const *more,
                             const char *arguments[MG_SESSION_ARGUMENTS_MAX]);

/* The plan, made here or in a sandbox; new reference. */
mg_status mg_session_plan(mg_session *session, json_t **plan);

/* FOLDER/results.sqlite. */
mg_status mg_session_store(mg_cli *cli, const char *folder, bool read_only, mg_store **out);

/* Renders what is stored into the session's folder, here or in a sandbox; the text form goes to standard output. */
mg_status mg_session_report(mg_session *session, const json_t *stored, const char *format);

/* Pairs "key=value" as an object, later ones winning. MG_USAGE for a word without '='. */
mg_status mg_session_settings(mg_context *context, const char *const *words, int64_t count, json_t **out);
/* "1..5", "1,2,3" or "7" as a list. */
mg_status mg_session_seeds(mg_context *context, const char *text, json_t **out);

#endif
