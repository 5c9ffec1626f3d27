/* The results store on SQLite. One transaction per case; nothing is held in memory between calls, so that a process
 * killed at any moment loses no finished case (https://www.sqlite.org/atomiccommit.html). */
#include "lab/store.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORE_LAYOUT = 1, STORE_APPLICATION = 0x4d4f4547 /* "MOEG" */, BUSY_MILLISECONDS = 5000 };

static const char not_run[] = "not run yet; `moegauge run` goes on where it stopped";

struct mg_store {
  mg_context *context;
  sqlite3 *database;
  char *path;
};

static const char layout[] =
    "CREATE TABLE experiment(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE plan(number INTEGER PRIMARY KEY, hash TEXT NOT NULL, label TEXT NOT NULL, labels TEXT NOT NULL,"
    " params TEXT NOT NULL);"
    "CREATE TABLE cases(hash TEXT PRIMARY KEY, number INTEGER NOT NULL, label TEXT NOT NULL, params TEXT NOT NULL,"
    " status TEXT NOT NULL CHECK(status IN ('ok', 'failed', 'skipped')), reason TEXT NOT NULL, started INTEGER NOT "
    "NULL,"
    " seconds REAL NOT NULL, provenance TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE metrics(hash TEXT NOT NULL REFERENCES cases ON DELETE CASCADE, name TEXT NOT NULL, value,"
    " PRIMARY KEY(hash, name)) WITHOUT ROWID;"
    "CREATE TABLE series(hash TEXT NOT NULL REFERENCES cases ON DELETE CASCADE, name TEXT NOT NULL,"
    " position INTEGER NOT NULL, x, value, PRIMARY KEY(hash, name, position)) WITHOUT ROWID;"
    "CREATE TABLE tables(hash TEXT NOT NULL REFERENCES cases ON DELETE CASCADE, name TEXT NOT NULL, json TEXT NOT NULL,"
    " PRIMARY KEY(hash, name)) WITHOUT ROWID;";

/* ---- failures --------------------------------------------------------------------------------------------- */

/* Turns SQLite's code into a message that says what the user can do. */
static mg_status refuse(const mg_store *store, int code) {
  const char *words = store->database ? sqlite3_errmsg(store->database) : sqlite3_errstr(code);
  switch (code & 0xff) {
  case SQLITE_NOTADB:
    return mg_fail(store->context, MG_FILE, "%s: is not a moegauge results file; name another folder with --out",
                   store->path);
  case SQLITE_CORRUPT:
    return mg_fail(store->context, MG_FILE, "%s: is damaged (%s); move it away and run the experiment again",
                   store->path, words);
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    return mg_fail(store->context, MG_WRITE, "%s: is in use by another program; wait for it or use another --out",
                   store->path);
  case SQLITE_FULL:
  case SQLITE_IOERR:
    return mg_fail(store->context, MG_WRITE,
                   "%s: could not be written (%s); free some space and run again: finished cases are kept", store->path,
                   words);
  case SQLITE_NOMEM: return mg_fail(store->context, MG_MEMORY, "%s: out of host memory", store->path);
  case SQLITE_READONLY:
  case SQLITE_CANTOPEN:
  case SQLITE_PERM:
    return mg_fail(store->context, MG_WRITE, "%s: cannot be opened or written (%s)", store->path, words);
  default: return mg_fail(store->context, MG_BUG, "%s: SQLite says: %s", store->path, words);
  }
}

static mg_status execute(const mg_store *store, const char *sql) {
  const int code = sqlite3_exec(store->database, sql, NULL, NULL, NULL);
  return code == SQLITE_OK ? MG_OK : refuse(store, code);
}

