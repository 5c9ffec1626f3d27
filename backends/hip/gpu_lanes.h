/* The neutral names of exchanges between the lanes of a warp, as HIP spells them on every runtime. */
#ifndef MG_GPU_LANES_H
#define MG_GPU_LANES_H

template <typename T> GPU_DEVICE T gpu_shuffle(T value, int lane) {
  return __shfl(value, lane);
}
template <typename T> GPU_DEVICE T gpu_shuffle_xor(T value, int mask) {
  return __shfl_xor(value, mask);
}
template <typename T> GPU_DEVICE T gpu_shuffle_up(T value, int distance) {
  return __shfl_up(value, static_cast<unsigned>(distance));
}
GPU_DEVICE uint64_t gpu_ballot(bool vote) {
  return __ballot(vote);
}

#endif
