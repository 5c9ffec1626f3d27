/* Attention inside a block. */
#ifndef MG_MODEL_ATTENTION_H
#define MG_MODEL_ATTENTION_H

#include "model/block.h"

/* Layer `index` of the pass's stack: x [T,D] normed -> [T,D], output projection included. `seen` gives keys and values:
 * x itself, or the normed tokens of pass->seen. */
mg_var *mg__attend(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x, mg_var *seen);
/* The same to the encoder's output. */
mg_var *mg__attend_across(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x);

#endif
