/* cosine against its formula on the host; lengths do not matter, the temperature does. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 7, Q_MAX = 8 };

typedef struct setting {
  const char *spec;
  int dimension, k;
  double temperature;
  bool sigmoid, renormalise;
} setting;

static const setting settings[] = {
    {"{'name': 'cosine'}", 4, 1, 0.3, false, false},
    {"{'name': 'cosine', 'k': 3, 'dimension': 5, 'temperature': 0.07}", 5, 3, 0.07, false, false},
    {"{'name': 'cosine', 'k': 2, 'score': 'sigmoid'}", 4, 2, 0.3, true, false},
    {"{'name': 'cosine', 'k': 2, 'renormalise': true, 'dimension': 1}", 1, 2, 0.3, false, true}};

static double cosine(const double *a, const double *b, int count) {
  double dot = 0, aa = 0, bb = 0;
  for (int i = 0; i < count; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return dot / sqrt(aa * bb);
}

/* Logits of one token. */
static void logits_of(router_world *r, const setting *s, const double *x, double *h) {
  double projection[Q_MAX * D], experts[E * Q_MAX], a, z[Q_MAX] = {0};
  router_world_param(r, "projection", projection, s->dimension * D);
  router_world_param(r, "experts", experts, E * s->dimension);
  router_world_param(r, "log_temperature", &a, 1);
  for (int q = 0; q < s->dimension; q++)
    for (int d = 0; d < D; d++) z[q] += projection[q * D + d] * x[d];
  for (int e = 0; e < E; e++) h[e] = cosine(z, experts + e * s->dimension, s->dimension) / (s->temperature * exp(a));
}

static void check_token(const setting *s, const double *h, const int32_t *ids, const double *weights) {
  double all = 0, kept = 0, score[E];
  for (int e = 0; e < E; e++) all += exp(h[e]);
  for (int e = 0; e < E; e++) score[e] = s->sigmoid ? 1 / (1 + exp(-h[e])) : exp(h[e]) / all;
  for (int j = 0; j < s->k; j++) kept += score[ids[j]];
  for (int j = 0; j < s->k; j++) {
    assert_close(weights[j], score[ids[j]] / (s->renormalise ? kept : 1), 1e-9);
    int better = 0;
    for (int e = 0; e < E; e++) better += score[e] > score[ids[j]] + 1e-12;
    assert_true(better <= j);
  }
}

static void weights_are_those_of_the_formula(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    const setting *s = &settings[i];
    router_world r;
    double h[E], logits[T * E], weights[T * 3];
    int32_t ids[T * 3];
    router_world_open(&r, s->spec, E, 1);
    router_world_route(&r, false, (mg_stream){0});
    moe_read(&r.world, r.out.logits, logits, T * E);
    moe_read(&r.world, r.out.weights, weights, T * s->k);
    moe_read_ids(&r.world, r.out.ids, ids, T * s->k);
    for (int t = 0; t < T; t++) {
      logits_of(&r, s, r.x + t * D, h);
      for (int e = 0; e < E; e++) assert_close(logits[t * E + e], h[e], 1e-8);
      check_token(s, h, ids + t * s->k, weights + t * s->k);
    }
    router_world_close(&r);
  }
}

static void lengths_change_nothing_and_the_temperature_scales_the_logits(void **state) {
  (void)state;
  router_world r;
  double plain[T * E], longer[T * E], hot[T * E], experts[E * 4], a = 0;
  router_world_open(&r, "{'name': 'cosine'}", E, 1);
  moe_set_param(&r.world, "r.log_temperature", &a, 1);
  router_world_route(&r, false, (mg_stream){0});
  moe_read(&r.world, r.out.logits, plain, T * E);
  router_world_param(&r, "experts", experts, E * 4);
  for (int i = 0; i < E * 4; i++) experts[i] *= 1 + i / 4;
  for (int i = 0; i < T * D; i++) r.x[i] *= 3;
  moe_set_param(&r.world, "r.experts", experts, E * 4);
  router_world_route(&r, false, (mg_stream){0});
  moe_read(&r.world, r.out.logits, longer, T * E);
  a = log(2);
  moe_set_param(&r.world, "r.log_temperature", &a, 1);
  router_world_route(&r, false, (mg_stream){0});
  moe_read(&r.world, r.out.logits, hot, T * E);
  for (int i = 0; i < T * E; i++) {
    assert_close(longer[i], plain[i], 1e-9);
    assert_close(hot[i], plain[i] / 2, 1e-9);
    assert_true(fabs(plain[i]) <= 1 / 0.3 + 1e-9);
  }
  router_world_close(&r);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'cosine', 'k': 9}", 8, "k = 9");
  assert_router_refused("{'name': 'cosine', 'renormalise': true}", 8, "renormalise");
  assert_router_refused("{'name': 'cosine', 'temperature': 0}", 8, "temperature");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(weights_are_those_of_the_formula),
      cmocka_unit_test(lengths_change_nothing_and_the_temperature_scales_the_logits),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
