/* Orders of dropping and balance losses that papers define, against their algorithms written out on the host. */
#include "support/moe_world.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { T = 12, D = 6, E = 4, S = 2 };

static const mg_moe_place place = {.width = D, .prefix = "ffn.", .seed = 7};

/* One pass of a layer over normal hidden states, with a gate steep enough that loads are uneven. */
typedef struct pass {
  moe_world world;
  mg_moe *moe;
  mg_moe_record record;
  double probs[T * E], weights[T * S];
  int32_t ids[T * S], wanted[T * S];
} pass;

static void open_pass(pass *p, const char *router, const char *rest, int64_t sequence_tokens) {
  char text[512];
  double gate[E * D], x[T * D];
  moe_world_open(&p->world, MG_F64);
  snprintf(text, sizeof text, "{'experts': 4, 'width': 5, 'router': %s, %s}", router, rest);
  json_t *spec = moe_json(text);
  assert_ok(p->world.context,
            mg_moe_create(p->world.context, p->world.registry, spec, place, p->world.params, &p->moe));
  json_decref(spec);
  moe_normal(1, gate, E * D);
  moe_normal(3, x, T * D);
  moe_set_param(&p->world, "ffn.router.gate", gate, E * D);
  const mg_moe_input input = {
      .x = moe_upload(&p->world, x, T, D), .sequence_tokens = sequence_tokens, .training = true, .noise = {5, 6}};
  mg_moe_forward(p->moe, p->world.tape, &input, &p->record);
  assert_ok(p->world.context, mg_tape_status(p->world.tape));
  const mg_route_output *route = &p->record.route;
  moe_read(&p->world, route->probs, p->probs, T * E);
  moe_read(&p->world, route->weights, p->weights, T * S);
  moe_read_ids(&p->world, route->ids, p->ids, T * S);
  moe_read_ids(&p->world, route->wanted ? route->wanted : route->ids, p->wanted, T * S);
}

static void close_pass(pass *p) {
  mg_moe_destroy(p->moe);
  moe_world_close(&p->world);
}

static double loss_of(pass *p, int index) {
  double value;
  moe_read(&p->world, p->record.losses[index], &value, 1);
  return value;
}

/* ---- the order of dropping --------------------------------------------------------------------------------- */

/* Riquelme et al. 2021, algorithm 2: tokens by falling largest weight, all first choices before any second one. */
static void batch_priority_serves_the_most_certain_tokens_first(void **state) {
  (void)state;
  pass p;
  int32_t position[T * S];
  bool served[T] = {false};
  int order[T], load[E] = {0}, lost = 0;
  open_pass(&p, "{'name': 'topk', 'k': 2, 'renormalise': false}",
            "'capacity': {'factor': 0.67, 'order': 'batch_priority'}", T);
  moe_read_ids(&p.world, p.record.assignment.position, position, T * S);
  assert_int_equal(p.record.capacity, 4);
  for (int rank = 0; rank < T; rank++) {
    int best = -1;
    for (int t = 0; t < T; t++)
      if (!served[t] && (best < 0 || p.weights[t * S] > p.weights[best * S])) best = t;
    served[best] = true;
    order[rank] = best;
  }
  for (int s = 0; s < S; s++)
    for (int rank = 0; rank < T; rank++) {
      const int slot = order[rank] * S + s;
      const bool kept = load[p.ids[slot]]++ < 4;
      lost += !kept;
      assert_int_equal(position[slot] >= 0, kept);
    }
  assert_true(lost > 4);
  close_pass(&p);
}

/* The three orders keep different choices of the same routing, equally many. */
static void orders_differ(void **state) {
  (void)state;
  static const char *const orders[] = {"position", "priority", "batch_priority"};
  int32_t position[3][T * S];
  for (int i = 0; i < 3; i++) {
    pass p;
    char capacity[96];
    snprintf(capacity, sizeof capacity, "'capacity': {'factor': 0.67, 'order': '%s'}", orders[i]);
    open_pass(&p, "{'name': 'topk', 'k': 2, 'renormalise': false}", capacity, T);
    moe_read_ids(&p.world, p.record.assignment.position, position[i], T * S);
    for (int slot = 0; slot < T * S; slot++) position[i][slot] = position[i][slot] >= 0;
    close_pass(&p);
  }
  for (int i = 0; i < 3; i++) {
    int kept[2] = {0};
    for (int slot = 0; slot < T * S; slot++) {
      kept[0] += position[i][slot];
      kept[1] += position[(i + 1) % 3][slot];
    }
    assert_int_equal(kept[0], kept[1]);
    assert_memory_not_equal(position[i], position[(i + 1) % 3], sizeof position[i]);
  }
}

/* ---- balance losses ---------------------------------------------------------------------------------------- */

/* E^2 l_aux of Lepikhin et al. 2020, algorithm 1, over tokens first .. first + size - 1. */
static double gshard_loss(const pass *p, int first, int size) {
  double total = 0;
  for (int e = 0; e < E; e++) {
    double chosen = 0, mean = 0;
    for (int t = first; t < first + size; t++) {
      int best = 0;
      for (int i = 1; i < E; i++) best = p->probs[t * E + i] > p->probs[t * E + best] ? i : best;
      chosen += best == e;
      mean += p->probs[t * E + e] / size;
    }
    total += chosen / size * mean / E;
  }
  return E * E * total;
}

