/* Sums of products, of attention's core, and of kernels that only move data. */
#include "cluster/layer_cost.h"

#include <math.h>

/* f32 gradients are read and written for each bf16 product that is added to them. */
static const double accumulated_bytes = 4 + 4 - 2;
/* Backward attention computes five products where forward has two. */
static const double backward_flops = 2.5;
/* The gated activation's gradient for one hidden number: both bf16 inputs and the bf16 gradient read, both bf16 gradients
 * written, and the fp8 output once more for the gradient of weights. */
static const double gated_bytes = 2 * 2 + 2 + 2 * 2 + 1;

/* Fp8 factors run along rows, but gradients of weights need them along columns: both operands of `rows` rows are turned,
 * the input fp8 to fp8, the gradient bf16 to fp8 (DeepSeek-V3, section 3.3). Bf16 needs nothing. */
static double turned_bytes(double rows, double inputs, double outputs, int64_t element_bytes) {
  return element_bytes == 1 ? rows * ((1 + 1) * inputs + (2 + 1) * outputs) : 0;
}

/* ---- products ------------------------------------------------------------------------------------------------- */

static mg_status product_cost(const mg_layer_work *w, const mg_product *p, double rows, int64_t element_bytes,
                              mg_pass pass, double *seconds) {
  const double element = (double)element_bytes;
  double forward[MG_FORM_VARIABLES_MAX] = {rows * p->matrices, p->outputs, p->inputs, p->matrices, element};
  if (pass == MG_PASS_FORWARD) return mg_cost(w->costs, MG_FORM_GEMM, forward, seconds);
  const double inputs[MG_FORM_VARIABLES_MAX] = {rows * p->matrices, p->inputs, p->outputs, p->matrices, element};
  if (pass == MG_PASS_INPUTS) return mg_cost(w->costs, MG_FORM_GEMM, inputs, seconds);
  const double weights[MG_FORM_VARIABLES_MAX] = {p->outputs, p->inputs, rows, 1, element};
  const double added[MG_FORM_VARIABLES_MAX] = {p->outputs * p->inputs * accumulated_bytes +
                                               turned_bytes(rows, p->inputs, p->outputs, element_bytes)};
  double accumulation;
  MG_TRY(mg_cost(w->costs, MG_FORM_GEMM, weights, seconds));
  MG_TRY(mg_cost(w->costs, MG_FORM_MEMORY, added, &accumulation));
  *seconds = p->matrices * (*seconds + accumulation);
  return MG_OK;
}

static mg_status products_cost(const mg_layer_work *w, const mg_product *products, int count, double rows, mg_pass pass,
                               double *sum) {
  for (int i = 0; i < count; i++) {
    double seconds;
    const int64_t element = products[i].matrices > 1 ? 2 : w->element_bytes; /* batched products stay bf16 */
    MG_TRY(product_cost(w, &products[i], rows, element, pass, &seconds));
    *sum += seconds;
  }
  return MG_OK;
}

/* `kernels` kernels that move `bytes` together. */
static mg_status moving_cost(const mg_layer_work *w, double bytes, int64_t kernels, double *sum) {
  const double each[MG_FORM_VARIABLES_MAX] = {bytes / (double)kernels};
  double seconds;
  MG_TRY(mg_cost(w->costs, MG_FORM_MEMORY, each, &seconds));
  *sum += seconds * (double)kernels;
  return MG_OK;
}

/* ---- attention ------------------------------------------------------------------------------------------------ */

static mg_status core_cost(const mg_layer_work *w, double tokens, mg_pass pass, double *sum) {
  const mg_shape *s = w->shape;
  const bool decode = w->kind == MG_STEP_DECODE;
  const double context = (double)w->context, heads = (double)w->parallel;
  const double keys = decode ? context : (context + 1) / 2;
  const double flops = tokens * keys * mg_shape_core_flops(s, decode) / heads;
  const double own =
      tokens * 2 * (double)s->heads / heads *
      (double)(s->attention == MG_ATTENTION_MLA ? s->plain_width + s->rope_width + s->value_width : 2 * s->head_width);
  const double cached = 2 * mg_shape_cache_elements(s, w->parallel);
  const double bytes = decode ? tokens * context * cached : own + tokens * cached;
  mg_form_kind kind = decode ? MG_FORM_ATTENTION_DECODE : MG_FORM_ATTENTION_PREFILL;
  double variables[MG_FORM_VARIABLES_MAX] = {bytes, flops}, seconds;
  if (pass == MG_PASS_INPUTS) {
    kind = MG_FORM_ATTENTION_BACKWARD;
    variables[0] *= backward_flops;
    variables[1] *= backward_flops;
  }
  MG_TRY(mg_cost(w->costs, kind, variables, &seconds));
  *sum += seconds;
  return MG_OK;
}

