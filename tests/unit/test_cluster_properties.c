/* What must hold for any configuration, tried on random ones: traffic agrees with a count token by token and is the same
 * for renamed experts, a step on a machine twice as fast takes half as long, and pipelines wait as their formulas say. */
#include "cluster/pipeline.h"
#include "cluster/placement.h"
#include "cluster/simulation.h"
#include "cluster/traffic.h"
#include "moegauge/rng.h"
#include "support/cluster.h"

static mg_context *context;

static int open_context(void **state) {
  (void)state;
  return mg_context_create(NULL, &context) != MG_OK;
}

static int close_context(void **state) {
  void *opened = context;
  (void)state;
  return mg_testing_close_context(&opened);
}

/* Draws one number after another. */
typedef struct dice {
  mg_stream stream;
  uint64_t next;
} dice;

static int64_t roll(dice *d, int64_t least, int64_t most) {
  return least + (int64_t)mg_random_below(d->stream, d->next++, (uint64_t)(most - least + 1));
}

/* ---- traffic -------------------------------------------------------------------------------------------------- */

enum { RUNS = 60, RANKS_MAX = 64, EXPERTS_MAX = 128 };

typedef struct configuration {
  mg_routing *routing;
  mg_placement placement;
  mg_traffic_request request;
} configuration;

static void open_configuration(dice *d, configuration *c) {
  const int64_t nodes = INT64_C(1) << roll(d, 0, 3), ranks = nodes << roll(d, 0, 3), per_rank = roll(d, 1, 4);
  const int64_t slots = ranks * per_rank, experts = roll(d, 1, slots < EXPERTS_MAX ? slots : EXPERTS_MAX);
  const int64_t choices = roll(d, 1, experts < 8 ? experts : 8), tokens = roll(d, 1, 12),
                first = roll(d, 0, tokens - 1);
  assert_ok(context, mg__routing_create(context, roll(d, 1, 300), 1, experts, choices, 0, &c->routing));
  mg_routing *r = c->routing;
  for (int64_t t = 0; t < r->tokens; t++)
    for (int64_t k = 0; k < choices; k++) /* neighbours of a random expert, the lower ones more often; some missing */
      r->ids[t * choices + k] =
          roll(d, 0, 9) == 0 ? -1 : (int32_t)((roll(d, 0, roll(d, 0, experts - 1)) + k) % experts);
  for (int64_t t = 0; t < r->tokens; t++) /* no token chooses an expert twice */
    for (int64_t k = 0; k < choices; k++)
      for (int64_t before = 0; before < k; before++)
        if (r->ids[t * choices + k] == r->ids[t * choices + before]) r->ids[t * choices + k] = -1;
  assert_ok(context, mg_placement_create(context, 1, experts, slots, ranks, nodes, &c->placement));
  double load[EXPERTS_MAX] = {0};
  mg_routing_load(r, 0, 0, r->tokens, load);
  const mg_place_request place = {.load = load,
                                  .experts = experts,
                                  .slots = slots,
                                  .ranks = ranks,
                                  .nodes = nodes,
                                  .groups = 1,
                                  .seed = (uint64_t)roll(d, 0, 1000)};
  const mg_place_policy *policy = &mg_place_policies[roll(d, 0, 5)];
  assert_ok(context, mg_place(context, policy->place, NULL, &place, c->placement.expert));
  c->request = (mg_traffic_request){.routing = r,
                                    .placement = &c->placement,
                                    .tokens = tokens,
                                    .first = first,
                                    .count = roll(d, 1, tokens - first),
                                    .offset = roll(d, 0, 500),
                                    .deduplicate = roll(d, 0, 1) == 1};
}

static void close_configuration(configuration *c) {
  mg_placement_destroy(context, &c->placement);
  mg_routing_destroy(c->routing);
}

