/* The list of checks, and those that compare runs of one router. */
#include <math.h>
#include <string.h>

#include "measure/router_suite_internal.h"

static const double tolerance = 1e-9;

static double weight_at(const suite_outcome *o, int64_t token, int64_t choice) {
  return o->weights[token * o->choices + choice];
}

static int32_t id_at(const suite_outcome *o, int64_t token, int64_t choice) {
  return o->ids[token * o->choices + choice];
}

/* The weight that a token gives an expert; NAN if it did not choose it. */
static double weight_of(const suite_outcome *o, int64_t token, int32_t expert) {
  for (int64_t s = 0; s < o->choices; s++)
    if (id_at(o, token, s) == expert) return weight_at(o, token, s);
  return (double)NAN;
}

static mg_status run_default(suite_subject *subject, suite_outcome *out) {
  const suite_input input = mg__router_suite_input(subject, SUITE_TOKENS);
  return mg__router_suite_run(subject, &input, out);
}

/* ---- form -------------------------------------------------------------------------------------------------- */

/* The core checks shapes and types of every call; this makes the calls, with and without noise. */
static mg_status outputs(suite_subject *subject, mg_router_row *row) {
  (void)row;
  suite_outcome out;
  suite_input input = mg__router_suite_input(subject, SUITE_TOKENS);
  MG_TRY(mg__router_suite_run(subject, &input, &out));
  input.training = true;
  return mg__router_suite_run(subject, &input, &out);
}

static mg_status few_tokens(suite_subject *subject, mg_router_row *row) {
  (void)row;
  for (int64_t tokens = 0; tokens < 2; tokens++) {
    suite_outcome out;
    const suite_input input = mg__router_suite_input(subject, tokens);
    MG_TRY(mg__router_suite_run(subject, &input, &out));
  }
  return MG_OK;
}

static mg_status distinct_experts(suite_subject *subject, mg_router_row *row) {
  suite_outcome o;
  MG_TRY(run_default(subject, &o));
  for (int64_t t = 0; t < o.tokens; t++)
    for (int64_t a = 0; a < o.choices; a++)
      for (int64_t b = a + 1; b < o.choices; b++)
        if (id_at(&o, t, a) >= 0 && id_at(&o, t, a) == id_at(&o, t, b))
          return mg__router_suite_failed(row, "token %lld chose expert %d twice", (long long)t, id_at(&o, t, a));
  return MG_OK;
}

static mg_status all_finite(suite_subject *subject, mg_router_row *row) {
  suite_outcome o;
  MG_TRY(run_default(subject, &o));
  const struct {
    const char *name;
    const double *values;
    int64_t columns;
  } outputs_of[] = {{"weights", o.weights, o.choices}, {"probs", o.probs, o.experts},
                    {"logits", o.logits, o.experts},   {"load", o.load, o.experts},
                    {"dispatch", o.dispatch, o.slots}, {"combine", o.combine, o.slots}};
  for (size_t i = 0; i < MG_COUNT(outputs_of); i++)
    for (int64_t j = 0; outputs_of[i].values && j < o.tokens * outputs_of[i].columns; j++)
      if (!isfinite(outputs_of[i].values[j]))
        return mg__router_suite_failed(row, "%s of token %lld is %g", outputs_of[i].name,
                                       (long long)(j / outputs_of[i].columns), outputs_of[i].values[j]);
  return MG_OK;
}

/* ---- values ------------------------------------------------------------------------------------------------ */

static mg_status nonnegative(suite_subject *subject, mg_router_row *row) {
  suite_outcome o;
  MG_TRY(run_default(subject, &o));
  for (int64_t i = 0; i < o.tokens * o.choices; i++)
    if (o.ids[i] >= 0 && o.weights[i] < 0)
      return mg__router_suite_failed(row, "token %lld weighs expert %d by %g", (long long)(i / o.choices), o.ids[i],
                                     o.weights[i]);
  return MG_OK;
}

