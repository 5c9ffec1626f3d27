/* Radix sort from the least important digit of 8 bits on (Knuth, The Art of Computer Programming, volume 3, 5.2.5).
 *
 * A pass counts each block's items by digit, sums the counts digit by digit over the blocks, which gives every block its
 * place for every digit, and moves the items there. Within a block, items of one digit keep their order: lanes find
 * those with their own digit by votes on its bits, warps count theirs in shared memory. Nothing depends on timing. */
#include "sort.h"

namespace {

enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, BLOCK = DIGITS, TILES = 8, WARPS = BLOCK / GPU_WARP };
enum { BLOCK_ITEMS = BLOCK * TILES, SCAN_BLOCK = 1024, SCAN_ITEMS = 8, SCAN_WARPS = SCAN_BLOCK / GPU_WARP };

GPU_DEVICE int digit_of(uint32_t key, int shift) {
  return static_cast<int>(key >> shift) & (DIGITS - 1);
}

GPU_KERNEL(BLOCK) count_kernel(const uint32_t *key, int64_t count, int shift, int32_t *counts) {
  GPU_SHARED(int32_t, of_digit, DIGITS);
  of_digit[gpu_thread()] = 0;
  gpu_barrier();
  const int64_t first = gpu_block() * BLOCK_ITEMS;
  for (int64_t i = first + gpu_thread(); i < count && i < first + BLOCK_ITEMS; i += BLOCK)
    (void)gpu_atomic_add(&of_digit[digit_of(key[i], shift)], 1);
  gpu_barrier();
  counts[gpu_thread() * gpu_blocks() + gpu_block()] = of_digit[gpu_thread()];
}

