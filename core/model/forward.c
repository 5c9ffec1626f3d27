/* Tokens to logits and loss: embedding, blocks, final norm, head, cross entropy. */
#include "model/block.h"

#include <math.h>

static mg_status check_ids(const mg_model *model, const int32_t *ids, int64_t count, int32_t least, const char *what) {
  const int64_t vocabulary = model->spec.settings.vocabulary;
  for (int64_t i = 0; i < count; i++)
    if (ids[i] < least || ids[i] >= vocabulary)
      return mg_fail(model->context, MG_USAGE,
                     "model: %s %lld is token %d, but the vocabulary has %lld; give the model the data's vocabulary",
                     what, (long long)i, ids[i], (long long)vocabulary);
  return MG_OK;
}

static mg_status check_batch(const mg_model *model, const mg_model_batch *batch) {
  if (batch->sequences < 1 || batch->sequence_tokens < 1)
    return mg_fail(model->context, MG_USAGE, "model: a batch needs at least 1 sequence of 1 token, not %lld of %lld",
                   (long long)batch->sequences, (long long)batch->sequence_tokens);
  const int64_t tokens = batch->sequences * batch->sequence_tokens;
  MG_TRY(check_ids(model, batch->inputs, tokens, 0, "input"));
  return batch->targets ? check_ids(model, batch->targets, tokens, -1, "target") : MG_OK;
}

/* Positions 0 .. S-1 of each sequence and the frequencies base^(-2i/rotary). */
static mg_status upload_rope(mg_model *model, mg_tape *tape, mg__pass *pass) {
  const mg__rope *rope = mg__model_spec_rope(&model->spec);
  if (!rope) return MG_OK;
  const int64_t half = rope->columns / 2;
  const size_t position_bytes = (size_t)pass->tokens * sizeof(int32_t), frequency_bytes = (size_t)half * sizeof(float);
  int32_t *positions = mg_alloc(model->context, position_bytes);
  float *frequencies = mg_alloc(model->context, frequency_bytes);
  if (positions && frequencies) {
    for (int64_t t = 0; t < pass->tokens; t++) positions[t] = (int32_t)(t % pass->batch->sequence_tokens);
    for (int64_t i = 0; i < half; i++)
      frequencies[i] = (float)pow(rope->base, -2.0 * (double)i / (double)rope->columns);
    pass->positions = mg_tape_upload(tape, MG_I32, 1, &pass->tokens, positions);
    pass->frequencies = mg_tape_upload(tape, MG_F32, 1, &half, frequencies);
  }
  const mg_status status = positions && frequencies ? mg_tape_status(tape) : MG_MEMORY;
  mg_free(model->context, positions, positions ? position_bytes : 0);
  mg_free(model->context, frequencies, frequencies ? frequency_bytes : 0);
  return status;
}

static mg_var *embed(mg_model *model, mg_tape *tape, mg_var *ids) {
  const double scale = model->spec.settings.embedding_scale;
  mg_tape_set_part(tape, MG_PART_EMBEDDING);
  mg_var *x = mg_gather_rows(tape, mg_params_var(model->params, tape, model->embedding), ids);
  if (scale != 1.0) x = mg_scale(tape, x, scale);
  mg_tape_set_part(tape, MG_PART_OTHER);
  return x;
}

static mg_var *run_blocks(mg_model *model, mg_tape *tape, const mg__pass *pass, mg_var *x) {
  int64_t moe = 0;
  for (int64_t i = 0; i < model->spec.decoder.count; i++) {
    mg_moe_record *record = model->blocks[i].moe ? &model->records[moe++] : NULL;
    x = mg__block_forward(model, tape, i, pass, x, record);
  }
  return x;
}

static mg_var *head(mg_model *model, mg_tape *tape, mg_var *x) {
  const double scale = model->spec.settings.logit_scale;
  if (model->final_norm.scale >= 0) x = mg__norm_forward(model, tape, model->final_norm, x);
  mg_tape_set_part(tape, MG_PART_HEAD);
  x = mg__linear_forward(model, tape, (mg__linear){model->head, model->head_bias}, x);
  if (scale != 1.0) x = mg_scale(tape, x, scale);
  mg_tape_set_part(tape, MG_PART_OTHER);
  return x;
}

static mg_status losses(mg_model *model, mg_tape *tape, const mg_model_batch *batch, mg_model_output *out) {
  const int64_t tokens = batch->sequences * batch->sequence_tokens;
  int64_t counted = 0;
  for (int64_t i = 0; i < tokens; i++) counted += batch->targets[i] >= 0;
  const mg_part before = mg_tape_set_part(tape, MG_PART_LOSS);
  mg_var *targets = mg_tape_upload(tape, MG_I32, 1, &tokens, batch->targets);
  out->token_loss = mg_cross_entropy(tape, out->logits, targets);
  out->loss = mg_scale(tape, mg_sum(tape, out->token_loss), counted ? 1.0 / (double)counted : 0.0);
  out->total = out->loss;
  for (int64_t i = 0; i < model->moe_layers; i++)
    if (model->records[i].loss) out->total = mg_add(tape, out->total, model->records[i].loss);
  mg_tape_set_part(tape, before);
  return mg_tape_status(tape);
}

mg_status mg_model_forward(mg_model *model, mg_tape *tape, const mg_model_batch *batch, mg_model_output *output) {
  *output = (mg_model_output){.records = model->records, .records_count = model->moe_layers};
  if (!model->backend)
    return mg_fail(model->context, MG_BUG, "model: a description has no weights; create the model to run it");
  MG_TRY(check_batch(model, batch));
  mg__pass pass = {.batch = batch, .tokens = batch->sequences * batch->sequence_tokens};
  pass.ids = mg_tape_upload(tape, MG_I32, 1, &pass.tokens, batch->inputs);
  MG_TRY(upload_rope(model, tape, &pass));
  mg_var *x = embed(model, tape, pass.ids);
  x = run_blocks(model, tape, &pass, x);
  output->logits = head(model, tape, x);
  if (batch->targets) MG_TRY(losses(model, tape, batch, output));
  return mg_tape_status(tape);
}
