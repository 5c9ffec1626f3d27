/* Near duplicates by MinHash (Broder 1997) in its one-permutation form (Li, Owen, Zhang 2012) with locality-sensitive
 * banding.
 *
 * A document is the set of its windows of MG__WINDOW bytes. Each window's hash falls into one of SLOTS slots, which
 * keeps its smallest; an empty slot borrows from the next filled one (Shrivastava and Li 2014). The share of equal
 * slots estimates the Jaccard similarity J of two sets. Documents whose slots agree throughout one of BANDS bands of
 * ROWS are compared, which happens with probability 1 - (1 - J^ROWS)^BANDS: 0.9999999 at J = 0.8, 0.87 at 0.5, 0.03 at
 * 0.18. Those estimated at or above the threshold are joined; clusters are the connected components. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "train/data_stage.h"

enum { SLOTS = 128, BANDS = 32, ROWS = SLOTS / BANDS, COMPARED_MOST = 64 };
static const uint64_t multiplier = UINT64_C(0x9E3779B97F4A7C15);

typedef struct signature {
  uint32_t slot[SLOTS];
} signature;
typedef struct band {
  uint64_t key;
  size_t document;
} band;

uint64_t mg__window_first(const char *text) {
  uint64_t rolling = 0;
  for (int i = 0; i < MG__WINDOW; i++) rolling = rolling * multiplier + (unsigned char)text[i] + 1;
  return rolling;
}

/* The polynomial's highest power, multiplier^(MG__WINDOW - 1). */
static uint64_t highest_power(void) {
  uint64_t power = 1;
  for (int i = 1; i < MG__WINDOW; i++) power *= multiplier;
  return power;
}

uint64_t mg__window_next(uint64_t rolling, char leaving, char entering) {
  return (rolling - highest_power() * ((unsigned char)leaving + UINT64_C(1))) * multiplier + (unsigned char)entering +
         1;
}

/* Fills empty slots from the next filled one, mixed with the distance so that two borrowings agree only if they
 * borrowed equally far. */
static void densify(signature *out) {
  uint32_t filled[SLOTS];
  memcpy(filled, out->slot, sizeof filled);
  for (size_t i = 0; i < SLOTS; i++) {
    size_t distance = 0;
    while (distance < SLOTS && filled[(i + distance) % SLOTS] == UINT32_MAX) distance++;
    if (distance > 0) out->slot[i] = (uint32_t)mg_mix64(filled[(i + distance) % SLOTS] + distance * multiplier);
  }
}

static void sign(const mg__document *document, signature *out) {
  memset(out, 0xFF, sizeof *out);
  const char *text = document->text;
  if (document->bytes < MG__WINDOW) {
    const uint64_t hash = mg_mix64(document->hash);
    out->slot[hash % SLOTS] = (uint32_t)(hash >> 33);
  } else {
    uint64_t rolling = mg__window_first(text);
    for (size_t end = MG__WINDOW;; end++) {
      const uint64_t hash = mg_mix64(rolling);
      const uint32_t value = (uint32_t)(hash >> 33); /* never the mark of an empty slot */
      uint32_t *slot = &out->slot[hash % SLOTS];
      if (value < *slot) *slot = value;
      if (end == document->bytes) break;
      rolling = mg__window_next(rolling, text[end - MG__WINDOW], text[end]);
    }
  }
  densify(out);
}

static double similarity(const signature *a, const signature *b) {
  int equal = 0;
  for (size_t i = 0; i < SLOTS; i++) equal += a->slot[i] == b->slot[i];
  return (double)equal / SLOTS;
}

/* ---- connected components ---- */

static size_t root_of(size_t *parent, size_t i) {
  while (parent[i] != i) i = parent[i] = parent[parent[i]];
  return i;
}

static void join(size_t *parent, size_t a, size_t b) {
  a = root_of(parent, a);
  b = root_of(parent, b);
  if (a != b) parent[a > b ? a : b] = a > b ? b : a;
}

static int by_key(const void *a, const void *b) {
  const band *left = a, *right = b;
  if (left->key != right->key) return left->key < right->key ? -1 : 1;
  return left->document < right->document ? -1 : left->document > right->document;
}

/* Compares documents that agree in band `number`; in a crowd, each only with the COMPARED_MOST before it. */
static void join_band(const signature *signatures, size_t count, size_t number, double threshold, band *bands,
                      size_t *parent) {
  for (size_t i = 0; i < count; i++)
    bands[i] = (band){mg_hash64(signatures[i].slot + number * ROWS, ROWS * sizeof(uint32_t), number), i};
  qsort(bands, count, sizeof *bands, by_key);
  for (size_t i = 1; i < count; i++) {
    for (size_t back = 1; back <= i && back <= COMPARED_MOST && bands[i - back].key == bands[i].key; back++) {
      const size_t a = bands[i - back].document, b = bands[i].document;
      if (root_of(parent, a) != root_of(parent, b) && similarity(&signatures[a], &signatures[b]) >= threshold)
        join(parent, a, b);
    }
  }
}

static void cluster(mg__pipeline *pipeline, double threshold, signature *signatures, band *bands, size_t *parent) {
  size_t count = 0; /* of documents that are not dropped */
  for (size_t i = 0; i < pipeline->count; i++) {
    if (pipeline->documents[i].dropped) continue;
    sign(&pipeline->documents[i], &signatures[count]);
    parent[count] = count;
    count++;
  }
  for (size_t number = 0; number < BANDS; number++) join_band(signatures, count, number, threshold, bands, parent);
  uint64_t *smallest = (uint64_t *)(void *)bands; /* the bands are done with */
  for (size_t i = 0; i < count; i++) smallest[i] = UINT64_MAX;
  for (size_t i = 0, k = 0; i < pipeline->count; i++) {
    if (pipeline->documents[i].dropped) continue;
    uint64_t *least = &smallest[root_of(parent, k++)];
    if (pipeline->documents[i].hash < *least) *least = pipeline->documents[i].hash;
  }
  for (size_t i = 0, k = 0; i < pipeline->count; i++)
    if (!pipeline->documents[i].dropped) pipeline->documents[i].cluster = smallest[root_of(parent, k++)];
}

mg_status mg__documents_cluster(mg__pipeline *pipeline, double threshold) {
  mg_context *context = pipeline->context;
  const size_t count = pipeline->count;
  signature *signatures = mg_alloc(context, count * sizeof *signatures);
  band *bands = mg_alloc(context, count * sizeof *bands);
  size_t *parent = mg_alloc(context, count * sizeof *parent);
  const bool good = signatures && bands && parent;
  if (good) cluster(pipeline, threshold, signatures, bands, parent);
  mg_free(context, signatures, count * sizeof *signatures);
  mg_free(context, bands, count * sizeof *bands);
  mg_free(context, parent, count * sizeof *parent);
  pipeline->clustered = pipeline->clustered || good;
  return good || count == 0 ? MG_OK : MG_MEMORY;
}
