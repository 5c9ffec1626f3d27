/* Cuts the blocks into stages, times each stage alone and beside its partner, and runs the pipeline. */
#include "cluster/training.h"

#include <math.h>
#include <string.h>

/* Bytes of a gradient that is reduced, and of a weight that is gathered again (f32, bf16); bytes that AdamW moves for
 * a parameter: f32 gradient, f32 master weight and two bf16 moments read, the last three written, bf16 weight out. */
static const double gradient_bytes = 4, weight_bytes = 2, adam_bytes = 4 + 2 * (4 + 2 + 2) + 2;

typedef struct trainer {
  mg_context *context;
  const mg_training_request *request;
  mg_traffic *traffic;
  mg_shape shape; /* with the prediction blocks as further layers */
  int64_t blocks;
  mg_training *out;
  mg_stage_costs stages;
} trainer;

/* ---- stages --------------------------------------------------------------------------------------------------- */

mg_status mg_cut_stages(mg_context *context, const double *cost, int64_t blocks, int64_t stages, int64_t *first) {
  const size_t cells = (size_t)((stages + 1) * (blocks + 1));
  double *least = mg_alloc(context, cells * sizeof *least); /* [s, b]: largest stage when s stages take b blocks */
  int64_t *cut = mg_alloc(context, cells * sizeof *cut);
  const int64_t row = blocks + 1;
  if (least && cut) {
    for (int64_t i = 0; i < (int64_t)cells; i++) least[i] = INFINITY;
    least[0] = 0;
    for (int64_t s = 1; s <= stages; s++)
      for (int64_t b = s; b <= blocks; b++) {
        double sum = 0;
        for (int64_t c = b - 1; c >= s - 1; c--) {
          sum += cost[c];
          if (sum >= least[s * row + b]) break; /* a longer last stage takes longer still */
          const double here = fmax(least[(s - 1) * row + c], sum);
          if (here < least[s * row + b]) {
            least[s * row + b] = here;
            cut[s * row + b] = c;
          }
        }
      }
    first[stages] = blocks;
    for (int64_t s = stages; s > 0; s--) first[s - 1] = cut[s * row + first[s]];
  }
  const bool good = least && cut;
  mg_free(context, least, cells * sizeof *least);
  mg_free(context, cut, cells * sizeof *cut);
  return good ? MG_OK : MG_MEMORY;
}

/* The work of blocks [first, last) of one micro-batch; the last block carries the heads. */
static mg_batch_work work_of(const trainer *t, int64_t first, int64_t last, int32_t batch) {
  const mg_step_request *q = &t->request->batch;
  const double heads = 1 + (double)t->shape.prediction_layers;
  return (mg_batch_work){.work = &q->work,
                         .traffic = t->traffic,
                         .tokens = (double)q->tokens,
                         .batch = batch,
                         .first_layer = first,
                         .last_layer = last,
                         .head_rows = last == t->blocks ? (double)q->tokens : 0,
                         .heads = heads};
}

/* Which passes run: forward of [a, b), backward of [c, d); an empty range runs none. */
typedef struct passes {
  int64_t a, b, c, d;
  bool weights;
} passes;

/* Together they share both resources, and copying takes units from computing. */
static mg_status time_of(const trainer *t, const passes *p, double *seconds) {
  const mg_step_request *q = &t->request->batch;
  const bool both = p->a < p->b && p->c < p->d;
  mg_schedule schedule;
  mg_schedule_open(t->context, t->traffic->ranks, &schedule);
  mg_status status = MG_OK;
  if (p->a < p->b) {
    const mg_batch_work forward = work_of(t, p->a, p->b, 0);
    status = mg_batch_forward(t->context, &forward, &schedule);
  }
  if (status == MG_OK && p->c < p->d) {
    const mg_batch_work backward = work_of(t, p->c, p->d, both ? 1 : 0);
    status = mg_batch_backward(t->context, &backward, p->weights, t->request->recompute, &schedule);
  }
  if (status == MG_OK) mg_schedule_run(&schedule, both ? mg_copying_tax(&q->work) : 1);
  *seconds = schedule.makespan_s;
  mg_schedule_close(&schedule);
  return status;
}

static mg_status time_block(const trainer *t, int64_t block, double *seconds) {
  const passes all = {block, block + 1, block, block + 1, true};
  return time_of(t, &all, seconds);
}

