/* Random checkpoints: a list of tensors, then a header and as many sensible bytes. */
#include "support/stored_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint.h"

const char *const mg_stored_model_kinds[] = {"f32",  "f16",  "bf16",  "q8_0",    "q4_0",        "q4_k",
                                             "q5_k", "q6_k", "mxfp4", "f8_e4m3", "mxfp4_pairs", NULL};

enum { NAME_BYTES = 96, ALIGNMENT = 32, HEADS = 8, RANK = 128, ROPE = 64 };

typedef struct item {
  char name[NAME_BYTES];
  mg_storage storage;
  int32_t dims;
  int64_t shape[4]; /* outermost first */
  int64_t bytes;
} item;

typedef struct list {
  const mg_stored_model *model;
  mg_storage storage; /* of matrices */
  item *items;
  int64_t count, room;
} list;

/* ---- which tensors ------------------------------------------------------------------------------------------- */

static void add(list *l, mg_storage storage, const char *name, int64_t layer, int64_t expert, int32_t dims,
                const int64_t *shape) {
  if (l->count == l->room) {
    l->room = l->room ? 2 * l->room : 64;
    l->items = realloc(l->items, (size_t)l->room * sizeof *l->items);
    if (!l->items) abort();
  }
  item *new = &l->items[l->count++];
  *new = (item){.storage = storage, .dims = dims};
  int64_t values = 1;
  for (int32_t i = 0; i < dims; i++) values *= new->shape[i] = shape[i];
  const mg_storage_info *about = mg_storage_about(storage);
  new->bytes = values / about->block_values * about->block_bits / 8;
  size_t used = 0; /* L and E stand for the numbers of layer and expert */
  for (const char *c = name; *c && used + 8 < NAME_BYTES; c++)
    if (*c == 'L' || *c == 'E')
      used += (size_t)snprintf(new->name + used, NAME_BYTES - used, "%lld", (long long)(*c == 'L' ? layer : expert));
    else
      new->name[used++] = *c;
}

#define SHAPE(...)                                                                                                     \
  (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) {                                   \
    __VA_ARGS__                                                                                                        \
  }

static void add_llama(list *l) {
  const int64_t d = l->model->width, h = l->model->hidden, e = l->model->experts, v = l->model->vocabulary;
  add(l, l->storage, "token_embd.weight", 0, 0, SHAPE(v, d));
  for (int64_t i = 0; i < l->model->layers; i++) {
    add(l, MG_STORAGE_F32, "blk.L.attn_norm.weight", i, 0, SHAPE(d));
    add(l, l->storage, "blk.L.attn_q.weight", i, 0, SHAPE(d, d));
    add(l, l->storage, "blk.L.attn_k.weight", i, 0, SHAPE(d, d));
    add(l, l->storage, "blk.L.attn_v.weight", i, 0, SHAPE(d, d));
    add(l, l->storage, "blk.L.attn_output.weight", i, 0, SHAPE(d, d));
    add(l, MG_STORAGE_F32, "blk.L.ffn_norm.weight", i, 0, SHAPE(d));
    add(l, MG_STORAGE_F32, "blk.L.ffn_gate_inp.weight", i, 0, SHAPE(e, d));
    add(l, l->storage, "blk.L.ffn_gate_exps.weight", i, 0, SHAPE(e, h, d));
    add(l, l->storage, "blk.L.ffn_up_exps.weight", i, 0, SHAPE(e, h, d));
    add(l, l->storage, "blk.L.ffn_down_exps.weight", i, 0, SHAPE(e, d, h));
  }
  add(l, MG_STORAGE_F32, "output_norm.weight", 0, 0, SHAPE(d));
  add(l, l->storage, "output.weight", 0, 0, SHAPE(v, d));
}

static void add_tiled(list *l, const char *name, int64_t layer, int64_t expert, int64_t rows, int64_t columns) {
  char scales[3 * NAME_BYTES];
  snprintf(scales, sizeof scales, "%s_scale_inv", name);
  add(l, MG_STORAGE_F8_E4M3, name, layer, expert, SHAPE(rows, columns));
  add(l, MG_STORAGE_F32, scales, layer, expert, SHAPE((rows + 127) / 128, (columns + 127) / 128));
}