/* The rank that a source's choice of an expert goes to: the slots of the expert in order, by turns of the sources. */
static int64_t rank_of(const mg_placement *p, int32_t expert, int64_t source) {
  int64_t copies = 0, turn;
  for (int64_t s = 0; s < p->slots; s++) copies += p->expert[s] == expert;
  turn = source % copies;
  for (int64_t s = 0; s < p->slots; s++)
    if (p->expert[s] == expert && turn-- == 0) return s * p->ranks / p->slots;
  return -1;
}

typedef struct naive {
  double value[MG_TRAFFIC_KINDS][RANKS_MAX];
} naive;

static void send_message(naive *n, const mg_placement *p, int64_t from, int64_t to) {
  const bool near = from * p->nodes / p->ranks == to * p->nodes / p->ranks;
  n->value[near ? MG_TRAFFIC_NEAR_SENT : MG_TRAFFIC_FAR_SENT][from]++;
  n->value[near ? MG_TRAFFIC_NEAR_RECEIVED : MG_TRAFFIC_FAR_RECEIVED][to]++;
}

/* One token's distinct ranks: straight to those of the own node, over one rank of each other node to those there. */
static void count_distinct(naive *n, const mg_placement *p, int64_t source, const bool *reached) {
  const int64_t per_node = p->ranks / p->nodes;
  for (int64_t node = 0; node < p->nodes; node++) {
    const int64_t entry = node == source / per_node ? source : node * per_node + source % per_node;
    bool any = false;
    for (int64_t d = node * per_node; d < (node + 1) * per_node; d++) {
      n->value[MG_TRAFFIC_DISTINCT][d] += reached[d];
      if (reached[d] && d != entry) send_message(n, p, entry, d);
      any |= reached[d];
    }
    if (any && entry != source) send_message(n, p, source, entry);
  }
}

static void count_naively(const mg_traffic_request *q, naive *n) {
  const mg_placement *p = q->placement;
  const mg_routing *r = q->routing;
  *n = (naive){0};
  for (int64_t source = 0; source < p->ranks; source++)
    for (int64_t i = q->first; i < q->first + q->count; i++) {
      const int32_t *ids = r->ids + (q->offset + source * q->tokens + i) % r->tokens * r->choices;
      bool reached[RANKS_MAX] = {false};
      for (int64_t k = 0; k < r->choices; k++) {
        if (ids[k] < 0) continue;
        const int64_t rank = rank_of(p, ids[k], source);
        n->value[MG_TRAFFIC_ROWS][rank]++;
        reached[rank] = true;
        if (!q->deduplicate && rank != source) send_message(n, p, source, rank);
      }
      if (q->deduplicate) count_distinct(n, p, source, reached);
    }
}

static void traffic_agrees_with_a_count_token_by_token(void **state) {
  (void)state;
  dice d = {mg_stream_named(1, "traffic", 0, 0), 0};
  for (int run = 0; run < RUNS; run++) {
    configuration c;
    naive n;
    mg_traffic *traffic;
    open_configuration(&d, &c);
    count_naively(&c.request, &n);
    assert_ok(context, mg_traffic_create(context, &c.request, &traffic));
    for (int kind = 0; kind < MG_TRAFFIC_KINDS; kind++)
      for (int64_t rank = 0; rank < traffic->ranks && kind != MG_TRAFFIC_ACTIVE; rank++)
        assert_near(mg_traffic_of(traffic, 0, (mg_traffic_kind)kind)[rank], n.value[kind][rank], 0);
    mg_traffic_destroy(traffic);
    close_configuration(&c);
  }
}

