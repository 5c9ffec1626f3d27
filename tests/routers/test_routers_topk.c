/* topk against its formulas, computed on the host. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 7 };

static void logits_of(router_world *r, const char *name, double *out) {
  double gate[E * D];
  router_world_param(r, name, gate, E * D);
  for (int t = 0; t < T; t++)
    for (int e = 0; e < E; e++) {
      out[t * E + e] = 0;
      for (int d = 0; d < D; d++) out[t * E + e] += gate[e * D + d] * r->x[t * D + d];
    }
}

/* The j-th largest of a row, from 0; equal ones by lowest id. */
static int ranked(const double *row, int j) {
  for (int e = 0; e < E; e++) {
    int ahead = 0;
    for (int other = 0; other < E; other++) ahead += row[other] > row[e] || (row[other] == row[e] && other < e);
    if (ahead == j) return e;
  }
  return -1;
}

typedef struct setting {
  const char *spec;
  bool after, renormalise;
  enum { SOFTMAX, SIGMOID, SQRT_SOFTPLUS } score;
  double scale;
} setting;

static const setting settings[] = {
    {"{'name': 'topk', 'k': 3, 'order': 'after'}", true, true, SOFTMAX, 1},                    /* Mixtral, gpt-oss */
    {"{'name': 'topk', 'k': 3, 'renormalise': false}", false, false, SOFTMAX, 1},              /* OLMoE */
    {"{'name': 'topk', 'k': 3}", false, true, SOFTMAX, 1},                                     /* Qwen3 */
    {"{'name': 'topk', 'k': 3, 'score': 'sigmoid', 'scale': 2.5}", false, true, SIGMOID, 2.5}, /* DeepSeek-V3 */
    {"{'name': 'topk', 'k': 3, 'score': 'sigmoid', 'renormalise': false}", false, false, SIGMOID, 1},
    {"{'name': 'topk', 'k': 3, 'score': 'sqrt_softplus'}", false, true, SQRT_SOFTPLUS, 1},
    {"{'name': 'topk', 'k': 3, 'score': 'sqrt_softplus', 'renormalise': false}", false, false, SQRT_SOFTPLUS, 1}};

static void check_token(const setting *s, const double *h, const int32_t *ids, const double *weights) {
  double all = 0, kept = 0, score[E];
  for (int e = 0; e < E; e++) all += exp(h[e]);
  for (int e = 0; e < E; e++) {
    score[e] = exp(h[e]) / (s->after ? 1 : all);
    if (s->score == SIGMOID) score[e] = 1 / (1 + exp(-h[e]));
    if (s->score == SQRT_SOFTPLUS) score[e] = sqrt(log1p(exp(h[e])));
  }
  for (int j = 0; j < 3; j++) kept += score[ranked(h, j)];
  for (int j = 0; j < 3; j++) {
    assert_int_equal(ids[j], ranked(h, j));
    assert_close(weights[j], s->scale * score[ids[j]] / (s->renormalise || s->after ? kept : 1), 1e-12);
  }
}

static void option_sets_of_released_models_give_their_weights(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    router_world r;
    router_world_open(&r, settings[i].spec, E, 1);
    double h[T * E], weights[T * 3];
    int32_t ids[T * 3];
    router_world_route(&r, false, (mg_stream){0});
    logits_of(&r, "gate", h);
    moe_read_ids(&r.world, r.out.ids, ids, T * 3);
    moe_read(&r.world, r.out.weights, weights, T * 3);
    for (int t = 0; t < T; t++) check_token(&settings[i], h + t * E, ids + t * 3, weights + t * 3);
    router_world_close(&r);
  }
}

/* P(x,i) = Phi((clean_i - kth_excluding(H, k, i)) / sigma_i), with kth_excluding taken literally: the k-th highest
 * component of H when component i is left out. */
static void smooth_load_is_the_papers_formula(void **state) {
  (void)state;
  for (int training = 0; training < 2; training++) {
    router_world r;
    router_world_open(&r, "{'name': 'topk', 'k': 2, 'order': 'after', 'noise': 'learned', 'noise_floor': 0}", E, 0.7);
    double clean[T * E], raw[T * E], h[T * E], load[T * E];
    router_world_route(&r, training, (mg_stream){3, 4});
    logits_of(&r, "gate", clean);
    logits_of(&r, "noise", raw);
    moe_read(&r.world, r.out.logits, h, T * E);
    moe_read(&r.world, r.out.load, load, T * E);
    for (int t = 0; t < T; t++)
      for (int i = 0; i < E; i++) {
        double others[E];
        for (int e = 0; e < E; e++) others[e] = e == i ? -INFINITY : h[t * E + e];
        const double threshold = others[ranked(others, 1)], sigma = log1p(exp(raw[t * E + i]));
        const double phi = 0.5 * erfc(-(clean[t * E + i] - threshold) / sigma / sqrt(2));
        assert_close(load[t * E + i], phi, 1e-12);
      }
    router_world_close(&r);
  }
}

