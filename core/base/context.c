/* Failure messages, accounted host memory and log lines. */
#include "moegauge/context.h"
#undef mg_fail

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048 };

struct mg_context {
  mg_allocator allocator;
  size_t bytes, peak_bytes;
  mg_log_sink sink;
  void *sink_user;
  mg_log_level log_level;
  char message[MESSAGE_BYTES];
};

static void *resize_with_malloc(void *user, void *pointer, size_t old_size, size_t size) {
  (void)user;
  (void)old_size;
  if (size == 0) {
    free(pointer);
    return NULL;
  }
  return realloc(pointer, size);
}

mg_status mg_context_create(const mg_allocator *allocator, mg_context **out) {
  const mg_allocator chosen = allocator ? *allocator : (mg_allocator){resize_with_malloc, NULL};
  mg_context *context = chosen.resize(chosen.user, NULL, 0, sizeof *context);
  *out = context;
  if (!context) return MG_MEMORY;
  memset(context, 0, sizeof *context);
  context->allocator = chosen;
  context->log_level = MG_LOG_INFO;
  return MG_OK;
}

void mg_context_destroy(mg_context *context) {
  if (!context) return;
  const mg_allocator allocator = context->allocator;
  allocator.resize(allocator.user, context, sizeof *context, 0);
}

/* What a file holds must not steer the terminal that the message is shown on. */
static void blunt(char *text) {
  for (; *text; text++)
    if (((unsigned char)*text < ' ' && *text != '\n' && *text != '\t') || *text == 0x7f) *text = '?';
}

mg_status mg_fail_va(mg_context *context, mg_status status, const char *format, va_list arguments) {
  char text[MESSAGE_BYTES]; /* an argument may be the old message itself */
  vsnprintf(text, sizeof text, format, arguments);
  blunt(text);
  memcpy(context->message, text, sizeof text);
  return status;
}

mg_status mg_fail(mg_context *context, mg_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  mg_fail_va(context, status, format, arguments);
  va_end(arguments);
  return status;
}

mg_status mg_fail_where(mg_context *context, mg_status status, const char *format, ...) {
  char where[MESSAGE_BYTES / 4];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(where, sizeof where, format, arguments);
  va_end(arguments);
  return mg_fail(context, status, "%s: %s", where, context->message);
}

const char *mg_context_message(const mg_context *context) {
  return context->message;
}

void *mg_resize(mg_context *context, void *pointer, size_t old_size, size_t size) {
  void *result = context->allocator.resize(context->allocator.user, pointer, old_size, size);
  if (!result && size) {
    mg_fail(context, MG_MEMORY, "out of host memory: %zu bytes were wanted beside the %zu in use", size,
            context->bytes);
    return NULL;
  }
  context->bytes += size - old_size;
  if (context->bytes > context->peak_bytes) context->peak_bytes = context->bytes;
  return result;
}

void *mg_alloc(mg_context *context, size_t size) {
  if (size == 0) return NULL;
  void *result = mg_resize(context, NULL, 0, size);
  return result ? memset(result, 0, size) : NULL;
}

void mg_free(mg_context *context, void *pointer, size_t size) {
  if (pointer) mg_resize(context, pointer, size, 0);
}

char *mg_strdup(mg_context *context, const char *text) {
  const size_t size = strlen(text) + 1;
  char *copy = mg_alloc(context, size);
  return copy ? memcpy(copy, text, size) : NULL;
}

size_t mg_context_bytes(const mg_context *context) {
  return context->bytes;
}
size_t mg_context_peak_bytes(const mg_context *context) {
  return context->peak_bytes;
}

void mg_context_set_log(mg_context *context, mg_log_sink sink, void *user, mg_log_level level) {
  context->sink = sink;
  context->sink_user = user;
  context->log_level = level;
}

void mg_log_line(mg_context *context, mg_log_level level, const char *format, ...) {
  if (!context->sink || level > context->log_level) return;
  char line[MESSAGE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  context->sink(context->sink_user, level, line);
}