/* No capacity loses or makes an assignment, and no expert gets more than it. */
static void tokens_in_are_tokens_out(void **state) {
  (void)state;
  dice d = {mg_stream_named(2, "capacity", 0, 0), 0};
  for (int run = 0; run < RUNS; run++) {
    configuration c;
    mg_traffic *free_of_limits, *capped;
    open_configuration(&d, &c);
    assert_ok(context, mg_traffic_create(context, &c.request, &free_of_limits));
    c.request.capacity = (double)roll(&d, 1, 16) / 8;
    assert_ok(context, mg_traffic_create(context, &c.request, &capped));
    double all = 0, kept = 0;
    for (int64_t rank = 0; rank < capped->ranks; rank++) {
      all += mg_traffic_of(free_of_limits, 0, MG_TRAFFIC_ROWS)[rank];
      kept += mg_traffic_of(capped, 0, MG_TRAFFIC_ROWS)[rank];
      assert_true(mg_traffic_of(capped, 0, MG_TRAFFIC_ROWS)[rank] <=
                  mg_traffic_of(free_of_limits, 0, MG_TRAFFIC_ROWS)[rank]);
    }
    assert_near(all, free_of_limits->assigned[0], 0);
    assert_near(kept + capped->dropped[0], all, 0);
    const double mean =
        (double)(c.request.count * capped->ranks) * c.routing->mean_choices / (double)c.routing->experts;
    assert_true(kept <= (double)c.routing->experts * fmax(1, c.request.capacity * mean * (1 + 1e-9)));
    mg_traffic_destroy(free_of_limits);
    mg_traffic_destroy(capped);
    close_configuration(&c);
  }
}

