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
    /* random.cpp */
    ROW(RANDOM, random),
};
