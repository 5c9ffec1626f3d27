#include "support/cluster.h"

const mg_shape mg_shape_deepseek_v3 = {.layers = 61,
                                       .dense_layers = 3,
                                       .width = 7168,
                                       .heads = 128,
                                       .attention = MG_ATTENTION_MLA,
                                       .query_rank = 1536,
                                       .latent = 512,
                                       .plain_width = 128,
                                       .rope_width = 64,
                                       .value_width = 128,
                                       .experts = 256,
                                       .choices = 8,
                                       .expert_hidden = 2048,
                                       .shared_hidden = 2048,
                                       .dense_hidden = 18432,
                                       .vocabulary = 129280};

int mg_file_world_open(mg_file_world *world) {
  return mg_scratch_open(&world->scratch, "file") || mg_context_create(NULL, &world->context) != MG_OK;
}

int mg_file_world_close(mg_file_world *world) {
  void *context = world->context;
  const int left = mg_testing_close_context(&context);
  return mg_scratch_close(&world->scratch) || left;
}

json_t *mg_cluster_specification(const char *step, int ranks, const char *more) {
  json_t *spec = json_pack(
      "{s:s, s:i, s:i, s:i, s:s, s:{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i}, s:{s:s,s:f,s:f,s:f,s:f,s:f,s:i}, s:{s:s}}",
      "step", step, "ranks", ranks, "tokens", 64, "element_bytes", 2, "costs", "roofline", "model", "layers", 4,
      "width", 512, "heads", 8, "kv_heads", 8, "head_width", 64, "experts", 16, "choices", 2, "expert_hidden", 256,
      "vocabulary", 1000, "accelerator", "name", "toy", "bf16_tflops", 1000.0, "memory_gb", 4.0, "memory_gb_s", 1000.0,
      "near_gb_s", 100.0, "far_gb_s", 10.0, "node_ranks", 4, "trace", "kind", "zipf");
  json_t *further = json_loads(more, 0, NULL);
  assert_non_null(further);
  json_object_update(spec, further);
  json_decref(further);
  return spec;
}
