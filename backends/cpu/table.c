/* The kernels of one level, by primitive. */
#include "kernels.h"

const mg_kernel CPU_NAME(kernels)[MG_OP_COUNT] = {
#define ROW(NAME, name, inputs, outputs, what) [MG_OP_##NAME] = CPU_NAME(name),
    MG_OP_LIST(ROW)
#undef ROW
};
