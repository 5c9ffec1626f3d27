/* A trie built from sorted texts, level by level. */
#include <stdlib.h>
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

typedef struct range {
  size_t begin, end, depth; /* the entries below a node, which agree in `depth` bytes */
} range;

typedef struct ranges {
  range *items;
  size_t room;
} ranges;

static int by_text(const void *a, const void *b) {
  const mg__trie_entry *x = a, *y = b;
  const int order = memcmp(x->bytes, y->bytes, x->count < y->count ? x->count : y->count);
  return order ? order : (x->count > y->count) - (x->count < y->count);
}

static mg_status add_node(mg_context *context, mg__trie *trie, ranges *all, unsigned char label, range below) {
  if (trie->count == UINT32_MAX) return mg_fail(context, MG_FILE, "the texts of the tokens are too many");
  MG_TRY(MG_VECTOR_RESERVE(context, trie->nodes, trie->room, trie->count + 1));
  MG_TRY(MG_VECTOR_RESERVE(context, all->items, all->room, trie->count + 1));
  trie->nodes[trie->count] = (mg__trie_node){.value = -1, .label = label};
  all->items[trie->count++] = below;
  return MG_OK;
}

/* Gives node `at` its value and its children. */
static mg_status expand(mg_context *context, mg__trie *trie, ranges *all, const mg__trie_entry *entries, size_t at) {
  const range here = all->items[at];
  size_t i = here.begin;
  if (i < here.end && entries[i].count == here.depth) trie->nodes[at].value = entries[i++].value;
  if (i < here.end && entries[i].count == here.depth)
    return mg_fail(context, MG_FILE, "'%.*s' stands there twice", (int)entries[i].count, entries[i].bytes);
  trie->nodes[at].child = (uint32_t)trie->count;
  while (i < here.end) {
    const unsigned char label = (unsigned char)entries[i].bytes[here.depth];
    size_t end = i;
    while (end < here.end && (unsigned char)entries[end].bytes[here.depth] == label) end++;
    MG_TRY(add_node(context, trie, all, label, (range){i, end, here.depth + 1}));
    trie->nodes[at].children++;
    i = end;
  }
  return MG_OK;
}

static mg_status build(mg_context *context, mg__trie_entry *entries, size_t count, mg__trie *trie, ranges *all) {
  qsort(entries, count, sizeof *entries, by_text);
  MG_TRY(add_node(context, trie, all, 0, (range){0, count, 0}));
  for (size_t at = 0; at < trie->count; at++) MG_TRY(expand(context, trie, all, entries, at));
  for (uint32_t i = 0; i < trie->nodes[0].children; i++)
    trie->first[trie->nodes[trie->nodes[0].child + i].label] = trie->nodes[0].child + i;
  return MG_OK;
}

mg_status mg__trie_build(mg_context *context, mg__trie_entry *entries, size_t count, mg__trie *trie) {
  if (count == 0) return MG_OK;
  ranges all = {0};
  const mg_status status = build(context, entries, count, trie, &all);
  MG_VECTOR_FREE(context, all.items, all.room);
  return status;
}

void mg__trie_release(mg_context *context, mg__trie *trie) {
  MG_VECTOR_FREE(context, trie->nodes, trie->room);
  *trie = (mg__trie){0};
}

uint32_t mg__trie_step(const mg__trie *trie, uint32_t node, unsigned char label) {
  if (node == 0) return trie->first[label];
  const mg__trie_node *here = &trie->nodes[node];
  uint32_t low = here->child, high = here->child + here->children;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const uint8_t found = trie->nodes[middle].label;
    if (found == label) return middle;
    if (found < label)
      low = middle + 1;
    else
      high = middle;
  }
  return 0;
}
