/* Batches: sequences of any length cut from the streams, in an order drawn by position.
 *
 * Sequence k of a stream of n tokens begins at token kS. The last one is moved back to begin at n - S, so that it is
 * whole; the tokens it shares with the one before are inputs again but no targets. A stream shorter than S is repeated
 * to fill one sequence, again without targets in the repetition. So every token is a target at most once per epoch.
 *
 * Epoch e visits the N sequences of the split in the order of a permutation of [0, N): a Feistel network of ROUNDS
 * rounds over the next power of four (Luby and Rackoff 1988), its keys from Philox under (seed, e), walked until it
 * lands below N. It needs no memory and any position can be asked for. */
#include "base/hash.h"
#include "moegauge/rng.h"
#include "train/data_dataset.h"

enum { ROUNDS = 6 };

typedef struct permutation {
  uint64_t count;
  uint32_t half_bits;
  uint64_t keys[ROUNDS];
} permutation;

static permutation permutation_of(uint64_t count, uint64_t seed, uint64_t epoch) {
  permutation self = {.count = count, .half_bits = 1};
  while (self.half_bits < 31 && (UINT64_C(1) << 2 * self.half_bits) < count) self.half_bits++;
  const mg_stream stream = mg_stream_named(seed, "data order", epoch, 0);
  for (uint64_t i = 0; i < ROUNDS; i++)
    self.keys[i] = (uint64_t)mg_random_bits(stream, 2 * i) << 32 | mg_random_bits(stream, 2 * i + 1);
  return self;
}

static uint64_t permute(const permutation *self, uint64_t index) {
  const uint64_t mask = (UINT64_C(1) << self->half_bits) - 1;
  do {
    uint64_t left = index >> self->half_bits, right = index & mask;
    for (int i = 0; i < ROUNDS; i++) {
      const uint64_t mixed = left ^ (mg_mix64(right ^ self->keys[i]) & mask);
      left = right;
      right = mixed;
    }
    index = left << self->half_bits | right;
  } while (index >= self->count);
  return index;
}

static uint64_t sequences_of(const mg__stream *stream, uint64_t length) {
  return (stream->count + length - 1) / length;
}

static uint64_t sequences_in(const mg_dataset *dataset, mg_split split, uint64_t length) {
  uint64_t count = 0;
  for (size_t i = 0; i < dataset->domains; i++)
    count += sequences_of(&dataset->streams[split * dataset->domains + i], length);
  return count;
}

/* Writes sequence `k` of a stream. */
static void fill(const mg_dataset *dataset, const mg__stream *stream, uint64_t k, size_t length, int32_t *inputs,
                 int32_t *targets) {
  const size_t wanted = (size_t)k * length;
  const size_t first = stream->count < length ? 0 : wanted < stream->count - length ? wanted : stream->count - length;
  const int32_t *ids = dataset->ids + stream->start;
  size_t source = first; /* a stream shorter than a sequence begins again, without targets */
  for (size_t i = 0; i < length; i++) {
    const size_t at = first + i;
    const int32_t id = ids[source];
    source = source + 1 < stream->count ? source + 1 : 0;
    const bool target = at >= wanted && at + 1 < stream->count && id >= 0;
    inputs[i] = id & ~MG__END;
    targets[i] = target ? ids[at + 1] & ~MG__END : -1;
  }
}

/* Sequence `number` of a split, counted through all its domains. */
static void fill_numbered(const mg_dataset *dataset, mg_split split, uint64_t number, mg_batch *batch, int64_t row) {
  const size_t length = (size_t)batch->sequence_tokens;
  for (size_t domain = 0; domain < dataset->domains; domain++) {
    const mg__stream *stream = &dataset->streams[split * dataset->domains + domain];
    const uint64_t count = sequences_of(stream, length);
    if (number >= count) {
      number -= count;
      continue;
    }
    batch->domains[row] = (int32_t)domain;
    fill(dataset, stream, number, length, batch->inputs + (size_t)row * length, batch->targets + (size_t)row * length);
    return;
  }
}

mg_status mg_dataset_batch(mg_dataset *dataset, mg_split split, uint64_t seed, int64_t index, mg_batch *batch,
                           int64_t *sequences_filled) {
  *sequences_filled = 0;
  if (batch->sequences < 1 || batch->sequence_tokens < 1 || index < 0)
    return mg_fail(dataset->context, MG_USAGE,
                   "data: a batch needs an index from 0, and at least 1 sequence of at least 1 token, not %lld of %lld",
                   (long long)batch->sequences, (long long)batch->sequence_tokens);
  const uint64_t count = sequences_in(dataset, split, (uint64_t)batch->sequence_tokens);
  if (count == 0) return mg_fail(dataset->context, MG_FILE, "data: this side of the split has no tokens");
  const bool train = split == MG_SPLIT_TRAIN;
  uint64_t at, epoch = UINT64_MAX;
  if (__builtin_mul_overflow((uint64_t)index, (uint64_t)batch->sequences, &at))
    return mg_fail(dataset->context, MG_USAGE, "data: batch %lld is too far", (long long)index);
  permutation order = {0};
  for (int64_t row = 0; row < batch->sequences && (train || at < count); row++, at++) {
    if (at / count != epoch) {
      epoch = at / count;
      order = permutation_of(count, train ? seed : 0, train ? epoch + 1 : 0);
    }
    fill_numbered(dataset, split, permute(&order, at % count), batch, row);
    ++*sequences_filled;
  }
  return MG_OK;
}
