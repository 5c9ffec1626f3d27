/* depth: the best tokens of each sequence in training, a threshold in evaluation, and the loss between the two. */
#include "support/router_world.h"

#include <math.h>

enum { D = ROUTER_WIDTH, N = 8, SEQUENCES = 3, T = N * SEQUENCES };

typedef struct outcome {
  double r[T], w[T], loss;
  int32_t ids[T];
} outcome;

static void run(const char *spec, bool training, outcome *out) {
  router_world r;
  router_world_open(&r, spec, 1, 1);
  double x[T * D];
  moe_normal(8, x, T * D);
  const mg_route_input input = {
      .x = moe_upload(&r.world, x, T, D), .tokens = T, .sequence_tokens = N, .training = training};
  assert_ok(r.world.context, mg_router_route(r.router, r.world.tape, &input, &r.out));
  moe_read(&r.world, r.out.logits, out->r, T);
  moe_read(&r.world, r.out.weights, out->w, T);
  moe_read(&r.world, r.out.loss, &out->loss, 1);
  moe_read_ids(&r.world, r.out.ids, out->ids, T);
  router_world_close(&r);
}

/* Tokens of the same sequence with a higher score. */
static int ahead_of(const outcome *o, int t) {
  int ahead = 0;
  for (int other = t / N * N; other < t / N * N + N; other++) ahead += o->r[other] > o->r[t];
  return ahead;
}

static void each_sequence_keeps_its_best_tokens(void **state) {
  (void)state;
  static const struct {
    const char *spec;
    int kept;
    bool sigmoid;
  } settings[] = {{"{'name': 'depth'}", 1, false},
                  {"{'name': 'depth', 'capacity': 0.49, 'evaluation': 'top_k'}", 3, false},
                  {"{'name': 'depth', 'capacity': 0.5, 'weight': 'sigmoid', 'evaluation': 'top_k'}", 4, true},
                  {"{'name': 'depth', 'capacity': 0.01, 'evaluation': 'top_k'}", 1, false},
                  {"{'name': 'depth', 'capacity': 1, 'evaluation': 'top_k'}", N, false}};
  for (size_t i = 0; i < MG_COUNT(settings); i++)
    for (int training = i == 0; training < 2; training++) {
      outcome o;
      run(settings[i].spec, training, &o);
      for (int t = 0; t < T; t++) {
        const bool kept = ahead_of(&o, t) < settings[i].kept;
        const double weight = settings[i].sigmoid ? 1 / (1 + exp(-o.r[t])) : o.r[t];
        assert_int_equal(o.ids[t], kept ? 0 : -1);
        assert_close(o.w[t], kept ? weight : 0, 1e-12);
      }
    }
}

static void evaluation_by_threshold_looks_at_one_token(void **state) {
  (void)state;
  outcome o;
  int kept = 0;
  run("{'name': 'depth'}", false, &o);
  for (int t = 0; t < T; t++) {
    assert_int_equal(o.ids[t], o.r[t] > 0 ? 0 : -1);
    kept += o.r[t] > 0;
  }
  assert_true(kept > SEQUENCES && kept < T); /* not as many as in training */
}

static void the_loss_is_the_cross_entropy_of_the_choice(void **state) {
  (void)state;
  outcome o;
  double want = 0;
  run("{'name': 'depth', 'capacity': 0.25, 'loss': 0.5}", true, &o);
  for (int t = 0; t < T; t++) {
    const double p = 1 / (1 + exp(-o.r[t]));
    want -= log(ahead_of(&o, t) < 2 ? p : 1 - p) / T;
  }
  assert_close(o.loss, 0.5 * want, 1e-12);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'depth'}", 2, "experts = 1, not 2");
  assert_router_refused("{'name': 'depth', 'capacity': 0}", 1, "'capacity'");
  assert_router_refused("{'name': 'depth', 'capacity': 1.5}", 1, "'capacity'");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_sequence_keeps_its_best_tokens),
      cmocka_unit_test(evaluation_by_threshold_looks_at_one_token),
      cmocka_unit_test(the_loss_is_the_cross_entropy_of_the_choice),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
