/* Writes a model under the names of a family of released models, so that others load it. */
#ifndef MG_MODEL_SAVE_H
#define MG_MODEL_SAVE_H

#include <jansson.h>

#include "model/model.h"

/* Replaces the safetensors file `path` by the model's parameters, in their own dtypes (f32 where parameters of several
 * share a tensor; stored dtypes as `decoded`, f32 or bf16), under the names and in the form that `rules` (load.h) give them: fused, transposed, apart by expert. Of
 * several rules for a parameter the first counts that is no quantised form, so 4 and 8 bits become what they stand for.
 * One tensor is rearranged at a time. MG_UNSUPPORTED, naming the parameter, if there is no such rule; MG_WRITE if the file
 * cannot be written. */
mg_status mg_model_save(mg_model *model, const json_t *rules, mg_dtype decoded, const char *path);

#endif
