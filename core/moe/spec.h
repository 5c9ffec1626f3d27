/* Reads one object of a specification: flat keys by an option table, and the few keys whose values are objects or lists
 * of their own. Both kinds are known keys; anything else is refused with the nearest known key. */
#ifndef MG_MOE_SPEC_H
#define MG_MOE_SPEC_H

#include "base/options.h"

typedef struct mg_spec_part {
  const char *name;
  const json_t *value; /* out: borrowed from the object; NULL when the key is absent */
} mg_spec_part;

/* Sets `options` to the table's defaults, then to what `object` says, and finds the parts. Messages begin with `where`.
 * MG_USAGE for an unknown key, a wrong type or a value out of range. `object` may be NULL: all defaults, no part. */
mg_status mg_spec_read(mg_context *context, const mg_option *table, mg_spec_part *parts, size_t parts_count,
                       const json_t *object, const char *where, void *options);

#endif
