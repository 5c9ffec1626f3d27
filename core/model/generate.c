/* Token by token: a pass over the prompt fills the cache, and every drawn token is a pass of its own.
 *
 * With weights w_i = e^(logit_i / temperature), the k largest are kept, then the fewest of these whose sum reaches top_p of
 * theirs, and one is drawn with probability w_i / sum of the kept. */
#include "model/generate.h"

#include <math.h>
#include <stdlib.h>

#include "model/cache.h"

/* ---- drawing --------------------------------------------------------------------------------------------------- */

typedef struct candidate {
  double weight;
  int32_t id;
} candidate;

/* The likeliest first; of equals the lowest id. */
static int by_weight(const void *left, const void *right) {
  const candidate *a = left, *b = right;
  if (a->weight != b->weight) return a->weight > b->weight ? -1 : 1;
  return a->id < b->id ? -1 : a->id > b->id;
}

static mg_status likeliest(mg_context *context, const float *logits, int64_t vocabulary, int32_t *id) {
  *id = 0;
  for (int64_t i = 0; i < vocabulary; i++) {
    if (isnan(logits[i]) || logits[i] == INFINITY)
      return mg_fail(context, MG_NUMERIC, "generate: the logit of token %lld is %f", (long long)i, (double)logits[i]);
    if (logits[i] > logits[*id]) *id = (int32_t)i;
  }
  return MG_OK;
}

/* Keeps the k best, sorted; what is worse than the last of them is passed over. */
static int64_t keep_best(candidate *all, int64_t count, int64_t k) {
  int64_t kept = 0;
  for (int64_t i = 0; i < count; i++) {
    const candidate next = all[i];
    if (kept == k && by_weight(&next, &all[kept - 1]) > 0) continue;
    int64_t at = kept < k ? kept++ : k - 1;
    for (; at > 0 && by_weight(&next, &all[at - 1]) < 0; at--) all[at] = all[at - 1];
    all[at] = next;
  }
  return kept;
}

static double sum_of(const candidate *all, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += all[i].weight;
  return sum;
}

/* Keeps the fewest that hold `share` of the weight. Those below the mean of the rest cannot be among them: together they
 * weigh less than the rest. */
static int64_t keep_share(candidate *all, int64_t count, double share) {
  const double total = sum_of(all, count), least = (1 - share) * total / (double)count;
  int64_t likely = 0, kept = 0;
  for (int64_t i = 0; i < count; i++)
    if (all[i].weight >= least) all[likely++] = all[i];
  qsort(all, (size_t)likely, sizeof *all, by_weight);
  for (double sum = 0; kept < likely && sum < share * total; kept++) sum += all[kept].weight;
  return kept > 0 ? kept : 1;
}

static int32_t pick(const candidate *all, int64_t count, double uniform) {
  double left = uniform * sum_of(all, count);
  int64_t at = 0;
  while (at < count - 1 && left >= all[at].weight) left -= all[at++].weight;
  return all[at].id;
}

mg_status mg_generate_draw(mg_context *context, const float *logits, int64_t vocabulary,
                           const mg_generate_settings *settings, double uniform, int32_t *id) {
  MG_TRY(likeliest(context, logits, vocabulary, id));
  if (settings->temperature == 0) return MG_OK;
  const size_t bytes = (size_t)vocabulary * sizeof(candidate);
  candidate *all = mg_alloc(context, bytes);
  if (!all) return MG_MEMORY;
  const double most = (double)logits[*id];
  for (int64_t i = 0; i < vocabulary; i++)
    all[i] = (candidate){exp(((double)logits[i] - most) / settings->temperature), (int32_t)i};
  int64_t count = vocabulary;
  if (settings->top_k > 0 && settings->top_k < count) count = keep_best(all, count, settings->top_k);
  if (settings->top_p < 1) count = keep_share(all, count, settings->top_p);
  *id = pick(all, count, uniform);
  mg_free(context, all, bytes);
  return MG_OK;
}

/* ---- going on -------------------------------------------------------------------------------------------------- */

static mg_status check(mg_context *context, int64_t count, const mg_generate_settings *s) {
  if (count < 1) return mg_fail(context, MG_USAGE, "generate: the prompt has no token; give it some text");
  if (s->tokens < 1 || count > INT32_MAX - s->tokens)
    return mg_fail(context, MG_USAGE, "generate: %lld tokens were asked for; it takes from 1 to some billion",
                   (long long)s->tokens);
  if (!(s->temperature >= 0 && s->temperature < INFINITY))
    return mg_fail(context, MG_USAGE, "generate: the temperature must be 0 or above, not %g", s->temperature);
  if (s->top_k < 0 || !(s->top_p > 0 && s->top_p <= 1))
    return mg_fail(context, MG_USAGE, "generate: top_k = %lld and top_p = %g; they must be 0 or above, and in (0, 1]",
                   (long long)s->top_k, s->top_p);
  return MG_OK;
}

static bool is_end(const mg_generate_settings *settings, int32_t id) {
  for (int64_t i = 0; i < settings->ends_count; i++)
    if (settings->ends[i] == id) return true;
  return false;
}

/* One pass over `count` tokens more, and the logits after the last of them. */
static mg_status pass(mg_model *model, mg_tape *tape, mg_cache *cache, const int32_t *ids, int64_t count, float *logits,
                      int64_t vocabulary) {
  const mg_model_batch batch = {
      .inputs = ids, .sequences = 1, .sequence_tokens = count, .last_only = true, .logits_only = true, .cache = cache};
  mg_model_output output;
  mg_tape_reset(tape);
  MG_TRY(mg_model_forward(model, tape, &batch, &output));
  return mg_tape_download(tape, mg_cast(tape, output.logits, MG_F32), logits, (size_t)vocabulary * sizeof *logits);
}

static mg_status go_on(mg_model *model, mg_tape *tape, mg_cache *cache, const int32_t *prompt, int64_t count,
                       const mg_generate_settings *settings, float *logits, int64_t vocabulary) {
  const mg_stream stream = mg_stream_named(settings->seed, "generate", 0, 0);
  int32_t id = 0;
  MG_TRY(pass(model, tape, cache, prompt, count, logits, vocabulary));
  for (int64_t i = 0; i < settings->tokens; i++) {
    if (i > 0) MG_TRY(pass(model, tape, cache, &id, 1, logits, vocabulary));
    const double uniform = mg_random_uniform(stream, (uint64_t)i);
    MG_TRY(mg_generate_draw(mg_tape_context(tape), logits, vocabulary, settings, uniform, &id));
    if (!settings->each(settings->user, id) || is_end(settings, id)) break;
  }
  return MG_OK;
}

mg_status mg_generate(mg_model *model, mg_tape *tape, mg_dtype precision, const int32_t *prompt, int64_t count,
                      const mg_generate_settings *settings) {
  mg_context *context = mg_tape_context(tape);
  MG_TRY(check(context, count, settings));
  const int64_t vocabulary = json_integer_value(json_object_get(mg_model_spec(model), "vocabulary"));
  mg_cache *cache = NULL;
  float *logits = mg_alloc(context, (size_t)vocabulary * sizeof *logits);
  if (!logits) return MG_MEMORY;
  mg_status status = mg_cache_create(model, precision, 1, count + settings->tokens, &cache);
  if (status == MG_OK) status = go_on(model, tape, cache, prompt, count, settings, logits, vocabulary);
  mg_cache_destroy(cache);
  mg_tape_reset(tape);
  mg_free(context, logits, (size_t)vocabulary * sizeof *logits);
  return status;
}