/* Expert e is called (a e + b) mod E in the trace and in the placement: nothing else may change. */
static void names_of_experts_do_not_matter(void **state) {
  (void)state;
  dice d = {mg_stream_named(3, "names", 0, 0), 0};
  for (int run = 0; run < RUNS; run++) {
    configuration c;
    mg_traffic *before, *after;
    open_configuration(&d, &c);
    assert_ok(context, mg_traffic_create(context, &c.request, &before));
    const int64_t experts = c.routing->experts, shift = roll(&d, 0, experts - 1);
    for (int64_t i = 0; i < c.routing->tokens * c.routing->choices; i++)
      if (c.routing->ids[i] >= 0) c.routing->ids[i] = (int32_t)((experts - 1 - c.routing->ids[i] + shift) % experts);
    for (int64_t s = 0; s < c.placement.slots; s++)
      c.placement.expert[s] = (int32_t)((experts - 1 - c.placement.expert[s] + shift) % experts);
    assert_ok(context, mg_traffic_create(context, &c.request, &after));
    for (int kind = 0; kind < MG_TRAFFIC_KINDS; kind++)
      for (int64_t rank = 0; rank < after->ranks; rank++)
        assert_near(mg_traffic_of(before, 0, (mg_traffic_kind)kind)[rank],
                    mg_traffic_of(after, 0, (mg_traffic_kind)kind)[rank], 0);
    mg_traffic_destroy(before);
    mg_traffic_destroy(after);
    close_configuration(&c);
  }
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

static double step_ms(const char *step, const char *more, double speed) {
  static const char *const speeds[] = {"bf16_tflops", "memory_gb_s", "near_gb_s", "far_gb_s"};
  json_t *spec = mg_cluster_specification(step, 8, more), *result;
  json_t *accelerator = json_object_get(spec, "accelerator");
  json_object_set_new(accelerator, "far_us", json_real(10 / speed));
  for (size_t i = 0; i < MG_COUNT(speeds); i++)
    json_object_set_new(accelerator, speeds[i],
                        json_real(speed * json_number_value(json_object_get(accelerator, speeds[i]))));
  assert_ok(context, mg_simulation_run(context, spec, &result));
  const double ms = json_number_value(json_object_get(json_object_get(result, "metrics"), "step_ms"));
  json_decref(result);
  json_decref(spec);
  return ms;
}

static void twice_the_speed_is_half_the_time(void **state) {
  (void)state;
  static const char *const steps[][2] = {
      {"decode", "{\"tensor_parallel\": 2}"},
      {"prefill", "{\"kernels\": \"normal\", \"overlap\": \"two_batch\", \"context\": 32}"},
      {"training", "{\"kernels\": \"normal\", \"schedule\": \"dualpipe\", \"stages\": 2, \"replicas\": 2, "
                   "\"micro_batches\": 8, \"context\": 64}"}};
  for (size_t i = 0; i < MG_COUNT(steps); i++) {
    const double once = step_ms(steps[i][0], steps[i][1], 1);
    assert_near(step_ms(steps[i][0], steps[i][1], 2), once / 2, 1e-9 * once);
  }
}

/* ---- pipelines ------------------------------------------------------------------------------------------------ */

enum { STAGES_MAX = 16 };

/* Equal stages: forward f, backward of inputs b and of weights w, both beside each other p. */
static void run_equal(mg_pipeline_order order, int64_t stages, int64_t batches, const double time[4],
                      mg_pipeline *out) {
  double forward[STAGES_MAX], full[STAGES_MAX], inputs[STAGES_MAX], weights[STAGES_MAX], paired[STAGES_MAX];
  for (int64_t i = 0; i < stages; i++) {
    forward[i] = time[0];
    inputs[i] = time[1];
    weights[i] = time[2];
    full[i] = time[1] + time[2];
    paired[i] = time[3];
  }
  const mg_stage_costs costs = {stages, forward, full, inputs, weights, paired, 0};
  assert_ok(context, mg_pipeline_run(context, order, &costs, batches, out));
}

/* A rank waits (P - 1)(F + B), whatever the number of micro-batches (Narayanan et al. 2021, section 2.2). */
static void plain_pipelines_wait_as_their_formula_says(void **state) {
  (void)state;
  dice d = {mg_stream_named(4, "pipelines", 0, 0), 0};
  for (int run = 0; run < RUNS; run++) {
    const int64_t stages = roll(&d, 1, STAGES_MAX), batches = roll(&d, 1, 40);
    const double time[] = {(double)roll(&d, 1, 9), (double)roll(&d, 1, 9), (double)roll(&d, 1, 9), 0};
    for (int order = MG_PIPELINE_GPIPE; order <= MG_PIPELINE_1F1B; order++) {
      mg_pipeline p;
      run_equal((mg_pipeline_order)order, stages, batches, time, &p);
      assert_near(p.idle_s, (double)(stages - 1) * (time[0] + time[1] + time[2]), 1e-9);
      assert_int_equal(p.most_in_flight, order == MG_PIPELINE_GPIPE || batches < stages ? batches : stages);
      mg_pipeline_close(&p);
    }
  }
}

/* (P / 2 - 1)(F&B + B - 3 W) and P + 1 micro-batches held (DeepSeek-V3, table 2), for the times that its figure draws:
 * F, B's part for inputs and W are 1, both directions beside each other 3. */
static void dualpipe_waits_as_its_formula_says(void **state) {
  (void)state;
  static const double time[] = {1, 1, 1, 3};
  for (int64_t stages = 2; stages <= STAGES_MAX; stages += 2)
    for (int64_t batches = 2 * stages; batches <= 4 * stages; batches += stages) {
      mg_pipeline p;
      run_equal(MG_PIPELINE_DUALPIPE, stages, batches, time, &p);
      assert_near(p.idle_s, (double)(stages / 2 - 1) * (3 + 2 - 3 * 1), 1e-9);
      assert_int_equal(p.most_in_flight, stages + 1);
      mg_pipeline_close(&p);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(traffic_agrees_with_a_count_token_by_token),
                                     cmocka_unit_test(tokens_in_are_tokens_out),
                                     cmocka_unit_test(names_of_experts_do_not_matter),
                                     cmocka_unit_test(twice_the_speed_is_half_the_time),
                                     cmocka_unit_test(plain_pipelines_wait_as_their_formula_says),
                                     cmocka_unit_test(dualpipe_waits_as_its_formula_says)};
  return cmocka_run_group_tests(tests, open_context, close_context);
}
