/* The primitives: what a backend computes and what every router, layer and optimiser is composed of.
 *
 * A primitive has one shape rule, one backward rule and one cost formula (core/tensor/ops), one definition
 * (backends/reference) and one row in the conformance suite (tests/ops). Letters: R rows and C columns of a tensor seen
 * as a matrix, T tokens, D width, E experts, S choices per token, A assignments, H hidden, V vocabulary.
 * "real" means f32, bf16 or f64. Unless said otherwise the real inputs and outputs of one call share a dtype.
 *
 * Matrix products (matmul, grouped_matmul, grouped_matmul_weight) take f32 and bf16 operands in any mix, or f64 alone;
 * their output has the dtype of the first operand, or is f32 (gradients of f32 weights from bf16 activations). Outputs
 * named with ? may be NULL. The weights b and w of the first two, the table of gather_rows and the x of cast may have a
 * stored dtype, which counts as f32 and is decoded where it is used. Rows beyond offsets[E] belong to no expert: dispatch,
 * grouped_matmul and combine_backward write zeros there. A reduction over no elements gives 0 (no mean is NaN), a maximum
 * over none -inf. */
#ifndef MOEGAUGE_OP_H
#define MOEGAUGE_OP_H

#include "moegauge/rng.h"
#include "moegauge/tensor.h"

