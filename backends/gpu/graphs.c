/* Steps as graphs: the launches and copies of a decoded token are recorded and submitted as one.
 *
 * Arguments differ from step to step (the number of keys, the cache's row), so each step is recorded anew by the stream.
 * What the last step's graph was made executable as is then updated in place where the new one has the same calls in the
 * same order, and made anew where it has not. A step that must wait, or ask the device for memory, submits what it has
 * recorded and goes on without a graph. The first step runs without one: then kernels are loaded and memory is taken. */
#include "gpu.h"

void mg__gpu_graphs_destroy(mg_backend *backend) {
  gpu_graphs *graphs = &gpu_state_of(backend)->graphs;
  if (graphs->exec) (void)gpu_graph_exec_destroy(graphs->exec);
  graphs->exec = NULL;
}

/* Not all runtimes keep an executable graph until its last launch has finished. */
static mg_status drop_exec(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  (void)gpu_last_error(); /* that the graphs differ */
  MG_TRY(mg__gpu_check(backend, gpu_stream_wait(state->stream), "waiting for a graph"));
  mg__gpu_graphs_destroy(backend);
  return MG_OK;
}

static mg_status launch(mg_backend *backend, gpu_graph graph) {
  gpu_state *state = gpu_state_of(backend);
  gpu_graph_exec *exec = &state->graphs.exec;
  if (*exec && gpu_graph_update(*exec, graph) != GPU_OK) MG_TRY(drop_exec(backend));
  if (!*exec) MG_TRY(mg__gpu_check(backend, gpu_graph_prepare(exec, graph), "preparing a graph"));
  return mg__gpu_check(backend, gpu_graph_launch(*exec, state->stream), "launching a graph");
}

mg_status mg__gpu_submit(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  gpu_graph graph = NULL;
  if (!state->graphs.recording) return MG_OK;
  state->graphs.recording = false;
  MG_TRY(mg__gpu_check(backend, gpu_record_end(state->stream, &graph), "recording a graph"));
  const mg_status status = launch(backend, graph);
  (void)gpu_graph_destroy(graph);
  return status;
}

mg_status mg__gpu_step_begin(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  gpu_graphs *graphs = &state->graphs;
  const bool warm = graphs->warm;
  graphs->warm = true;
  if (!graphs->wanted || !warm || graphs->recording) return MG_OK;
  MG_TRY(mg__gpu_stage_prepare(backend));
  MG_TRY(mg__gpu_check(backend, gpu_record_begin(state->stream), "beginning a graph"));
  graphs->recording = true;
  return MG_OK;
}

mg_status mg__gpu_step_end(mg_backend *backend) {
  return mg__gpu_submit(backend);
}
