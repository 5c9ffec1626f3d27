/* Passes over random tokens, timed from the first token's ids to the last token's logits. */
#include "measure/speed.h"

#include "base/clock.h"
#include "model/cache.h"
#include "tensor/params.h"
#include "tensor/tape_work.h"

typedef struct run {
  mg_model *model;
  mg_tape *tape;
  mg_cache *cache;
  const int32_t *ids;
} run;

/* One pass over the next `tokens` ids, waited for. */
static mg_status pass(const run *r, int64_t first, int64_t tokens) {
  const mg_model_batch batch = {.inputs = r->ids + first,
                                .sequences = 1,
                                .sequence_tokens = tokens,
                                .last_only = true,
                                .logits_only = true,
                                .cache = r->cache};
  mg_model_output output;
  mg_tape_reset(r->tape);
  MG_TRY(mg_model_forward(r->model, r->tape, &batch, &output));
  mg_backend *backend = mg_tape_backend(r->tape);
  return backend->plugin->synchronize(backend);
}

static double flops_so_far(mg_tape *tape) {
  double sum = 0;
  for (int part = 0; part < MG_PART_COUNT; part++) sum += mg_tape_counters(tape)->flops[part];
  return sum;
}

static mg_status prefill(const run *r, int64_t tokens, mg_speed *out) {
  MG_TRY(mg_cache_truncate(r->cache, 0));
  const double before = flops_so_far(r->tape);
  const int64_t start_ns = mg_clock_ns();
  MG_TRY(pass(r, 0, tokens));
  out->prefill_ns = mg_clock_ns() - start_ns;
  out->prefill_flops = flops_so_far(r->tape) - before;
  return MG_OK;
}

/* The cache gets its depth in one pass, or keeps what the prefill left. */
static mg_status decode(const run *r, const mg_speed_settings *settings, mg_speed *out) {
  const int64_t depth = settings->depth;
  if (mg_cache_length(r->cache) != depth) {
    MG_TRY(mg_cache_truncate(r->cache, 0));
    if (depth > 0) MG_TRY(pass(r, 0, depth));
  }
  const double before = flops_so_far(r->tape);
  const int64_t start_ns = mg_clock_ns();
  for (int64_t i = 0; i < settings->generate; i++) MG_TRY(pass(r, depth + i, 1));
  out->decode_ns = mg_clock_ns() - start_ns;
  out->decode_flops = flops_so_far(r->tape) - before;
  return MG_OK;
}

static int64_t ids_needed(const mg_speed_settings *settings) {
  const int64_t decoded = settings->depth + settings->generate;
  return settings->prompt > decoded ? settings->prompt : decoded;
}

static mg_status run_round(const run *r, const mg_speed_settings *settings, mg_speed *out) {
  *out = (mg_speed){0};
  if (settings->prompt > 0) MG_TRY(prefill(r, settings->prompt, out));
  if (settings->generate > 0) MG_TRY(decode(r, settings, out));
  return MG_OK;
}

/* The first pass finds out how much memory a pass takes, and the second is the first to touch it in one piece. */
static mg_status warm_up(const run *r, const mg_speed_settings *settings) {
  mg_speed unused;
  mg_speed_settings shorter = *settings;
  if (shorter.generate > 1) shorter.generate = 1;
  MG_TRY(run_round(r, &shorter, &unused));
  return run_round(r, &shorter, &unused);
}

static mg_status run_rounds(const run *r, const mg_speed_settings *settings, mg_speed *out) {
  MG_TRY(warm_up(r, settings));
  for (int64_t i = 0; i < settings->rounds; i++) MG_TRY(run_round(r, settings, &out[i]));
  return MG_OK;
}

mg_status mg_speed_run(mg_model *model, mg_tape *tape, mg_dtype precision, const mg_speed_settings *settings,
                       mg_speed *out) {
  mg_context *context = mg_tape_context(tape);
  if (settings->prompt < 0 || settings->generate < 0 || settings->depth < 0 || settings->rounds < 1 ||
      settings->prompt + settings->generate == 0)
    return mg_fail(context, MG_USAGE, "speed: at least one token to read or to write is needed, in at least one round");
  const int64_t count = ids_needed(settings);
  const uint64_t vocabulary = (uint64_t)json_integer_value(json_object_get(mg_model_spec(model), "vocabulary"));
  int32_t *ids = mg_alloc(context, (size_t)count * sizeof *ids);
  if (!ids) return MG_MEMORY;
  const mg_stream stream = mg_stream_named(settings->seed, "speed", 0, 0);
  for (int64_t i = 0; i < count; i++) ids[i] = (int32_t)mg_random_below(stream, (uint64_t)i, vocabulary);
  run r = {.model = model, .tape = tape, .ids = ids};
  mg_status status = mg_cache_create(model, precision, 1, count, &r.cache);
  if (status == MG_OK) status = run_rounds(&r, settings, out);
  mg_cache_destroy(r.cache);
  mg_tape_reset(tape);
  mg_free(context, ids, (size_t)count * sizeof *ids);
  return status;
}

double mg_speed_decode_bytes(const mg_model *model, mg_dtype precision, int64_t depth) {
  const mg_params *params = mg_model_description(model);
  const mg_model_size size = mg_model_count(model);
  const double routed = (double)size.part[MG_MODEL_ROUTED];
  double bytes = (double)mg_model_cache_per_token(model).own * (double)depth * (double)mg_dtype_bytes(precision);
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_look(params, i);
    const mg_model_part part = mg_model_part_of(param->name);
    const bool table = part == MG_MODEL_EMBEDDING && size.part[MG_MODEL_HEAD] > 0;
    if (table || part == MG_MODEL_PREDICTION) continue;
    const double share = part == MG_MODEL_ROUTED && routed > 0 ? (double)size.routed_active / routed : 1.0;
    bytes += share * (double)mg_tensor_bytes(&param->value);
  }
  return bytes;
}
