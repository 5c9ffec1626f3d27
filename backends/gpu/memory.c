/* Device memory through a cache: asking the device for memory waits for it, so blocks are kept and handed out again.
 *
 * Sizes are rounded up to one of eight steps between neighbouring powers of two (at most an eighth is lost), so that a
 * block's size follows from what was asked for and a returned block fits the next request of its kind. All work runs
 * in one stream: whoever gets a block next uses it after everybody who had it. */
#include "gpu.h"

enum { LEAST_BYTES = 256, STEPS = 8 };

/* The size of the block that serves `bytes`; 0 when no block can. */
static size_t block_bytes(size_t bytes) {
  if (bytes > SIZE_MAX / 2) return 0;
  size_t power = LEAST_BYTES;
  while (power <= bytes / 2) power *= 2;
  const size_t step = power / STEPS > LEAST_BYTES ? power / STEPS : LEAST_BYTES;
  return bytes <= power ? power : (bytes + step - 1) / step * step;
}

static bool take_cached(gpu_cache *cache, size_t bytes, void **out) {
  for (int64_t i = cache->count - 1; i >= 0; i--) {
    if (cache->blocks[i].bytes != bytes) continue;
    *out = cache->blocks[i].pointer;
    cache->blocks[i] = cache->blocks[--cache->count];
    cache->bytes -= bytes;
    return true;
  }
  return false;
}

void mg__gpu_cache_empty(mg_backend *backend) {
  gpu_cache *cache = &gpu_state_of(backend)->cache;
  if (mg__gpu_submit(backend) != MG_OK) return; /* what was recorded uses them */
  (void)gpu_stream_wait(gpu_state_of(backend)->stream);
  for (int64_t i = 0; i < cache->count; i++) (void)gpu_free(cache->blocks[i].pointer);
  cache->count = 0;
  cache->bytes = 0;
}

void mg__gpu_cache_destroy(mg_backend *backend) {
  gpu_cache *cache = &gpu_state_of(backend)->cache;
  mg__gpu_cache_empty(backend);
  mg_free(backend->context, cache->blocks, (size_t)cache->room * sizeof *cache->blocks);
  *cache = (gpu_cache){0};
}

static mg_status out_of_memory(mg_backend *backend, size_t bytes) {
  size_t free_bytes = 0, total_bytes = 0;
  (void)gpu_memory_free(&free_bytes, &total_bytes);
  const double mebibyte = 1 << 20;
  return mg_fail(backend->context, MG_DEVICE,
                 "%s is out of memory: %.1f MiB were wanted and %.1f of %.1f MiB are free; use a smaller batch, a "
                 "smaller model or precision=bf16",
                 gpu_state_of(backend)->facts.name, (double)bytes / mebibyte, (double)free_bytes / mebibyte,
                 (double)total_bytes / mebibyte);
}

/* Asks the device; what the cache holds goes back first when there is not enough. */
static mg_status take_new(mg_backend *backend, size_t bytes, void **out) {
  MG_TRY(mg__gpu_submit(backend));
  gpu_error error = gpu_malloc(out, bytes);
  if (gpu_problem_of(error) == GPU_PROBLEM_MEMORY) {
    (void)gpu_last_error(); /* which is kept until it is read */
    mg__gpu_cache_empty(backend);
    error = gpu_malloc(out, bytes);
  }
  if (gpu_problem_of(error) == GPU_PROBLEM_MEMORY) {
    (void)gpu_last_error();
    return out_of_memory(backend, bytes);
  }
  return mg__gpu_check(backend, error, "allocating device memory");
}

mg_status mg__gpu_allocate(mg_backend *backend, size_t bytes, void **out) {
  *out = NULL;
  if (bytes == 0) return MG_OK;
  const size_t rounded = block_bytes(bytes);
  if (rounded == 0)
    return mg_fail(backend->context, MG_DEVICE, "a tensor of %zu bytes was wanted, more than memory can be", bytes);
  if (take_cached(&gpu_state_of(backend)->cache, rounded, out)) return MG_OK;
  return take_new(backend, rounded, out);
}

void mg__gpu_release(mg_backend *backend, void *pointer, size_t bytes) {
  gpu_cache *cache = &gpu_state_of(backend)->cache;
  if (!pointer) return;
  if (cache->count == cache->room) {
    const int64_t room = cache->room ? 2 * cache->room : 64;
    gpu_cached *blocks =
        mg_resize(backend->context, cache->blocks, (size_t)cache->room * sizeof *blocks, (size_t)room * sizeof *blocks);
    if (!blocks) { /* no room to remember it: the device takes it back, and waits for its work to do so */
      if (mg__gpu_submit(backend) == MG_OK) (void)gpu_free(pointer);
      return;
    }
    cache->blocks = blocks;
    cache->room = room;
  }
  cache->blocks[cache->count++] = (gpu_cached){pointer, block_bytes(bytes)};
  cache->bytes += block_bytes(bytes);
}

void *mg__gpu_scratch(mg_backend *backend, size_t bytes) {
  gpu_state *state = gpu_state_of(backend);
  if (bytes <= state->scratch_bytes && state->scratch) return state->scratch;
  mg__gpu_release(backend, state->scratch, state->scratch_bytes);
  state->scratch = NULL;
  state->scratch_bytes = 0;
  const size_t wanted = block_bytes(bytes > 0 ? bytes : 1);
  if (mg__gpu_allocate(backend, wanted, &state->scratch) != MG_OK) return NULL;
  state->scratch_bytes = wanted;
  return state->scratch;
}
