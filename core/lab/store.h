/* The results of one experiment: a SQLite file (rollback journal, synchronous=FULL) that is the only truth; every
 * report is a view of it.
 *
 * Tables: experiment(key, value); cases(hash PRIMARY KEY, number, label, params JSON, status, reason, started, seconds,
 * provenance JSON); metrics(hash, name, value); series(hash, name, position, value); tables(hash, name, json). */
#ifndef MG_LAB_STORE_H
#define MG_LAB_STORE_H

#include <jansson.h>

#include "moegauge/context.h"

typedef struct mg_store mg_store;

/* Opens or creates `path`. MG_WRITE if it cannot be written, MG_FILE if it is not a results file of this version. */
mg_status mg_store_open(mg_context *context, const char *path, bool read_only, mg_store **out);
void mg_store_close(mg_store *store);

mg_status mg_store_set(mg_store *store, const char *key, const char *value); /* experiment-wide facts */

/* Stores one finished case in one transaction, replacing an earlier row of the hash. `row` = {"hash","number","label",
 * "params","status": "ok"|"failed"|"skipped","reason","started","seconds","provenance","result": {"metrics","series",
 * "tables"}}. */
mg_status mg_store_put(mg_store *store, const json_t *row);
/* "ok", "failed", "skipped", or "" when the hash is not stored. */
mg_status mg_store_status(mg_store *store, const char *hash, char status[16]);
/* Everything, as {"experiment": {...}, "cases": [row, ...]} in case order. */
mg_status mg_store_get(mg_store *store, json_t **out);

#endif