/* Commits when `status` is good, else rolls back and keeps the first failure's message. */
static mg_status finish(const mg_store *store, mg_status status) {
  if (status == MG_OK) status = execute(store, "COMMIT");
  if (status != MG_OK) sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
  return status;
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

static mg_status read_number(const mg_store *store, const char *sql, int64_t *out) {
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
  if (code == SQLITE_OK) code = sqlite3_step(statement);
  if (code == SQLITE_ROW) *out = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return code == SQLITE_ROW ? MG_OK : refuse(store, code);
}

static mg_status create_layout(const mg_store *store) {
  char sql[sizeof layout + 128];
  snprintf(sql, sizeof sql, "%s PRAGMA application_id = %d; PRAGMA user_version = %d;", layout, STORE_APPLICATION,
           STORE_LAYOUT);
  return execute(store, sql);
}

/* An empty file is laid out; any other must carry our mark and a layout that we know. */
static mg_status look_at_layout(const mg_store *store, bool read_only) {
  int64_t application = 0, version = 0, tables = 0;
  MG_TRY(read_number(store, "PRAGMA application_id", &application));
  MG_TRY(read_number(store, "PRAGMA user_version", &version));
  MG_TRY(read_number(store, "SELECT count(*) FROM sqlite_schema", &tables));
  if (tables == 0 && application == 0 && !read_only) return create_layout(store);
  if (application != STORE_APPLICATION)
    return mg_fail(store->context, MG_FILE,
                   "%s: is a SQLite file, but not one of moegauge's; name another folder with --out", store->path);
  if (version != STORE_LAYOUT)
    return mg_fail(store->context, MG_FILE, "%s: has results layout %lld, this moegauge reads %d; %s", store->path,
                   (long long)version, STORE_LAYOUT,
                   version > STORE_LAYOUT ? "use the newer moegauge that wrote it" : "run the experiment again");
  return MG_OK;
}

/* In one transaction, so that of two runs that begin at once the second finds the file either empty or laid out. */
static mg_status check_layout(const mg_store *store, bool read_only) {
  MG_TRY(execute(store, read_only ? "BEGIN" : "BEGIN IMMEDIATE"));
  return finish(store, look_at_layout(store, read_only));
}

static mg_status prepare_database(mg_store *store, bool read_only) {
  /* A reader too opens for writing (SQLite falls back by itself): only so can it undo what a killed writer left. */
  const int flags = SQLITE_OPEN_READWRITE | (read_only ? 0 : SQLITE_OPEN_CREATE);
  const int code = sqlite3_open_v2(store->path, &store->database, flags | SQLITE_OPEN_NOMUTEX, NULL);
  if (code != SQLITE_OK && read_only)
    return mg_fail(store->context, MG_FILE, "%s: there are no results to read (%s)", store->path, sqlite3_errstr(code));
  if (code != SQLITE_OK) return refuse(store, code);
  sqlite3_busy_timeout(store->database, BUSY_MILLISECONDS);
  MG_TRY(execute(store, read_only
                            ? "PRAGMA query_only = ON;"
                            : "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"));
  return check_layout(store, read_only);
}

mg_status mg_store_open(mg_context *context, const char *path, bool read_only, mg_store **out) {
  *out = NULL;
  mg_store *store = mg_alloc(context, sizeof *store);
  if (!store) return MG_MEMORY;
  store->context = context;
  store->path = mg_strdup(context, path);
  const mg_status status = store->path ? prepare_database(store, read_only) : MG_MEMORY;
  if (status == MG_OK)
    *out = store;
  else
    mg_store_close(store);
  return status;
}

void mg_store_close(mg_store *store) {
  if (!store) return;
  sqlite3_close(store->database);
  if (store->path) mg_free(store->context, store->path, strlen(store->path) + 1);
  mg_free(store->context, store, sizeof *store);
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

static void bind_number(sqlite3_stmt *statement, int index, const json_t *value) {
  if (json_is_integer(value))
    sqlite3_bind_int64(statement, index, json_integer_value(value));
  else if (json_is_real(value))
    sqlite3_bind_double(statement, index, json_real_value(value));
  else
    sqlite3_bind_null(statement, index);
}

static void bind_text(sqlite3_stmt *statement, int index, const json_t *value) {
  sqlite3_bind_text(statement, index, json_is_string(value) ? json_string_value(value) : "", -1, SQLITE_TRANSIENT);
}

static void bind_json(sqlite3_stmt *statement, int index, const json_t *value) {
  char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : NULL;
  if (text)
    sqlite3_bind_text(statement, index, text, -1, free);
  else
    sqlite3_bind_text(statement, index, "{}", -1, SQLITE_STATIC);
}

static mg_status prepare(const mg_store *store, const char *sql, sqlite3_stmt **out) {
  const int code = sqlite3_prepare_v2(store->database, sql, -1, out, NULL);
  return code == SQLITE_OK ? MG_OK : refuse(store, code);
}

/* Runs a bound statement that gives no rows, and makes it ready for the next one. */
static mg_status step(const mg_store *store, sqlite3_stmt *statement) {
  const int code = sqlite3_step(statement);
  const mg_status status = code == SQLITE_DONE ? MG_OK : refuse(store, code);
  sqlite3_reset(statement);
  return status;
}

static bool number_or_null(const json_t *value) {
  return json_is_number(value) || json_is_null(value);
}

static mg_status put_metrics(const mg_store *store, const json_t *hash, const json_t *metrics) {
  sqlite3_stmt *statement = NULL;
  MG_TRY(prepare(store, "INSERT INTO metrics VALUES(?, ?, ?)", &statement));
  mg_status status = MG_OK;
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)metrics, name, value) {
    if (!number_or_null(value)) {
      status = mg_fail(store->context, MG_USAGE, "metric '%s' must be a number; give lists as series or tables", name);
      break;
    }
    bind_text(statement, 1, hash);
    sqlite3_bind_text(statement, 2, name, -1, SQLITE_TRANSIENT);
    bind_number(statement, 3, value);
    if ((status = step(store, statement)) != MG_OK) break;
  }
  sqlite3_finalize(statement);
  return status;
}

