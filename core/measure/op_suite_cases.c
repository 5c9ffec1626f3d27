/* The cases of the conformance suite, as data: for every primitive shapes that have gone wrong somewhere (nothing, one
 * row, widths that fit no vector, an expert without a token, everything on one expert), and larger ones to be timed. A
 * table of rows, therefore longer than other files. */
#include "measure/op_suite_internal.h"

/* One case is one line here; the formatter would give each brace its own. */
/* clang-format off */

/* ---- operands ------------------------------------------------------------------------------------------------- */

#define DIMS(...) (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}
#define OPERAND(type, fill, bound, ...) {type, fill, bound, DIMS(__VA_ARGS__)}
#define X(...) OPERAND(TYPE_CASE, FILL_NORMAL, 0, __VA_ARGS__)
#define FILLED(fill, ...) OPERAND(TYPE_CASE, fill, 0, __VA_ARGS__)
#define WIDE(...) OPERAND(TYPE_WIDE, FILL_NORMAL, 0, __VA_ARGS__)
#define FORWARD(type, ...) OPERAND(type, FILL_FORWARD, 0, __VA_ARGS__)
#define I32(fill, bound, ...) OPERAND(TYPE_I32, fill, bound, __VA_ARGS__)
#define NONE {TYPE_NONE, FILL_NORMAL, 0, 0, {0}}

/* ---- rows, one macro per primitive with the letters of moegauge/op.h -------------------------------------------- */

#define FILL(label_, ...) \
  {.op = MG_OP_FILL, .label = label_, .dtypes = ANY, .attributes.fill.value = -3, .out = {X(__VA_ARGS__)}}
#define CAST(label_, fill, ...) \
  {.op = MG_OP_CAST, .label = label_, .dtypes = ANY, .variants = MG_DTYPE_COUNT, .in = {FILLED(fill, __VA_ARGS__)}, \
   .out = {X(__VA_ARGS__)}}
#define UNARY(label_, fill, ...) \
  {.op = MG_OP_UNARY, .label = label_, .dtypes = REALS, .variants = MG_UNARY_COUNT, .in = {FILLED(fill, __VA_ARGS__)}, \
   .out = {X(__VA_ARGS__)}}, \
  {.op = MG_OP_UNARY_BACKWARD, .label = label_, .dtypes = REALS, .variants = MG_UNARY_COUNT, \
   .in = {FILLED(fill, __VA_ARGS__), X(__VA_ARGS__)}, .out = {X(__VA_ARGS__)}}
#define BINARY(label_, fill, R, C, ...) \
  {.op = MG_OP_BINARY, .label = label_, .dtypes = REALS, .variants = MG_BINARY_COUNT, \
   .in = {FILLED(fill, R, C), FILLED(fill, __VA_ARGS__)}, .out = {X(R, C)}}
#define WHERE(label_, value_, ...) \
  {.op = MG_OP_WHERE, .label = label_, .dtypes = REALS, .attributes.where.value = value_, \
   .in = {FILLED(FILL_MASK, __VA_ARGS__), FILLED(FILL_HOLES, __VA_ARGS__)}, .out = {X(__VA_ARGS__)}}
#define ADD_SCALED(label_, dtypes_, x, out_, ...) \
  {.op = MG_OP_ADD_SCALED, .label = label_, .dtypes = dtypes_, .attributes.add_scaled.factor = -0.375, \
   .in = {OPERAND(x, FILL_NORMAL, 0, __VA_ARGS__)}, .out = {OPERAND(out_, FILL_NORMAL, 0, __VA_ARGS__)}}
#define GLU_FORWARD(label_, fill, ...) \
  {.op = MG_OP_GLU, .label = label_, .dtypes = REALS, .variants = 5, \
   .in = {FILLED(fill, __VA_ARGS__), FILLED(fill, __VA_ARGS__)}, .out = {X(__VA_ARGS__)}}
#define GLU(label_, fill, ...) \
  GLU_FORWARD(label_, fill, __VA_ARGS__), \
  {.op = MG_OP_GLU_BACKWARD, .label = label_, .dtypes = REALS, .variants = 5, \
   .in = {FILLED(fill, __VA_ARGS__), FILLED(fill, __VA_ARGS__), X(__VA_ARGS__)}, \
   .out = {X(__VA_ARGS__), X(__VA_ARGS__)}}
#define RANDOM(label_, first_, ...) \
  {.op = MG_OP_RANDOM, .label = label_, .dtypes = REALS, .variants = 2, \
   .attributes.random = {MG_RANDOM_UNIFORM, {12, 34}, first_, -0.5, 2.0}, .out = {X(__VA_ARGS__)}}

#define SLICE(label_, R, C, first_, count) \
  {.op = MG_OP_SLICE, .label = label_, .dtypes = REALS, .attributes.slice.first = first_, .in = {X(R, C)}, \
   .out = {X(R, count)}}, \
  {.op = MG_OP_SLICE_BACKWARD, .label = label_, .dtypes = REALS, .attributes.slice.first = first_, \
   .in = {X(R, count)}, .out = {X(R, C)}}
#define CONCAT(label_, R, A, B) \
  {.op = MG_OP_CONCAT, .label = label_, .dtypes = REALS, .in = {X(R, A), X(R, B)}, .out = {X(R, (A) + (B))}}
#define TRANSPOSE2(label_, R, C) \
  {.op = MG_OP_TRANSPOSE, .label = label_, .dtypes = REALS, .in = {X(R, C)}, .out = {X(C, R)}}
#define TRANSPOSE3(label_, B, R, C) \
  {.op = MG_OP_TRANSPOSE, .label = label_, .dtypes = REALS, .in = {X(B, R, C)}, .out = {X(B, C, R)}}

#define REDUCE(label_, fill, R, C) \
  {.op = MG_OP_REDUCE, .label = label_, .dtypes = REALS, .variants = 8, .in = {FILLED(fill, R, C)}, .out = {WIDE(R, 1)}}