/* Sum of this lane's value and those of all lanes before it. */
GPU_DEVICE int32_t sum_up_to(int32_t value) {
  const int lane = gpu_thread() % GPU_WARP;
  for (int distance = 1; distance < GPU_WARP; distance *= 2) {
    const int32_t before = gpu_shuffle_up(value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

/* Replaces each count by the sum of those before it. One block walks through all, a few for each thread: there are as many
 * as digits and blocks, a multiple of SCAN_ITEMS. */
GPU_KERNEL(SCAN_BLOCK) scan_kernel(int32_t *counts, int64_t count) {
  GPU_SHARED(int32_t, of_warp, SCAN_WARPS);
  const int warp = gpu_thread() / GPU_WARP;
  int32_t carried = 0;
  for (int64_t first = 0; first < count; first += SCAN_BLOCK * SCAN_ITEMS) {
    const int64_t i = first + gpu_thread() * SCAN_ITEMS;
    int32_t own = 0;
    for (int k = 0; k < SCAN_ITEMS; k++) own += i < count ? counts[i + k] : 0;
    const int32_t sum = sum_up_to(own);
    if (gpu_thread() % GPU_WARP == GPU_WARP - 1) of_warp[warp] = sum;
    gpu_barrier();
    int32_t before = carried + sum - own;
    for (int w = 0; w < SCAN_WARPS; w++) {
      if (w < warp) before += of_warp[w];
      carried += of_warp[w];
    }
    for (int k = 0; k < SCAN_ITEMS && i < count; k++) {
      const int32_t here = counts[i + k];
      counts[i + k] = before;
      before += here;
    }
    gpu_barrier();
  }
}

/* The lanes of this warp that hold an item of the same digit. */
GPU_DEVICE uint64_t lanes_alike(int digit, bool present) {
  uint64_t alike = gpu_ballot(present);
  for (int bit = 0; bit < DIGIT_BITS; bit++) {
    const uint64_t votes = gpu_ballot(digit >> bit & 1);
    alike &= digit >> bit & 1 ? votes : ~votes;
  }
  return alike;
}

GPU_KERNEL(BLOCK)
move_kernel(const uint32_t *key, const int32_t *item, uint32_t *to_key, int32_t *to_item, int64_t count, int shift,
            const int32_t *counts) {
  GPU_SHARED(int32_t, place, DIGITS); /* where the block's next item of the digit goes */
  GPU_SHARED(int32_t, of_warp, WARPS * DIGITS);
  const int thread = gpu_thread(), lane = thread % GPU_WARP, warp = thread / GPU_WARP;
  place[thread] = counts[thread * gpu_blocks() + gpu_block()];
  for (int64_t first = gpu_block() * BLOCK_ITEMS, end = first + BLOCK_ITEMS; first < end && first < count;
       first += BLOCK) {
    const int64_t i = first + thread;
    const bool present = i < count;
    const uint32_t own = present ? key[i] : 0;
    const int digit = digit_of(own, shift);
    const uint64_t alike = lanes_alike(digit, present);
    const int before = gpu_bits_set(alike & ((UINT64_C(1) << lane) - 1));
    for (int w = 0; w < WARPS; w++) of_warp[w * DIGITS + thread] = 0;
    gpu_barrier();
    if (present && before == 0) of_warp[warp * DIGITS + digit] = gpu_bits_set(alike);
    gpu_barrier();
    if (present) {
      int32_t to = place[digit] + before;
      for (int w = 0; w < warp; w++) to += of_warp[w * DIGITS + digit];
      to_key[to] = own;
      to_item[to] = item[i];
    }
    gpu_barrier();
    for (int w = 0; w < WARPS; w++) place[thread] += of_warp[w * DIGITS + thread];
  }
}

struct offset_step {
  const uint32_t *key;
  int64_t count;
  int32_t *offsets;
  GPU_DEVICE void operator()(int64_t bound) const {
    int64_t low = 0, high = count; /* the first key that is not below lies in [low, high] */
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (static_cast<int64_t>(key[middle]) < bound)
        low = middle + 1;
      else
        high = middle;
    }
    offsets[bound] = static_cast<int32_t>(low);
  }
};

size_t rounded(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

int64_t blocks_of(int64_t count) {
  return count > 0 ? gpu_ceil_div(count, BLOCK_ITEMS) : 1;
}

} // namespace

size_t gpu_sort_bytes(int64_t count) {
  const size_t items = static_cast<size_t>(count > 0 ? count : 1);
  return 4 * rounded(items * sizeof(int32_t)) + static_cast<size_t>(blocks_of(count)) * DIGITS * sizeof(int32_t);
}

gpu_sort gpu_sort_create(void *memory, int64_t count) {
  const size_t step = rounded(static_cast<size_t>(count > 0 ? count : 1) * sizeof(int32_t));
  char *part = static_cast<char *>(memory);
  gpu_sort sort = {};
  for (int half = 0; half < 2; half++) {
    sort.key[half] = reinterpret_cast<uint32_t *>(part + 2 * static_cast<size_t>(half) * step);
    sort.item[half] = reinterpret_cast<int32_t *>(part + (2 * static_cast<size_t>(half) + 1) * step);
  }
  sort.counts = reinterpret_cast<int32_t *>(part + 4 * step);
  sort.count = count;
  return sort;
}

void gpu_sort_run(const mg_backend *backend, gpu_sort *sort, int bits) {
  if (sort->count <= 0) return;
  const gpu_stream stream = gpu_state_of(backend)->stream;
  const gpu_grid grid = {static_cast<uint32_t>(blocks_of(sort->count)), 1};
  for (int shift = 0; shift < bits; shift += DIGIT_BITS) {
    const int from = sort->now, to = 1 - from;
    gpu_launch(count_kernel, grid, BLOCK, stream, sort->key[from], sort->count, shift, sort->counts);
    gpu_launch(scan_kernel, gpu_grid{1, 1}, SCAN_BLOCK, stream, sort->counts, static_cast<int64_t>(grid.x) * DIGITS);
    gpu_launch(move_kernel, grid, BLOCK, stream, sort->key[from], sort->item[from], sort->key[to], sort->item[to],
               sort->count, shift, sort->counts);
    sort->now = to;
  }
}

void gpu_sort_offsets(const mg_backend *backend, const gpu_sort *sort, int64_t bound, int32_t *offsets) {
  gpu_each(backend, bound + 1, offset_step{sort->key[sort->now], sort->count, offsets});
}
