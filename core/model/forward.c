/* Tokens to logits and loss: embedding, blocks, final norm, head, cross entropy. */
#include "model/block.h"
#include "model/cache_internal.h"

static mg_status check_ids(const mg_model *model, const int32_t *ids, int64_t count, int32_t least, const char *what) {
  const int64_t vocabulary = model->spec.settings.vocabulary;
  for (int64_t i = 0; i < count; i++)
    if (ids[i] < least || ids[i] >= vocabulary)
      return mg_fail(model->context, MG_USAGE,
                     "model: %s %lld is token %d, but the vocabulary has %lld; give the model the data's vocabulary",
                     what, (long long)i, ids[i], (long long)vocabulary);
  return MG_OK;
}

/* An encoder's tokens come with the first pass over a cache, and with every pass without one. */
static mg_status check_source(const mg_model *model, const mg_model_batch *batch) {
  const bool remembered = batch->cache && mg__cache_has_source(batch->cache);
  const bool wanted = model->spec.encoder.count > 0 && !remembered;
  if (!batch->source != !wanted || (batch->source && batch->source_tokens < 1))
    return mg_fail(model->context, MG_USAGE, "model: %s",
                   wanted ? "it has an encoder; give the batch's source tokens"
                          : "the batch has source tokens, but there is no encoder, or the cache has its output");
  if (!batch->source) return MG_OK;
  return check_ids(model, batch->source, batch->sequences * batch->source_tokens, 0, "source");
}

static mg_status check_batch(const mg_model *model, const mg_tape *tape, const mg_model_batch *batch) {
  if (batch->sequences < 1 || batch->sequence_tokens < 1)
    return mg_fail(model->context, MG_USAGE, "model: a batch needs at least 1 sequence of 1 token, not %lld of %lld",
                   (long long)batch->sequences, (long long)batch->sequence_tokens);
  const int64_t tokens = batch->sequences * batch->sequence_tokens;
  if (batch->cache) MG_TRY(mg__cache_check(batch->cache, model, batch->sequences, batch->sequence_tokens));
  if (batch->logits_only && mg_tape_recording(tape))
    return mg_fail(model->context, MG_BUG, "model: 'logits_only' gives back what a recording tape must keep");
  if (batch->targets && batch->last_only)
    return mg_fail(model->context, MG_USAGE, "model: 'last_only' gives one row of logits, which targets do not fit");
  MG_TRY(check_ids(model, batch->inputs, tokens, 0, "input"));
  MG_TRY(check_source(model, batch));
  return batch->targets ? check_ids(model, batch->targets, tokens, -1, "target") : MG_OK;
}

static mg_var *embed(mg_model *model, mg_tape *tape, const mg__pass *pass) {
  const double scale = model->spec.settings.embedding_scale;
  mg_tape_set_part(tape, MG_PART_EMBEDDING);
  mg_var *x = mg_gather_rows(tape, mg_params_var(model->params, tape, model->embedding), pass->ids);
  if (mg_var_dtype(x) == MG_BF16) x = mg_cast(tape, x, MG_F32); /* the residual stream of bf16 weights */
  if (scale != 1.0) x = mg_scale(tape, x, scale);
  mg_var *positions = mg__absolute_positions(model, tape, pass);
  if (positions) x = mg_add(tape, x, mg_cast(tape, positions, mg_var_dtype(x)));
  mg_tape_set_part(tape, MG_PART_OTHER);
  return x;
}

/* From here on the branches of all blocks use the same memory. */
static void share_memory(mg_tape *tape, mg__pass *pass, mg_var *x) {
  int64_t shape[] = {pass->tokens, 1};
  for (int64_t i = 0; i < pass->stack->count; i++) {
    const int64_t experts = pass->blocks[i].moe ? mg_moe_describe(pass->blocks[i].moe).experts : 0;
    if (experts > shape[1]) shape[1] = experts;
  }
  pass->logits = mg_fill(tape, mg_var_dtype(x), 2, shape, 0.0);
  pass->stream = pass->logits ? x : NULL;
  pass->place = mg_tape_here(tape);
}

