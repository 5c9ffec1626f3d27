/* Attributes multiplied out: a row of the tables stands for all kinds, transposes and precisions of its primitive. */
#include <stdio.h>
#include <string.h>

#include "measure/op_suite_internal.h"

static void say(char *words, size_t bytes, const char *text) {
  const size_t used = strnlen(words, bytes);
  snprintf(words + used, bytes - used, "%s%s", used ? " " : "", text);
}

static void swap_last_two(suite_operand *operand) {
  const int64_t rows = operand->shape[operand->dims - 2];
  operand->shape[operand->dims - 2] = operand->shape[operand->dims - 1];
  operand->shape[operand->dims - 1] = rows;
}

/* What `compute` of a matrix product is. f32 tensors try both, bf16 ones are bf16 already, f64 ones need f64. */
static bool choose_compute(bool bf16, mg_dtype dtype, mg_dtype *compute, char *words, size_t bytes) {
  if (dtype == MG_F64 && bf16) return false;
  if (dtype == MG_BF16 && !bf16) return false;
  *compute = bf16 ? MG_BF16 : dtype;
  if (bf16 && dtype == MG_F32) say(words, bytes, "compute=bf16");
  return true;
}

static void vary_unary(suite_case *out, int64_t v, char *words, size_t bytes) {
  static const char *const names[MG_UNARY_COUNT] = {
#define NAME(NAME_, name, what) [MG_UNARY_##NAME_] = #name,
      MG_UNARY_LIST(NAME)
#undef NAME
  };
  const mg_unary kind = (mg_unary)v;
  out->attributes.unary.kind = kind;
  out->attributes.unary.alpha = kind == MG_UNARY_CLAMP ? -0.5 : 1.5;
  out->attributes.unary.beta = kind == MG_UNARY_CLAMP ? 0.75 : -0.25;
  if (kind == MG_UNARY_LOG || kind == MG_UNARY_SQRT || kind == MG_UNARY_RECIPROCAL) out->in[0].fill = FILL_POSITIVE;
  say(words, bytes, names[kind]);
}

static void vary_cast(suite_case *out, int64_t v, char *words, size_t bytes) {
  static const suite_type types[MG_DTYPE_COUNT] = {
      [MG_F32] = TYPE_F32, [MG_BF16] = TYPE_BF16, [MG_I32] = TYPE_I32, [MG_F64] = TYPE_F64};
  out->out[0].type = types[v];
  say(words, bytes, "to");
  say(words, bytes, mg_dtype_name((mg_dtype)v));
}

static void vary_binary(suite_case *out, int64_t v, char *words, size_t bytes) {
  static const char *const names[MG_BINARY_COUNT] = {"add", "sub", "mul", "div", "max", "min", "greater"};
  out->attributes.binary.kind = (mg_binary)v;
  say(words, bytes, names[v]);
}

static void vary_glu(suite_case *out, int64_t v, char *words, size_t bytes) {
  static const char *const names[] = {"silu", "gelu", "gelu_tanh", "relu", "sigmoid"};
  out->attributes.glu.kind = (mg_glu_kind)v;
  say(words, bytes, names[v]);
}

static void vary_reduce(suite_case *out, int64_t v, char *words, size_t bytes) {
  static const char *const names[] = {"sum", "mean", "max", "sum_squares"};
  out->attributes.reduce.kind = (mg_reduce)(v % 4);
  out->attributes.reduce.axis = v < 4 ? MG_OVER_COLUMNS : MG_OVER_ROWS;
  say(words, bytes, names[v % 4]);
  say(words, bytes, v < 4 ? "over columns" : "over rows");
  if (v < 4) return;
  out->out[0].dims = 1;
  out->out[0].shape[0] = out->in[0].shape[1];
}

static bool vary_matmul(suite_case *out, int64_t v, mg_dtype dtype, char *words, size_t bytes) {
  out->attributes.matmul.transpose_a = v & 1;
  out->attributes.matmul.transpose_b = v & 2;
  out->attributes.matmul.accumulate = v & 4;
  if (v & 1) swap_last_two(&out->in[0]);
  if (v & 2) swap_last_two(&out->in[1]);
  say(words, bytes, v & 1 ? "a^T" : "a");
  say(words, bytes, v & 2 ? "b^T" : "b");
  if (v & 4) say(words, bytes, "accumulate");
  return choose_compute(v & 8, dtype, &out->attributes.matmul.compute, words, bytes);
}

static bool vary_grouped(suite_case *out, int64_t v, mg_dtype dtype, char *words, size_t bytes) {
  out->attributes.grouped.transpose_w = v & 1;
  out->attributes.grouped.accumulate = v & 2;
  if (v & 1) {
    swap_last_two(out->op == MG_OP_GROUPED_MATMUL ? &out->in[1] : &out->out[0]);
    say(words, bytes, "w^T");
  }
  if (v & 2) say(words, bytes, "accumulate");
  return choose_compute(v & 4, dtype, &out->attributes.grouped.compute, words, bytes);
}

static void vary_gate(suite_case *out, int64_t v, char *words, size_t bytes) {
  static const char *const scores[] = {"softmax", "sigmoid", "sqrt_softplus"};
  static const char *const weights[] = {"scores", "shares", "softmax of chosen"};
  out->attributes.gate.score = (mg_gate_score)(v % 3);
  out->attributes.gate.weight = (mg_gate_weight)(v / 3);
  say(words, bytes, scores[v % 3]);
  say(words, bytes, weights[v / 3]);
}

static void vary_rope(suite_case *out, int64_t v, char *words, size_t bytes) {
  out->attributes.rope.interleaved = v & 1;
  out->attributes.rope.inverse = v & 2;
  say(words, bytes, v & 1 ? "interleaved" : "halves");
  if (v & 2) say(words, bytes, "inverse");
}

bool mg__suite_variant(const suite_case *row, int64_t v, mg_dtype dtype, suite_case *out, char *words, size_t bytes) {
  *out = *row;
  words[0] = '\0';
  switch (row->op) {
  case MG_OP_CAST: vary_cast(out, v, words, bytes); return true;
  case MG_OP_UNARY:
  case MG_OP_UNARY_BACKWARD: vary_unary(out, v, words, bytes); return true;
  case MG_OP_BINARY: vary_binary(out, v, words, bytes); return true;
  case MG_OP_GLU:
  case MG_OP_GLU_BACKWARD: vary_glu(out, v, words, bytes); return true;
  case MG_OP_RANDOM:
    out->attributes.random.kind = (mg_random_kind)v;
    say(words, bytes, v ? "normal" : "uniform");
    return true;
  case MG_OP_REDUCE: vary_reduce(out, v, words, bytes); return true;
  case MG_OP_MATMUL: return vary_matmul(out, v, dtype, words, bytes);
  case MG_OP_GROUPED_MATMUL:
  case MG_OP_GROUPED_MATMUL_WEIGHT: return vary_grouped(out, v, dtype, words, bytes);
  case MG_OP_NORM:
  case MG_OP_NORM_BACKWARD:
    out->attributes.norm.kind = (mg_norm_kind)v;
    say(words, bytes, v ? "layer" : "rms");
    return true;
  case MG_OP_GATE: vary_gate(out, v, words, bytes); return true;
  case MG_OP_ROPE: vary_rope(out, v, words, bytes); return true;
  case MG_OP_ATTENTION:
  case MG_OP_ATTENTION_BACKWARD: return choose_compute(v, dtype, &out->attributes.attention.compute, words, bytes);
  default: return true;
  }
}
