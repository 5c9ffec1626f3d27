/* Writes a model under the names of a family of released models, so that others load it. */
#ifndef MG_MODEL_SAVE_H
#define MG_MODEL_SAVE_H

#include <jansson.h>

#include "model/model.h"

/* Replaces the safetensors file `path` by the model's parameters, in their own dtypes, under the names that `rules`
 * (load.h) give them. Of several rules for a parameter the first counts that needs no rearranging. MG_UNSUPPORTED, naming
 * the tensor, if a parameter is stored rearranged in every rule (fused, transposed, in 4 bits); MG_WRITE if the file
 * cannot be written. */
mg_status mg_model_save(mg_model *model, const json_t *rules, const char *path);

#endif
