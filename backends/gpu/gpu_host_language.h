/* Neutral names of README.md that mean the same wherever kernels run on the host. gpu_vendor.h includes this for kernels,
 * after GPU_DEVICE and gpu_shuffle_xor. */
#ifndef MG_GPU_HOST_LANGUAGE_H
#define MG_GPU_HOST_LANGUAGE_H

#include <string.h>

GPU_DEVICE uint32_t gpu_warp_max(uint32_t value) {
  for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) {
    const uint32_t other = gpu_shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}
GPU_DEVICE int gpu_bits_set(uint64_t bits) {
  return __builtin_popcountll(bits);
}
GPU_DEVICE void gpu_write_shared_vector(void *to, const uint32_t (&word)[4]) {
  memcpy(to, word, sizeof word);
}
GPU_DEVICE uint32_t gpu_bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
GPU_DEVICE float gpu_float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

#endif
