/* The results of one experiment: a SQLite file (rollback journal, synchronous=FULL) that is the only truth; every
 * report is a view of it.
 *
 * Tables: experiment(key, value); plan(number, hash, label, labels JSON, params JSON): the cases of the latest run;
 * cases(hash PRIMARY KEY, number, label, params JSON, status, reason, started, seconds, provenance JSON): every outcome
 * ever stored; metrics(hash, name, value); series(hash, name, position, x, value); tables(hash, name, json).
 * The file is marked by SQLite's application_id, and user_version counts its layout. */
#ifndef MG_LAB_STORE_H
#define MG_LAB_STORE_H

#include <jansson.h>

#include "moegauge/context.h"

typedef struct mg_store mg_store;

/* Opens or creates `path`. MG_WRITE if it cannot be written, MG_FILE if it is not a results file of this version. */
mg_status mg_store_open(mg_context *context, const char *path, bool read_only, mg_store **out);
void mg_store_close(mg_store *store);

mg_status mg_store_set(mg_store *store, const char *key, const char *value); /* experiment-wide facts */

/* Replaces the plan: `cases` = [{"hash", "number", "label", "labels", "params"}, ...]. Outcomes stay stored. */
mg_status mg_store_set_plan(mg_store *store, const json_t *cases);

/* Stores one finished case in one transaction, replacing an earlier row of the hash. `row` = {"hash","number","label",
 * "params","status": "ok"|"failed"|"skipped","reason","started","seconds","provenance","result": {"metrics","series",
 * "tables"}}. A metric is a number or null, a series a list of those or of pairs [x, value]; MG_USAGE names one that is
 * not. A failed row may carry a result too: what was recorded until then. */
mg_status mg_store_put(mg_store *store, const json_t *row);
/* "ok", "failed", "skipped", or "" when the hash is not stored. */
mg_status mg_store_status(mg_store *store, const char *hash, char status[16]);
/* The plan and its outcomes, as {"experiment": {...}, "cases": [row, ...]} in case order; without a plan every outcome.
 * A planned case that was not run is "skipped" with that reason. */
mg_status mg_store_get(mg_store *store, json_t **out);

#endif
