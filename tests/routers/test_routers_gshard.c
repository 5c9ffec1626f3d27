/* gshard against algorithm 1 of its paper, written out on the host: one group after another, first choices before
 * second ones, the second by chance. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 4 };

static const mg_stream noise = {5, 6};

typedef struct setting {
  const char *spec;
  int groups, capacity; /* tokens per expert and group; 0 = no limit */
  bool by_chance;
} setting;

static const setting settings[] = {
    {"{'name': 'gshard'}", 1, 0, true},
    {"{'name': 'gshard', 'second': 'all'}", 1, 0, false},
    {"{'name': 'gshard', 'groups': 1}", 1, 4, true},                                    /* floor(2 * 9 / 4) */
    {"{'name': 'gshard', 'groups': 2, 'second': 'all'}", 2, 2, false},                  /* groups of 5 and 4 tokens */
    {"{'name': 'gshard', 'groups': 2, 'factor': 0.1}", 2, 1, true},                     /* never below one token */
    {"{'name': 'gshard', 'groups': 2, 'factor': 1.25, 'second': 'all'}", 2, 3, false}}; /* floor(1.25 * 2 * 5 / 4) */

typedef struct choice {
  int e[2];
  double g[2];
} choice;

static choice best_two(const router_world *r, const double *gate, int token) {
  double p[E];
  choice c = {.e = {-1, -1}};
  for (int e = 0; e < E; e++) {
    double h = 0;
    for (int d = 0; d < D; d++) h += gate[e * D + d] * r->x[token * D + d];
    p[e] = exp(h);
  }
  for (int s = 0; s < 2; s++) {
    for (int e = 0; e < E; e++)
      if (e != c.e[0] && (c.e[s] < 0 || p[e] > p[c.e[s]])) c.e[s] = e;
    c.g[s] = p[c.e[s]];
  }
  const double sum = c.g[0] + c.g[1];
  c.g[0] /= sum;
  c.g[1] /= sum;
  return c;
}

/* Algorithm 1 over one group; a choice that is not made has the expert -1. */
static void algorithm(const setting *s, bool training, choice *group, int first, int size) {
  int load[E] = {0};
  const int most = s->capacity ? s->capacity : T;
  for (int choice_number = 0; choice_number < 2; choice_number++)
    for (int t = 0; t < size; t++) {
      int *e = &group[t].e[choice_number];
      const bool wanted = choice_number == 0 || !training || !s->by_chance ||
                          2 * group[t].g[1] > mg_random_uniform(noise, (uint64_t)(first + t));
      if (wanted && load[*e] < most)
        load[*e]++;
      else
        *e = -1;
    }
}

static void check_setting(const setting *s, bool training) {
  router_world r;
  double gate[E * D], weights[T * 2];
  int32_t ids[T * 2];
  choice wanted[T];
  router_world_open(&r, s->spec, E, 0.5);
  router_world_param(&r, "gate", gate, E * D);
  router_world_route(&r, training, noise);
  moe_read_ids(&r.world, r.out.ids, ids, T * 2);
  moe_read(&r.world, r.out.weights, weights, T * 2);
  for (int t = 0; t < T; t++) wanted[t] = best_two(&r, gate, t);
  const int each = (T + s->groups - 1) / s->groups;
  for (int first = 0; first < T; first += each)
    algorithm(s, training, wanted + first, first, T - first < each ? T - first : each);
  for (int i = 0; i < T * 2; i++) {
    assert_int_equal(ids[i], wanted[i / 2].e[i % 2]);
    assert_close(weights[i], ids[i] < 0 ? 0 : wanted[i / 2].g[i % 2], 1e-12);
  }
  router_world_close(&r);
}

static void choices_are_those_of_the_algorithm(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++)
    for (int training = 0; training < 2; training++) check_setting(&settings[i], training);
}

/* A gate of zeros gives g2 = 1/2, always kept; a steep one gives a g2 near 0, almost never kept. */
static void unimportant_second_experts_are_left_out(void **state) {
  (void)state;
  static const double deviations[] = {0, 20};
  for (int steep = 0; steep < 2; steep++) {
    router_world r;
    int32_t ids[T * 2];
    int64_t second = 0;
    router_world_open(&r, "{'name': 'gshard'}", E, deviations[steep]);
    router_world_route(&r, true, noise);
    moe_read_ids(&r.world, r.out.ids, ids, T * 2);
    for (int t = 0; t < T; t++) second += ids[2 * t + 1] >= 0;
    assert_in_range(second, steep ? 0 : T, steep ? 1 : T);
    router_world_close(&r);
  }
}

static void promises_follow_the_options(void **state) {
  (void)state;
  static const uint32_t alone = MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN;
  router_world r;
  router_world_open(&r, "{'name': 'gshard', 'second': 'all'}", E, 1);
  assert_int_equal(mg_router_promises(r.router) & alone, alone);
  assert_true(mg_router_promises(r.router) & MG_ROUTER_WEIGHTS_SUM_TO_ONE);
  router_world_close(&r);
  router_world_open(&r, "{'name': 'gshard', 'groups': 2}", E, 1);
  assert_int_equal(mg_router_promises(r.router) & (alone | MG_ROUTER_WEIGHTS_SUM_TO_ONE), 0);
  router_world_close(&r);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'gshard'}", 1, "two experts");
  assert_router_refused("{'name': 'gshard', 'groups': 65536}", 4096, "groups = 65536");
  assert_router_refused("{'name': 'gshard', 'factor': 0}", 8, "factor");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(choices_are_those_of_the_algorithm),
      cmocka_unit_test(unimportant_second_experts_are_left_out),
      cmocka_unit_test(promises_follow_the_options),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
