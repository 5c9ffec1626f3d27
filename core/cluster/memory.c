/* Sums of parts; weights are held in the type that products read, the embedding and the head in bf16. */
#include "cluster/memory.h"

#include <math.h>

/* Optimiser: f32 master weight and two bf16 moments. */
static const double state_of_parameter = 4 + 2 + 2;

static double slots_of_rank(const mg_placement *p) {
  return (double)p->slots / (double)p->ranks;
}

static void total(mg_memory *m) {
  m->total_bytes = m->expert_bytes + m->other_bytes + m->state_bytes + m->activation_bytes + m->cache_bytes;
}

/* Activations of one layer at a time: what the widest kernel reads and writes, and the buffers of dispatch, two of them
 * where two batches are in flight. */
void mg_step_memory(const mg_step_request *q, mg_memory *out) {
  const mg_shape *s = q->work.shape;
  const double element = (double)q->work.element_bytes, width = (double)s->width;
  const double parallel = (double)q->work.parallel, tokens = (double)q->tokens;
  const double layers = (double)(s->layers - s->dense_layers);
  double blocks = 0;
  for (int64_t block = 0; block < s->layers; block++) blocks += mg_shape_block_parameters(s, block, q->work.parallel);
  *out = (mg_memory){.expert_bytes = layers * slots_of_rank(q->placement) * mg_shape_expert_parameters(s) * element,
                     .other_bytes = blocks * element + 2 * 2 * width * (double)s->vocabulary / parallel,
                     .activation_bytes = tokens * (mg_shape_moved_bytes(s, true) + (double)s->choices * 3 * width),
                     .cache_bytes = 2 * tokens * parallel * (double)s->layers *
                                    mg_shape_cache_elements(s, q->work.parallel) *
                                    (q->work.kind == MG_STEP_DECODE ? (double)q->work.context : 1)};
  total(out);
}

/* What a block keeps of a token for its backward pass: its input and attention's output, the latents where the rest is
 * computed again (else queries, keys and values), rows sent to the experts, and the experts' hidden products. */
static double kept_bytes(const mg_shape *s, bool recompute, double element) {
  const double heads = (double)s->heads, width = (double)s->width, rows = (double)s->choices;
  double attention;
  if (s->attention == MG_ATTENTION_MLA) {
    attention = heads * (double)s->value_width * 2 + 2 * (double)(s->query_rank + s->latent + s->rope_width);
    if (!recompute) attention += 2 * heads * (double)(2 * s->plain_width + 2 * s->rope_width + s->value_width);
  } else {
    attention = 2 * (double)s->head_width * (2 * heads + 2 * (double)s->kv_heads);
  }
  const double experts = rows * (element * width + 2 * element * (double)s->expert_hidden);
  return 2 * 2 * width + attention + experts + 2 * element * (double)s->shared_hidden;
}

static void stage_memory(const mg_training_request *q, const mg_training *t, int64_t stage, mg_memory *out) {
  const mg_step_request *b = &q->batch;
  const mg_shape *s = b->work.shape;
  const double element = (double)b->work.element_bytes;
  double experts = 0, others = 0;
  for (int64_t block = t->first_block[stage]; block < t->first_block[stage + 1]; block++) {
    others += mg_shape_block_parameters(s, block, b->work.parallel);
    if (block >= s->dense_layers) experts += slots_of_rank(b->placement) * mg_shape_expert_parameters(s);
  }
  const double vocabularies = (stage == 0 ? 1 : 0) + (stage == q->stages - 1 ? 1 : 0); /* the embedding and the head */
  others += vocabularies * (double)(s->width * s->vocabulary) / (double)b->work.parallel;
  const double replicas = (double)q->replicas;
  const double all = replicas * (double)b->placement->ranks / (double)b->work.parallel;
  const double blocks = (double)(t->first_block[stage + 1] - t->first_block[stage]);
  out->expert_bytes += experts * element;
  out->other_bytes += others * element;
  out->state_bytes += 4 * (experts + others) + state_of_parameter * (experts / replicas + others / all);
  out->activation_bytes = fmax(out->activation_bytes, (double)t->pipeline.most_in_flight * blocks * (double)b->tokens *
                                                          kept_bytes(s, q->recompute, element));
}

void mg_training_memory(const mg_training_request *q, const mg_training *t, mg_memory *out) {
  *out = (mg_memory){0};
  for (int64_t stage = 0; stage < q->stages; stage++) {
    mg_memory here = {0};
    stage_memory(q, t, stage, &here);
    if (q->order == MG_PIPELINE_DUALPIPE) stage_memory(q, t, q->stages - 1 - stage, &here);
    total(&here);
    if (here.total_bytes > out->total_bytes) *out = here;
  }
}

mg_status mg_memory_check(mg_context *context, const mg_accelerator *a, const mg_memory *m) {
  const double giga = 1e9;
  if (m->total_bytes <= a->memory_gb * giga) return MG_OK;
  return mg_fail(context, MG_USAGE,
                 "cluster: %.1f GB do not fit into %s's %.0f GB: experts %.1f, other weights %.1f, optimiser %.1f, "
                 "activations %.1f, keys and values %.1f; use more ranks, fewer tokens or a shorter context",
                 m->total_bytes / giga, a->name, a->memory_gb, m->expert_bytes / giga, m->other_bytes / giga,
                 m->state_bytes / giga, m->activation_bytes / giga, m->cache_bytes / giga);
}