/* An element is a value, or a pair [x, value]. */
static mg_status put_one_series(const mg_store *store, sqlite3_stmt *statement, const char *name, const json_t *list) {
  if (!json_is_array(list)) return mg_fail(store->context, MG_USAGE, "series '%s' must be a list of numbers", name);
  size_t position;
  json_t *element;
  json_array_foreach(list, position, element) {
    const bool pair = json_is_array(element) && json_array_size(element) == 2;
    const json_t *x = pair ? json_array_get(element, 0) : NULL, *value = pair ? json_array_get(element, 1) : element;
    if (!number_or_null(value) || (pair && !json_is_number(x)))
      return mg_fail(store->context, MG_USAGE, "series '%s': element %zu is neither a number nor a pair of numbers",
                     name, position + 1);
    sqlite3_bind_text(statement, 2, name, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(statement, 3, (sqlite3_int64)position);
    bind_number(statement, 4, x);
    bind_number(statement, 5, value);
    MG_TRY(step(store, statement));
  }
  return MG_OK;
}

static mg_status put_series(const mg_store *store, const json_t *hash, const json_t *series) {
  sqlite3_stmt *statement = NULL;
  MG_TRY(prepare(store, "INSERT INTO series VALUES(?, ?, ?, ?, ?)", &statement));
  bind_text(statement, 1, hash);
  mg_status status = MG_OK;
  const char *name;
  json_t *list;
  json_object_foreach((json_t *)series, name, list) {
    if ((status = put_one_series(store, statement, name, list)) != MG_OK) break;
  }
  sqlite3_finalize(statement);
  return status;
}

static mg_status put_tables(const mg_store *store, const json_t *hash, const json_t *tables) {
  sqlite3_stmt *statement = NULL;
  MG_TRY(prepare(store, "INSERT INTO tables VALUES(?, ?, ?)", &statement));
  mg_status status = MG_OK;
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)tables, name, value) {
    bind_text(statement, 1, hash);
    sqlite3_bind_text(statement, 2, name, -1, SQLITE_TRANSIENT);
    bind_json(statement, 3, value);
    if ((status = step(store, statement)) != MG_OK) break;
  }
  sqlite3_finalize(statement);
  return status;
}

static mg_status put_case(const mg_store *store, const json_t *row) {
  sqlite3_stmt *statement = NULL;
  MG_TRY(prepare(store, "DELETE FROM cases WHERE hash = ?", &statement));
  bind_text(statement, 1, json_object_get(row, "hash"));
  const mg_status removed = step(store, statement);
  sqlite3_finalize(statement);
  MG_TRY(removed);
  MG_TRY(prepare(store, "INSERT INTO cases VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", &statement));
  bind_text(statement, 1, json_object_get(row, "hash"));
  sqlite3_bind_int64(statement, 2, json_integer_value(json_object_get(row, "number")));
  bind_text(statement, 3, json_object_get(row, "label"));
  bind_json(statement, 4, json_object_get(row, "params"));
  bind_text(statement, 5, json_object_get(row, "status"));
  bind_text(statement, 6, json_object_get(row, "reason"));
  sqlite3_bind_int64(statement, 7, json_integer_value(json_object_get(row, "started")));
  sqlite3_bind_double(statement, 8, json_number_value(json_object_get(row, "seconds")));
  bind_json(statement, 9, json_object_get(row, "provenance"));
  const mg_status status = step(store, statement);
  sqlite3_finalize(statement);
  return status;
}