/* Tensor parallelism gathers the group's tokens before the part and sums its output after it. */
static mg_status parallel_cost(const mg_layer_work *w, double group_tokens, double *sum) {
  const double bytes = group_tokens * (double)w->shape->width * 2;
  double gather, scatter;
  if (w->parallel == 1) return MG_OK;
  MG_TRY(mg_collective_cost(w->costs, MG_COLLECTIVE_ALL_GATHER, w->parallel, w->parallel, bytes, &gather));
  MG_TRY(mg_collective_cost(w->costs, MG_COLLECTIVE_REDUCE_SCATTER, w->parallel, w->parallel, bytes, &scatter));
  *sum += gather + scatter;
  return MG_OK;
}

mg_status mg_attention_cost(const mg_layer_work *w, double tokens, bool expert_layer, mg_pass pass, double *seconds) {
  const double rows = tokens * (double)w->parallel;
  mg_product products[MG_PRODUCTS_MAX];
  const int count = mg_shape_projections(w->shape, w->kind == MG_STEP_DECODE, w->parallel, products);
  *seconds = 0;
  MG_TRY(products_cost(w, products, count, rows, pass, seconds));
  if (expert_layer) {
    const mg_product gate = {(double)w->shape->experts, (double)w->shape->width, 1};
    double gate_s;
    MG_TRY(product_cost(w, &gate, tokens, 2, pass, &gate_s));
    *seconds += gate_s;
  }
  if (pass == MG_PASS_WEIGHTS) return MG_OK;
  MG_TRY(core_cost(w, rows, pass, seconds));
  MG_TRY(parallel_cost(w, rows, seconds));
  /* The gradient of a norm reads its input and a gradient, and writes one. */
  const double norms = pass == MG_PASS_INPUTS ? mg_shape_norm_bytes(w->shape) / 2 : 0;
  return moving_cost(w, tokens * (mg_shape_moved_bytes(w->shape, expert_layer) + norms),
                     mg_shape_moving_kernels(expert_layer), seconds);
}

double mg_copying_tax(const mg_layer_work *w) {
  const double sms = (double)w->costs->accelerator->sms;
  return w->kernels == MG_KERNELS_NORMAL ? sms / (sms - (double)w->comm_sms) : 1;
}

/* ---- dense parts ---------------------------------------------------------------------------------------------- */

mg_status mg_feed_forward_cost(const mg_layer_work *w, double tokens, int64_t hidden, mg_pass pass, double *seconds) {
  mg_product products[MG_PRODUCTS_MAX];
  *seconds = 0;
  if (hidden == 0) return MG_OK;
  const int count = mg_shape_feed_forward(w->shape, hidden, w->parallel, products);
  MG_TRY(products_cost(w, products, count, tokens * (double)w->parallel, pass, seconds));
  if (pass == MG_PASS_WEIGHTS) return MG_OK;
  if (pass == MG_PASS_INPUTS) MG_TRY(moving_cost(w, tokens * (double)hidden * gated_bytes, 1, seconds));
  return parallel_cost(w, tokens * (double)w->parallel, seconds);
}

mg_status mg_join_cost(const mg_layer_work *w, double tokens, mg_pass pass, double *seconds) {
  const mg_product join = {(double)w->shape->width, 2 * (double)w->shape->width, 1};
  return product_cost(w, &join, tokens, w->element_bytes, pass, seconds);
}

mg_status mg_head_cost(const mg_layer_work *w, double rows, mg_pass pass, double *seconds) {
  const mg_product head = {(double)w->shape->vocabulary, (double)w->shape->width, 1};
  return product_cost(w, &head, rows, 2, pass, seconds);
}