#define CUMSUM(label_, R, C) {.op = MG_OP_CUMSUM, .label = label_, .dtypes = REALS, .in = {X(R, C)}, .out = {X(R, C)}}
#define SOFTMAX(label_, fill, R, C) \
  {.op = MG_OP_SOFTMAX, .label = label_, .dtypes = REALS, .in = {FILLED(fill, R, C)}, .out = {X(R, C)}}, \
  {.op = MG_OP_SOFTMAX_BACKWARD, .label = label_, .dtypes = REALS, .in = {FORWARD(TYPE_CASE, R, C), X(R, C)}, \
   .out = {X(R, C)}}, \
  {.op = MG_OP_LOG_SUM_EXP, .label = label_, .dtypes = REALS, .in = {FILLED(fill, R, C)}, .out = {X(R, 1)}}

#define MATMUL(label_, fill, M, K, N) \
  {.op = MG_OP_MATMUL, .label = label_, .dtypes = REALS, .variants = 16, .in = {FILLED(fill, M, K), X(K, N)}, .out = {X(M, N)}}
#define MATMUL_BATCH(label_, B, M, K, N) \
  {.op = MG_OP_MATMUL, .label = label_, .dtypes = REALS, .variants = 16, .in = {X(B, M, K), X(B, K, N)}, \
   .out = {X(B, M, N)}}
/* f32 and bf16 operands in a mix. */
#define MATMUL_MIXED(a, b, out_, M, K, N) \
  {.op = MG_OP_MATMUL, .label = "mixed", .dtypes = 1 << MG_F32, .variants = 16, \
   .in = {OPERAND(a, FILL_NORMAL, 0, M, K), OPERAND(b, FILL_NORMAL, 0, K, N)}, \
   .out = {OPERAND(out_, FILL_NORMAL, 0, M, N)}}
#define GROUPED_MIXED(x, w, out_, T, S, E, K, N) \
  {.op = MG_OP_GROUPED_MATMUL, .label = "mixed", .dtypes = 1 << MG_F32, .variants = 8, \
   ROUTING(T, S, E, 0, SPREAD_EVEN), \
   .in = {OPERAND(x, FILL_NORMAL, 0, ROWS, K), OPERAND(w, FILL_NORMAL, 0, E, K, N), I32(FILL_OFFSETS, 0, (E) + 1)}, \
   .out = {OPERAND(out_, FILL_NORMAL, 0, ROWS, N)}}, \
  {.op = MG_OP_GROUPED_MATMUL_WEIGHT, .label = "mixed", .dtypes = 1 << MG_F32, .variants = 8, \
   ROUTING(T, S, E, 0, SPREAD_EVEN), \
   .in = {OPERAND(x, FILL_NORMAL, 0, ROWS, K), OPERAND(w, FILL_NORMAL, 0, ROWS, N), I32(FILL_OFFSETS, 0, (E) + 1)}, \
   .out = {OPERAND(out_, FILL_NORMAL, 0, E, K, N)}}
