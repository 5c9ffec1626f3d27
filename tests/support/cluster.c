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