/* ---- what the routing decides --------------------------------------------------------------------------------- */

/* Messages of a rank, the more of sent and received. */
static double most(const mg_traffic *t, int64_t layer, int64_t rank, mg_traffic_kind sent, mg_traffic_kind received) {
  return fmax(mg_traffic_of(t, layer, sent)[rank], mg_traffic_of(t, layer, received)[rank]);
}

/* Dispatch carries fp8 where products read it; combine, and a gradient on its way back, carry bf16. */
static mg_status exchange_cost(const mg_layer_work *w, const mg_traffic *t, int64_t layer, int64_t rank, bool combine,
                               double *seconds) {
  const double bytes = mg_message_bytes((double)w->shape->width, combine ? 2 : w->element_bytes);
  const double near_messages = most(t, layer, rank, MG_TRAFFIC_NEAR_SENT, MG_TRAFFIC_NEAR_RECEIVED);
  const double far = bytes * most(t, layer, rank, MG_TRAFFIC_FAR_SENT, MG_TRAFFIC_FAR_RECEIVED);
  if (w->kernels == MG_KERNELS_LOW_LATENCY) {
    const double variables[MG_FORM_VARIABLES_MAX] = {bytes * near_messages, far, (double)w->nodes,
                                                     (double)w->shape->experts};
    return mg_cost(w->costs, combine ? MG_FORM_COMBINE_LOW_LATENCY : MG_FORM_DISPATCH_LOW_LATENCY, variables, seconds);
  }
  const double copied = fmax(mg_traffic_of(t, layer, MG_TRAFFIC_DISTINCT)[rank], near_messages);
  const double variables[MG_FORM_VARIABLES_MAX] = {far, bytes * copied, (double)w->comm_sms, (double)w->nodes};
  return mg_cost(w->costs, combine ? MG_FORM_COMBINE_NORMAL : MG_FORM_DISPATCH_NORMAL, variables, seconds);
}

static mg_status experts_cost(const mg_layer_work *w, const mg_traffic *t, int64_t layer, int64_t rank, mg_pass pass,
                              double *seconds) {
  const mg_shape *s = w->shape;
  const double rows = mg_traffic_of(t, layer, MG_TRAFFIC_ROWS)[rank];
  const double active = mg_traffic_of(t, layer, MG_TRAFFIC_ACTIVE)[rank];
  const double gathered = w->kernels == MG_KERNELS_NORMAL ? mg_traffic_of(t, layer, MG_TRAFFIC_DISTINCT)[rank] : rows;
  const double variables[MG_FORM_VARIABLES_MAX] = {
      rows, active, gathered, (double)s->width, (double)s->expert_hidden, (double)w->element_bytes};
  *seconds = 0;
  if (rows <= 0) return MG_OK;
  MG_TRY(mg_cost(w->costs, w->kind == MG_STEP_DECODE ? MG_FORM_EXPERT_FFN_DECODE : MG_FORM_EXPERT_FFN_PREFILL,
                 variables, seconds));
  const double width = (double)s->width, hidden = (double)s->expert_hidden;
  if (pass == MG_PASS_FORWARD) return MG_OK;
  if (pass == MG_PASS_INPUTS) return moving_cost(w, rows * hidden * gated_bytes, 1, seconds);
  const double turned =
      turned_bytes(rows, width, 2 * hidden, w->element_bytes) + turned_bytes(rows, hidden, width, w->element_bytes);
  return moving_cost(w, active * mg_shape_expert_parameters(s) * accumulated_bytes + turned, 1, seconds);
}

mg_status mg_routed_costs(const mg_layer_work *w, const mg_traffic *t, int64_t layer, mg_pass pass,
                          const mg_routed_cost *out) {
  for (int64_t rank = 0; rank < t->ranks; rank++) {
    if (pass != MG_PASS_WEIGHTS) {
      MG_TRY(exchange_cost(w, t, layer, rank, false, &out->dispatch_s[rank]));
      MG_TRY(exchange_cost(w, t, layer, rank, true, &out->combine_s[rank]));
    }
    MG_TRY(experts_cost(w, t, layer, rank, pass, &out->experts_s[rank]));
  }
  return MG_OK;
}