static mg_status sum_to_one(suite_subject *subject, mg_router_row *row) {
  suite_outcome o;
  MG_TRY(run_default(subject, &o));
  for (int64_t t = 0; t < o.tokens; t++) {
    double sum = 0;
    int64_t chosen = 0;
    for (int64_t s = 0; s < o.choices; s++) {
      if (id_at(&o, t, s) < 0) continue;
      sum += weight_at(&o, t, s);
      chosen++;
    }
    if (chosen && !(fabs(sum - 1) <= tolerance))
      return mg__router_suite_failed(row, "the weights of token %lld sum to %.9g", (long long)t, sum);
  }
  return MG_OK;
}

static mg_status probabilities(suite_subject *subject, mg_router_row *row) {
  suite_outcome o;
  MG_TRY(run_default(subject, &o));
  if (!o.probs) return mg__router_suite_failed(row, "probs were promised and are missing");
  for (int64_t t = 0; t < o.tokens; t++) {
    double sum = 0;
    for (int64_t e = 0; e < o.experts; e++) {
      const double p = o.probs[t * o.experts + e];
      if (!(p >= 0))
        return mg__router_suite_failed(row, "token %lld gives expert %lld probability %g", (long long)t, (long long)e,
                                       p);
      sum += p;
    }
    if (!(sum <= 1 + tolerance))
      return mg__router_suite_failed(row, "the probabilities of token %lld sum to %.9g", (long long)t, sum);
  }
  return MG_OK;
}

/* ---- two runs ---------------------------------------------------------------------------------------------- */

/* Token `a` of one run and token `b` of another choose the same experts with the same weights. */
static bool same_token(const suite_outcome *one, int64_t a, const suite_outcome *two, int64_t b, double allowed) {
  for (int64_t s = 0; s < one->choices; s++) {
    if (id_at(one, a, s) != id_at(two, b, s)) return false;
    if (id_at(one, a, s) >= 0 && !(fabs(weight_at(one, a, s) - weight_at(two, b, s)) <= allowed)) return false;
  }
  for (int64_t s = 0; s < one->slots; s++) {
    const int64_t i = a * one->slots + s, j = b * one->slots + s;
    if (!(fabs(one->dispatch[i] - two->dispatch[j]) <= allowed)) return false;
    if (!(fabs(one->combine[i] - two->combine[j]) <= allowed)) return false;
  }
  return true;
}

static mg_status deterministic(suite_subject *subject, mg_router_row *row) {
  for (int training = 0; training < 2; training++) {
    suite_outcome one, two;
    suite_input input = mg__router_suite_input(subject, SUITE_TOKENS);
    input.training = training;
    MG_TRY(mg__router_suite_run(subject, &input, &one));
    MG_TRY(mg__router_suite_run(subject, &input, &two));
    for (int64_t t = 0; t < one.tokens; t++)
      if (!same_token(&one, t, &two, t, 0))
        return mg__router_suite_failed(row,
                                       "token %lld is routed differently by a second run on the same input and noise%s",
                                       (long long)t, training ? " in training" : "");
  }
  return MG_OK;
}

static mg_status batch_invariant(suite_subject *subject, mg_router_row *row) {
  suite_outcome all, one;
  const suite_input input = mg__router_suite_input(subject, SUITE_TOKENS);
  MG_TRY(mg__router_suite_run(subject, &input, &all));
  for (int64_t t = 0; t < all.tokens; t++) {
    const suite_input alone = {.tokens = 1, .x = input.x + t * subject->width, .token_ids = input.token_ids + t};
    MG_TRY(mg__router_suite_run(subject, &alone, &one));
    if (!same_token(&all, t, &one, 0, tolerance))
      return mg__router_suite_failed(row, "token %lld is routed differently when it is alone in the batch",
                                     (long long)t);
  }
  return MG_OK;
}