/* Riquelme et al. 2021, appendix A.2: noise of deviation 1 / E, and the chance of reaching the k-th score of the noisy ones. */
static void fixed_noise_is_the_one_of_v_moe(void **state) {
  (void)state;
  static const char *const specs[] = {"{'name': 'topk', 'k': 2, 'noise': 'fixed'}",
                                      "{'name': 'topk', 'k': 2, 'noise': 'fixed', 'noise_deviation': 0.5}"};
  for (int i = 0; i < 2; i++) {
    router_world r;
    const mg_stream stream = {3, 4};
    const double sigma = i ? 0.5 : 1.0 / E;
    double clean[T * E], h[T * E], load[T * E];
    router_world_open(&r, specs[i], E, 0.7);
    assert_true(mg_router_promises(r.router) & MG_ROUTER_GIVES_LOAD);
    router_world_route(&r, true, stream);
    logits_of(&r, "gate", clean);
    moe_read(&r.world, r.out.logits, h, T * E);
    moe_read(&r.world, r.out.load, load, T * E);
    for (int t = 0; t < T; t++)
      for (int e = 0; e < E; e++) {
        const int at = t * E + e;
        assert_close(h[at], clean[at] + sigma * mg_random_normal(stream, (uint64_t)at), 1e-12);
        const double threshold = h[t * E + ranked(h + t * E, 1)];
        assert_close(load[at], 0.5 * erfc(-(clean[at] - threshold) / sigma / sqrt(2)), 1e-12);
      }
    router_world_route(&r, false, stream);
    moe_read(&r.world, r.out.logits, h, T * E);
    for (int at = 0; at < T * E; at++) assert_close(h[at], clean[at], 1e-12);
    router_world_close(&r);
  }
  assert_router_refused("{'name': 'topk', 'k': 8, 'noise': 'fixed', 'renormalise': false}", 8,
                        "fixed noise needs k below");
}

static void noise_is_drawn_in_training_only_and_by_stream(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'topk', 'k': 2, 'noise': 'learned'}", E, 0.5);
  double clean[T * E], quiet[T * E], loud[T * E], again[T * E], other[T * E];
  logits_of(&r, "gate", clean);
  router_world_route(&r, false, (mg_stream){1, 1});
  moe_read(&r.world, r.out.logits, quiet, T * E);
  router_world_route(&r, true, (mg_stream){1, 1});
  moe_read(&r.world, r.out.logits, loud, T * E);
  router_world_route(&r, true, (mg_stream){1, 1});
  moe_read(&r.world, r.out.logits, again, T * E);
  router_world_route(&r, true, (mg_stream){1, 2});
  moe_read(&r.world, r.out.logits, other, T * E);
  double moved = 0, differs = 0;
  for (int i = 0; i < T * E; i++) {
    assert_close(quiet[i], clean[i], 1e-12);
    assert_close(loud[i], again[i], 0);
    moved += fabs(loud[i] - clean[i]);
    differs += fabs(loud[i] - other[i]);
  }
  assert_true(moved > 1);
  assert_true(differs > 1);
  router_world_close(&r);
}

static void a_bias_moves_the_logits_by_itself(void **state) {
  (void)state;
  router_world r;
  double product[T * E], bias[E], logits[T * E];
  router_world_open(&r, "{'name': 'topk', 'order': 'after', 'bias': true}", E, 1);
  router_world_route(&r, false, (mg_stream){0});
  logits_of(&r, "gate", product);
  router_world_param(&r, "bias", bias, E);
  moe_read(&r.world, r.out.logits, logits, T * E);
  for (int i = 0; i < T * E; i++) assert_close(logits[i], product[i] + bias[i % E], 1e-12);
  assert_true(fabs(bias[0]) > 1e-3);
  router_world_close(&r);
}

static void the_noise_matrix_exists_only_when_it_is_used(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'topk'}", E, 1);
  assert_int_equal(mg_params_count(r.world.params), 1);
  assert_false(mg_router_has_param(r.router, "noise"));
  router_world_close(&r);
  router_world_open(&r, "{'name': 'topk', 'noise': 'learned'}", E, 1);
  assert_int_equal(mg_params_count(r.world.params), 2);
  assert_true(mg_router_has_param(r.router, "noise"));
  router_world_close(&r);
}

static void probabilities_sum_to_one(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    router_world r;
    router_world_open(&r, settings[i].spec, E, 1);
    double probs[T * E];
    router_world_route(&r, false, (mg_stream){0});
    moe_read(&r.world, r.out.probs, probs, T * E);
    for (int t = 0; t < T; t++) {
      double sum = 0;
      for (int e = 0; e < E; e++) sum += probs[t * E + e];
      assert_close(sum, 1, 1e-12);
    }
    router_world_close(&r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(option_sets_of_released_models_give_their_weights),
      cmocka_unit_test(smooth_load_is_the_papers_formula),
      cmocka_unit_test(fixed_noise_is_the_one_of_v_moe),
      cmocka_unit_test(noise_is_drawn_in_training_only_and_by_stream),
      cmocka_unit_test(a_bias_moves_the_logits_by_itself),
      cmocka_unit_test(the_noise_matrix_exists_only_when_it_is_used),
      cmocka_unit_test(probabilities_sum_to_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
