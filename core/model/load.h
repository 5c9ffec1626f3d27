/* A released checkpoint as a model: the tensors of its files become the parameters of a specification by the rules of its
 * family (scripts/moegauge/families). */
#ifndef MG_MODEL_LOAD_H
#define MG_MODEL_LOAD_H

#include "model/checkpoint.h"
#include "model/model.h"

/* `rules` is a list of [from, to, how ...]. `from` names a tensor of the checkpoint, or two of them (numbers and scales, or
 * the two that a latent's heads are made from); `to` a parameter, or a list of those that share the tensor. {layer} stands
 * for a layer's number on both sides, and {expert} in `from` for that of an expert, whose matrix is a slice of the
 * parameter. Of several rules for one parameter the first counts whose tensor is there. Sizes of 1 before the others are
 * not compared. `how`, in this order:
 *
 *   unpermute            rows of each head stand in rotary pairs (2i, 2i + 1), of the parameter in halves (i, i + width / 2)
 *   unpack               [E*R, C] is [E, R, C]
 *   transpose            each matrix is stored [in, out]
 *   split_rows           the rows of each matrix are those of the first parameter, then of the second, ...
 *   deinterleave_rows    row r belongs to parameter r mod n
 *   deinterleave_columns the same of columns
 *   latent_heads         of two tensors [heads, rank, nope] and [heads, value, rank]: head by head the columns of the first
 *                        as rows, then the rows of the second
 *   mxfp4, fp8_blocks    the checkpoint decodes by itself
 *
 * `ignored` (NULL = none) lists patterns of tensors that no parameter needs: * is any run of characters, {module} the layer
 * number of a module of "prediction".
 *
 * `precision` is that of the tape that will run it, MG_F32 or MG_BF16. What is one run of the file in a dtype that can
 * stay is used where it lies, if the backend reads host memory; anything else is copied once. These dtypes stay: bf16,
 * f32 with MG_F32, and in the weights of products and the embedding the stored ones (moegauge/tensor.h) that take less
 * than `precision` would, if the backend reads them and rows stay whole. All others are decoded: vectors, routers and
 * the embedding to f32, matrices to `precision`. `checkpoint` must outlive the model, whose parameters are not trained.
 *
 * MG_FILE with the file, the tensor, and the wanted and the found shape if a tensor is missing, misshapen, or left over. */
mg_status mg_model_load(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                        const json_t *rules, const json_t *ignored, mg_checkpoint *checkpoint, mg_dtype precision,
                        mg_model **out);

#endif
