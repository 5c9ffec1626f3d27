/* Device memory of a tape: bump allocation in chunks from the backend, and recycling of gradients' buffers.
 *
 * The first steps grow chunk by chunk; a reset merges several chunks into one, so that a repeated step allocates
 * nothing. */
#include "tensor/tape_internal.h"

enum { ALIGNMENT = 64, CHUNK_BYTES = 1 << 20, HOST_CHUNK_BYTES = 1 << 16 };

static size_t round_up(size_t bytes) {
  return (bytes + (ALIGNMENT - 1)) & ~(size_t)(ALIGNMENT - 1);
}

mg_status mg__memory_open(mg_memory *memory, mg_backend *backend) {
  *memory = (mg_memory){.backend = backend};
  return mg_arena_create(backend->context, HOST_CHUNK_BYTES, &memory->host);
}

static void release_chunks(mg_memory *memory) {
  mg_backend *backend = memory->backend;
  while (memory->chunks) {
    mg_chunk *chunk = memory->chunks;
    memory->chunks = chunk->next;
    backend->plugin->release(backend, chunk->data, chunk->bytes);
    mg_free(backend->context, chunk, sizeof *chunk);
  }
  memory->current = NULL;
}

void mg__memory_close(mg_memory *memory) {
  release_chunks(memory);
  mg_arena_destroy(memory->host);
}

static mg_status add_chunk(mg_memory *memory, size_t bytes) {
  mg_backend *backend = memory->backend;
  mg_chunk *chunk = mg_alloc(backend->context, sizeof *chunk);
  if (!chunk) return MG_MEMORY;
  const mg_status status = backend->plugin->allocate(backend, bytes, &chunk->data);
  if (status != MG_OK) {
    mg_free(backend->context, chunk, sizeof *chunk);
    return status;
  }
  chunk->bytes = bytes;
  chunk->next = memory->chunks;
  memory->chunks = memory->current = chunk;
  return MG_OK;
}

/* Room for the step that just ended and an eighth more, as the rows that reach experts vary from step to step. */
static void merge_chunks(mg_memory *memory) {
  memory->backend->plugin->synchronize(memory->backend);
  release_chunks(memory);
  (void)add_chunk(
      memory, round_up(memory->high + memory->high / 8)); /* on failure the next step grows from nothing and reports */
}

void mg__memory_reset(mg_memory *memory) {
  if (memory->chunks && memory->chunks->next) merge_chunks(memory);
  if (memory->chunks) memory->chunks->used = 0;
  memory->current = memory->chunks;
  memory->used = memory->high = 0;
  memory->free = NULL;
  mg_arena_reset(memory->host);
}

static size_t next_chunk_bytes(const mg_memory *memory, size_t need) {
  size_t bytes = memory->used / 4;
  if (bytes < CHUNK_BYTES) bytes = CHUNK_BYTES;
  return bytes < need ? need : round_up(bytes);
}

static bool has_room(const mg_chunk *chunk, size_t need) {
  return chunk && chunk->bytes - chunk->used >= need;
}

/* Makes a chunk with room the current one: this one, else the oldest of the newer ones, which are all empty. */
static bool find_room(mg_memory *memory, size_t need) {
  mg_chunk *found = NULL;
  if (has_room(memory->current, need)) return true;
  for (mg_chunk *chunk = memory->chunks; chunk != memory->current; chunk = chunk->next)
    if (has_room(chunk, need)) found = chunk;
  if (found) memory->current = found;
  return found;
}

mg_status mg__memory_take(mg_memory *memory, size_t bytes, void **out) {
  *out = NULL;
  if (bytes == 0) return MG_OK;
  if (bytes > SIZE_MAX / 2)
    return mg_fail(memory->backend->context, MG_MEMORY, "a tensor of %zu bytes is too large", bytes);
  const size_t need = round_up(bytes);
  if (!find_room(memory, need)) MG_TRY(add_chunk(memory, next_chunk_bytes(memory, need)));
  mg_chunk *chunk = memory->current;
  *out = (char *)chunk->data + chunk->used;
  chunk->used += need;
  memory->used += need;
  if (memory->used > memory->high) memory->high = memory->used;
  if (memory->used > memory->peak) memory->peak = memory->used;
  return MG_OK;
}

mg_tape_place mg__memory_place(const mg_memory *memory) {
  return (mg_tape_place){memory->current, memory->current ? memory->current->used : 0, memory->used};
}

/* Chunks that came later stay, empty, for what follows. */
void mg__memory_rewind(mg_memory *memory, mg_tape_place place) {
  mg_chunk *chunk = memory->chunks;
  for (; chunk && chunk != place.chunk; chunk = chunk->next) chunk->used = 0;
  memory->current = chunk;
  if (chunk) chunk->used = place.chunk_used;
  memory->used = place.used;
}

/* The smallest free buffer that fits and wastes at most a quarter; taken off the list. */
static mg_buffer *find_free(mg_memory *memory, size_t need) {
  mg_buffer **best = NULL;
  for (mg_buffer **at = &memory->free; *at; at = &(*at)->next) {
    if ((*at)->bytes < need || (*at)->bytes - need > need / 4) continue;
    if (!best || (*at)->bytes < (*best)->bytes) best = at;
  }
  if (!best) return NULL;
  mg_buffer *found = *best;
  *best = found->next;
  return found;
}

mg_status mg__buffer_take(mg_memory *memory, size_t bytes, mg_buffer **out) {
  const size_t need = round_up(bytes);
  mg_buffer *buffer = find_free(memory, need);
  if (!buffer) {
    buffer = mg_arena_alloc(memory->host, sizeof *buffer);
    if (!buffer) return MG_MEMORY;
    MG_TRY(mg__memory_take(memory, need, &buffer->data));
    buffer->bytes = need;
  }
  buffer->holders = 1;
  *out = buffer;
  return MG_OK;
}

void mg__buffer_release(mg_memory *memory, mg_buffer *buffer) {
  if (!buffer || --buffer->holders > 0) return;
  buffer->next = memory->free;
  memory->free = buffer;
}
