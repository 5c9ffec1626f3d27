/* The executor's graphs: what is recorded is done when its graph is launched, with the arguments of then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor_internal.h"

enum { USER_BYTES_MAX = 4096 /* the most that kernels of a GPU take */ };

typedef struct work {
  struct work *next;
  executor_launch launch; /* whose user is the bytes behind this */
  _Alignas(16) unsigned char user[];
} work;

struct executor_graph {
  work *first, **end;
  int64_t count;
};

static executor_graph *recorded; /* NULL: nothing is being recorded */

static executor_graph *make_graph(void) {
  executor_graph *graph = calloc(1, sizeof *graph);
  if (graph) graph->end = &graph->first;
  return graph;
}

static bool append(executor_graph *graph, const executor_launch *launch) {
  work *w = launch->user_bytes <= USER_BYTES_MAX ? malloc(sizeof *w + launch->user_bytes) : NULL;
  if (!w) return false;
  *w = (work){.launch = *launch};
  memcpy(w->user, launch->user, launch->user_bytes);
  w->launch.user = w->user;
  *graph->end = w;
  graph->end = &w->next;
  graph->count++;
  return true;
}

bool executor__record(const executor_launch *launch) {
  if (!recorded) return false;
  if (!append(recorded, launch)) executor__fail(EXECUTOR_BAD_GRAPH, "a launch has more than 4 KiB of arguments");
  return true;
}

executor_error executor__allowed(const char *what) {
  char text[160];
  if (!recorded) return EXECUTOR_OK;
  snprintf(text, sizeof text, "a graph is being recorded, which does not allow %s", what);
  executor__fail(EXECUTOR_BAD_GRAPH, text);
  return EXECUTOR_BAD_GRAPH;
}

executor_error executor_record_begin(void) {
  if (recorded) return executor__allowed("another recording");
  recorded = make_graph();
  return recorded ? EXECUTOR_OK : EXECUTOR_NO_MEMORY;
}

executor_error executor_record_end(executor_graph **out) {
  *out = recorded;
  recorded = NULL;
  return *out ? EXECUTOR_OK : EXECUTOR_BAD_GRAPH;
}

executor_error executor_graph_destroy(executor_graph *graph) {
  for (work *w = graph->first, *next; w; w = next) {
    next = w->next;
    free(w);
  }
  free(graph);
  return EXECUTOR_OK;
}

executor_error executor_graph_prepare(executor_graph **out, const executor_graph *graph) {
  *out = make_graph();
  if (!*out) return EXECUTOR_NO_MEMORY;
  for (const work *w = graph->first; w; w = w->next)
    if (!append(*out, &w->launch)) return EXECUTOR_NO_MEMORY;
  executor__counts()->graphs_prepared++;
  return EXECUTOR_OK;
}

static bool is_alike(const work *a, const work *b) {
  return a->launch.body == b->launch.body && a->launch.kernel == b->launch.kernel &&
         a->launch.user_bytes == b->launch.user_bytes;
}

executor_error executor_graph_update(executor_graph *exec, const executor_graph *graph) {
  const work *from = graph->first;
  bool alike = exec->count == graph->count;
  for (const work *w = exec->first; w && alike; w = w->next, from = from->next) alike = is_alike(w, from);
  if (!alike) {
    executor__counts()->graphs_refused++;
    executor__fail(EXECUTOR_BAD_GRAPH, "the graph has other calls than the one to update");
    return EXECUTOR_BAD_GRAPH;
  }
  from = graph->first;
  for (work *w = exec->first; w; w = w->next, from = from->next) {
    memcpy(w->user, from->user, from->launch.user_bytes);
    w->launch.grid = from->launch.grid;
    w->launch.threads = from->launch.threads;
  }
  executor__counts()->graphs_updated++;
  return EXECUTOR_OK;
}

executor_error executor_graph_launch(const executor_graph *exec) {
  executor_error error = executor__allowed("the launch of another");
  if (error != EXECUTOR_OK) return error;
  executor__counts()->graphs_launched++;
  executor__counts()->graphs_calls += exec->count;
  for (const work *w = exec->first; w; w = w->next) executor__run_now(&w->launch);
  return executor_last_error();
}
