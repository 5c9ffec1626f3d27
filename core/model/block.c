/* One block: x + attention(norm(x)), then in a decoder beside an encoder x + attention to its output, then
 * x + feed_forward(norm(x)) (pre-norm; Xiong et al. 2020, arXiv 2002.04745). */
#include "model/attention.h"

static const mg__norm no_norm = {-1, -1};

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

static mg_var *feed_dense(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x) {
  const mg__block *block = &pass->blocks[index];
  const mg__dense_settings *dense = &pass->stack->layers[index].dense;
  const mg_activation_settings activation = {dense->activation, dense->alpha, dense->limit};
  mg_var *up = mg__linear_forward(model, tape, block->up, x);
  mg_var *gate = dense->gated ? mg__linear_forward(model, tape, block->gate, x) : NULL;
  return mg__linear_forward(model, tape, block->down, mg_activate(tape, &activation, gate, up));
}

/* Every pass draws numbers of its own: each training batch, each batch of an evaluation, and each piece of a text that
 * goes on from a cache. */
static mg_stream noise_of(const mg_model *model, const mg__pass *pass, int64_t index) {
  const char *name = pass->batch->training ? "router noise" : "router noise in evaluation";
  return mg_stream_named(model->seed, name, (uint64_t)index, pass->batch->number + (uint64_t)pass->past);
}

/* A copy that stays when the branch's memory is given back. */
static mg_var *keep_logits(mg_tape *tape, const mg__pass *pass, const mg_var *logits) {
  mg_tensor kept = *mg_var_tensor(logits);
  kept.data = mg_var_tensor(pass->logits)->data;
  kept.dtype = mg_var_dtype(pass->logits);
  mg_op_call call = {.op = MG_OP_CAST, .part = MG_PART_OTHER, .in = {mg_var_tensor(logits)}, .out = {&kept}};
  return mg_tape_run(tape, &call) == MG_OK ? mg_tape_leaf(tape, &kept, NULL) : NULL;
}

static mg_var *feed_moe(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x,
                        mg_moe_record *record) {
  const mg_moe_input input = {.x = x,
                              .token_ids = pass->ids,
                              .sequence_tokens = pass->sequence_tokens,
                              .training = pass->batch->training,
                              .previous = record > pass->records ? record[-1].route.logits : NULL,
                              .noise = noise_of(model, pass, index)};
  mg_var *y = mg_moe_forward(pass->blocks[index].moe, tape, &input, record);
  if (pass->stream && record->route.logits) record->route.logits = keep_logits(tape, pass, record->route.logits);
  return y;
}

/* What a branch computes in: bf16 where matrix products round to it anyway, else the residual stream's dtype. */
static mg_var *enter_branch(mg_tape *tape, mg_var *x) {
  const mg_dtype compute = mg_tape_set_compute(tape, MG_F32);
  mg_tape_set_compute(tape, compute);
  return compute == MG_BF16 ? mg_cast(tape, x, MG_BF16) : x;
}

/* The stream with the branch added, whose memory is given back. */
static mg_var *add_in_place(mg_tape *tape, const mg__pass *pass, const mg_var *branch) {
  if (mg_tape_status(tape) != MG_OK) return NULL;
  mg_tensor stream = *mg_var_tensor(pass->stream);
  mg_op_call call = {.op = MG_OP_ADD_SCALED, .part = MG_PART_OTHER, .in = {mg_var_tensor(branch)}, .out = {&stream}};
  call.attributes.add_scaled.factor = 1.0;
  if (mg_tape_run(tape, &call) != MG_OK) return NULL;
  mg_tape_go_back(tape, pass->place);
  return pass->stream;
}

/* x + scale * norm(branch) in the residual stream's dtype; norm and scale where the specification asks. */
static mg_var *leave_branch(mg_model *model, mg_tape *tape, const mg__pass *pass, mg__norm post_norm, mg_var *x,
                            mg_var *branch) {
  const double scale = model->spec.settings.residual_scale;
  mg_tape_set_part(tape, MG_PART_OTHER);
  if (post_norm.scale >= 0) branch = mg__norm_forward(model, tape, post_norm, branch);
  if (scale != 1.0) branch = mg_scale(tape, branch, scale);
  return pass->stream ? add_in_place(tape, pass, branch) : mg_add(tape, x, mg_cast(tape, branch, mg_var_dtype(x)));
}

mg_var *mg__block_forward(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x,
                          mg_moe_record *record) {
  const mg__block *block = &pass->blocks[index];
  const mg__layer_spec *layer = &pass->stack->layers[index];
  if (layer->attention.kind != MG__ATTENTION_NONE) {
    mg_var *normed = enter_branch(tape, mg__norm_forward(model, tape, block->attention_norm, x)), *seen = normed;
    if (pass->seen) seen = enter_branch(tape, mg__norm_forward(model, tape, block->attention_norm, pass->seen->stream));
    mg_tape_set_part(tape, MG_PART_ATTENTION);
    mg_var *mixed = mg__attend(model, tape, pass, index, normed, seen);
    x = leave_branch(model, tape, pass, block->attention_post_norm, x, mixed);
  }
  if (block->cross_norm.scale >= 0) {
    mg_var *normed = enter_branch(tape, mg__norm_forward(model, tape, block->cross_norm, x));
    mg_tape_set_part(tape, MG_PART_ATTENTION);
    x = leave_branch(model, tape, pass, no_norm, x, mg__attend_across(model, tape, pass, index, normed));
  }
  if (layer->feed == MG__FEED_NONE) return x;
  mg_var *normed = enter_branch(tape, mg__norm_forward(model, tape, block->feed_norm, x));
  mg_tape_set_part(tape, MG_PART_DENSE);
  mg_var *fed =
      block->moe ? feed_moe(model, tape, pass, index, normed, record) : feed_dense(model, tape, pass, index, normed);
  return leave_branch(model, tape, pass, block->feed_post_norm, x, fed);
}