static mg_status token_permutation(suite_subject *subject, mg_router_row *row) {
  suite_outcome plain, moved;
  const suite_input input = mg__router_suite_input(subject, SUITE_TOKENS);
  suite_input turned = mg__router_suite_input(subject, SUITE_TOKENS);
  const size_t bytes = (size_t)subject->width * sizeof *input.x;
  for (int64_t t = 0; input.x && turned.x && t < SUITE_TOKENS; t++) {
    const int64_t from = (3 * t + 4) % SUITE_TOKENS;
    memcpy(turned.x + t * subject->width, input.x + from * subject->width, bytes);
    turned.token_ids[t] = input.token_ids[from];
  }
  MG_TRY(mg__router_suite_run(subject, &input, &plain));
  MG_TRY(mg__router_suite_run(subject, &turned, &moved));
  for (int64_t t = 0; t < SUITE_TOKENS; t++)
    if (!same_token(&moved, t, &plain, (3 * t + 4) % SUITE_TOKENS, tolerance))
      return mg__router_suite_failed(row, "token %lld is routed differently at another place of the batch",
                                     (long long)((3 * t + 4) % SUITE_TOKENS));
  return MG_OK;
}

/* The first token of the first half whose routing the second half changes; -1 if there is none. */
static mg_status find_leak(suite_subject *subject, bool training, int64_t *leak) {
  suite_outcome plain, changed;
  const int64_t first = SUITE_TOKENS / 2;
  suite_input input = mg__router_suite_input(subject, SUITE_TOKENS);
  suite_input other = mg__router_suite_input(subject, SUITE_TOKENS);
  input.training = other.training = training;
  for (int64_t t = first; other.x && other.token_ids && t < SUITE_TOKENS; t++) {
    for (int64_t d = 0; d < subject->width; d++) other.x[t * subject->width + d] *= -3;
    other.token_ids[t] = (other.token_ids[t] + 17) % SUITE_VOCABULARY;
  }
  MG_TRY(mg__router_suite_run(subject, &input, &plain));
  MG_TRY(mg__router_suite_run(subject, &other, &changed));
  for (*leak = 0; *leak < first; ++*leak)
    if (!same_token(&plain, *leak, &changed, *leak, tolerance)) return MG_OK;
  *leak = -1;
  return MG_OK;
}

static mg_status causal(suite_subject *subject, mg_router_row *row) {
  int64_t leak, trained;
  MG_TRY(find_leak(subject, false, &leak));
  MG_TRY(find_leak(subject, true, &trained));
  const bool promised = subject->promises & MG_ROUTER_CAUSAL, mixes = mg_router_slots(subject->router) > 0;
  if (promised && mixes) return mg__router_suite_failed(row, "its slots mix all tokens of a sequence, later ones too");
  if (leak < 0 && trained < 0)
    return promised ? MG_OK : mg__router_suite_not_applicable(row, "not promised; no leak was seen");
  if (promised)
    return mg__router_suite_failed(row, "token %lld is routed differently when tokens from %d on change%s",
                                   (long long)(leak < 0 ? trained : leak), SUITE_TOKENS / 2,
                                   leak < 0 ? " (in training)" : "");
  return mg__router_suite_not_applicable(row, leak < 0 ? "not promised: earlier tokens see later ones in training"
                                                       : "not promised: earlier tokens see later ones");
}

/* ---- experts ----------------------------------------------------------------------------------------------- */

/* Expert e's parameters move to the place of expert `moved_to(e)`. */
static int64_t moved_to(int64_t expert, int64_t experts) {
  return (expert + 1) % experts;
}

/* True if dimension `dim` of a parameter counts experts. */
static bool counts_experts(const suite_subject *subject, const mg_param_spec *spec, const mg_tensor *value,
                           int32_t dim) {
  return spec->shape[dim] == MG_DIM_EXPERTS ||
         (spec->shape[dim] == MG_DIM_CUSTOM && value->shape[dim] == subject->experts);
}

/* Moves every expert's slice along one dimension. */
static mg_status permute_dimension(suite_subject *subject, mg_tensor *value, int32_t dim) {
  const int64_t experts = value->shape[dim];
  int64_t inner = 1, outer = 1;
  for (int32_t d = 0; d < value->dims; d++) *(d < dim ? &outer : &inner) *= d == dim ? 1 : value->shape[d];
  double *data = value->data, *old = mg_arena_alloc(subject->room->arena, mg_tensor_bytes(value));
  if (!old) return MG_MEMORY;
  memcpy(old, data, mg_tensor_bytes(value));
  for (int64_t o = 0; o < outer; o++)
    for (int64_t e = 0; e < experts; e++)
      memcpy(data + (o * experts + moved_to(e, experts)) * inner, old + (o * experts + e) * inner,
             (size_t)inner * sizeof *data);
  return MG_OK;
}