static void add_swiglu(list *l, const char *prefix, int64_t layer, int64_t expert) {
  static const char *const parts[] = {"gate", "up", "down"};
  for (int i = 0; i < 3; i++) {
    char name[2 * NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s_proj.weight", prefix, parts[i]);
    const int64_t d = l->model->width, h = l->model->hidden;
    add_tiled(l, name, layer, expert, i < 2 ? h : d, i < 2 ? d : h);
  }
}

static void add_deepseek(list *l) {
  const int64_t d = l->model->width, e = l->model->experts, v = l->model->vocabulary, head = d / HEADS;
  add(l, MG_STORAGE_BF16, "model.embed_tokens.weight", 0, 0, SHAPE(v, d));
  for (int64_t i = 0; i < l->model->layers; i++) {
    add(l, MG_STORAGE_BF16, "model.layers.L.input_layernorm.weight", i, 0, SHAPE(d));
    add_tiled(l, "model.layers.L.self_attn.q_a_proj.weight", i, 0, RANK, d);
    add(l, MG_STORAGE_BF16, "model.layers.L.self_attn.q_a_layernorm.weight", i, 0, SHAPE(RANK));
    add_tiled(l, "model.layers.L.self_attn.q_b_proj.weight", i, 0, HEADS * (head + ROPE), RANK);
    add_tiled(l, "model.layers.L.self_attn.kv_a_proj_with_mqa.weight", i, 0, RANK + ROPE, d);
    add(l, MG_STORAGE_BF16, "model.layers.L.self_attn.kv_a_layernorm.weight", i, 0, SHAPE(RANK));
    add_tiled(l, "model.layers.L.self_attn.kv_b_proj.weight", i, 0, HEADS * 2 * head, RANK);
    add_tiled(l, "model.layers.L.self_attn.o_proj.weight", i, 0, d, d);
    add(l, MG_STORAGE_BF16, "model.layers.L.post_attention_layernorm.weight", i, 0, SHAPE(d));
    add(l, MG_STORAGE_BF16, "model.layers.L.mlp.gate.weight", i, 0, SHAPE(e, d));
    add(l, MG_STORAGE_F32, "model.layers.L.mlp.gate.e_score_correction_bias", i, 0, SHAPE(e));
    for (int64_t x = 0; x < e; x++) add_swiglu(l, "model.layers.L.mlp.experts.E", i, x);
    add_swiglu(l, "model.layers.L.mlp.shared_experts", i, 0);
  }
  add(l, MG_STORAGE_BF16, "model.norm.weight", 0, 0, SHAPE(d));
  add(l, MG_STORAGE_BF16, "lm_head.weight", 0, 0, SHAPE(v, d));
}

static void add_gpt_oss(list *l) {
  const int64_t d = l->model->width, h = l->model->hidden, e = l->model->experts, v = l->model->vocabulary;
  static const char *const heads[] = {"q", "k", "v", "o"};
  add(l, MG_STORAGE_BF16, "model.embed_tokens.weight", 0, 0, SHAPE(v, d));
  for (int64_t i = 0; i < l->model->layers; i++) {
    add(l, MG_STORAGE_BF16, "model.layers.L.input_layernorm.weight", i, 0, SHAPE(d));
    for (int p = 0; p < 4; p++) {
      char name[2 * NAME_BYTES];
      snprintf(name, sizeof name, "model.layers.L.self_attn.%s_proj.weight", heads[p]);
      add(l, MG_STORAGE_BF16, name, i, 0, SHAPE(d, d));
      snprintf(name, sizeof name, "model.layers.L.self_attn.%s_proj.bias", heads[p]);
      add(l, MG_STORAGE_BF16, name, i, 0, SHAPE(d));
    }
    add(l, MG_STORAGE_BF16, "model.layers.L.self_attn.sinks", i, 0, SHAPE(HEADS));
    add(l, MG_STORAGE_BF16, "model.layers.L.post_attention_layernorm.weight", i, 0, SHAPE(d));
    add(l, MG_STORAGE_BF16, "model.layers.L.mlp.router.weight", i, 0, SHAPE(e, d));
    add(l, MG_STORAGE_BF16, "model.layers.L.mlp.router.bias", i, 0, SHAPE(e));
    add(l, MG_STORAGE_U8, "model.layers.L.mlp.experts.gate_up_proj_blocks", i, 0, SHAPE(e, 2 * h, d / 32, 16));
    add(l, MG_STORAGE_U8, "model.layers.L.mlp.experts.gate_up_proj_scales", i, 0, SHAPE(e, 2 * h, d / 32));
    add(l, MG_STORAGE_BF16, "model.layers.L.mlp.experts.gate_up_proj_bias", i, 0, SHAPE(e, 2 * h));
    add(l, MG_STORAGE_U8, "model.layers.L.mlp.experts.down_proj_blocks", i, 0, SHAPE(e, d, h / 32, 16));
    add(l, MG_STORAGE_U8, "model.layers.L.mlp.experts.down_proj_scales", i, 0, SHAPE(e, d, h / 32));
    add(l, MG_STORAGE_BF16, "model.layers.L.mlp.experts.down_proj_bias", i, 0, SHAPE(e, d));
  }
  add(l, MG_STORAGE_BF16, "model.norm.weight", 0, 0, SHAPE(d));
  add(l, MG_STORAGE_BF16, "lm_head.weight", 0, 0, SHAPE(v, d));
}

/* ---- their bytes --------------------------------------------------------------------------------------------- */

static uint64_t next_bits(uint64_t *state) { /* splitmix64 (Steele et al. 2014) */
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static void set_half(unsigned char *at, uint16_t bits) {
  memcpy(at, &bits, sizeof bits);
}

/* Makes a random block a small weight: factors of 2^-10, numbers of some hundredths. Offsets are 7.5 and 15.5 times the
 * factors, so that weights have no mean. */
static void mend(mg_storage storage, unsigned char *block) {
  enum { FACTOR = 0x1400, OFFSETS_4 = 0x1f80, OFFSETS_5 = 0x23c0 };
  const uint16_t bits = (uint16_t)(block[0] | block[1] << 8);
  const float small = (float)(int8_t)block[0] / 4096.0F;
  switch (storage) {
  case MG_STORAGE_F32: memcpy(block, &small, sizeof small); break;
  case MG_STORAGE_F16: set_half(block, (bits & 0x83ffu) | 8u << 10); break;
  case MG_STORAGE_BF16: set_half(block, (bits & 0x807fu) | 120u << 7); break;
  case MG_STORAGE_F8_E4M3: block[0] &= 0xb7u; break;
  case MG_STORAGE_Q4_K:
  case MG_STORAGE_Q5_K:
    set_half(block, FACTOR);
    set_half(block + 2, storage == MG_STORAGE_Q4_K ? OFFSETS_4 : OFFSETS_5);
    break;
  case MG_STORAGE_Q8_0:
  case MG_STORAGE_Q4_0: set_half(block, FACTOR); break;
  case MG_STORAGE_Q6_K: set_half(block + 208, FACTOR); break;
  case MG_STORAGE_MXFP4: block[0] = 120; break;
  default: break;
  }
}

/* Vectors are norms and biases: 1 but for what is named so. Scales of pairs and tiles are small. */
static void fill_constant(const item *it, unsigned char *out, size_t bytes) {
  const float one = strstr(it->name, "norm") ? 1.0F : strstr(it->name, "scale_inv") ? 0.02F : 0.0F;
  uint32_t word;
  memcpy(&word, &one, sizeof word);
  const uint16_t half = (uint16_t)(word >> 16);
  for (size_t i = 0; i < bytes; i++)
    out[i] = it->storage == MG_STORAGE_U8    ? 120
             : it->storage == MG_STORAGE_F32 ? ((unsigned char *)&word)[i % 4]
                                             : ((const unsigned char *)&half)[i % 2];
}

static bool is_constant(const item *it) {
  return it->dims == 1 || strstr(it->name, "scale") || strstr(it->name, "bias");
}

static bool write_tensor(const item *it, FILE *file, uint64_t *state) {
  enum { PIECE = 1 << 16 };
  static const size_t unit = 1680; /* whole blocks of up to 210 bytes, in eights */
  unsigned char piece[PIECE];
  const mg_storage_info *about = mg_storage_about(it->storage);
  const size_t block = about->block_bits / 8, most = PIECE / unit * unit / block * block;
  for (size_t left = (size_t)it->bytes; left > 0;) {
    const size_t here = left < most ? left : most;
    for (size_t i = 0; i < here; i += 8) {
      const uint64_t bits = next_bits(state);
      memcpy(piece + i, &bits, sizeof bits);
    }
    for (size_t i = 0; i + block <= here; i += block) mend(it->storage, piece + i);
    if (is_constant(it)) fill_constant(it, piece, here);
    if (fwrite(piece, 1, here, file) != here) return false;
    left -= here;
  }
  return true;
}

/* ---- the files ----------------------------------------------------------------------------------------------- */

static int64_t aligned(int64_t at) {
  return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_number(FILE *file, unsigned width, uint64_t value) {
  for (unsigned i = 0; i < width; i++) fputc((int)(value >> (8 * i) & 255u), file);
}

static void put_text(FILE *file, const char *text) {
  put_number(file, 8, strlen(text));
  fputs(text, file);
}

static void put_integer(FILE *file, const char *key, int64_t value) {
  put_text(file, key);
  put_number(file, 4, MG_VALUE_U32);
  put_number(file, 4, (uint64_t)value);
}

static void put_real(FILE *file, const char *key, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  put_text(file, key);
  put_number(file, 4, MG_VALUE_F32);
  put_number(file, 4, bits);
}

static uint32_t gguf_number(mg_storage storage) {
  uint32_t number = 0;
  mg_storage found;
  while (!mg_storage_from_gguf(number, &found) || found != storage) number++;
  return number;
}

static void put_gguf_header(const list *l, FILE *file) {
  const mg_stored_model *m = l->model;
  fputs("GGUF", file);
  put_number(file, 4, 3);
  put_number(file, 8, (uint64_t)l->count);
  put_number(file, 8, 12);
  put_text(file, "general.architecture");
  put_number(file, 4, MG_VALUE_TEXT);
  put_text(file, "llama");
  put_integer(file, "llama.block_count", m->layers);
  put_integer(file, "llama.context_length", 4096);
  put_integer(file, "llama.embedding_length", m->width);
  put_integer(file, "llama.feed_forward_length", m->hidden);
  put_integer(file, "llama.attention.head_count", HEADS);
  put_integer(file, "llama.attention.head_count_kv", HEADS);
  put_real(file, "llama.rope.freq_base", 10000);
  put_real(file, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
  put_integer(file, "llama.expert_count", m->experts);
  put_integer(file, "llama.expert_used_count", 2);
  put_integer(file, "llama.vocab_size", m->vocabulary);
  int64_t at = 0;
  for (int64_t i = 0; i < l->count; i++, at = aligned(at)) {
    const item *it = &l->items[i];
    put_text(file, it->name);
    put_number(file, 4, (uint64_t)it->dims);
    for (int32_t d = it->dims; d > 0; d--) put_number(file, 8, (uint64_t)it->shape[d - 1]);
    put_number(file, 4, gguf_number(it->storage));
    put_number(file, 8, (uint64_t)at);
    at += it->bytes;
  }
}

static void pad(FILE *file, char with) {
  while (ftell(file) % ALIGNMENT != 0) fputc(with, file);
}

static bool write_gguf(const list *l, FILE *file) {
  uint64_t state = 1;
  put_gguf_header(l, file);
  for (int64_t i = 0; i < l->count; i++) {
    pad(file, 0);
    if (!write_tensor(&l->items[i], file, &state)) return false;
  }
  return true;
}

static bool write_safetensors(const list *l, FILE *file) {
  uint64_t state = 1;
  int64_t at = 0;
  put_number(file, 8, 0); /* its length, when it is known */
  for (int64_t i = 0; i < l->count; i++) {
    const item *it = &l->items[i];
    fprintf(file, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{", it->name,
            mg_storage_safetensors_name(it->storage));
    for (int32_t d = 0; d < it->dims; d++) fprintf(file, "%s%lld", d ? "," : "", (long long)it->shape[d]);
    fprintf(file, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)(at + it->bytes));
    at += it->bytes;
  }
  fputc('}', file);
  pad(file, ' ');
  const long end = ftell(file);
  if (fseek(file, 0, SEEK_SET) != 0) return false;
  put_number(file, 8, (uint64_t)end - 8);
  if (fseek(file, end, SEEK_SET) != 0) return false;
  for (int64_t i = 0; i < l->count; i++)
    if (!write_tensor(&l->items[i], file, &state)) return false;
  return true;
}

static bool write_config(const mg_stored_model *m, const char *folder) {
  static const char common[] =
      "{\"vocab_size\":%lld,\"hidden_size\":%lld,\"num_hidden_layers\":%lld,\"num_attention_heads\":%d,"
      "\"num_key_value_heads\":%d,\"max_position_embeddings\":4096,\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,"
      "\"tie_word_embeddings\":false,\"rope_theta\":10000,\"num_experts_per_tok\":2,\"intermediate_size\":%lld,";
  char path[1100];
  snprintf(path, sizeof path, "%s/config.json", folder);
  FILE *file = fopen(path, "w");
  if (!file) return false;
  fprintf(file, common, (long long)m->vocabulary, (long long)m->width, (long long)m->layers, HEADS, HEADS,
          (long long)m->hidden);
  if (strcmp(m->name, "f8_e4m3") == 0)
    fprintf(file,
            "\"model_type\":\"deepseek_v3\",\"moe_intermediate_size\":%lld,\"n_routed_experts\":%lld,"
            "\"n_shared_experts\":1,\"first_k_dense_replace\":0,\"moe_layer_freq\":1,\"attention_bias\":false,"
            "\"kv_lora_rank\":%d,\"q_lora_rank\":%d,\"qk_rope_head_dim\":%d,\"qk_nope_head_dim\":%lld,"
            "\"v_head_dim\":%lld,\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,\"topk_method\":\"noaux_tc\","
            "\"n_group\":1,\"topk_group\":1,\"routed_scaling_factor\":2.5,\"quantization_config\":{\"quant_method\":"
            "\"fp8\",\"fmt\":\"e4m3\",\"weight_block_size\":[128,128],\"activation_scheme\":\"dynamic\"}}\n",
            (long long)m->hidden, (long long)m->experts, RANK, RANK, ROPE, (long long)(m->width / HEADS),
            (long long)(m->width / HEADS));
  else
    fprintf(file,
            "\"model_type\":\"gpt_oss\",\"head_dim\":%lld,\"num_local_experts\":%lld,\"attention_bias\":true,"
            "\"swiglu_limit\":7.0,\"sliding_window\":128,\"quantization_config\":{\"quant_method\":\"mxfp4\"}}\n",
            (long long)(m->width / HEADS), (long long)m->experts);
  return fclose(file) == 0;
}

/* The storage type of a kind, and the family that has it. */
static bool list_tensors(const mg_stored_model *model, list *out) {
  *out = (list){.model = model};
  if (strcmp(model->name, "mxfp4_pairs") == 0) {
    add_gpt_oss(out);
    return true;
  }
  for (int i = 0; i < MG_STORAGE_COUNT; i++)
    if (strcmp(mg_storage_about((mg_storage)i)->name, model->name) == 0) {
      out->storage = (mg_storage)i;
      if (out->storage == MG_STORAGE_F8_E4M3)
        add_deepseek(out);
      else
        add_llama(out);
      return true;
    }
  return false;
}

bool mg_stored_model_write(const mg_stored_model *model, const char *folder, char path[1100], int64_t *bytes) {
  list l;
  if (!list_tensors(model, &l)) return false;
  const bool gguf = strcmp(l.items[0].name, "token_embd.weight") == 0;
  snprintf(path, 1100, "%s/%s", folder, gguf ? "model.gguf" : "model.safetensors");
  FILE *file = fopen(path, "wb");
  bool good = file && (gguf ? write_gguf(&l, file) : write_safetensors(&l, file));
  *bytes = file ? ftell(file) : 0;
  if (file) good = fclose(file) == 0 && good;
  free(l.items);
  if (!gguf) good = good && write_config(model, folder);
  return good;
}
