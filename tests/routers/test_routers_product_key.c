/* product_key against a search through all n^2 experts. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, Q = 6, H = Q / 2, SIDE = 4, E = SIDE * SIDE };

typedef struct setting {
  const char *spec;
  int k;
  bool normalise, renormalise;
} setting;

static const setting settings[] = {
    {"{'name': 'product_key', 'query': 6, 'k': 3}", 3, true, true},
    {"{'name': 'product_key', 'query': 6, 'k': 1, 'normalise': false, 'renormalise': false}", 1, false, false},
    {"{'name': 'product_key', 'query': 6, 'k': 6, 'normalise': false}", 6, false, true},
    {"{'name': 'product_key', 'query': 6, 'k': 16, 'renormalise': false}", 16, true, false}};

/* Softmax over the n sub-keys of one half of the query. */
static void half(const double *query, const double *keys, bool normalise, double *out) {
  double squares = 0, sum = 0;
  for (int i = 0; i < H; i++) squares += query[i] * query[i] / H;
  for (int n = 0; n < SIDE; n++) {
    double score = 0;
    for (int i = 0; i < H; i++) score += keys[n * H + i] * query[i] / (normalise ? sqrt(squares + 1e-6) : 1);
    sum += out[n] = exp(score);
  }
  for (int n = 0; n < SIDE; n++) out[n] /= sum;
}

static void probabilities(router_world *r, const setting *s, int t, double *out) {
  double query[Q * D], keys1[SIDE * H], keys2[SIDE * H], q[Q] = {0}, p1[SIDE], p2[SIDE];
  router_world_param(r, "query", query, Q * D);
  router_world_param(r, "keys1", keys1, SIDE * H);
  router_world_param(r, "keys2", keys2, SIDE * H);
  for (int i = 0; i < Q; i++)
    for (int d = 0; d < D; d++) q[i] += query[i * D + d] * r->x[t * D + d];
  half(q, keys1, s->normalise, p1);
  half(q + H, keys2, s->normalise, p2);
  for (int e = 0; e < E; e++) out[e] = p1[e / SIDE] * p2[e % SIDE];
}

static void the_best_of_all_experts_are_found(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    const setting *s = &settings[i];
    router_world r;
    router_world_open(&r, s->spec, E, 0.7);
    double w[T * E], given[T * E], p[E];
    int32_t ids[T * E];
    router_world_route(&r, false, (mg_stream){0});
    moe_read(&r.world, r.out.weights, w, T * s->k);
    moe_read(&r.world, r.out.probs, given, T * E);
    moe_read_ids(&r.world, r.out.ids, ids, T * s->k);
    for (int t = 0; t < T; t++) {
      double sum = 0;
      int looked_at = 0;
      probabilities(&r, s, t, p);
      for (int j = 0; j < s->k; j++) sum += p[ids[t * s->k + j]];
      for (int j = 0; j < s->k; j++) {
        int ahead = 0;
        for (int e = 0; e < E; e++) ahead += p[e] > p[ids[t * s->k + j]] + 1e-12;
        assert_int_equal(ahead, j);
        assert_close(w[t * s->k + j], p[ids[t * s->k + j]] / (s->renormalise ? sum : 1), 1e-12);
      }
      for (int e = 0; e < E; e++) {
        looked_at += given[t * E + e] > 0;
        if (given[t * E + e] > 0) assert_close(given[t * E + e], p[e], 1e-12);
      }
      assert_int_equal(looked_at, s->k < SIDE ? s->k * s->k : E);
    }
    router_world_close(&r);
  }
}

static void the_cost_grows_with_the_side_of_the_square(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'product_key', 'query': 8}", 25, 1);
  assert_close(mg_router_gate_flops(r.router), 2 * 8 * D + 2 * 8 * 5, 0);
  router_world_close(&r);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'product_key'}", 8, "8 experts are no square; use 4 (2^2) or 9 (3^2)");
  assert_router_refused("{'name': 'product_key', 'k': 5}", 4, "k = 5 is more than the 4 experts");
  assert_router_refused("{'name': 'product_key', 'query': 7}", 4, "query = 7 must be even");
  assert_router_refused("{'name': 'product_key', 'k': 1}", 4, "renormalise = false");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_best_of_all_experts_are_found),
      cmocka_unit_test(the_cost_grows_with_the_side_of_the_square),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
