/* ln p(token | tokens before it) = -loss of the token as a target (cross entropy in nats). */
#include "measure/score.h"

#include <math.h>
#include <string.h>

#include "tensor/tape_work.h"

typedef struct host {
  mg_context *context;
  int64_t tokens;
  int32_t *targets, *best;
  float *losses;
} host;

static size_t bytes_of(const host *h) {
  return (size_t)h->tokens * sizeof(int32_t);
}

static void release(host *h) {
  mg_free(h->context, h->targets, h->targets ? bytes_of(h) : 0);
  mg_free(h->context, h->best, h->best ? bytes_of(h) : 0);
  mg_free(h->context, h->losses, h->losses ? bytes_of(h) : 0);
}

static mg_status measure(mg_model *model, mg_tape *tape, const int32_t *ids, int64_t from, host *h, mg_score *out) {
  for (int64_t t = 0; t < h->tokens; t++) h->targets[t] = t + 1 >= from ? ids[t + 1] : -1;
  const mg_model_batch batch = {
      .inputs = ids, .targets = h->targets, .sequences = 1, .sequence_tokens = h->tokens, .logits_only = true};
  mg_model_output output;
  MG_TRY(mg_model_forward(model, tape, &batch, &output));
  mg_var *best = mg_top_k(tape, output.logits, 1, NULL);
  MG_TRY(mg_tape_download(tape, output.token_loss, h->losses, bytes_of(h)));
  MG_TRY(mg_tape_download(tape, best, h->best, bytes_of(h)));
  for (int64_t t = from - 1; t < h->tokens; t++) {
    out->log_likelihood -= (double)h->losses[t];
    out->greedy += h->best[t] == h->targets[t];
    out->tokens++;
  }
  if (isfinite(out->log_likelihood)) return MG_OK;
  return mg_fail(h->context, MG_FILE,
                 "the probability of a token is no number: weights hold NaN or infinities (`moegauge model check` "
                 "names them), or what is computed from them grows beyond all numbers");
}

mg_status mg_score_tokens(mg_model *model, mg_tape *tape, const int32_t *ids, int64_t count, int64_t from,
                          mg_score *out) {
  host h = {.context = mg_tape_context(tape), .tokens = count - 1};
  *out = (mg_score){0};
  if (from < 1 || from >= count)
    return mg_fail(h.context, MG_USAGE, "score: tokens from %lld to %lld were asked for; the first has none before it",
                   (long long)from, (long long)count);
  h.targets = mg_alloc(h.context, bytes_of(&h));
  h.best = mg_alloc(h.context, bytes_of(&h));
  h.losses = mg_alloc(h.context, bytes_of(&h));
  mg_tape_reset(tape);
  const bool recording = mg_tape_recording(tape);
  mg_tape_set_recording(tape, false);
  const mg_status status = h.targets && h.best && h.losses ? measure(model, tape, ids, from, &h, out) : MG_MEMORY;
  mg_tape_set_recording(tape, recording);
  release(&h);
  return status;
}