static mg_status permute_experts(suite_subject *subject, int64_t *permuted) {
  const mg_param_spec *specs = subject->router->plugin->params;
  *permuted = 0;
  int64_t index = 0; /* in the store, which holds the parameters that were not left out, in the table's order */
  for (int32_t i = 0; specs && specs[i].name; i++) {
    if (!mg_router_has_param(subject->router, specs[i].name)) continue;
    mg_tensor *value = &mg_params_at(subject->params, index++)->value;
    for (int32_t d = 0; d < value->dims; d++) {
      if (!counts_experts(subject, &specs[i], value, d)) continue;
      MG_TRY(permute_dimension(subject, value, d));
      (*permuted)++;
    }
  }
  return MG_OK;
}

static mg_status expert_permutation(suite_subject *subject, mg_router_row *row) {
  suite_outcome plain, moved;
  int64_t permuted;
  MG_TRY(run_default(subject, &plain));
  MG_TRY(permute_experts(subject, &permuted));
  if (!permuted) return mg__router_suite_not_applicable(row, "no parameter has one slice per expert");
  MG_TRY(run_default(subject, &moved));
  for (int64_t t = 0; t < plain.tokens; t++)
    for (int64_t s = 0; s < plain.choices; s++) {
      const int32_t id = id_at(&plain, t, s);
      if (id < 0) continue;
      const double weight = weight_of(&moved, t, (int32_t)moved_to(id, plain.experts));
      if (!(fabs(weight - weight_at(&plain, t, s)) <= tolerance))
        return mg__router_suite_failed(
            row, "token %lld chose expert %d; when its parameters move to expert %lld, that is %s", (long long)t, id,
            (long long)moved_to(id, plain.experts), isnan(weight) ? "not chosen" : "weighed differently");
    }
  return MG_OK;
}

/* Hidden states of zero give every expert the same score in a router without biases. */
static mg_status ties(suite_subject *subject, mg_router_row *row) {
  suite_outcome o;
  const suite_input input = mg__router_suite_input(subject, SUITE_TOKENS);
  if (!input.x) return MG_MEMORY;
  memset(input.x, 0, (size_t)(SUITE_TOKENS * subject->width) * sizeof *input.x);
  MG_TRY(mg__router_suite_run(subject, &input, &o));
  double least = INFINITY, most = 0;
  for (int64_t i = 0; o.probs && i < o.tokens * o.experts; i++) {
    if (o.probs[i] > 0) least = fmin(least, o.probs[i]);
    most = fmax(most, o.probs[i]);
  }
  if (!o.probs || most - least > tolerance)
    return mg__router_suite_not_applicable(row, "a zero hidden state gives no ties");
  for (int64_t t = 0; t < o.tokens; t++)
    for (int64_t s = 0; s < o.choices; s++)
      if (id_at(&o, t, s) >= 0 && id_at(&o, t, s) != s)
        return mg__router_suite_failed(row,
                                       "all experts are equal, and choice %lld of token %lld is expert %d, not %lld",
                                       (long long)s, (long long)t, id_at(&o, t, s), (long long)s);
  return MG_OK;
}

/* ---- all experts ------------------------------------------------------------------------------------------- */

/* Every token must choose every expert, weighed in proportion to its probability unless weights are given one by one. */
static mg_status dense_token(const suite_outcome *o, int64_t token, bool one_by_one, mg_router_row *row) {
  double sum = 0;
  for (int64_t s = 0; s < o->choices; s++) sum += weight_at(o, token, s);
  for (int32_t e = 0; e < o->experts; e++) {
    const double weight = weight_of(o, token, e), p = o->probs ? o->probs[token * o->experts + e] : weight / sum;
    if (isnan(weight))
      return mg__router_suite_failed(row, "with k = E token %lld does not choose expert %d", (long long)token, e);
    if (!one_by_one && !(fabs(weight / sum - p) <= tolerance))
      return mg__router_suite_failed(row,
                                     "with k = E token %lld gives expert %d a share of %.9g, and a probability of %.9g",
                                     (long long)token, e, weight / sum, p);
  }
  return MG_OK;
}

