/* One decoder block: x + attention(norm(x)), then x + feed_forward(norm(x)) (pre-norm; Xiong et al. 2020, arXiv
 * 2002.04745), with rotary positions (Su et al. 2021, arXiv 2104.09864), grouped heads (Ainslie et al. 2023, arXiv
 * 2305.13245) and a norm of queries and keys (Dehghani et al. 2023, arXiv 2302.05442) where the specification asks. */
#include "model/block.h"

#include <math.h>

mg_var *mg__linear_forward(mg_model *model, mg_tape *tape, mg__linear linear, mg_var *x) {
  mg_var *y = mg_linear(tape, x, mg_params_var(model->params, tape, linear.weight));
  if (linear.bias < 0) return y;
  return mg_add(tape, y, mg_cast(tape, mg_params_var(model->params, tape, linear.bias), mg_var_dtype(y)));
}

/* In the dtype of the scale, so that a bf16 branch is normed in f32. */
mg_var *mg__norm_forward(mg_model *model, mg_tape *tape, mg__norm norm, mg_var *x) {
  const mg__model_settings *s = &model->spec.settings;
  mg_var *scale = mg_params_var(model->params, tape, norm.scale);
  mg_var *shift = norm.shift < 0 ? NULL : mg_params_var(model->params, tape, norm.shift);
  const mg_norm_kind kind = s->norm == MG__NORM_RMS ? MG_NORM_RMS : MG_NORM_LAYER;
  mg_var *normed = mg_norm(tape, kind, mg_cast(tape, x, mg_var_dtype(scale)), scale, shift, s->norm_epsilon);
  return mg_cast(tape, normed, mg_var_dtype(x));
}

/* Norm (where asked) and rotation of queries or keys [T, heads * head]. */
static mg_var *place_heads(mg_model *model, mg_tape *tape, int64_t index, const mg__pass *pass, mg__norm norm,
                           mg_var *x) {
  const mg__attention_settings *a = &model->spec.decoder.layers[index].attention;
  if (norm.scale >= 0) {
    const int64_t columns = mg_var_columns(x);
    x = mg_reshape2(tape, x, -1, a->qk_norm == MG__QK_NORM_WHOLE ? columns : a->head_width);
    x = mg_reshape2(tape, mg__norm_forward(model, tape, norm, x), pass->tokens, columns);
  }
  if (a->rope.columns == 0) return x;
  const mg_rope_settings rope = {
      .head = a->head_width, .rotary = a->rope.columns, .interleaved = a->rope.interleaved, .scale = 1.0};
  return mg_rope(tape, x, pass->positions, pass->frequencies, rope);
}

static mg_var *clip(mg_tape *tape, const mg__attention_settings *a, mg_var *x) {
  return a->clip > 0.0 ? mg_unary_op(tape, MG_UNARY_CLAMP, x, -a->clip, a->clip) : x;
}

static mg_var *attend(mg_model *model, mg_tape *tape, int64_t index, const mg__pass *pass, mg_var *x) {
  const mg__attention_settings *a = &model->spec.decoder.layers[index].attention;
  const mg__attention *own = &model->blocks[index].attention;
  mg_var *query = clip(tape, a, mg__linear_forward(model, tape, own->query, x));
  mg_var *key = clip(tape, a, mg__linear_forward(model, tape, own->key, x));
  mg_var *value = clip(tape, a, mg__linear_forward(model, tape, own->value, x));
  query = place_heads(model, tape, index, pass, own->query_norm, query);
  key = place_heads(model, tape, index, pass, own->key_norm, key);
  mg_var *sinks = own->sinks < 0 ? NULL : mg_params_var(model->params, tape, own->sinks);
  if (sinks) sinks = mg_cast(tape, sinks, mg_var_dtype(query));
  const mg_attention_settings settings = {.batch = pass->batch->sequences,
                                          .heads = a->heads,
                                          .kv_heads = a->kv_heads,
                                          .window = a->window,
                                          .causal = true,
                                          .scale = a->scale > 0.0 ? a->scale : 1.0 / sqrt((double)a->head_width)};
  mg_var *mixed = mg_attention(tape, query, key, value, sinks, NULL, settings);
  return mg__linear_forward(model, tape, own->output, mixed);
}

static mg_var *feed_dense(mg_model *model, mg_tape *tape, int64_t index, mg_var *x) {
  const mg__block *block = &model->blocks[index];
  const mg__dense_settings *dense = &model->spec.decoder.layers[index].dense;
  mg_var *up = mg__linear_forward(model, tape, block->up, x);
  mg_var *gate = dense->gated ? mg__linear_forward(model, tape, block->gate, x) : NULL;
  return mg__linear_forward(model, tape, block->down, mg_activate(tape, dense->activation, gate, up));
}

static mg_var *feed_moe(mg_model *model, mg_tape *tape, int64_t index, const mg__pass *pass, mg_var *x,
                        mg_moe_record *record) {
  const mg_moe_input input = {.x = x,
                              .token_ids = pass->ids,
                              .sequence_tokens = pass->batch->sequence_tokens,
                              .training = pass->batch->training,
                              .previous = record > model->records ? record[-1].route.logits : NULL,
                              .noise =
                                  mg_stream_named(model->seed, "router noise", (uint64_t)index, pass->batch->step)};
  return mg_moe_forward(model->blocks[index].moe, tape, &input, record);
}

/* What a branch computes in: bf16 where matrix products round to it anyway, else the residual stream's dtype. */
static mg_var *enter_branch(mg_tape *tape, mg_var *x) {
  const mg_dtype compute = mg_tape_set_compute(tape, MG_F32);
  mg_tape_set_compute(tape, compute);
  return compute == MG_BF16 ? mg_cast(tape, x, MG_BF16) : x;
}

/* x + scale * norm(branch) in the residual stream's dtype; norm and scale where the specification asks. */
static mg_var *leave_branch(mg_model *model, mg_tape *tape, mg__norm post_norm, mg_var *x, mg_var *branch) {
  const double scale = model->spec.settings.residual_scale;
  mg_tape_set_part(tape, MG_PART_OTHER);
  if (post_norm.scale >= 0) branch = mg__norm_forward(model, tape, post_norm, branch);
  if (scale != 1.0) branch = mg_scale(tape, branch, scale);
  return mg_add(tape, x, mg_cast(tape, branch, mg_var_dtype(x)));
}

mg_var *mg__block_forward(mg_model *model, mg_tape *tape, int64_t index, const mg__pass *pass, mg_var *x,
                          mg_moe_record *record) {
  const mg__block *block = &model->blocks[index];
  const mg__layer_spec *layer = &model->spec.decoder.layers[index];
  if (layer->attention.kind != MG__ATTENTION_NONE) {
    mg_var *normed = enter_branch(tape, mg__norm_forward(model, tape, block->attention_norm, x));
    mg_tape_set_part(tape, MG_PART_ATTENTION);
    x = leave_branch(model, tape, block->attention_post_norm, x, attend(model, tape, index, pass, normed));
  }
  if (layer->feed == MG__FEED_NONE) return x;
  mg_var *normed = enter_branch(tape, mg__norm_forward(model, tape, block->feed_norm, x));
  mg_tape_set_part(tape, MG_PART_DENSE);
  mg_var *fed =
      block->moe ? feed_moe(model, tape, index, pass, normed, record) : feed_dense(model, tape, index, normed);
  return leave_branch(model, tape, block->feed_post_norm, x, fed);
}