/* Dense blocks, expert blocks, prediction blocks and the last one: each kind is timed once. */
static mg_status cut_blocks(trainer *t) {
  const int64_t blocks = t->blocks, dense = t->shape.dense_layers;
  double *cost = mg_alloc(t->context, (size_t)blocks * sizeof *cost);
  if (!cost) return MG_MEMORY;
  mg_status status = MG_OK;
  for (int64_t b = 0; b < blocks && status == MG_OK; b++) {
    const bool as_before = b > 0 && b != dense && b != t->shape.layers && b != blocks - 1;
    if (as_before)
      cost[b] = cost[b - 1];
    else
      status = time_block(t, b, &cost[b]);
  }
  if (status == MG_OK) status = mg_cut_stages(t->context, cost, blocks, t->request->stages, t->out->first_block);
  mg_free(t->context, cost, (size_t)blocks * sizeof *cost);
  return status;
}

static mg_status time_stage(trainer *t, int64_t stage) {
  const int64_t *first = t->out->first_block;
  const int64_t a = first[stage], b = first[stage + 1], partner = t->request->stages - 1 - stage;
  const passes forward = {.a = a, .b = b}, backward = {.c = a, .d = b, .weights = true}, inputs = {.c = a, .d = b};
  const passes paired = {a, b, first[partner], first[partner + 1], true};
  MG_TRY(time_of(t, &forward, &t->stages.forward_s[stage]));
  MG_TRY(time_of(t, &backward, &t->stages.backward_s[stage]));
  MG_TRY(time_of(t, &inputs, &t->stages.inputs_s[stage]));
  mg_schedule schedule;
  mg_schedule_open(t->context, t->traffic->ranks, &schedule);
  const mg_batch_work work = work_of(t, a, b, 0);
  const mg_status status = mg_batch_backward(t->context, &work, true, t->request->recompute, &schedule);
  t->stages.weights_s[stage] = mg_schedule_phase_s(&schedule, MG_PHASE_WEIGHTS);
  mg_schedule_close(&schedule);
  MG_TRY(status);
  if (t->request->order != MG_PIPELINE_DUALPIPE) return MG_OK;
  return time_of(t, &paired, &t->stages.paired_s[stage]);
}

/* ---- optimiser ------------------------------------------------------------------------------------------------ */

/* Gradients are reduced and weights gathered over the ranks that hold the same (ZeRO-1, Rajbhandari et al. 2020), each of
 * which updates its share. A bidirectional pipeline holds two stages on each rank, and each stage on two. Those that hold
 * the same experts are one of each group. */
static mg_status time_optimiser(trainer *t) {
  const mg_training_request *q = t->request;
  const mg_shape *s = &t->shape;
  const int64_t parallel = q->batch.work.parallel;
  const double both = q->order == MG_PIPELINE_DUALPIPE ? 2 : 1, stages = (double)q->stages;
  const double slots = (double)q->batch.placement->slots / (double)q->batch.placement->ranks;
  const double expert_layers = (double)(t->blocks - s->dense_layers), width = (double)s->width;
  const double experts = both * expert_layers / stages * slots * mg_shape_expert_parameters(s);
  double others = both / stages * 2 * width * (double)s->vocabulary / (double)parallel;
  for (int64_t block = 0; block < t->blocks; block++)
    others += both / stages * mg_shape_block_parameters(s, block, parallel);
  const int64_t copies = q->replicas * (int64_t)both, span = copies * q->batch.placement->ranks;
  const struct {
    double parameters;
    int64_t copies;
  } parts[] = {{experts, copies}, {others, span / parallel}};
  for (size_t i = 0; i < MG_COUNT(parts); i++) {
    double reduce_s, gather_s, update_s;
    const double update[MG_FORM_VARIABLES_MAX] = {parts[i].parameters / (double)parts[i].copies * adam_bytes};
    mg_costs *costs = q->batch.work.costs;
    MG_TRY(mg_collective_cost(costs, MG_COLLECTIVE_REDUCE_SCATTER, parts[i].copies, span,
                              parts[i].parameters * gradient_bytes, &reduce_s));
    MG_TRY(mg_collective_cost(costs, MG_COLLECTIVE_ALL_GATHER, parts[i].copies, span,
                              parts[i].parameters * weight_bytes, &gather_s));
    MG_TRY(mg_cost(costs, MG_FORM_MEMORY, update, &update_s));
    t->out->optimiser_s += reduce_s + gather_s + update_s;
  }
  return MG_OK;
}

/* ---- the step ------------------------------------------------------------------------------------------------- */