/* Weights and tables of a stored dtype, for few rows, more rows, and a depth of several passes. */
#define STORED_MATMUL(NAME, name, x, out_, M, K, N) \
  {.op = MG_OP_MATMUL, .label = #name, .dtypes = 1 << MG_F32, .variants = 16, \
   .in = {OPERAND(x, FILL_NORMAL, 0, M, K), OPERAND(TYPE_##NAME, FILL_NORMAL, 0, K, N)}, \
   .out = {OPERAND(out_, FILL_NORMAL, 0, M, N)}}
#define STORED(NAME, name, values, bytes) \
  STORED_MATMUL(NAME, name, TYPE_F32, TYPE_F32, 3, 256, 256), STORED_MATMUL(NAME, name, TYPE_BF16, TYPE_BF16, 5, 256, 256), \
  {.op = MG_OP_GROUPED_MATMUL, .label = #name, .dtypes = 1 << MG_F32, .variants = 8, \
   ROUTING(4, 2, 3, 0, SPREAD_EVEN), \
   .in = {OPERAND(TYPE_F32, FILL_NORMAL, 0, ROWS, 256), OPERAND(TYPE_##NAME, FILL_NORMAL, 0, 3, 256, 256), \
          I32(FILL_OFFSETS, 0, 4)}, .out = {OPERAND(TYPE_F32, FILL_NORMAL, 0, ROWS, 256)}}, \
  {.op = MG_OP_GATHER_ROWS, .label = #name, .dtypes = 1 << MG_F32, \
   .in = {OPERAND(TYPE_##NAME, FILL_NORMAL, 0, 5, 768), I32(FILL_SOME_IDS, 5, 6)}, .out = {X(6, 768)}}, \
  {.op = MG_OP_CAST, .label = #name, .dtypes = 1 << MG_F32, .variants = MG_DTYPE_COUNT, \
   .in = {OPERAND(TYPE_##NAME, FILL_NORMAL, 0, 7, 1280)}, .out = {X(7, 1280)}},
#define ROUTING(T, S, E, capacity, spread) .routing = {T, S, E, capacity, spread}
#define GROUPED(label_, T, S, E, capacity, spread, A, K, N) \
  {.op = MG_OP_GROUPED_MATMUL, .label = label_, .dtypes = REALS, .variants = 8, ROUTING(T, S, E, capacity, spread), \
   .in = {X(A, K), X(E, K, N), I32(FILL_OFFSETS, 0, (E) + 1)}, .out = {X(A, N)}}, \
  {.op = MG_OP_GROUPED_MATMUL_WEIGHT, .label = label_, .dtypes = REALS, .variants = 8, \
   ROUTING(T, S, E, capacity, spread), .in = {X(A, K), X(A, N), I32(FILL_OFFSETS, 0, (E) + 1)}, .out = {X(E, K, N)}}
#define GATHER_DOT(label_, ids, T, D, N, M) \
  {.op = MG_OP_GATHER_DOT, .label = label_, .dtypes = REALS, .in = {X(T, D), X(N, D), I32(ids, N, T, M)}, \
   .out = {X(T, M)}}, \
  {.op = MG_OP_GATHER_DOT_BACKWARD_X, .label = label_, .dtypes = REALS, .in = {X(T, M), X(N, D), I32(ids, N, T, M)}, \
   .out = {X(T, D)}}, \
  {.op = MG_OP_GATHER_DOT_BACKWARD_W, .label = label_, .dtypes = REALS, .in = {X(T, M), X(T, D), I32(ids, N, T, M)}, \
   .out = {X(N, D)}}

#define GATHER_ROWS(label_, ids, V, T, D) \
  {.op = MG_OP_GATHER_ROWS, .label = label_, .dtypes = REALS, .in = {X(V, D), I32(ids, V, T)}, .out = {X(T, D)}}, \
  {.op = MG_OP_SCATTER_ADD_ROWS, .label = label_, .dtypes = REALS, .in = {X(T, D), I32(ids, V, T)}, .out = {X(V, D)}}
#define GATHER_COLUMNS(label_, ids, T, C, S) \
  {.op = MG_OP_GATHER_COLUMNS, .label = label_, .dtypes = REALS, .in = {X(T, C), I32(ids, C, T, S)}, \
   .out = {X(T, S)}}, \
  {.op = MG_OP_SCATTER_COLUMNS, .label = label_, .dtypes = REALS, .in = {X(T, S), I32(ids, C, T, S)}, .out = {X(T, C)}}
#define TOP_K(label_, fill, T, C, k) \
  {.op = MG_OP_TOP_K, .label = label_, .dtypes = REALS, .in = {FILLED(fill, T, C)}, \
   .out = {X(T, k), I32(FILL_IDS, C, T, k)}}
#define GATE(label_, fill, T, E, k) \
  {.op = MG_OP_GATE, .label = label_, .dtypes = REALS, .variants = 9, .in = {FILLED(fill, T, E)}, \
   .out = {X(T, E), X(T, k), I32(FILL_IDS, E, T, k)}}
#define GATE_CHOICE(label_, fill, T, E, k) \
  {.op = MG_OP_GATE, .label = label_, .dtypes = REALS, .variants = 9, .in = {FILLED(fill, T, E)}, \
   .out = {NONE, X(T, k), I32(FILL_IDS, E, T, k)}}
#define HISTOGRAM(label_, ids, T, S, segments_, bins) \
  {.op = MG_OP_HISTOGRAM, .label = label_, .dtypes = 1 << MG_F32, .attributes.histogram.segments = segments_, \
   .in = {I32(ids, bins, T, S)}, .out = {OPERAND(TYPE_F32, FILL_NORMAL, 0, segments_, bins)}}

#define ASSIGN_OUT(T, S, E) \
  .out = {I32(FILL_IDS, 0, (E) + 1), I32(FILL_IDS, 0, (T) * (S)), I32(FILL_IDS, 0, T, S), I32(FILL_IDS, 0, E)}
#define ASSIGN(label_, T, S, E, capacity_, spread) \
  {.op = MG_OP_ASSIGN, .label = label_, .dtypes = 1 << MG_F32, .attributes.assign = {capacity_, MG_ORDER_POSITION}, \
   ROUTING(T, S, E, 0, spread), .in = {I32(FILL_CHOICES, 0, T, S)}, ASSIGN_OUT(T, S, E)}
#define ASSIGN_PRIORITY(label_, fill, T, S, E, capacity_, spread) \
  {.op = MG_OP_ASSIGN, .label = label_, .dtypes = REALS, .attributes.assign = {capacity_, MG_ORDER_PRIORITY}, \
   ROUTING(T, S, E, 0, spread), .in = {I32(FILL_CHOICES, 0, T, S), FILLED(fill, T, S)}, ASSIGN_OUT(T, S, E)}
#define DISPATCH(label_, T, S, E, capacity, spread, A, D) \
  {.op = MG_OP_DISPATCH, .label = label_, .dtypes = REALS, .attributes.dispatch.choices = S, \
   ROUTING(T, S, E, capacity, spread), \
   .in = {X(T, D), I32(FILL_SLOTS, 0, (T) * (S)), I32(FILL_OFFSETS, 0, (E) + 1)}, .out = {X(A, D)}}, \
  {.op = MG_OP_COMBINE, .label = label_, .dtypes = REALS, .attributes.dispatch.choices = S, \
   ROUTING(T, S, E, capacity, spread), \
   .in = {X(A, D), X(T, S), I32(FILL_POSITION, 0, T, S)}, .out = {X(T, D)}}, \
  {.op = MG_OP_COMBINE, .label = label_ " without weights", .dtypes = REALS, .attributes.dispatch.choices = S, \
   ROUTING(T, S, E, capacity, spread), \
   .in = {X(A, D), NONE, I32(FILL_POSITION, 0, T, S)}, .out = {X(T, D)}}, \
  {.op = MG_OP_COMBINE_BACKWARD, .label = label_, .dtypes = REALS, .attributes.dispatch.choices = S, \
   ROUTING(T, S, E, capacity, spread), \
   .in = {X(T, D), X(A, D), X(T, S), I32(FILL_SLOTS, 0, (T) * (S)), I32(FILL_OFFSETS, 0, (E) + 1)}, \
   .out = {X(A, D), X(T, S)}}

#define PADDED(label_, T, S, E, C, spread, D) \
  {.op = MG_OP_DISPATCH, .label = label_, .dtypes = REALS, .attributes.dispatch.choices = S, \
   .routing = {T, S, E, C, spread, true}, \
   .in = {X(T, D), I32(FILL_SLOTS, 0, (E) * (C)), I32(FILL_OFFSETS, 0, (E) + 1)}, .out = {X((E) * (C), D)}}, \
  {.op = MG_OP_COMBINE, .label = label_, .dtypes = REALS, .attributes.dispatch.choices = S, \
   .routing = {T, S, E, C, spread, true}, \
   .in = {X((E) * (C), D), X(T, S), I32(FILL_POSITION, 0, T, S)}, .out = {X(T, D)}}, \
  {.op = MG_OP_COMBINE_BACKWARD, .label = label_, .dtypes = REALS, .attributes.dispatch.choices = S, \
   .routing = {T, S, E, C, spread, true}, \
   .in = {X(T, D), X((E) * (C), D), X(T, S), I32(FILL_SLOTS, 0, (E) * (C)), I32(FILL_OFFSETS, 0, (E) + 1)}, \
   .out = {X((E) * (C), D), X(T, S)}}

#define NORM(label_, fill, R, C) \
  {.op = MG_OP_NORM, .label = label_, .dtypes = REALS, .variants = 2, .attributes.norm.epsilon = 1e-5, \
   .in = {FILLED(fill, R, C), X(C), X(C)}, .out = {X(R, C), WIDE(R, 2)}}, \
  {.op = MG_OP_NORM, .label = label_ " bare", .dtypes = REALS, .variants = 2, .attributes.norm.epsilon = 1e-5, \
   .in = {FILLED(fill, R, C)}, .out = {X(R, C), WIDE(R, 2)}}, \
  {.op = MG_OP_NORM_BACKWARD, .label = label_, .dtypes = REALS, .variants = 2, .attributes.norm.epsilon = 1e-5, \
   .in = {FILLED(fill, R, C), X(C), FORWARD(TYPE_WIDE, R, 2), X(R, C)}, .out = {X(R, C), X(C), X(C)}}, \
  {.op = MG_OP_NORM_BACKWARD, .label = label_ " scale only", .dtypes = REALS, .variants = 2, \
   .attributes.norm.epsilon = 1e-5, .in = {FILLED(fill, R, C), X(C), FORWARD(TYPE_WIDE, R, 2), X(R, C)}, .out = {X(R, C), X(C)}}, \
  {.op = MG_OP_NORM_BACKWARD, .label = label_ " bare", .dtypes = REALS, .variants = 2, \
   .attributes.norm.epsilon = 1e-5, \
   .in = {FILLED(fill, R, C), NONE, FORWARD(TYPE_WIDE, R, 2), X(R, C)}, .out = {X(R, C)}}
#define ROPE(label_, T, heads, head_, rotary_, last) \
  {.op = MG_OP_ROPE, .label = label_, .dtypes = REALS, .variants = 4, \
   .attributes.rope = {head_, rotary_, false, false, 1.25}, \
   .in = {X(T, (heads) * (head_)), I32(FILL_POSITIONS, last, T), \
          OPERAND(TYPE_F32, FILL_FREQUENCIES, 0, (rotary_) / 2)}, \
   .out = {X(T, (heads) * (head_))}}
#define ATTENTION_SIDES(B, Sq, Sk, heads_, kv, head, value) \
  X((B) * (Sq), (heads_) * (head)), X((B) * (Sk), (kv) * (head)), X((B) * (Sk), (kv) * (value))
#define ATTENTION_(label_, causal_, window_, keys_, sinks, bias, B, Sq, Sk, heads_, kv, head, value) \
  {.op = MG_OP_ATTENTION, .label = label_, .dtypes = REALS, .variants = 2, \
   .attributes.attention = {B, heads_, kv, window_, causal_, 0.3, MG_F32, keys_}, \
   .in = {ATTENTION_SIDES(B, Sq, Sk, heads_, kv, head, value), sinks, bias}, \
   .out = {X((B) * (Sq), (heads_) * (value)), WIDE(heads_, (B) * (Sq))}}, \
  {.op = MG_OP_ATTENTION_BACKWARD, .label = label_, .dtypes = REALS, .variants = 2, \
   .attributes.attention = {B, heads_, kv, window_, causal_, 0.3, MG_F32, keys_}, \
   .in = {ATTENTION_SIDES(B, Sq, Sk, heads_, kv, head, value), sinks, bias, \
          FORWARD(TYPE_CASE, (B) * (Sq), (heads_) * (value)), FORWARD(TYPE_WIDE, heads_, (B) * (Sq)), \
          X((B) * (Sq), (heads_) * (value))}, \
   .out = {ATTENTION_SIDES(B, Sq, Sk, heads_, kv, head, value), sinks, bias}}
#define ATTENTION(label_, causal, window, ...) ATTENTION_(label_, causal, window, 0, NONE, NONE, __VA_ARGS__)
#define ATTENTION_KEYS(label_, window, keys, ...) ATTENTION_(label_, true, window, keys, NONE, NONE, __VA_ARGS__)
#define ATTENTION_BIAS(label_, causal, keys, B, Sq, Sk, heads, ...) \
  ATTENTION_(label_, causal, 0, keys, NONE, X(heads, (Sq) + (keys) - 1), B, Sq, Sk, heads, __VA_ARGS__)
#define ATTENTION_SINKS_BIAS(label_, causal, B, Sq, Sk, heads, ...) \
  ATTENTION_(label_, causal, 0, Sk, X(heads), X(heads, (Sq) + (Sk) - 1), B, Sq, Sk, heads, __VA_ARGS__)
#define ATTENTION_SINKS(label_, causal, window, B, Sq, Sk, heads, ...) \
  ATTENTION_(label_, causal, window, 0, X(heads), NONE, B, Sq, Sk, heads, __VA_ARGS__)
#define CROSS_ENTROPY(label_, fill, ids, T, V) \
  {.op = MG_OP_CROSS_ENTROPY, .label = label_, .dtypes = REALS, .in = {FILLED(fill, T, V), I32(ids, V, T)}, \
   .out = {WIDE(T, 1), WIDE(T, 1)}}, \
  {.op = MG_OP_CROSS_ENTROPY_BACKWARD, .label = label_, .dtypes = REALS, \
   .in = {FILLED(fill, T, V), I32(ids, V, T), FORWARD(TYPE_WIDE, T, 1), WIDE(T, 1)}, .out = {X(T, V)}}
#define ADAMW(label_, rate_, step_, n) \
  {.op = MG_OP_ADAMW, .label = label_, .dtypes = 1 << MG_F32, \
   .attributes.adamw = {rate_, 0.9, 0.95, 1e-8, 0.1, 0.5, step_}, .in = {X(n)}, \
   .out = {X(n), X(n), FILLED(FILL_POSITIVE, n)}}

/* ---- cases that are checked ------------------------------------------------------------------------------------- */

static const suite_case check_cases[] = {
    FILL("no element", 0), FILL("", 1), FILL("", 33), FILL("", 3, 17), FILL("", 2, 3, 5, 7),
    CAST("no row", FILL_WIDE, 0, 17), CAST("", FILL_WIDE, 33), CAST("", FILL_INTEGERS, 7, 19),
    CAST("", FILL_HOLES, 5, 6),
    UNARY("no row", FILL_NORMAL, 0, 5), UNARY("one", FILL_NORMAL, 1), UNARY("", FILL_NORMAL, 5, 33),
    UNARY("far out", FILL_WIDE, 3, 67), UNARY("", FILL_NORMAL, 2, 3, 5, 7), UNARY("NaN", FILL_SOME_NAN, 5, 33),
    UNARY("large", FILL_NORMAL, 130, 157),
    BINARY("no row", FILL_NORMAL, 0, 5, 0, 5), BINARY("like a", FILL_NORMAL, 7, 33, 7, 33),
    BINARY("equal values", FILL_TIES, 9, 17, 9, 17), BINARY("row", FILL_NORMAL, 7, 33, 33),
    BINARY("row, square", FILL_NORMAL, 5, 5, 5), BINARY("row [1,C]", FILL_NORMAL, 5, 17, 1, 17),
    BINARY("column", FILL_NORMAL, 7, 33, 7, 1), BINARY("column, square", FILL_NORMAL, 5, 5, 5, 1),
    BINARY("one element", FILL_NORMAL, 7, 33, 1), BINARY("one row", FILL_NORMAL, 1, 3, 3),
    BINARY("one column", FILL_NORMAL, 17, 1, 1), BINARY("NaN", FILL_SOME_NAN, 5, 33, 5, 33),
    BINARY("large", FILL_NORMAL, 130, 157, 130, 157), BINARY("large, row", FILL_NORMAL, 130, 157, 157),
    BINARY("large, column", FILL_NORMAL, 130, 157, 130, 1),
    WHERE("no row", 0, 0, 5), WHERE("", -1e30, 7, 33), WHERE("", 0.5, 1),
    ADD_SCALED("nothing", REALS, TYPE_CASE, TYPE_CASE, 0), ADD_SCALED("", REALS, TYPE_CASE, TYPE_CASE, 7, 33),
    ADD_SCALED("bf16 into f32", 1 << MG_F32, TYPE_BF16, TYPE_F32, 7, 33),
    GLU("no row", FILL_NORMAL, 0, 5), GLU("", FILL_NORMAL, 1, 1), GLU("", FILL_NORMAL, 5, 33),
    GLU("far out", FILL_WIDE, 3, 67), GLU_FORWARD("NaN", FILL_SOME_NAN, 5, 33), GLU("large", FILL_NORMAL, 130, 157),
    RANDOM("nothing", 0, 0), RANDOM("", 0, 33), RANDOM("from the middle of a block", 3, 5, 7),
    RANDOM("beyond 32 bits", (UINT64_C(1) << 34) - 6, 17),
    SLICE("no row", 0, 5, 1, 2), SLICE("all", 3, 17, 0, 17), SLICE("middle", 7, 33, 16, 9), SLICE("last", 5, 7, 6, 1),
    SLICE("none", 5, 7, 3, 0),
    CONCAT("no row", 0, 5, 2), CONCAT("", 1, 1, 1), CONCAT("", 7, 33, 6), CONCAT("nothing beside", 5, 7, 0),
    CONCAT("nothing before", 5, 0, 7), CONCAT("large", 130, 64, 157),
    TRANSPOSE2("no row", 0, 5), TRANSPOSE2("", 1, 17), TRANSPOSE2("", 33, 17), TRANSPOSE2("", 64, 64),
    TRANSPOSE2("large", 130, 157),
    TRANSPOSE3("", 3, 17, 5), TRANSPOSE3("no batch", 0, 3, 5),
    REDUCE("no row", FILL_NORMAL, 0, 5), REDUCE("one", FILL_NORMAL, 1, 1), REDUCE("", FILL_NORMAL, 7, 33), REDUCE("", FILL_NORMAL, 33, 3), REDUCE("tall", FILL_NORMAL, 300, 2),
    REDUCE("large", FILL_NORMAL, 157, 130), REDUCE("wide", FILL_NORMAL, 2, 1030), REDUCE("taller", FILL_NORMAL, 4200, 3), REDUCE("NaN", FILL_SOME_NAN, 9, 17), REDUCE("holes", FILL_HOLES, 9, 17),
    CUMSUM("no row", 0, 5), CUMSUM("", 1, 1), CUMSUM("", 7, 33), CUMSUM("wide", 3, 515),
    SOFTMAX("no row", FILL_NORMAL, 0, 5), SOFTMAX("one column", FILL_NORMAL, 5, 1), SOFTMAX("", FILL_NORMAL, 7, 3),
    SOFTMAX("", FILL_NORMAL, 7, 33), SOFTMAX("far out", FILL_WIDE, 7, 17), SOFTMAX("holes", FILL_HOLES, 9, 17),
    SOFTMAX("wide", FILL_NORMAL, 2, 1030), SOFTMAX("NaN", FILL_SOME_NAN, 9, 5),
    SOFTMAX("large", FILL_NORMAL, 157, 130),
    MATMUL("no row", FILL_NORMAL, 0, 5, 4), MATMUL("no inner", FILL_NORMAL, 5, 0, 4), MATMUL("one", FILL_NORMAL, 1, 1, 1), MATMUL("one row", FILL_NORMAL, 1, 17, 33),
    MATMUL("", FILL_NORMAL, 3, 1, 2), MATMUL("", FILL_NORMAL, 17, 3, 33), MATMUL("one column", FILL_NORMAL, 33, 17, 1), MATMUL("", FILL_NORMAL, 32, 64, 32),
    MATMUL("", FILL_NORMAL, 40, 70, 50), MATMUL("deep", FILL_NORMAL, 5, 515, 7), MATMUL("large", FILL_NORMAL, 65, 66, 130),
    MATMUL("few rows", FILL_NORMAL, 4, 135, 70), MATMUL("filled rows", FILL_NORMAL, 37, 96, 110), MATMUL("filled rows", FILL_NORMAL, 6, 130, 35),
    MATMUL("deeper", FILL_NORMAL, 70, 1100, 96), MATMUL("many columns", FILL_NORMAL, 30, 20, 1100), MATMUL_BATCH("", 3, 5, 17, 9),
    MATMUL_BATCH("no batch", 0, 5, 17, 9), MATMUL("NaN", FILL_FEW_NAN, 9, 40, 33), MATMUL("NaN", FILL_FEW_NAN, 72, 40, 72),
    MATMUL("whole vectors", FILL_NORMAL, 136, 40, 72), MATMUL("whole vectors, deep", FILL_NORMAL, 72, 136, 136),
    MATMUL_BATCH("whole vectors", 2, 72, 40, 72), MATMUL("whole vectors, but of the result", FILL_NORMAL, 72, 40, 132),
    GROUPED("no token", 0, 2, 3, 0, SPREAD_EVEN, 0, 5, 4),
    GROUPED("one token", 1, 1, 3, 0, SPREAD_EVEN, ROWS, 17, 33), GROUPED("", 9, 2, 4, 0, SPREAD_EVEN, ROWS, 17, 33),
    GROUPED("all on one", 11, 2, 3, 0, SPREAD_ONE, ROWS, 3, 17),
    GROUPED("none on one", 11, 2, 3, 0, SPREAD_GAP, ROWS, 33, 3),
    GROUPED("unused rows", 9, 2, 4, 3, SPREAD_SOME, 18, 17, 5),
    GROUPED("capacity 1", 20, 1, 4, 1, SPREAD_EVEN, ROWS, 1, 1),
    GROUPED("wide", 20, 2, 3, 0, SPREAD_EVEN, ROWS, 40, 48),
    GROUPED("few rows each", 12, 1, 4, 0, SPREAD_EVEN, ROWS, 66, 90),
    GROUPED("filled rows", 40, 2, 3, 0, SPREAD_EVEN, ROWS, 70, 130),
    GROUPED("whole vectors", 100, 2, 2, 0, SPREAD_SOME, ROWS, 72, 72),
    GROUPED("whole vectors, unused rows", 100, 2, 3, 60, SPREAD_GAP, 200, 40, 72),
    GROUPED("one expert", 35, 1, 1, 0, SPREAD_EVEN, ROWS, 70, 50),
    MATMUL_MIXED(TYPE_BF16, TYPE_F32, TYPE_BF16, 17, 33, 5), MATMUL_MIXED(TYPE_F32, TYPE_BF16, TYPE_F32, 5, 17, 33),
    MATMUL_MIXED(TYPE_BF16, TYPE_BF16, TYPE_F32, 32, 40, 16), MATMUL_MIXED(TYPE_BF16, TYPE_F32, TYPE_BF16, 72, 40, 136),
    GROUPED_MIXED(TYPE_BF16, TYPE_F32, TYPE_BF16, 9, 2, 4, 17, 33),
    GROUPED_MIXED(TYPE_F32, TYPE_BF16, TYPE_F32, 9, 2, 4, 33, 5),
    GROUPED_MIXED(TYPE_BF16, TYPE_BF16, TYPE_F32, 9, 2, 3, 32, 16),
    MG_STORED_LIST(STORED)
    STORED_MATMUL(Q4_K, q4_k deep, TYPE_F32, TYPE_F32, 5, 2304, 256),
    STORED_MATMUL(Q8_0, q8_0 deep, TYPE_BF16, TYPE_F32, 5, 2304, 256),
    GATHER_DOT("no token", FILL_IDS, 0, 5, 3, 2), GATHER_DOT("", FILL_IDS, 1, 1, 1, 1),
    GATHER_DOT("", FILL_SOME_IDS, 9, 33, 7, 4), GATHER_DOT("repeated ids", FILL_IDS, 17, 17, 2, 5),
    GATHER_DOT("wide", FILL_SOME_IDS, 40, 130, 30, 3), GATHER_DOT("large", FILL_SOME_IDS, 300, 70, 20, 4),
    GATHER_DOT("wider", FILL_SOME_IDS, 5, 600, 7, 3), GATHER_ROWS("wider", FILL_SOME_IDS, 5, 4, 2100),
    GATHER_ROWS("no token", FILL_IDS, 5, 0, 3), GATHER_ROWS("", FILL_IDS, 1, 1, 1),
    GATHER_ROWS("", FILL_SOME_IDS, 9, 12, 33), GATHER_ROWS("repeated ids", FILL_IDS, 2, 40, 17),
    GATHER_ROWS("wide", FILL_SOME_IDS, 60, 50, 130), GATHER_ROWS("large", FILL_SOME_IDS, 40, 300, 70),
    GATHER_COLUMNS("no token", FILL_IDS, 0, 5, 2), GATHER_COLUMNS("", FILL_SOME_IDS, 9, 17, 3),
    GATHER_COLUMNS("repeated ids", FILL_IDS, 9, 2, 7), GATHER_COLUMNS("", FILL_IDS, 3, 1, 1),
    GATHER_COLUMNS("large", FILL_IDS, 3000, 6, 6),
    TOP_K("no token", FILL_NORMAL, 0, 5, 2), TOP_K("k = C", FILL_NORMAL, 5, 9, 9),
    TOP_K("k = C = 1", FILL_NORMAL, 5, 1, 1), TOP_K("", FILL_NORMAL, 17, 33, 4), TOP_K("ties", FILL_TIES, 17, 33, 8),
    TOP_K("NaN and -inf", FILL_NAN, 17, 19, 19), TOP_K("holes", FILL_HOLES, 9, 17, 6),
    TOP_K("wide", FILL_NORMAL, 5, 260, 8), TOP_K("wide ties", FILL_TIES, 5, 260, 13),
    TOP_K("64 experts", FILL_TIES, 9, 64, 8), TOP_K("k = 1", FILL_TIES, 9, 128, 1),
    TOP_K("large", FILL_TIES, 300, 64, 6), TOP_K("few of NaN and -inf", FILL_NAN, 35, 19, 5),
    TOP_K("few of holes", FILL_HOLES, 40, 17, 7), TOP_K("one of ties", FILL_TIES, 33, 70, 1),
    TOP_K("many of ties", FILL_TIES, 5, 300, 40), TOP_K("all of NaN and -inf", FILL_NAN, 7, 70, 70),
    TOP_K("many", FILL_NORMAL, 3, 1500, 700),
    GATE("no token", FILL_NORMAL, 0, 5, 2), GATE("k = E = 1", FILL_NORMAL, 5, 1, 1), GATE("", FILL_NORMAL, 17, 33, 4),
    GATE("k = E", FILL_TIES, 7, 9, 9), GATE("ties", FILL_TIES, 17, 64, 8), GATE("holes", FILL_HOLES, 9, 17, 6),
    GATE("NaN and -inf", FILL_NAN, 17, 19, 5), GATE("256 experts", FILL_NORMAL, 21, 256, 8),
    GATE("wide", FILL_NORMAL, 5, 390, 30), GATE("wide ties", FILL_TIES, 5, 260, 13),
    GATE_CHOICE("without scores", FILL_NORMAL, 9, 70, 6),
    HISTOGRAM("no token", FILL_IDS, 0, 2, 1, 5), HISTOGRAM("", FILL_IDS, 17, 2, 1, 5),
    HISTOGRAM("-1", FILL_SOME_IDS, 18, 3, 6, 33), HISTOGRAM("one bin", FILL_IDS, 40, 1, 4, 1),
    HISTOGRAM("large", FILL_SOME_IDS, 9000, 2, 2, 64),
    ASSIGN("no token", 0, 2, 3, 0, SPREAD_EVEN), ASSIGN("one token", 1, 1, 1, 0, SPREAD_EVEN),
    ASSIGN("", 17, 2, 5, 0, SPREAD_EVEN), ASSIGN("-1", 17, 3, 5, 0, SPREAD_SOME),
    ASSIGN("all on one", 33, 2, 4, 7, SPREAD_ONE), ASSIGN("capacity 1", 33, 3, 8, 1, SPREAD_EVEN),
    ASSIGN("capacity", 50, 2, 6, 9, SPREAD_GAP), ASSIGN("capacity, -1", 70, 4, 33, 5, SPREAD_SOME),
    ASSIGN("more than enough", 9, 2, 3, 100, SPREAD_EVEN), ASSIGN("many", 600, 2, 16, 60, SPREAD_EVEN),
    ASSIGN("large", 9000, 2, 64, 0, SPREAD_SOME), ASSIGN("large, capacity", 9000, 2, 16, 20, SPREAD_EVEN),
    ASSIGN_PRIORITY("no token", FILL_NORMAL, 0, 2, 3, 1, SPREAD_EVEN),
    ASSIGN_PRIORITY("priority", FILL_NORMAL, 50, 2, 6, 9, SPREAD_EVEN),
    ASSIGN_PRIORITY("priority ties", FILL_TIES, 50, 3, 6, 7, SPREAD_SOME),
    ASSIGN_PRIORITY("priority NaN", FILL_NAN, 40, 2, 3, 5, SPREAD_GAP),
    ASSIGN_PRIORITY("priority, all on one, capacity 1", FILL_TIES, 33, 2, 4, 1, SPREAD_ONE),
    ASSIGN_PRIORITY("priority, no limit", FILL_NORMAL, 17, 2, 4, 0, SPREAD_EVEN),
    DISPATCH("no token", 0, 2, 3, 0, SPREAD_EVEN, 0, 5), DISPATCH("one token", 1, 1, 3, 0, SPREAD_EVEN, ROWS, 17),
    DISPATCH("", 9, 2, 4, 0, SPREAD_EVEN, ROWS, 33), DISPATCH("dropped", 20, 2, 4, 3, SPREAD_EVEN, ROWS, 17),
    DISPATCH("unused rows", 20, 2, 4, 3, SPREAD_SOME, 40, 3), DISPATCH("all on one", 9, 3, 4, 0, SPREAD_ONE, ROWS, 1),
    PADDED("padded", 9, 2, 4, 6, SPREAD_EVEN, 17), PADDED("padded, one choice", 5, 1, 3, 4, SPREAD_SOME, 33),
    DISPATCH("wide", 70, 2, 5, 0, SPREAD_GAP, ROWS, 130), DISPATCH("large", 170, 2, 5, 0, SPREAD_EVEN, ROWS, 70),
    DISPATCH("wider", 3, 2, 4, 0, SPREAD_EVEN, ROWS, 2100),
    NORM("no row", FILL_NORMAL, 0, 5), NORM("one column", FILL_NORMAL, 5, 1), NORM("", FILL_NORMAL, 7, 3), NORM("", FILL_NORMAL, 7, 33), NORM("wide", FILL_NORMAL, 3, 515),
    NORM("tall", FILL_NORMAL, 130, 17), NORM("large", FILL_NORMAL, 157, 130), NORM("NaN", FILL_FEW_NAN, 9, 33),
    ROPE("no token", 0, 2, 4, 4, 9), ROPE("", 7, 3, 4, 4, 9), ROPE("part of the head", 5, 2, 10, 4, 100),
    ROPE("one pair", 3, 1, 2, 2, 5), ROPE("far", 9, 2, 64, 64, 4000), ROPE("large", 70, 4, 64, 64, 70),
    ATTENTION("no token", true, 0, 1, 0, 0, 2, 2, 4, 4), ATTENTION("one token", true, 0, 1, 1, 1, 1, 1, 1, 1),
    ATTENTION("causal", true, 0, 2, 7, 7, 3, 3, 17, 17), ATTENTION("all to all", false, 0, 1, 5, 9, 2, 2, 4, 4),
    ATTENTION("grouped heads", true, 0, 2, 6, 6, 4, 2, 8, 8), ATTENTION("one key head", true, 0, 1, 6, 6, 3, 1, 5, 7),
    ATTENTION("window", true, 3, 1, 9, 9, 2, 1, 4, 4),
    ATTENTION("window without causal", false, 2, 1, 7, 7, 2, 2, 4, 4),
    ATTENTION("later queries", true, 0, 2, 3, 8, 2, 2, 16, 16),
    ATTENTION("more queries than keys", true, 0, 1, 6, 4, 1, 1, 4, 4),
    ATTENTION_SINKS("sinks", true, 0, 2, 6, 6, 4, 2, 8, 8),
    ATTENTION_SINKS("sinks and window", true, 2, 1, 9, 9, 2, 2, 3, 3),
    ATTENTION_KEYS("room behind the keys", 0, 8, 2, 3, 11, 2, 1, 16, 16),
    ATTENTION_KEYS("room and window", 4, 7, 2, 1, 9, 4, 2, 8, 6),
    ATTENTION_BIAS("bias", true, 6, 2, 6, 6, 4, 2, 8, 8), ATTENTION_BIAS("bias and room", true, 7, 2, 3, 9, 2, 1, 4, 6),
    ATTENTION_SINKS_BIAS("sinks and bias", false, 1, 5, 9, 2, 2, 4, 4),
    ATTENTION("few queries", true, 0, 2, 2, 75, 6, 2, 35, 20), ATTENTION("one query", true, 40, 1, 1, 99, 3, 3, 64, 64),
    ATTENTION_SINKS_BIAS("few queries, sinks and bias", false, 1, 2, 301, 6, 3, 40, 33),
    ATTENTION_KEYS("few queries, room and window", 150, 201, 2, 3, 203, 6, 2, 16, 24),
    ATTENTION("long", true, 0, 1, 70, 70, 2, 1, 32, 32),
    ATTENTION("wide heads", true, 0, 1, 70, 140, 2, 1, 72, 136),
    ATTENTION("wide key heads", true, 0, 1, 7, 66, 2, 2, 136, 20),
    ATTENTION("long window", true, 66, 1, 200, 200, 2, 1, 8, 8),
    ATTENTION("long window without causal", false, 70, 1, 70, 150, 2, 1, 8, 8),
    ATTENTION("long, more queries than keys", true, 0, 1, 150, 70, 2, 2, 8, 8),
    ATTENTION_KEYS("long room behind the keys", 0, 70, 2, 3, 200, 2, 1, 8, 8),
    ATTENTION_SINKS_BIAS("long sinks and bias", true, 2, 130, 70, 2, 1, 8, 4),
    ATTENTION_SINKS_BIAS("long bias, all to all", false, 1, 70, 150, 2, 1, 8, 8),
    ATTENTION_KEYS("one query, many keys", 0, 700, 2, 1, 720, 4, 1, 16, 16),
    ATTENTION("two queries, many keys", true, 0, 1, 2, 530, 2, 2, 8, 72),
    ATTENTION("few queries, many keys in a window", true, 300, 1, 4, 900, 2, 1, 8, 8),
    ATTENTION("one query, many keys, all to all", false, 0, 1, 1, 530, 3, 3, 8, 8),
    ATTENTION_SINKS("few queries, many keys and sinks", true, 0, 1, 3, 600, 6, 1, 8, 8),
    ATTENTION_SINKS("few queries, sinks and a long window", true, 400, 2, 2, 600, 4, 2, 8, 8),
    ATTENTION_SINKS_BIAS("few queries, many keys and bias", true, 1, 2, 600, 4, 1, 8, 8),
    ATTENTION("one query of many heads", true, 0, 1, 1, 300, 66, 1, 8, 8),
    CROSS_ENTROPY("no token", FILL_NORMAL, FILL_IDS, 0, 5), CROSS_ENTROPY("one word", FILL_NORMAL, FILL_IDS, 5, 1),
    CROSS_ENTROPY("", FILL_NORMAL, FILL_IDS, 7, 33), CROSS_ENTROPY("-1", FILL_NORMAL, FILL_SOME_IDS, 17, 17),
    CROSS_ENTROPY("far out", FILL_WIDE, FILL_SOME_IDS, 9, 67), CROSS_ENTROPY("wide", FILL_NORMAL, FILL_IDS, 3, 1030),
    CROSS_ENTROPY("NaN", FILL_FEW_NAN, FILL_SOME_IDS, 9, 33), CROSS_ENTROPY("holes", FILL_HOLES, FILL_SOME_IDS, 17, 33),
    CROSS_ENTROPY("large", FILL_NORMAL, FILL_SOME_IDS, 157, 130),
    ADAMW("nothing", 1e-2, 1, 0), ADAMW("first step", 1e-2, 1, 33), ADAMW("later", 3e-3, 1000, 515),
    ADAMW("rate 0", 0, 3, 17), ADAMW("large", 1e-3, 7, 20410),
};

/* ---- cases that are timed --------------------------------------------------------------------------------------- */

static const suite_case perf_cases[] = {
    FILL("", 4096, 1024),
    CAST("", FILL_NORMAL, 4096, 1024),
    UNARY("", FILL_NORMAL, 1024, 1024),
    BINARY("like a", FILL_NORMAL, 4096, 1024, 4096, 1024), BINARY("row", FILL_NORMAL, 4096, 1024, 1024),
    WHERE("", 0, 4096, 1024),
    ADD_SCALED("", REALS, TYPE_CASE, TYPE_CASE, 4096, 1024),
    GLU("", FILL_NORMAL, 4096, 512),
    RANDOM("", 0, 1024, 1024),
    SLICE("", 4096, 1024, 256, 512),
    CONCAT("", 4096, 512, 64),
    TRANSPOSE2("", 2048, 1024),
    REDUCE("", FILL_NORMAL, 4096, 1024),
    CUMSUM("", 4096, 64),
    SOFTMAX("gate", FILL_NORMAL, 8192, 64), SOFTMAX("gate", FILL_NORMAL, 8192, 256),
    MATMUL("", FILL_NORMAL, 512, 1024, 1024),
    GROUPED("64 tokens per expert", 512, 2, 16, 0, SPREAD_EVEN, ROWS, 1024, 2048),
    GROUPED("block", 512, 8, 64, 0, SPREAD_EVEN, ROWS, 1024, 512),
    GATHER_DOT("", FILL_IDS, 4096, 512, 64, 8), GATHER_ROWS("", FILL_IDS, 8192, 4096, 512),
    GATHER_COLUMNS("", FILL_IDS, 8192, 64, 8),
    TOP_K("", FILL_NORMAL, 8192, 64, 8), TOP_K("", FILL_NORMAL, 8192, 256, 8),
    GATE("", FILL_NORMAL, 8192, 64, 8), GATE("", FILL_NORMAL, 8192, 256, 8),
    HISTOGRAM("", FILL_IDS, 8192, 8, 1, 64),
    ASSIGN("", 8192, 8, 64, 0, SPREAD_EVEN), ASSIGN("capacity", 8192, 8, 64, 1280, SPREAD_EVEN),
    DISPATCH("", 4096, 2, 64, 0, SPREAD_EVEN, ROWS, 1024),
    NORM("", FILL_NORMAL, 4096, 1024),
    ROPE("", 4096, 8, 64, 64, 4096),
    ATTENTION("", true, 0, 4, 512, 512, 8, 8, 64, 64),
    CROSS_ENTROPY("", FILL_NORMAL, FILL_IDS, 512, 8192),
    ADAMW("", 1e-3, 10, 1 << 22),
};

/* clang-format on */

suite_table mg__suite_check_cases(void) {
  return (suite_table){check_cases, MG_COUNT(check_cases)};
}

suite_table mg__suite_perf_cases(void) {
  return (suite_table){perf_cases, MG_COUNT(perf_cases)};
}
