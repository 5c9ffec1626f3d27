/* The routing of a run of tokens in memory: which experts each went to in every layer, from a trace file (the format of
 * measure/trace.h) or from a generator. */
#ifndef MG_CLUSTER_ROUTING_H
#define MG_CLUSTER_ROUTING_H

#include <jansson.h>

#include "moegauge/backend.h"
#include "moegauge/option.h"

typedef struct mg_routing {
  mg_context *context;
  int64_t tokens, layers, experts, choices;
  int64_t starts_count;
  double mean_choices; /* experts of a token on average: `choices` unless some are -1 */
  int32_t *blocks;     /* [layers]: the model's block of each layer, counted from 0 */
  int32_t *ids;        /* [layers, tokens, choices]: experts, -1 = no choice */
  float *weights;      /* [layers, tokens, choices] */
  int32_t *token_ids;  /* [tokens] */
  int32_t *starts;     /* [starts_count]: where each text (request) begins */
  int32_t *domains;    /* [starts_count]: where each text is from; NULL = not known */
} mg_routing;

/* What the head of a trace file says. */
typedef struct mg_routing_facts {
  int64_t tokens, texts, layers, experts, choices;
} mg_routing_facts;

void mg_routing_destroy(mg_routing *routing);
/* Reads the head and proves the checksum. MG_FILE for a file that is cut, altered or of another format, or whose layers
 * differ in experts or choices. */
mg_status mg_routing_describe(mg_context *context, const char *path, mg_routing_facts *out);
/* Reads and checks a trace: MG_FILE also for one whose ids are no experts or come twice in a token. */
mg_status mg_routing_read(mg_context *context, const char *path, mg_routing **out);
/* Puts the texts of one domain one after the other, in the order of the domains, else as they were. MG_FILE if the trace
 * knows no domains. */
mg_status mg_routing_sort_domains(mg_routing *routing);
/* Writes the same format, without domains; `about` holds further texts of metadata or is NULL. The backend holds the data
 * meanwhile. */
mg_status mg_routing_write(const mg_routing *routing, mg_backend *backend, const char *path, const json_t *about);

/* The choices of one layer [tokens, choices]. */
const int32_t *mg_routing_layer(const mg_routing *routing, int64_t layer);
/* Adds the choices of tokens [first, first + count) of a layer to load [experts]; positions wrap around. */
void mg_routing_load(const mg_routing *routing, int64_t layer, int64_t first, int64_t count, double *load);

/* ---- generators ----------------------------------------------------------------------------------------------- */

typedef enum mg_routing_kind {
  MG_ROUTING_UNIFORM,
  MG_ROUTING_ZIPF,
  MG_ROUTING_POWER_LAW,
  MG_ROUTING_HOT,
  MG_ROUTING_BURSTY,
  MG_ROUTING_ROTATING,
  MG_ROUTING_SHIFT,
  MG_ROUTING_GROUP_LIMITED,
  MG_ROUTING_SHARES
} mg_routing_kind;

/* The formulas stand in core/cluster/README.md. */
typedef struct mg_routing_recipe {
  int64_t kind; /* mg_routing_kind */
  int64_t tokens, layers, experts, choices, seed;
  double exponent;
  int64_t hot_experts;
  double hot_share;
  int64_t period;
  double shift_at;
  int64_t groups, groups_kept;
  const double *shares; /* shares: [shares_layers, experts], at least 0; layer l has row l mod shares_layers */
  int64_t shares_layers;
} mg_routing_recipe;
extern const mg_option mg_routing_recipe_options[];

/* MG_USAGE for a recipe that contradicts itself (more choices than experts, groups that do not divide, ...). */
mg_status mg_routing_check(mg_context *context, const mg_routing_recipe *recipe);
/* The same for such a recipe. */
mg_status mg_routing_generate(mg_context *context, const mg_routing_recipe *recipe, mg_routing **out);

/* Room for a routing of these sizes, everything zero; MG_USAGE if it is too large to hold. */
mg_status mg__routing_create(mg_context *context, int64_t tokens, int64_t layers, int64_t experts, int64_t choices,
                             int64_t starts, mg_routing **out);

#endif