static mg_status put_all(const mg_store *store, const json_t *row) {
  const json_t *hash = json_object_get(row, "hash");
  const json_t *result = json_object_get(row, "result");
  MG_TRY(put_case(store, row));
  MG_TRY(put_metrics(store, hash, json_object_get(result, "metrics")));
  MG_TRY(put_series(store, hash, json_object_get(result, "series")));
  return put_tables(store, hash, json_object_get(result, "tables"));
}

mg_status mg_store_put(mg_store *store, const json_t *row) {
  MG_TRY(execute(store, "BEGIN IMMEDIATE"));
  return finish(store, put_all(store, row));
}

mg_status mg_store_set(mg_store *store, const char *key, const char *value) {
  sqlite3_stmt *statement = NULL;
  MG_TRY(prepare(store, "INSERT OR REPLACE INTO experiment VALUES(?, ?)", &statement));
  sqlite3_bind_text(statement, 1, key, -1, SQLITE_TRANSIENT);
  sqlite3_bind_text(statement, 2, value, -1, SQLITE_TRANSIENT);
  const mg_status status = step(store, statement);
  sqlite3_finalize(statement);
  return status;
}

static mg_status put_plan(const mg_store *store, const json_t *cases) {
  MG_TRY(execute(store, "DELETE FROM plan"));
  sqlite3_stmt *statement = NULL;
  MG_TRY(prepare(store, "INSERT INTO plan VALUES(?, ?, ?, ?, ?)", &statement));
  mg_status status = MG_OK;
  size_t index;
  json_t *one;
  json_array_foreach(cases, index, one) {
    sqlite3_bind_int64(statement, 1, json_integer_value(json_object_get(one, "number")));
    bind_text(statement, 2, json_object_get(one, "hash"));
    bind_text(statement, 3, json_object_get(one, "label"));
    bind_json(statement, 4, json_object_get(one, "labels"));
    bind_json(statement, 5, json_object_get(one, "params"));
    if ((status = step(store, statement)) != MG_OK) break;
  }
  sqlite3_finalize(statement);
  return status;
}

mg_status mg_store_set_plan(mg_store *store, const json_t *cases) {
  MG_TRY(execute(store, "BEGIN IMMEDIATE"));
  return finish(store, put_plan(store, cases));
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

mg_status mg_store_status(mg_store *store, const char *hash, char status[16]) {
  sqlite3_stmt *statement = NULL;
  status[0] = '\0';
  MG_TRY(prepare(store, "SELECT status FROM cases WHERE hash = ?", &statement));
  sqlite3_bind_text(statement, 1, hash, -1, SQLITE_TRANSIENT);
  const int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) snprintf(status, 16, "%s", (const char *)sqlite3_column_text(statement, 0));
  const mg_status outcome = code == SQLITE_ROW || code == SQLITE_DONE ? MG_OK : refuse(store, code);
  sqlite3_finalize(statement);
  return outcome;
}

static json_t *column_text(sqlite3_stmt *statement, int column) {
  const char *text = (const char *)sqlite3_column_text(statement, column);
  return json_string(text ? text : "");
}

static json_t *column_json(sqlite3_stmt *statement, int column) {
  const char *text = (const char *)sqlite3_column_text(statement, column);
  json_t *value = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
  return value ? value : json_object();
}

static json_t *column_number(sqlite3_stmt *statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
  case SQLITE_INTEGER: return json_integer(sqlite3_column_int64(statement, column));
  case SQLITE_FLOAT: {
    json_t *number = json_real(sqlite3_column_double(statement, column)); /* NULL for an infinity */
    return number ? number : json_null();
  }
  default: return json_null();
  }
}

/* Calls `visit` for each row of a query about one hash. */
static mg_status each_row(const mg_store *store, const char *sql, const char *hash,
                          void (*visit)(sqlite3_stmt *statement, json_t *into), json_t *into) {
  sqlite3_stmt *statement = NULL;
  MG_TRY(prepare(store, sql, &statement));
  if (hash) sqlite3_bind_text(statement, 1, hash, -1, SQLITE_TRANSIENT);
  int code;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) visit(statement, into);
  const mg_status status = code == SQLITE_DONE ? MG_OK : refuse(store, code);
  sqlite3_finalize(statement);
  return status;
}

