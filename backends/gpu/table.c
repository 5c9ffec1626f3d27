/* Which primitives have a kernel, by the file that holds it. */
#include "gpu.h"

#define ROW(NAME, name) [MG_OP_##NAME] = mg__gpu_##name

const mg_kernel mg__gpu_kernels[MG_OP_COUNT] = {
    /* elementwise.cpp */
    ROW(FILL, fill),
    ROW(CAST, cast),
    ROW(UNARY, unary),
    ROW(UNARY_BACKWARD, unary_backward),
    ROW(BINARY, binary),
    ROW(WHERE, where),
    ROW(ADD_SCALED, add_scaled),
    ROW(GLU, glu),
    ROW(GLU_BACKWARD, glu_backward),
    ROW(ADAMW, adamw),
    /* matmul.cpp */
    ROW(MATMUL, matmul),
    ROW(GROUPED_MATMUL, grouped_matmul),
    ROW(GROUPED_MATMUL_WEIGHT, grouped_matmul_weight),
    /* random.cpp */
    ROW(RANDOM, random),
    /* shape.cpp */
    ROW(SLICE, slice),
    ROW(SLICE_BACKWARD, slice_backward),
    ROW(CONCAT, concat),
    ROW(TRANSPOSE, transpose),
    /* reduce.cpp */
    ROW(REDUCE, reduce),
    ROW(CUMSUM, cumsum),
    ROW(SOFTMAX, softmax),
    ROW(SOFTMAX_BACKWARD, softmax_backward),
    ROW(LOG_SUM_EXP, log_sum_exp),
    ROW(CROSS_ENTROPY, cross_entropy),
    ROW(CROSS_ENTROPY_BACKWARD, cross_entropy_backward),
    /* gather.cpp */
    ROW(GATHER_DOT, gather_dot),
    ROW(GATHER_DOT_BACKWARD_X, gather_dot_backward_x),
    ROW(GATHER_DOT_BACKWARD_W, gather_dot_backward_w),
    ROW(GATHER_ROWS, gather_rows),
    ROW(SCATTER_ADD_ROWS, scatter_add_rows),
    ROW(GATHER_COLUMNS, gather_columns),
    ROW(SCATTER_COLUMNS, scatter_columns),
    ROW(DISPATCH, dispatch),
    ROW(COMBINE, combine),
    ROW(COMBINE_BACKWARD, combine_backward),
    /* gate.cpp */
    ROW(GATE, gate),
    /* routing.cpp */
    ROW(TOP_K, top_k),
    ROW(HISTOGRAM, histogram),
    ROW(ASSIGN, assign),
    /* norm.cpp */
    ROW(NORM, norm),
    ROW(NORM_BACKWARD, norm_backward),
    /* attention.cpp, attention_backward.cpp */
    ROW(ATTENTION, attention),
    ROW(ATTENTION_BACKWARD, attention_backward),
    /* rope.cpp */
    ROW(ROPE, rope),
};
