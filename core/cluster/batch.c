/* The operations of one batch in order: attention, dispatch beside the shared expert, experts, combine; and backward. */
#include "cluster/step.h"

typedef struct builder {
  mg_context *context;
  const mg_batch_work *batch;
  mg_schedule *schedule;
  double *memory; /* [3, ranks] */
  mg_routed_cost routed;
  int32_t last; /* the operation that the next one waits for */
} builder;

static mg_status builder_open(mg_context *context, const mg_batch_work *batch, mg_schedule *schedule, builder *b) {
  const int64_t ranks = schedule->ranks;
  *b = (builder){.context = context, .batch = batch, .schedule = schedule, .last = -1};
  b->memory = mg_alloc(context, (size_t)(3 * ranks) * sizeof *b->memory);
  if (!b->memory) return MG_MEMORY;
  b->routed = (mg_routed_cost){b->memory, b->memory + ranks, b->memory + 2 * ranks};
  return MG_OK;
}

static void builder_close(builder *b) {
  mg_free(b->context, b->memory, (size_t)(3 * b->schedule->ranks) * sizeof *b->memory);
}

/* Adds an operation after `after`; with rank times unless those are NULL. */
static mg_status add(builder *b, mg_phase phase, int64_t layer, double seconds, const double *rank_s, int32_t after,
                     int32_t also_after, int32_t *index) {
  const bool network = phase == MG_PHASE_DISPATCH || phase == MG_PHASE_COMBINE;
  const mg_operation operation = {.phase = phase,
                                  .resource = network ? MG_RESOURCE_NETWORK : MG_RESOURCE_COMPUTE,
                                  .batch = b->batch->batch,
                                  .layer = (int32_t)layer,
                                  .deferred = phase == MG_PHASE_WEIGHTS,
                                  .after = {after, also_after}};
  return mg_schedule_add(b->schedule, &operation, seconds, rank_s, index);
}

static bool has_experts(const mg_shape *shape, int64_t layer) {
  return layer >= shape->dense_layers;
}

static int64_t traced_layer(const builder *b, int64_t layer) {
  return (layer - b->batch->work->shape->dense_layers) % b->batch->traffic->layers;
}

/* ---- forward -------------------------------------------------------------------------------------------------- */

static mg_status forward_experts(builder *b, int64_t layer) {
  const mg_batch_work *w = b->batch;
  double shared_s;
  int32_t dispatch, shared = -1, experts;
  MG_TRY(mg_routed_costs(w->work, w->traffic, traced_layer(b, layer), MG_PASS_FORWARD, &b->routed));
  MG_TRY(mg_feed_forward_cost(w->work, w->tokens, w->work->shape->shared_hidden, MG_PASS_FORWARD, &shared_s));
  MG_TRY(add(b, MG_PHASE_DISPATCH, layer, 0, b->routed.dispatch_s, b->last, -1, &dispatch));
  if (shared_s > 0) MG_TRY(add(b, MG_PHASE_SHARED, layer, shared_s, NULL, b->last, -1, &shared));
  MG_TRY(add(b, MG_PHASE_EXPERTS, layer, 0, b->routed.experts_s, dispatch, shared, &experts));
  return add(b, MG_PHASE_COMBINE, layer, 0, b->routed.combine_s, experts, -1, &b->last);
}

/* A prediction block first joins the hidden state with the embedding of the next token; others take no time for it. */
static mg_status joined(const mg_batch_work *w, int64_t layer, mg_pass pass, double *seconds) {
  *seconds = 0;
  return layer < w->work->shape->layers ? MG_OK : mg_join_cost(w->work, w->tokens, pass, seconds);
}

static mg_status forward_layer(builder *b, int64_t layer) {
  const mg_batch_work *w = b->batch;
  const bool experts = has_experts(w->work->shape, layer);
  double attention_s, join_s, dense_s;
  MG_TRY(mg_attention_cost(w->work, w->tokens, experts, MG_PASS_FORWARD, &attention_s));
  MG_TRY(joined(w, layer, MG_PASS_FORWARD, &join_s));
  MG_TRY(add(b, MG_PHASE_ATTENTION, layer, join_s + attention_s, NULL, b->last, -1, &b->last));
  if (experts) return forward_experts(b, layer);
  MG_TRY(mg_feed_forward_cost(w->work, w->tokens, w->work->shape->dense_hidden, MG_PASS_FORWARD, &dense_s));
  return add(b, MG_PHASE_DENSE, layer, dense_s, NULL, b->last, -1, &b->last);
}

static mg_status forward_head(builder *b) {
  const mg_batch_work *w = b->batch;
  double head_s;
  if (w->head_rows <= 0) return MG_OK;
  MG_TRY(mg_head_cost(w->work, w->head_rows, MG_PASS_FORWARD, &head_s));
  return add(b, MG_PHASE_HEAD, w->last_layer, w->heads * head_s, NULL, b->last, -1, &b->last);
}

mg_status mg_batch_forward(mg_context *context, const mg_batch_work *batch, mg_schedule *schedule) {
  builder b;
  MG_TRY(builder_open(context, batch, schedule, &b));
  mg_status status = MG_OK;
  for (int64_t layer = batch->first_layer; layer < batch->last_layer && status == MG_OK; layer++)
    status = forward_layer(&b, layer);
  if (status == MG_OK) status = forward_head(&b);
  builder_close(&b);
  return status;
}

/* ---- backward ------------------------------------------------------------------------------------------------- */

typedef struct backward {
  builder b;
  bool weights, recompute;
} backward;