static void visit_fact(sqlite3_stmt *statement, json_t *facts) {
  json_object_set_new(facts, (const char *)sqlite3_column_text(statement, 0), column_text(statement, 1));
}
static void visit_metric(sqlite3_stmt *statement, json_t *metrics) {
  json_object_set_new(metrics, (const char *)sqlite3_column_text(statement, 0), column_number(statement, 1));
}
static void visit_series(sqlite3_stmt *statement, json_t *series) {
  const char *name = (const char *)sqlite3_column_text(statement, 0);
  json_t *list = json_object_get(series, name);
  if (!list) {
    json_object_set_new(series, name, json_array());
    list = json_object_get(series, name);
  }
  json_t *value = column_number(statement, 2);
  const bool pair = sqlite3_column_type(statement, 1) != SQLITE_NULL;
  json_array_append_new(list, pair ? json_pack("[o, o]", column_number(statement, 1), value) : value);
}
static void visit_table(sqlite3_stmt *statement, json_t *tables) {
  json_object_set_new(tables, (const char *)sqlite3_column_text(statement, 0), column_json(statement, 1));
}

static void visit_case(sqlite3_stmt *statement, json_t *cases) {
  json_t *row = json_object();
  json_object_set_new(row, "hash", column_text(statement, 0));
  json_object_set_new(row, "number", column_number(statement, 1));
  json_object_set_new(row, "label", column_text(statement, 2));
  json_object_set_new(row, "labels", column_json(statement, 3));
  json_object_set_new(row, "params", column_json(statement, 4));
  const bool stored = sqlite3_column_type(statement, 5) != SQLITE_NULL;
  json_object_set_new(row, "status", stored ? column_text(statement, 5) : json_string("skipped"));
  json_object_set_new(row, "reason", stored ? column_text(statement, 6) : json_string(not_run));
  json_object_set_new(row, "started", column_number(statement, 7));
  json_object_set_new(row, "seconds", column_number(statement, 8));
  json_object_set_new(row, "provenance", column_json(statement, 9));
  json_array_append_new(cases, row);
}

static mg_status get_result(const mg_store *store, json_t *row) {
  const char *hash = json_string_value(json_object_get(row, "hash"));
  json_t *metrics = json_object(), *series = json_object(), *tables = json_object();
  json_object_set_new(row, "result",
                      json_pack("{s:o, s:o, s:o}", "metrics", metrics, "series", series, "tables", tables));
  MG_TRY(each_row(store, "SELECT name, value FROM metrics WHERE hash = ? ORDER BY name", hash, visit_metric, metrics));
  MG_TRY(each_row(store, "SELECT name, x, value FROM series WHERE hash = ? ORDER BY name, position", hash, visit_series,
                  series));
  return each_row(store, "SELECT name, json FROM tables WHERE hash = ? ORDER BY name", hash, visit_table, tables);
}

static mg_status get_cases(const mg_store *store, json_t *cases) {
  int64_t planned = 0;
  MG_TRY(read_number(store, "SELECT count(*) FROM plan", &planned));
  MG_TRY(each_row(store,
                  planned ? "SELECT p.hash, p.number, p.label, p.labels, p.params, c.status, c.reason, c.started, "
                            "c.seconds, c.provenance FROM plan p LEFT JOIN cases c USING(hash) ORDER BY p.number"
                          : "SELECT hash, number, label, '{}', params, status, reason, started, seconds, provenance "
                            "FROM cases ORDER BY number, hash",
                  NULL, visit_case, cases));
  size_t index;
  json_t *row;
  json_array_foreach(cases, index, row) MG_TRY(get_result(store, row));
  return MG_OK;
}

mg_status mg_store_get(mg_store *store, json_t **out) {
  *out = NULL;
  json_t *facts = json_object(), *cases = json_array();
  json_t *all = json_pack("{s:o, s:o}", "experiment", facts, "cases", cases);
  if (!all) return mg_fail(store->context, MG_MEMORY, "%s: out of host memory", store->path);
  mg_status status = each_row(store, "SELECT key, value FROM experiment ORDER BY key", NULL, visit_fact, facts);
  if (status == MG_OK) status = get_cases(store, cases);
  if (status == MG_OK)
    *out = all;
  else
    json_decref(all);
  return status;
}