/* X(NAME, name, inputs, outputs, what it computes). An input marked ? may be NULL. */
// clang-format off
#define MG_OP_LIST(X)                                                                              \
  /* elementwise */                                                                                \
  X(FILL, fill, 0, 1, "out = fill.value")                                                          \
  X(CAST, cast, 1, 1, "out = x in out's dtype, any dtype to any; equal dtypes copy")               \
  X(UNARY, unary, 1, 1, "out = f(x)")                                                              \
  X(UNARY_BACKWARD, unary_backward, 2, 1, "x, dout -> dx")                                         \
  X(BINARY, binary, 2, 1, "out = f(a, b); b is like a, or one row [C], one column [R,1], or one element") \
  X(WHERE, where, 2, 1, "mask real like x, x -> x where mask != 0, else where.value")              \
  X(ADD_SCALED, add_scaled, 1, 1, "out += add_scaled.factor * x; x may be bf16 beside an f32 out") \
  X(GLU, glu, 2, 1, "gate, up -> act(gate) * up")                                                  \
  X(GLU_BACKWARD, glu_backward, 3, 2, "gate, up, dout -> dgate, dup")                              \
  X(RANDOM, random, 0, 1, "out[i] = draw i of random.stream")                                      \
  /* shape */                                                                                      \
  X(SLICE, slice, 1, 1, "x [R,C] -> columns [first, first+count) [R,count]")                       \
  X(SLICE_BACKWARD, slice_backward, 1, 1, "dout [R,count] -> dx [R,C], zero outside the columns")  \
  X(CONCAT, concat, 2, 1, "a [R,A], b [R,B] -> [R,A+B], the columns of a before those of b")       \
  X(TRANSPOSE, transpose, 1, 1, "x [.., R, C] -> [.., C, R], exchanging the last two dimensions")  \
  /* reductions over rows or columns */                                                            \
  X(REDUCE, reduce, 1, 1, "x [R,C] -> [R,1] over columns, or [C] over rows; f32/f64 sums of f32/f64/bf16") \
  X(CUMSUM, cumsum, 1, 1, "x [R,C] -> running sums along each row; inclusive")                     \
  X(SOFTMAX, softmax, 1, 1, "softmax of each row")                                                 \
  X(SOFTMAX_BACKWARD, softmax_backward, 2, 1, "out, dout -> dx")                                   \
  X(LOG_SUM_EXP, log_sum_exp, 1, 1, "x [R,C] -> log sum exp of each row [R,1]")                    \
  /* matrix products */                                                                            \
  X(MATMUL, matmul, 2, 1, "a [B?,M,K] b [B?,K,N] -> [B?,M,N]; a and b may differ in dtype")        \
  X(GROUPED_MATMUL, grouped_matmul, 3, 1, "x [A,K], w [E,K,N] or [E,N,K], offsets i32 [E+1] -> [A,N]; row a uses the w of its expert") \
  X(GROUPED_MATMUL_WEIGHT, grouped_matmul_weight, 3, 1, "x [A,K], dout [A,N], offsets -> dw, one x^T dout per expert; zero where it has no row") \
  X(GATHER_DOT, gather_dot, 3, 1, "x [T,D], w [N,D], ids i32 [T,M] -> x[t] . w[ids[t,m]]; 0 where id is -1") \
  X(GATHER_DOT_BACKWARD_X, gather_dot_backward_x, 3, 1, "dout [T,M], w, ids -> dx [T,D]")          \
  X(GATHER_DOT_BACKWARD_W, gather_dot_backward_w, 3, 1, "dout [T,M], x, ids -> dw [N,D]")          \
  /* indexing */                                                                                   \
  X(GATHER_ROWS, gather_rows, 2, 1, "table [V,D], ids i32 [T] -> [T,D]; a zero row where id is -1") \
  X(SCATTER_ADD_ROWS, scatter_add_rows, 2, 1, "dout [T,D], ids -> [V,D], rows added in token order") \
  X(GATHER_COLUMNS, gather_columns, 2, 1, "x [T,C], ids i32 [T,S] -> [T,S]; 0 where id is -1")     \
  X(SCATTER_COLUMNS, scatter_columns, 2, 1, "dout [T,S], ids -> [T,C], summed where ids repeat")   \
  X(TOP_K, top_k, 1, 2, "x [T,C] -> values [T,k] descending, ids i32 [T,k]; equal values: lowest id first; NaN counts as -inf") \
  X(HISTOGRAM, histogram, 1, 1, "ids i32 [T,S] -> f32 [segments, bins]: how often each id occurs in each run of T/segments rows; -1 is skipped") \
  /* routing (core/moe explains assignments) */                                                    \
  X(ASSIGN, assign, 2, 4, "ids i32 [T,S], priority real? [T,S] -> offsets i32 [E+1], slots i32 [T*S], position i32 [T,S], demand i32 [E]") \
  X(DISPATCH, dispatch, 3, 1, "x [T,D], slots i32, offsets -> [A,D]: row a is x[slots[a] / S], zero where the slot is -1")  \
  X(COMBINE, combine, 3, 1, "y [A,D], weights? [T,S], position [T,S] -> [T,D]: sum over s of weight * y[position], skipping -1") \
  X(COMBINE_BACKWARD, combine_backward, 5, 2, "dout [T,D], y, weights, slots, offsets -> dy [A,D], dweights [T,S]") \
  /* transformer */                                                                                \
  X(NORM, norm, 3, 2, "x [R,C], scale? [C], shift? [C] -> out, statistics f32/f64 [R,2] (mean, 1/deviation)") \
  X(NORM_BACKWARD, norm_backward, 4, 3, "x, scale?, statistics, dout -> dx, dscale? [C], dshift? [C]") \
  X(ROPE, rope, 3, 1, "x [T, heads*head], positions i32 [T], frequencies f32 [rotary/2] -> rotated x") \
  X(ATTENTION, attention, 5, 2, "q [B*Sq, heads*head], k [B*Sk, kv_heads*head], v [B*Sk, kv_heads*value_head], sinks? [heads], bias? [heads, Sq+keys-1] -> out [B*Sq, heads*value_head], lse f32/f64 [heads, B*Sq]") \
  X(ATTENTION_BACKWARD, attention_backward, 8, 5, "q, k, v, sinks?, bias?, out, lse, dout -> dq, dk, dv, dsinks?, dbias?") \
  X(CROSS_ENTROPY, cross_entropy, 2, 2, "logits [T,V], targets i32 [T] -> loss f32/f64 [T,1] (0 where target is -1), lse f32/f64 [T,1]") \
  X(CROSS_ENTROPY_BACKWARD, cross_entropy_backward, 4, 1, "logits, targets, lse, dloss [T,1] -> dlogits") \
  /* optimiser */                                                                                  \
  X(ADAMW, adamw, 1, 3, "gradient f32 -> parameter, first, second moment, all f32 and in place")   \
  /* fused: a backend may leave them out, and the tape then composes them (README.md) */          \
  X(GATE, gate, 1, 3, "logits [T,E] -> scores? like logits, weights [T,k] and ids i32 [T,k] of the k best, as top_k orders them")
// clang-format on

