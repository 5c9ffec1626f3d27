/* random: draw first + i of a Philox stream, as moegauge/rng.h defines it, so that every device gets the same numbers.
 *
 * Philox4x32-10 (Salmon et al. 2011) is written out, because Random123's headers throw exceptions and so are device code
 * for one vendor only. The uniform and the normal are computed in f64, as on the host: in f32 the logarithm of a number near 1
 * would lose its digits. */
#include <math.h>

#include "kernels.h"

namespace {
struct philox_block {
  uint32_t word[4];
};

GPU_DEVICE philox_block philox_round(philox_block c, uint32_t key0, uint32_t key1) {
  const uint64_t product0 = UINT64_C(0xd2511f53) * c.word[0], product1 = UINT64_C(0xcd9e8d57) * c.word[2];
  return {{static_cast<uint32_t>(product1 >> 32) ^ c.word[1] ^ key0, static_cast<uint32_t>(product1),
           static_cast<uint32_t>(product0 >> 32) ^ c.word[3] ^ key1, static_cast<uint32_t>(product0)}};
}

GPU_DEVICE uint32_t random_bits(mg_stream stream, uint64_t index) {
  const uint64_t block = index / 4;
  philox_block c = {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                     static_cast<uint32_t>(stream.stream), static_cast<uint32_t>(stream.stream >> 32)}};
  uint32_t key0 = static_cast<uint32_t>(stream.seed), key1 = static_cast<uint32_t>(stream.seed >> 32);
  for (int round = 0; round < 10; round++) {
    c = philox_round(c, key0, key1);
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  const uint32_t word = static_cast<uint32_t>(index % 4);
  return word == 0 ? c.word[0] : word == 1 ? c.word[1] : word == 2 ? c.word[2] : c.word[3];
}

GPU_DEVICE double uniform_at(mg_stream stream, uint64_t index) {
  const double most = 1.0 - 1.0 / 16777216.0; /* the largest f32 below 1 */
  return fmin((static_cast<double>(random_bits(stream, index)) + 0.5) / 4294967296.0, most);
}

GPU_DEVICE double normal_at(mg_stream stream, uint64_t index) {
  const double two_pi = 6.283185307179586476925;
  return sqrt(-2.0 * log(uniform_at(stream, 2 * index))) * cos(two_pi * uniform_at(stream, 2 * index + 1));
}

template <typename T> struct random_step {
  T *out;
  mg_stream stream;
  uint64_t first;
  double low, high;
  bool normal;
  GPU_DEVICE void operator()(int64_t i) const {
    const uint64_t index = first + static_cast<uint64_t>(i);
    const double value =
        normal ? low + high * normal_at(stream, index) : low + (high - low) * uniform_at(stream, index);
    gpu_write(out, i, static_cast<float>(value));
  }
};
} // namespace

mg_status mg__gpu_random(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *out = call->out[0];
  const auto &set = call->attributes.random;
  gpu_with_real(out->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(out),
             random_step<T>{gpu_data<T>(out), set.stream, set.first, set.low, set.high, set.kind == MG_RANDOM_NORMAL});
  });
  return mg__gpu_launched(backend, call);
}
