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
  void (*progress)(void *user, const json_t *progress);
  void *user;
} mg_session_request;

typedef struct mg_session {
  mg_cli *cli;
  mg_session_request request;
  mg_engine *engine;
  char name[256];                    /* "quickstart" for experiments/quickstart.lua */
  char cache[MG_SESSION_PATH_BYTES]; /* for corpora */
} mg_session;

/* Opens the engine and loads the experiment; a wrong key, value or seed is MG_USAGE. Close it in any case. */
mg_status mg_session_open(mg_cli *cli, const mg_session_request *request, mg_session *session);
void mg_session_close(mg_session *session);

/* Where the results of an experiment stay: `wanted`, or results/NAME, or results/NAME-smoke. */
void mg_session_folder(const mg_session *session, const char *wanted, char folder[MG_SESSION_PATH_BYTES]);
/* FOLDER/results.sqlite. */
mg_status mg_session_store(mg_cli *cli, const char *folder, bool read_only, mg_store **out);

/* Renders into `folder`; the text form goes to standard output. */
mg_status mg_session_report(mg_session *session, const json_t *stored, const char *format, const char *folder);

/* Pairs "key=value" as an object, later ones winning. MG_USAGE for a word without '='. */
mg_status mg_session_settings(mg_context *context, const char *const *words, int64_t count, json_t **out);
/* "1..5", "1,2,3" or "7" as a list. */
mg_status mg_session_seeds(mg_context *context, const char *text, json_t **out);

#endif
