/* No library of matrix products runs on the host's HIP: the kernels' own products are what is looked at here. */
#include "gpu.h"

const gpu_blas_vendor gpu_vendor_blas = {0};
