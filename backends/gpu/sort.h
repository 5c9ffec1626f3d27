/* Stable sorting of items by an unsigned key on the device, for everything that groups by expert, id or rank. */
#ifndef MG_GPU_SORT_H
#define MG_GPU_SORT_H

#include "kernels.h"

/* Items and their keys in one of two halves of memory, between which a pass moves them. */
struct gpu_sort {
  uint32_t *key[2];
  int32_t *item[2];
  int32_t *counts; /* of each digit in each block, digit by digit */
  int64_t count;
  int now; /* the half that holds them */
};

/* Bytes of memory for `count` items. */
size_t gpu_sort_bytes(int64_t count);

/* Lays a sort out in `memory`, which has gpu_sort_bytes(count). The caller then fills key[0] and item[0]. */
gpu_sort gpu_sort_create(void *memory, int64_t count);

/* Sorts by the key's lowest `bits`, ascending; equal keys keep their order. Afterwards key[now] and item[now] hold the
 * result. Several calls with other keys, the least important first, sort by all of them. */
void gpu_sort_run(const mg_backend *backend, gpu_sort *sort, int bits);

/* Bits of the numbers 0 .. most. */
static inline int gpu_bits_for(int64_t most) {
  int bits = 1;
  while (most >> bits) bits++;
  return bits;
}

/* offsets[k] = the first item whose key is at least k, for k = 0 .. bound; the keys are sorted. */
void gpu_sort_offsets(const mg_backend *backend, const gpu_sort *sort, int64_t bound, int32_t *offsets);

#endif
