/* Finds and reads the config.json of a released model. */
#ifndef MG_MODEL_CONFIG_H
#define MG_MODEL_CONFIG_H

#include <jansson.h>

#include "moegauge/context.h"

enum { MG_CONFIG_PATH_BYTES = 4096, MG_CONFIG_BYTES_MAX = 16 << 20 };

/* `path` is a JSON file or a folder that holds config.json; `file` receives which one it was. *out is an object, a new
 * reference. MG_FILE with the file and the rule: missing, larger than MG_CONFIG_BYTES_MAX, not JSON, a key given twice,
 * no object. */
mg_status mg_config_read(mg_context *context, const char *path, char file[MG_CONFIG_PATH_BYTES], json_t **out);

#endif