/* Whether the last block needs to compute no row but those wanted: its feed-forward looks at each token alone. */
static bool last_suffices(const mg__pass *pass) {
  const mg_model_batch *batch = pass->batch;
  if (!pass->causal || !batch->last_only || !batch->logits_only || batch->training) return false;
  if (pass->sequence_tokens == 1 || pass->stack->count == 0) return false;
  const mg_moe *moe = pass->blocks[pass->stack->count - 1].moe;
  return !moe || mg_moe_describe(moe).per_token;
}

/* i32 [B]: the row of each sequence's last token, or what `of` [T] says of it. */
static mg_var *of_last(mg_model *model, mg_tape *tape, const mg_model_batch *batch, const int32_t *of) {
  const int64_t sequences = batch->sequences;
  int32_t *numbers = mg_alloc(model->context, (size_t)sequences * sizeof *numbers);
  if (!numbers) return mg_tape_fail(tape, MG_MEMORY, "model: no memory for %lld sequences", (long long)sequences);
  for (int64_t b = 0; b < sequences; b++) {
    const int64_t row = (b + 1) * batch->sequence_tokens - 1;
    numbers[b] = of ? of[row] : (int32_t)row;
  }
  mg_var *uploaded = mg_tape_upload(tape, MG_I32, 1, &sequences, numbers);
  mg_free(model->context, numbers, (size_t)sequences * sizeof *numbers);
  return uploaded;
}

/* [T,D] -> the last row of each sequence. */
static mg_var *last_rows(mg_model *model, mg_tape *tape, const mg_model_batch *batch, mg_var *x) {
  mg_var *rows = of_last(model, tape, batch, NULL);
  return mg_gather_rows(tape, x, rows);
}

/* The pass of each sequence's last token alone, which attends to all tokens of `all`. */
static mg_status start_last(mg_model *model, mg_tape *tape, int64_t relative, const mg__pass *all, mg__pass *last) {
  *last = *all;
  last->seen = all;
  last->tokens = all->batch->sequences;
  last->sequence_tokens = 1;
  last->past = all->past + all->sequence_tokens - 1;
  last->ids = of_last(model, tape, all->batch, all->batch->inputs);
  MG_TRY(mg__pass_positions(model, tape, relative, last));
  last->stream = last_rows(model, tape, all->batch, all->stream);
  return mg_tape_status(tape);
}

/* The last block for each sequence's last token alone; `record` is that of the block. */
static mg_var *run_last(mg_model *model, mg_tape *tape, int64_t relative, const mg__pass *all, mg_moe_record *record) {
  mg__pass last;
  if (start_last(model, tape, relative, all, &last) != MG_OK) return NULL;
  if (record > all->records && record[-1].route.logits)
    record[-1].route.logits = last_rows(model, tape, all->batch, record[-1].route.logits);
  last.place = mg_tape_here(tape);
  const int64_t index = all->stack->count - 1;
  return mg__block_forward(model, tape, &last, index, last.stream, all->blocks[index].moe ? record : NULL);
}

/* Runs the pass's stack on its tokens; hidden[i] becomes what goes into block i, the last what comes out: of every token,
 * or where that suffices of the last ones. */
static mg_var *run_stack(mg_model *model, mg_tape *tape, mg__pass *pass, const int32_t *ids, int64_t relative,
                         mg_var **hidden) {
  mg_moe_record *record = pass->records;
  pass->ids = mg_tape_upload(tape, MG_I32, 1, &pass->tokens, ids);
  if (mg__pass_positions(model, tape, relative, pass) != MG_OK) return NULL;
  mg_var *x = hidden[0] = embed(model, tape, pass);
  if (pass->batch->logits_only && x) share_memory(tape, pass, x);
  const int64_t whole = pass->stack->count - last_suffices(pass);
  for (int64_t i = 0; i < whole; i++) {
    x = mg__block_forward(model, tape, pass, i, x, pass->blocks[i].moe ? record : NULL);
    hidden[i + 1] = x;
    if (pass->blocks[i].moe) record++;
  }
  return whole < pass->stack->count ? run_last(model, tape, relative, pass, record) : x;
}

