/* Gradients of a router against central differences, (f(v + h) - f(v - h)) / 2h, in f64. An element whose step changes
 * which experts are chosen is left out: the selection is a jump. */
#include <math.h>
#include <string.h>

#include "measure/router_suite_internal.h"

static const double step = 1e-5, allowed = 1e-5, smallest = 1e-2;
enum { GRADIENT_TOKENS = 4, ELEMENTS_MAX = 120 };

typedef struct probe_state {
  suite_subject *subject;
  suite_input input;
  suite_scalar of;
  int64_t ids_count; /* tokens * choices */
  int64_t compared, jumped;
  mg_router_row *row;
} probe_state;

/* One element of a parameter or of x: its analytic gradient against the difference. */
static mg_status compare(probe_state *p, const char *what, int64_t index, double *value, double analytic) {
  double above, below;
  int32_t *high, *low;
  const double before = *value;
  suite_input input = p->input;
  input.x_gradient = NULL;
  *value = before + step;
  mg_status status = mg__router_suite_scalar(p->subject, &input, p->of, false, &above, &high);
  *value = before - step;
  if (status == MG_OK) status = mg__router_suite_scalar(p->subject, &input, p->of, false, &below, &low);
  *value = before;
  MG_TRY(status);
  if (memcmp(high, low, (size_t)p->ids_count * sizeof *high) != 0) {
    p->jumped++;
    return MG_OK;
  }
  p->compared++;
  const double numeric = (above - below) / (2 * step);
  const double scale = fmax(fmax(fabs(numeric), fabs(analytic)), smallest);
  if (fabs(numeric - analytic) <= allowed * scale) return MG_OK;
  return mg__router_suite_failed(p->row, "element %lld of %s: gradient %.9g, by differences %.9g%s", (long long)index,
                                 what, analytic, numeric, p->input.training ? " (in training)" : "");
}

/* At most ELEMENTS_MAX elements of each, evenly spread. */
static mg_status compare_all(probe_state *p, const char *what, double *values, const double *gradient, int64_t count) {
  const int64_t stride = count / ELEMENTS_MAX + 1;
  for (int64_t i = 0; i < count && p->row->verdict == MG_ROUTER_PASSED; i += stride)
    MG_TRY(compare(p, what, i, values + i, gradient[i]));
  return MG_OK;
}

static mg_status compare_everything(probe_state *p) {
  mg_params *params = p->subject->params;
  MG_TRY(compare_all(p, "the hidden states", p->input.x, p->input.x_gradient, p->input.tokens * p->subject->width));
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    mg_param *param = mg_params_at(params, i);
    if (param->fixed) continue;
    MG_TRY(compare_all(p, param->name, param->value.data, param->gradient.data, mg_tensor_count(&param->value)));
  }
  return MG_OK;
}

/* Fills the gradients of the scalar for x and all parameters. */
static mg_status walk_back(probe_state *p, bool training) {
  double value;
  p->input = mg__router_suite_input(p->subject, GRADIENT_TOKENS);
  p->input.training = training;
  suite_outcome out;
  MG_TRY(mg__router_suite_run(p->subject, &p->input, &out));
  p->ids_count = out.tokens * out.choices;
  const size_t count = (size_t)(GRADIENT_TOKENS * p->subject->width);
  p->input.x_gradient = mg_arena_alloc(p->subject->room->arena, count * sizeof(double));
  if (!p->input.x_gradient) return MG_MEMORY;
  MG_TRY(mg_params_zero_gradients(p->subject->params));
  return mg__router_suite_scalar(p->subject, &p->input, p->of, true, &value, NULL);
}

static mg_status check(suite_subject *subject, suite_scalar of, mg_router_row *row) {
  if (subject->experts > 16) return mg__router_suite_not_applicable(row, "checked on smaller layers");
  for (int training = 0; training < 2 && row->verdict == MG_ROUTER_PASSED; training++) {
    probe_state p = {.subject = subject, .of = of, .row = row};
    MG_TRY(walk_back(&p, training));
    MG_TRY(compare_everything(&p));
    if (row->verdict == MG_ROUTER_PASSED && p.jumped > p.compared)
      return mg__router_suite_failed(row, "%lld of %lld tiny steps change which experts are chosen",
                                     (long long)p.jumped, (long long)p.jumped + p.compared);
  }
  return MG_OK;
}

mg_status mg__check_gradients(suite_subject *subject, mg_router_row *row) {
  if (subject->promises & MG_ROUTER_STRAIGHT_THROUGH)
    return mg__router_suite_not_applicable(row, "a straight-through gradient is no derivative");
  return check(subject, SUITE_WEIGHTS, row);
}

mg_status mg__check_statistics_gradients(suite_subject *subject, mg_router_row *row) {
  const uint32_t any = MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS | MG_ROUTER_GIVES_LOAD | MG_ROUTER_GIVES_LOSS;
  if (!(subject->promises & any)) return mg__router_suite_not_applicable(row, "the router gives no statistics");
  return check(subject, SUITE_STATISTICS, row);
}

mg_status mg__check_learns(suite_subject *subject, mg_router_row *row) {
  mg_params *params = subject->params;
  double value;
  if (mg_params_elements(params) == 0) return mg__router_suite_not_applicable(row, "there is nothing to train");
  suite_input input = mg__router_suite_input(subject, 20 * SUITE_TOKENS); /* some weigh few tokens by what they learn */
  input.training = true;
  MG_TRY(mg_params_zero_gradients(params));
  MG_TRY(mg__router_suite_scalar(subject, &input, SUITE_WEIGHTS, true, &value, NULL));
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_at(params, i);
    const double *gradient = param->gradient.data;
    double most = 0;
    for (int64_t j = 0; !param->fixed && j < mg_tensor_count(&param->value); j++) most = fmax(most, fabs(gradient[j]));
    if (!param->fixed && !(most > 1e-12))
      return mg__router_suite_failed(
          row, "%s gets no gradient from the combine weights or the router's own loss, so nothing would train it",
          param->name);
  }
  return MG_OK;
}
