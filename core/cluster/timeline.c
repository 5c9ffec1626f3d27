/* Events are written one by one; a day of them never lies in memory. */
#include "cluster/timeline.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

static const char *const resource_names[] = {"compute", "network"};

typedef struct writer {
  mg_file_stream *stream;
  bool first;
} writer;

static mg_status put(writer *w, const char *text) {
  if (!w->first) MG_TRY(mg_file_stream_append(w->stream, ",\n", 2));
  w->first = false;
  return mg_file_stream_append(w->stream, text, strlen(text));
}

static mg_status put_event(writer *w, const char *name, int64_t process, int thread, double start_s, double seconds,
                           const char *arguments) {
  char text[320];
  snprintf(text, sizeof text,
           "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%lld,\"tid\":%d,\"ts\":%.4f,\"dur\":%.4f,\"args\":{%s}}", name,
           (long long)process, thread, start_s * 1e6, seconds * 1e6, arguments);
  return put(w, text);
}

static mg_status put_name(writer *w, const char *what, int64_t process, int thread, const char *name) {
  char text[160];
  snprintf(text, sizeof text, "{\"name\":\"%s\",\"ph\":\"M\",\"pid\":%lld,\"tid\":%d,\"args\":{\"name\":\"%s\"}}", what,
           (long long)process, thread, name);
  return put(w, text);
}

static mg_status put_process(writer *w, int64_t rank, int threads) {
  char name[48];
  snprintf(name, sizeof name, "rank %lld", (long long)rank);
  MG_TRY(put_name(w, "process_name", rank, 0, name));
  for (int thread = 0; thread < threads; thread++)
    MG_TRY(put_name(w, "thread_name", rank, thread, resource_names[thread]));
  return MG_OK;
}

static mg_status put_schedule(writer *w, const mg_schedule *schedule, int64_t ranks) {
  for (int64_t rank = 0; rank < ranks; rank++) {
    MG_TRY(put_process(w, rank, MG_RESOURCE_COUNT));
    for (size_t i = 0; i < schedule->count; i++) {
      const mg_operation *o = &schedule->operations[i];
      char arguments[64];
      snprintf(arguments, sizeof arguments, "\"layer\":%ld,\"batch\":%ld", (long)o->layer, (long)o->batch);
      MG_TRY(put_event(w, mg_phase_names[o->phase], rank, (int)o->resource, o->start_s,
                       mg_schedule_rank_s(schedule, o, rank), arguments));
    }
  }
  return MG_OK;
}

static mg_status put_pipeline(writer *w, const mg_pipeline *pipeline) {
  for (int64_t rank = 0; rank < pipeline->ranks; rank++) {
    MG_TRY(put_process(w, rank, 1));
    for (size_t i = pipeline->first[rank]; i < pipeline->first[rank + 1]; i++) {
      const mg_task *t = &pipeline->tasks[i];
      char arguments[128];
      snprintf(arguments, sizeof arguments, "\"forward\":%ld,\"backward\":%ld", (long)t->forward_batch,
               (long)t->backward_batch);
      MG_TRY(put_event(w, mg_task_names[t->kind], rank, 0, t->start_s, t->seconds, arguments));
    }
  }
  return MG_OK;
}

static mg_status begin(mg_context *context, const char *path, writer *w) {
  static const char head[] = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  *w = (writer){.first = true};
  MG_TRY(mg_file_stream_open(context, path, &w->stream));
  return mg_file_stream_append(w->stream, head, strlen(head));
}

static mg_status end(writer *w, mg_status status) {
  if (status == MG_OK) status = mg_file_stream_append(w->stream, "\n]}\n", 4);
  if (status == MG_OK) return mg_file_stream_commit(w->stream);
  mg_file_stream_abandon(w->stream);
  return status;
}

mg_status mg_timeline_write_step(mg_context *context, const mg_schedule *schedule, int64_t ranks, const char *path) {
  writer w;
  mg_status status = begin(context, path, &w);
  if (status == MG_OK) status = put_schedule(&w, schedule, ranks < schedule->ranks ? ranks : schedule->ranks);
  return end(&w, status);
}

mg_status mg_timeline_write_pipeline(mg_context *context, const mg_pipeline *pipeline, const char *path) {
  writer w;
  mg_status status = begin(context, path, &w);
  if (status == MG_OK) status = put_pipeline(&w, pipeline);
  return end(&w, status);
}