typedef enum mg_op {
#define MG_OP_ENUM(NAME, name, inputs, outputs, what) MG_OP_##NAME,
  MG_OP_LIST(MG_OP_ENUM)
#undef MG_OP_ENUM
      MG_OP_COUNT
} mg_op;

enum { MG_OP_INPUTS_MAX = 8, MG_OP_OUTPUTS_MAX = 5 };

/* Elementwise functions of one argument; alpha and beta are the attribute's numbers. */
// clang-format off
#define MG_UNARY_LIST(X)                                                                           \
  X(AFFINE, affine, "alpha * x + beta")                                                            \
  X(EXP, exp, "e^x")                                                                               \
  X(LOG, log, "ln x")                                                                              \
  X(SQRT, sqrt, "square root")                                                                     \
  X(SQUARE, square, "x^2")                                                                         \
  X(RECIPROCAL, reciprocal, "1 / x")                                                               \
  X(ABS, abs, "|x|")                                                                               \
  X(SIGMOID, sigmoid, "1 / (1 + e^-x)")                                                            \
  X(TANH, tanh, "hyperbolic tangent")                                                              \
  X(RELU, relu, "max(x, 0)")                                                                       \
  X(SILU, silu, "x * sigmoid(x)")                                                                  \
  X(GELU, gelu, "x * Phi(x), with the exact normal distribution")                                  \
  X(GELU_TANH, gelu_tanh, "the tanh approximation of gelu")                                        \
  X(SOFTPLUS, softplus, "ln(1 + e^x)")                                                             \
  X(NORMAL_CDF, normal_cdf, "Phi(x)")                                                              \
  X(CLAMP, clamp, "x limited to [alpha, beta]; gradient 0 outside")                                \
  X(STEP, step, "1 where x > 0, else 0; gradient 0")                                               \
  X(SIGN, sign, "-1, 0 or 1; gradient 0")
// clang-format on

typedef enum mg_unary {
#define MG_UNARY_ENUM(NAME, name, what) MG_UNARY_##NAME,
  MG_UNARY_LIST(MG_UNARY_ENUM)
#undef MG_UNARY_ENUM
      MG_UNARY_COUNT
} mg_unary;

typedef enum mg_binary {
  MG_BINARY_ADD,
  MG_BINARY_SUB,
  MG_BINARY_MUL,
  MG_BINARY_DIV,
  MG_BINARY_MAX,     /* gradient to the larger; to a when equal */
  MG_BINARY_MIN,     /* gradient to the smaller; to a when equal */
  MG_BINARY_GREATER, /* 1 where a > b, else 0; gradient 0 */
  MG_BINARY_COUNT
} mg_binary;

typedef enum mg_reduce { MG_REDUCE_SUM, MG_REDUCE_MEAN, MG_REDUCE_MAX, MG_REDUCE_SUM_SQUARES } mg_reduce;
typedef enum mg_axis { MG_OVER_COLUMNS, MG_OVER_ROWS } mg_axis;
typedef enum mg_norm_kind { MG_NORM_RMS, MG_NORM_LAYER } mg_norm_kind;
typedef enum mg_random_kind { MG_RANDOM_UNIFORM, MG_RANDOM_NORMAL } mg_random_kind;
/* Which assignments an expert keeps when it has more than its capacity: the first by token order (all first choices
 * before any second choice), or those of highest priority. */
typedef enum mg_capacity_order { MG_ORDER_POSITION, MG_ORDER_PRIORITY } mg_capacity_order;
/* Activation of a gated feed-forward, and of a plain one. */
typedef enum mg_glu_kind { MG_GLU_SILU, MG_GLU_GELU, MG_GLU_GELU_TANH, MG_GLU_RELU, MG_GLU_SIGMOID } mg_glu_kind;

/* How a gate turns logits into scores, and what its k best weigh: their scores, or shares of the sum of those + 1e-20, or
 * a softmax over their logits. The last compares logits; the others compare scores, as they are stored. */
typedef enum mg_gate_score { MG_GATE_SOFTMAX, MG_GATE_SIGMOID, MG_GATE_SQRT_SOFTPLUS } mg_gate_score;
typedef enum mg_gate_weight { MG_GATE_SCORES, MG_GATE_SHARES, MG_GATE_SOFTMAX_OF_CHOSEN } mg_gate_weight;