static int64_t moe_blocks(const mg__block *blocks, int64_t count) {
  int64_t found = 0;
  for (int64_t i = 0; i < count; i++) found += blocks[i].moe != NULL;
  return found;
}

/* The encoder's output, normed; NULL where there is no encoder or the cache has what its output gave. */
static mg_var *encode(mg_model *model, mg_tape *tape, const mg_model_batch *batch) {
  if (!batch->source || model->spec.encoder.count == 0) return NULL;
  mg__pass pass = {.batch = batch,
                   .stack = &model->spec.encoder,
                   .blocks = model->encoder,
                   .records = model->records,
                   .tokens = batch->sequences * batch->source_tokens,
                   .sequence_tokens = batch->source_tokens};
  mg_var *x = run_stack(model, tape, &pass, batch->source, model->encoder_relative, model->hidden);
  return model->encoder_norm.scale >= 0 ? mg__norm_forward(model, tape, model->encoder_norm, x) : x;
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
  for (int64_t i = 0; i < model->moe_layers && !batch->logits_only; i++)
    if (model->records[i].loss) out->total = mg_add(tape, out->total, model->records[i].loss);
  mg_tape_set_part(tape, before);
  return mg_tape_status(tape);
}

/* The decoder's pass over the batch's inputs. */
static mg_var *decode(mg_model *model, mg_tape *tape, const mg_model_batch *batch, mg_var *source) {
  const int64_t encoder_moe = moe_blocks(model->encoder, model->spec.encoder.count);
  mg__pass pass = {.batch = batch,
                   .stack = &model->spec.decoder,
                   .blocks = model->blocks,
                   .records = encoder_moe ? model->records + encoder_moe : model->records, /* which may be NULL */
                   .cache = batch->cache,
                   .tokens = batch->sequences * batch->sequence_tokens,
                   .sequence_tokens = batch->sequence_tokens,
                   .past = batch->cache ? mg_cache_length(batch->cache) : 0,
                   .causal = true,
                   .source = source};
  mg_var **hidden = model->hidden + (model->encoder ? model->spec.encoder.count + 1 : 0);
  return run_stack(model, tape, &pass, batch->inputs, model->relative, hidden);
}

static mg_status forward(mg_model *model, mg_tape *tape, const mg_model_batch *batch, mg_model_output *output) {
  if (!batch->logits_only) {
    output->records = model->records;
    output->records_count = model->moe_layers;
  }
  mg_var *source = encode(model, tape, batch);
  mg_var *x = decode(model, tape, batch, source);
  MG_TRY(mg_tape_status(tape));
  if (batch->cache) mg__cache_advance(batch->cache, batch->sequence_tokens, batch->source ? batch->source_tokens : 0);
  if (!batch->logits_only) {
    output->hidden = model->hidden + (model->encoder ? model->spec.encoder.count + 1 : 0);
    output->encoder_hidden = model->encoder ? model->hidden : NULL;
  }
  output->encoder_output = source;
  if (batch->last_only && mg_var_rows(x) > batch->sequences) x = last_rows(model, tape, batch, x);
  output->logits = head(model, tape, x);
  if (batch->targets) MG_TRY(losses(model, tape, batch, output));
  return mg_tape_status(tape);
}

mg_status mg_model_forward(mg_model *model, mg_tape *tape, const mg_model_batch *batch, mg_model_output *output) {
  *output = (mg_model_output){0};
  if (!model->backend)
    return mg_fail(model->context, MG_BUG, "model: a description has no weights; create the model to run it");
  MG_TRY(check_batch(model, tape, batch));
  const bool decodes = batch->cache && mg_cache_length(batch->cache) > 0;
  if (!decodes) return forward(model, tape, batch, output);
  mg_tape_begin_step(tape);
  const mg_status status = forward(model, tape, batch, output);
  mg_tape_end_step(tape);
  return status == MG_OK ? mg_tape_status(tape) : status;
}