/* A part's gradients of inputs now, those of its weights when there is time. */
static mg_status backward_part(backward *k, mg_phase phase, int64_t layer, double inputs_s, double weights_s) {
  MG_TRY(add(&k->b, phase, layer, inputs_s, NULL, k->b.last, -1, &k->b.last));
  if (!k->weights || weights_s <= 0) return MG_OK;
  return add(&k->b, MG_PHASE_WEIGHTS, layer, weights_s, NULL, k->b.last, -1, NULL);
}

/* Combine's gradient is sent as dispatch sends, dispatch's as combine. */
static mg_status backward_experts(backward *k, int64_t layer) {
  builder *b = &k->b;
  const mg_batch_work *w = b->batch;
  const int64_t hidden = w->work->shape->shared_hidden, traced = traced_layer(b, layer);
  double shared_s, shared_weights_s;
  int32_t first, shared = -1, experts;
  MG_TRY(mg_feed_forward_cost(w->work, w->tokens, hidden, MG_PASS_INPUTS, &shared_s));
  MG_TRY(mg_feed_forward_cost(w->work, w->tokens, hidden, MG_PASS_WEIGHTS, &shared_weights_s));
  MG_TRY(mg_routed_costs(w->work, w->traffic, traced, MG_PASS_INPUTS, &b->routed));
  MG_TRY(add(b, MG_PHASE_DISPATCH, layer, 0, b->routed.dispatch_s, b->last, -1, &first));
  if (shared_s > 0) MG_TRY(add(b, MG_PHASE_SHARED, layer, shared_s, NULL, b->last, -1, &shared));
  MG_TRY(add(b, MG_PHASE_EXPERTS, layer, 0, b->routed.experts_s, first, shared, &experts));
  MG_TRY(add(b, MG_PHASE_COMBINE, layer, 0, b->routed.combine_s, experts, -1, &b->last));
  if (!k->weights) return MG_OK;
  MG_TRY(mg_routed_costs(w->work, w->traffic, traced, MG_PASS_WEIGHTS, &b->routed));
  for (int64_t r = 0; r < b->schedule->ranks; r++) b->routed.experts_s[r] += shared_weights_s;
  return add(b, MG_PHASE_WEIGHTS, layer, 0, b->routed.experts_s, experts, -1, NULL);
}

/* The norms and the projections behind the latent, computed again before their gradients (DeepSeek-V3, section 3.2.3). */
static mg_status recomputed(const mg_batch_work *w, double *seconds) {
  const mg_shape *shape = w->work->shape;
  mg_product all[MG_PRODUCTS_MAX];
  const double norms[MG_FORM_VARIABLES_MAX] = {w->tokens * mg_shape_norm_bytes(shape)};
  MG_TRY(mg_cost(w->work->costs, MG_FORM_MEMORY, norms, seconds));
  if (shape->attention != MG_ATTENTION_MLA) return MG_OK;
  const int count = mg_shape_projections(shape, false, w->work->parallel, all);
  for (int i = 1; i < count - 1; i++) {
    const double variables[MG_FORM_VARIABLES_MAX] = {w->tokens * (double)w->work->parallel, all[i].outputs,
                                                     all[i].inputs, 1, (double)w->work->element_bytes};
    double one;
    MG_TRY(mg_cost(w->work->costs, MG_FORM_GEMM, variables, &one));
    *seconds += one;
  }
  return MG_OK;
}

static mg_status backward_layer(backward *k, int64_t layer) {
  const mg_batch_work *w = k->b.batch;
  const bool experts = has_experts(w->work->shape, layer);
  double inputs_s, weights_s, join_s, join_weights_s, again_s = 0;
  if (experts) {
    MG_TRY(backward_experts(k, layer));
  } else {
    const int64_t hidden = w->work->shape->dense_hidden;
    MG_TRY(mg_feed_forward_cost(w->work, w->tokens, hidden, MG_PASS_INPUTS, &inputs_s));
    MG_TRY(mg_feed_forward_cost(w->work, w->tokens, hidden, MG_PASS_WEIGHTS, &weights_s));
    MG_TRY(backward_part(k, MG_PHASE_DENSE, layer, inputs_s, weights_s));
  }
  MG_TRY(mg_attention_cost(w->work, w->tokens, experts, MG_PASS_INPUTS, &inputs_s));
  MG_TRY(mg_attention_cost(w->work, w->tokens, experts, MG_PASS_WEIGHTS, &weights_s));
  MG_TRY(joined(w, layer, MG_PASS_INPUTS, &join_s));
  MG_TRY(joined(w, layer, MG_PASS_WEIGHTS, &join_weights_s));
  if (k->recompute) MG_TRY(recomputed(w, &again_s));
  return backward_part(k, MG_PHASE_ATTENTION, layer, inputs_s + again_s + join_s, weights_s + join_weights_s);
}

static mg_status backward_head(backward *k) {
  const mg_batch_work *w = k->b.batch;
  double inputs_s, weights_s;
  if (w->head_rows <= 0) return MG_OK;
  MG_TRY(mg_head_cost(w->work, w->head_rows, MG_PASS_INPUTS, &inputs_s));
  MG_TRY(mg_head_cost(w->work, w->head_rows, MG_PASS_WEIGHTS, &weights_s));
  return backward_part(k, MG_PHASE_HEAD, w->last_layer, w->heads * inputs_s, w->heads * weights_s);
}

mg_status mg_batch_backward(mg_context *context, const mg_batch_work *batch, bool weights, bool recompute,
                            mg_schedule *schedule) {
  backward k = {.weights = weights, .recompute = recompute};
  MG_TRY(builder_open(context, batch, schedule, &k.b));
  mg_status status = backward_head(&k);
  for (int64_t layer = batch->last_layer - 1; layer >= batch->first_layer && status == MG_OK; layer--)
    status = backward_layer(&k, layer);
  builder_close(&k.b);
  return status;
}
