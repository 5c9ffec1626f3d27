/* The cluster simulator: a decode step of DeepSeek-V3's 61 layers on 256 ranks, from a trace and a placement in memory to
 * the schedule, 64 and 128 tokens a rank. */
#include "base/options.h"
#include "bench.h"
#include "cluster/placement.h"
#include "cluster/step.h"
#include "support/cluster.h"

enum { RANKS = 256, NODES = 32, SLOTS = 256, LAYERS = 58 };

static const mg_accelerator device = {.bf16_tflops = 989,
                                      .fp8_tflops = 1979,
                                      .memory_gb = 80,
                                      .memory_gb_s = 3350,
                                      .sms = 132,
                                      .node_ranks = 8,
                                      .near_gb_s = 450,
                                      .far_gb_s = 50};

static mg_status make_world(mg_context *context, int64_t tokens, mg_routing **routing, mg_placement *placement) {
  mg_routing_recipe recipe;
  mg_options_defaults(mg_routing_recipe_options, &recipe);
  recipe.kind = MG_ROUTING_ZIPF;
  recipe.experts = mg_shape_deepseek_v3.experts;
  recipe.layers = LAYERS;
  recipe.tokens = tokens * RANKS;
  MG_TRY(mg_routing_generate(context, &recipe, routing));
  MG_TRY(mg_placement_create(context, LAYERS, mg_shape_deepseek_v3.experts, SLOTS, RANKS, NODES, placement));
  const mg_place_request request = {
      .experts = mg_shape_deepseek_v3.experts, .slots = SLOTS, .ranks = RANKS, .nodes = NODES};
  for (int64_t layer = 0; layer < LAYERS; layer++)
    MG_TRY(mg_place_contiguous(context, NULL, &request, placement->expert + layer * SLOTS));
  return MG_OK;
}

static mg_status run_step(mg_context *context, const mg_step_request *request) {
  mg_step step;
  MG_TRY(mg_step_run(context, request, &step));
  mg_step_close(&step);
  return MG_OK;
}

static void run_decode(gbench_state *state, const void *argument) {
  const int64_t tokens = *(const int64_t *)argument;
  mg_context *context = bench_world_get()->context;
  mg_routing *routing = NULL;
  mg_placement placement = {0};
  mg_costs costs = {.context = context, .accelerator = &device};
  mg_status status = make_world(context, tokens, &routing, &placement);
  const mg_step_request request = {.work = {.costs = &costs,
                                            .shape = &mg_shape_deepseek_v3,
                                            .kind = MG_STEP_DECODE,
                                            .kernels = MG_KERNELS_LOW_LATENCY,
                                            .element_bytes = 1,
                                            .parallel = 1,
                                            .nodes = NODES,
                                            .context = 4096,
                                            .comm_sms = 20},
                                   .routing = routing,
                                   .placement = &placement,
                                   .tokens = tokens,
                                   .two_batch = true};
  while (status == MG_OK && gbench_keep_running(state)) status = run_step(context, &request);
  if (status != MG_OK) gbench_skip(state, mg_context_message(context));
  mg_placement_destroy(context, &placement);
  mg_routing_destroy(routing);
}

void bench_register_cluster(void) {
  static const int64_t cases[] = {64, 128};
  gbench_register("cluster/decode/61_layers/256_ranks/64_tokens", run_decode, &cases[0]);
  gbench_register("cluster/decode/61_layers/256_ranks/128_tokens", run_decode, &cases[1]);
}