static void sum_up(trainer *t) {
  const mg_training_request *q = t->request;
  mg_training *out = t->out;
  const double times = (double)q->micro_batches * (double)q->replicas;
  const double width = (double)t->shape.width;
  const double bytes = 2 * (mg_message_bytes(width, q->batch.work.element_bytes) + mg_message_bytes(width, 2)) * times;
  out->step_s = out->pipeline.makespan_s + out->optimiser_s;
  out->ranks = q->batch.placement->ranks * q->stages * q->replicas;
  out->tokens = (double)(q->batch.tokens * q->batch.placement->ranks) * times;
  for (int64_t b = t->shape.dense_layers; b < t->blocks; b++) {
    const int64_t layer = (b - t->shape.dense_layers) % t->traffic->layers;
    for (int64_t r = 0; r < t->traffic->ranks; r++) {
      out->near_bytes += bytes * mg_traffic_of(t->traffic, layer, MG_TRAFFIC_NEAR_SENT)[r];
      out->far_bytes += bytes * mg_traffic_of(t->traffic, layer, MG_TRAFFIC_FAR_SENT)[r];
    }
    out->assigned += t->traffic->assigned[layer];
    out->dropped += t->traffic->dropped[layer];
  }
}

static mg_status alloc_stages(trainer *t, double **memory) {
  const int64_t stages = t->request->stages;
  *memory = mg_alloc(t->context, (size_t)(5 * stages) * sizeof **memory);
  t->out->first_block = mg_alloc(t->context, (size_t)(stages + 1) * sizeof *t->out->first_block);
  if (!*memory || !t->out->first_block) return MG_MEMORY;
  const mg_accelerator *a = t->request->batch.work.costs->accelerator;
  const double sent = (double)t->request->batch.tokens * (double)t->shape.width * 2;
  t->stages = (mg_stage_costs){.stages = stages,
                               .forward_s = *memory,
                               .backward_s = *memory + stages,
                               .inputs_s = *memory + 2 * stages,
                               .weights_s = *memory + 3 * stages,
                               .paired_s = *memory + 4 * stages,
                               .send_s = a->far_us * 1e-6 + sent / (a->far_gb_s * 1e9)};
  return MG_OK;
}

static mg_status run(trainer *t) {
  const mg_training_request *q = t->request;
  MG_TRY(cut_blocks(t));
  for (int64_t stage = 0; stage < q->stages; stage++) MG_TRY(time_stage(t, stage));
  MG_TRY(mg_pipeline_run(t->context, (mg_pipeline_order)q->order, &t->stages, q->micro_batches, &t->out->pipeline));
  MG_TRY(time_optimiser(t));
  sum_up(t);
  return MG_OK;
}

static mg_status make_traffic(trainer *t) {
  const mg_step_request *q = &t->request->batch;
  const mg_traffic_request request = {.routing = q->routing,
                                      .placement = q->placement,
                                      .tokens = q->tokens,
                                      .count = q->tokens,
                                      .offset = q->offset,
                                      .deduplicate = q->work.kernels == MG_KERNELS_NORMAL,
                                      .capacity = q->capacity};
  mg_traffic *counted;
  MG_TRY(mg_traffic_create(t->context, &request, &counted));
  t->traffic = counted;
  if (!q->balanced) return MG_OK;
  t->traffic = NULL;
  const mg_status status = mg_traffic_balanced(counted, &t->traffic);
  mg_traffic_destroy(counted);
  return status;
}

mg_status mg_training_run(mg_context *context, const mg_training_request *request, mg_training *out) {
  trainer t = {.context = context, .request = request, .shape = *request->batch.work.shape, .out = out};
  double *memory = NULL;
  *out = (mg_training){.stages = request->stages, .pipeline = {.context = context}};
  t.blocks = t.shape.layers + t.shape.prediction_layers;
  if (request->stages < 1 || request->stages > t.blocks)
    return mg_fail(context, MG_USAGE, "cluster: %lld blocks cannot make %lld pipeline stages", (long long)t.blocks,
                   (long long)request->stages);
  mg_status status = make_traffic(&t);
  if (status == MG_OK) status = alloc_stages(&t, &memory);
  if (status == MG_OK) status = run(&t);
  mg_free(context, memory, (size_t)(5 * request->stages) * sizeof *memory);
  mg_traffic_destroy(t.traffic);
  if (status != MG_OK) mg_training_close(context, out);
  return status;
}

void mg_training_close(mg_context *context, mg_training *training) {
  mg_pipeline_close(&training->pipeline);
  mg_free(context, training->first_block, (size_t)(training->stages + 1) * sizeof *training->first_block);
  training->first_block = NULL;
}