static mg_status run_dense(suite_subject *dense, mg_router_row *row) {
  suite_outcome o;
  MG_TRY(run_default(dense, &o));
  const bool one_by_one = dense->promises & MG_ROUTER_ONE_BY_ONE;
  for (int64_t t = 0; t < o.tokens && row->verdict == MG_ROUTER_PASSED; t++)
    MG_TRY(dense_token(&o, t, one_by_one, row));
  return MG_OK;
}

static bool has_option(const mg_router *router, const char *name) {
  for (const mg_option *o = router->plugin->options; o && o->type != MG_OPTION_TYPE_END; o++)
    if (strcmp(o->name, name) == 0) return true;
  return false;
}

static mg_status all_experts(suite_subject *subject, mg_router_row *row) {
  if (!has_option(subject->router, "k")) return mg__router_suite_not_applicable(row, "there is no option 'k'");
  if (subject->promises & MG_ROUTER_STRAIGHT_THROUGH)
    return mg__router_suite_not_applicable(row, "hard weights are no shares of the probabilities");
  json_t *spec = json_copy((json_t *)subject->room->spec);
  if (!spec) return MG_MEMORY;
  json_object_set_new(spec, "k", json_integer(subject->experts));
  suite_subject dense;
  mg_status status = mg__router_suite_open_subject(subject->room, spec, subject->experts, subject->width, &dense);
  json_decref(spec);
  if (status == MG_USAGE) return mg__router_suite_not_applicable(row, mg_context_message(subject->room->context));
  MG_TRY(status);
  status = run_dense(&dense, row);
  mg__router_suite_close_subject(&dense);
  return status;
}

/* ---- the list ---------------------------------------------------------------------------------------------- */

const suite_check mg__router_checks[] = {
    {"outputs", "ids and weights come in the promised shapes and types, with and without noise", 0, outputs},
    {"few_tokens", "0 and 1 tokens are routed", 0, few_tokens},
    {"distinct_experts", "a token chooses an expert once", 0, distinct_experts},
    {"finite", "no output is infinite or NaN", 0, all_finite},
    {"nonnegative_weights", "weights are at least 0", MG_ROUTER_WEIGHTS_NONNEGATIVE, nonnegative},
    {"weights_sum_to_one", "the weights of a token sum to 1", MG_ROUTER_WEIGHTS_SUM_TO_ONE, sum_to_one},
    {"probabilities", "probs are at least 0 and sum to at most 1", MG_ROUTER_GIVES_PROBS, probabilities},
    {"gradients", "gradients of the weights agree with finite differences", 0, mg__check_gradients},
    {"statistics_gradients", "gradients of probs, logits, load and loss agree with finite differences", 0,
     mg__check_statistics_gradients},
    {"parameters_learn", "every trained parameter gets a gradient from the weights or the router's loss", 0,
     mg__check_learns},
    {"deterministic", "the same input and noise give the same routing", 0, deterministic},
    {"batch_size", "a token alone is routed as in a batch", MG_ROUTER_PER_TOKEN, batch_invariant},
    {"token_order", "permuting tokens permutes the routing", MG_ROUTER_PER_TOKEN, token_permutation},
    {"expert_order", "permuting the experts' parameters permutes the routing", MG_ROUTER_EXPERTS_EXCHANGEABLE,
     expert_permutation},
    {"causal", "later tokens do not change the routing of earlier ones", 0, causal},
    {"ties", "equal experts are chosen by lowest id", 0, ties},
    {"all_experts", "with k = E every expert is chosen and weighed by its probability", 0, all_experts},
    {"capacity", "under every policy experts keep to their capacity and choices add up", 0, mg__check_capacity},
    {"gate_flops", "the analytic cost of the gate's products is the counted one", 0, mg__check_flops},
    {"selection_flops", "the analytic cost of choosing is the counted one", 0, mg__check_selection_flops},
    {"backend", "in f32 another backend routes as the reference does", 0, mg__check_backend_agrees},
};
const size_t mg__router_checks_count = MG_COUNT(mg__router_checks);
