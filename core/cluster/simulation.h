/* The simulator from a specification to a result, both JSON.
 *
 * {"step": "decode"|"prefill"|"training", "model": {...}, "accelerator": {...}, "calibration": {...}, "trace": {...},
 * and the keys of mg_simulation_options}. "model" is mg_shape_options, "accelerator" mg_accelerator_options,
 * "calibration" what mg_calibration_read takes, "trace" mg_simulation_recorded_options or mg_routing_recipe_options,
 * whose experts, choices and layers default to the model's. "assignment" [traced layers][slots], where a placement was
 * made elsewhere, stands instead of "placement". */
#ifndef MG_CLUSTER_SIMULATION_H
#define MG_CLUSTER_SIMULATION_H

#include <jansson.h>

#include "moegauge/backend.h"
#include "moegauge/option.h"

extern const mg_option mg_simulation_options[];
extern const mg_option mg_simulation_recorded_options[]; /* "path" and how its texts are ordered */

/* Checks all that needs no time: of a recorded trace its head and checksum. MG_USAGE names the key, MG_FILE what is wrong
 * with the trace, or that it is one of another model. */
mg_status mg_simulation_check(mg_context *context, const json_t *spec);
/* Runs it: {"metrics": {NAME: number}, "extrapolated": [...], "ranks": {"busy_compute_s": [...], ...}, "phases": {...}}.
 * New reference. MG_USAGE for a specification that contradicts itself or does not fit, MG_FILE for a bad trace. */
mg_status mg_simulation_run(mg_context *context, const json_t *spec, json_t **out);

/* What mg_step_cost_from_json takes: seconds of a prefill or decode step at each of grid's "tokens" (of the whole
 * instance) and "context" (as core/cluster/step_cost.h means it). New reference. */
mg_status mg_simulation_step_costs(mg_context *context, const json_t *spec, const json_t *grid, json_t **out);
/* Writes the specification's trace to a file (measure/trace.h), through the backend's memory. */
mg_status mg_simulation_write_trace(mg_context *context, const json_t *spec, mg_backend *backend, const char *path);

/* What a placement of this specification would be asked: a list with one {"layer", "load": [experts], "experts", "slots",
 * "ranks", "nodes", "groups", "seed"} for each traced layer. New reference. */
mg_status mg_simulation_requests(mg_context *context, const json_t *spec, json_t **out);

#endif