/* The parts of a model to which work is counted. What chooses within a gate (top_k, assign, histogram, and the
 * choosing share of a fused gate's FLOPs) is `selection`: the tape tells it apart by itself. */
// clang-format off
#define MG_PART_LIST(X)                                                                            \
  X(OTHER, other) X(EMBEDDING, embedding) X(ATTENTION, attention) X(GATE, gate) X(DISPATCH, dispatch) \
  X(ROUTED, routed) X(SHARED, shared) X(DENSE, dense) X(COMBINE, combine) X(HEAD, head) X(LOSS, loss) \
  X(OPTIMISER, optimiser) X(SELECTION, selection)
// clang-format on
typedef enum mg_part {
#define MG_PART_ENUM(NAME, name) MG_PART_##NAME,
  MG_PART_LIST(MG_PART_ENUM)
#undef MG_PART_ENUM
      MG_PART_COUNT
} mg_part;

// clang-format off
typedef union mg_op_attributes {
  struct { double value; } fill;
  struct { mg_unary kind; double alpha, beta; } unary; /* also unary_backward */
  struct { mg_binary kind; } binary;
  struct { double value; } where;
  struct { double factor; } add_scaled;
  struct { mg_glu_kind kind; } glu; /* also glu_backward */
  /* uniform on (low, high), or normal with mean low and standard deviation high, rounded to out's dtype; element i uses
   * index first + i */
  struct { mg_random_kind kind; mg_stream stream; uint64_t first; double low, high; } random;
  struct { int64_t first; } slice; /* also slice_backward */
  struct { mg_reduce kind; mg_axis axis; } reduce;
  /* compute = MG_BF16 rounds both operands to bf16 and accumulates in f32; MG_F32 and MG_F64 compute in that.
   * `accumulate` adds to what the output holds. Transposes are of the operands as stored. */
  struct { bool transpose_a, transpose_b, accumulate; mg_dtype compute; } matmul;
  struct { bool transpose_w, accumulate; mg_dtype compute; } grouped; /* grouped_matmul and grouped_matmul_weight */
  struct { int64_t choices; } dispatch; /* S; also combine and combine_backward */
  struct { int64_t segments; } histogram;
  struct { int64_t capacity; mg_capacity_order order; } assign; /* capacity per expert; 0 = no limit */
  struct { mg_norm_kind kind; double epsilon; } norm;           /* also norm_backward */
  /* Rotates the first `rotary` of every `head` columns; interleaved pairs (2i, 2i+1), else halves (i, i + rotary/2).
   * `inverse` rotates back (the backward rule). `scale` multiplies the rotated columns. */
  struct { int64_t head, rotary; bool interleaved, inverse; double scale; } rope;
  /* The first `keys` rows of each sequence of k and v count (0 = all Sk), so that a cache may have room behind them.
   * Query i stands at position keys - Sq + i. It sees keys j <= its position when causal, and j > its position - window
   * when window > 0. bias[h, j - i + Sq - 1] is added to the scaled score of query i and key j: it depends on the
   * distance alone. */
  struct { int64_t batch, heads, kv_heads, window; bool causal; double scale; mg_dtype compute; int64_t keys; } attention;
  struct { mg_gate_score score; mg_gate_weight weight; } gate;
  struct { double rate, beta1, beta2, epsilon, decay, gradient_scale; int64_t step; } adamw; /* step counts from 1 */
} mg_op_attributes;
// clang-format on

/* One call of a primitive. Inputs and outputs are borrowed for the call; outputs are allocated by the caller. */
typedef struct mg_op_call {
  mg_op op;
  mg_part part;
  const mg_tensor *in[MG_OP_INPUTS_MAX];
  mg_tensor *out[MG_OP_OUTPUTS_MAX];
  mg_op_attributes attributes;
} mg_op_call;

MG_API const char *mg_op_name(mg_op op);
MG_API const char *mg_op_meaning(mg_op op);
MG_API const char *mg_part_name(mg_part part);

/* Floating-point operations of one call: 2 per multiply-add of a matrix product; for other ops the count per element
 * that core/tensor/README.md lists. Grouped products count only rows that belong to an expert. */
MG_API double mg_op_flops(const mg_op_call *call);
/* Bytes of all inputs read once and all outputs written once. */
MG_API double mg_op_bytes(const mg_op_call *call);

#endif