/* With groups most choices find their expert full; the loss is still that of all first choices. */
static void the_loss_of_first_choices_is_gshards(void **state) {
  (void)state;
  static const char *const routers[] = {"{'name': 'topk', 'k': 2}", "{'name': 'gshard'}",
                                        "{'name': 'gshard', 'groups': 3, 'factor': 0.5}"};
  for (size_t i = 0; i < MG_COUNT(routers); i++) {
    pass p;
    open_pass(&p, routers[i],
              "'losses': [{'choices': 1}, {'choices': 1, 'scope': 'sequence'}, {'choices': 2}, {},"
              " {'choices': 1, 'scope': 'shuffle'}]",
              T / 3);
    double groups = 0;
    for (int first = 0; first < T; first += T / 3) groups += gshard_loss(&p, first, T / 3) / 3;
    assert_close(loss_of(&p, 0), gshard_loss(&p, 0, T), 1e-12);
    assert_close(loss_of(&p, 1), groups, 1e-12);
    assert_close(loss_of(&p, 2), loss_of(&p, 3), 0); /* both are all choices */
    assert_true(fabs(loss_of(&p, 0) - loss_of(&p, 3)) > 1e-3);
    assert_true(loss_of(&p, 4) > 0);
    close_pass(&p);
  }
}

/* Choices that a router itself has no room for are demand, and lost. */
static void choices_beyond_a_routers_own_limit_count_as_dropped(void **state) {
  (void)state;
  pass p;
  double demand[E], kept[E];
  int wanted[E] = {0}, placed[E] = {0}, lost = 0;
  mg_moe_counts counts;
  open_pass(&p, "{'name': 'gshard', 'groups': 3, 'factor': 0.5}", "'losses': []", T);
  assert_ok(p.world.context, mg_moe_count(p.moe, p.world.tape, &p.record, demand, kept, &counts));
  for (int slot = 0; slot < T * S; slot++) {
    if (p.wanted[slot] < 0) continue;
    wanted[p.wanted[slot]]++;
    if (p.ids[slot] >= 0) placed[p.ids[slot]]++;
    lost += p.ids[slot] < 0;
  }
  for (int e = 0; e < E; e++) {
    assert_int_equal((int)demand[e], wanted[e]);
    assert_int_equal((int)kept[e], placed[e]);
  }
  assert_true(lost > 0);
  assert_int_equal(counts.dropped, lost);
  assert_int_equal(counts.unrouted_tokens, 0);
  close_pass(&p);
}

/* Dai et al. 2024 (DeepSeekMoE), eqs 15-17, with f of eq. 13: experts 0, 1 on one device, 2, 3 on the other. */
static void the_loss_of_groups_is_the_device_level_balance_loss(void **state) {
  (void)state;
  enum { DEVICES = 2, EACH = E / DEVICES };
  pass p;
  open_pass(&p, "{'name': 'topk', 'k': 2, 'renormalise': false}",
            "'losses': [{'groups': 2}, {'groups': 4}, {}, {'groups': 1}, {'groups': 2, 'scope': 'sequence'}]", T / 2);
  double f[E] = {0}, mean[E] = {0}, want = 0;
  for (int t = 0; t < T; t++)
    for (int e = 0; e < E; e++) {
      f[e] += (double)E / (S * T) * ((p.ids[t * S] == e) + (p.ids[t * S + 1] == e));
      mean[e] += p.probs[t * E + e] / T;
    }
  for (int device = 0; device < DEVICES; device++) {
    double device_f = 0, device_p = 0;
    for (int i = 0; i < EACH; i++) {
      device_f += f[device * EACH + i] / EACH;
      device_p += mean[device * EACH + i];
    }
    want += device_f * device_p;
  }
  assert_close(loss_of(&p, 0), want, 1e-12);
  assert_close(loss_of(&p, 1), loss_of(&p, 2), 1e-12); /* groups of one */
  assert_close(loss_of(&p, 3), 1, 1e-12);              /* one device is balanced */
  assert_true(fabs(loss_of(&p, 4) - want) > 1e-6);     /* each sequence by itself */
  close_pass(&p);
}

/* Riquelme et al. 2021, appendix A.2: (deviation / mean)^2 of what all tokens give each expert, chosen or not. */
static void importance_of_probabilities_is_v_moes(void **state) {
  (void)state;
  pass p;
  double given[E] = {0}, mean = 0, variance = 0;
  open_pass(&p, "{'name': 'topk', 'k': 2, 'renormalise': false}",
            "'losses': [{'kind': 'importance', 'of': 'probs'}, {'kind': 'importance'}]", T);
  for (int t = 0; t < T; t++)
    for (int e = 0; e < E; e++) given[e] += p.probs[t * E + e];
  for (int e = 0; e < E; e++) mean += given[e] / E;
  for (int e = 0; e < E; e++) variance += (given[e] - mean) * (given[e] - mean) / E;
  assert_close(loss_of(&p, 0), variance / (mean * mean), 1e-12);
  assert_true(fabs(loss_of(&p, 1) - loss_of(&p, 0)) > 1e-3);
  close_pass(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(batch_priority_serves_the_most_certain_tokens_first),
      cmocka_unit_test(orders_differ),
      cmocka_unit_test(the_loss_of_first_choices_is_gshards),
      cmocka_unit_test(choices_beyond_a_routers_own_limit_count_as_dropped),
      cmocka_unit_test(the_loss_of_groups_is_the_device_level_balance_loss),
      cmocka_unit_test(importance_of_probabilities_is_v_moes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
