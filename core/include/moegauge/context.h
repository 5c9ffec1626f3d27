/* The context: who to tell about a failure, where host memory comes from, and where log lines go.
 *
 * A context belongs to one thread at a time. Library code never prints, exits or aborts: a fallible
 * function calls mg_fail, which stores the message in the context and returns the status. */
#ifndef MOEGAUGE_CONTEXT_H
#define MOEGAUGE_CONTEXT_H

#include <stdarg.h>

#include "moegauge/status.h"

typedef struct mg_context mg_context;

/* One function does all host allocation: `size == 0` frees, `pointer == NULL` allocates. `old_size` is
 * what was asked for before, so that every byte can be accounted. Returns NULL on failure (or on free). */
typedef struct mg_allocator {
  void *(*resize)(void *user, void *pointer, size_t old_size, size_t size);
  void *user;
} mg_allocator;

typedef enum mg_log_level { MG_LOG_ERROR, MG_LOG_WARNING, MG_LOG_INFO, MG_LOG_DEBUG } mg_log_level;

/* Receives one finished line without a newline; borrowed for the call. */
typedef void (*mg_log_sink)(void *user, mg_log_level level, const char *line);

/* Creates a context. `allocator` may be NULL for malloc. On failure returns MG_MEMORY and *out is NULL. */
MG_API mg_status mg_context_create(const mg_allocator *allocator, mg_context **out);
MG_API void mg_context_destroy(mg_context *context);

/* Stores a message (what was wanted, what came, what to do) and returns `status`, so that a caller can
 * write `return mg_fail(...)`. A later failure replaces an earlier one. Control characters but line ends and tabs become
 * question marks, as a message may quote a file that nobody trusts. */
MG_API mg_status mg_fail(mg_context *context, mg_status status, const char *format, ...) MG_PRINTF(3, 4);
MG_API mg_status mg_fail_va(mg_context *context, mg_status status, const char *format, va_list arguments);

/* Puts "`where`: " before the stored message, for a caller that knows the file, key or case; returns `status`. */
MG_API mg_status mg_fail_where(mg_context *context, mg_status status, const char *format, ...) MG_PRINTF(3, 4);

#ifdef __clang_analyzer__ /* which sees one file at a time, and so not that a failure returns its status */
#define mg_fail(context, status, ...) ((void)mg_fail(context, status, __VA_ARGS__), (status))
#endif

/* The last failure's message; "" when there was none. Valid until the next failure on this context. */
MG_API const char *mg_context_message(const mg_context *context);

/* Host memory, from the context's allocator. mg_alloc returns zeroed bytes. On failure NULL is returned and the
 * context holds the message; a caller then returns MG_MEMORY. `size` may be 0 (the result is then NULL). */
MG_API void *mg_alloc(mg_context *context, size_t size);
MG_API void *mg_resize(mg_context *context, void *pointer, size_t old_size, size_t size);
MG_API void mg_free(mg_context *context, void *pointer, size_t size);

/* A copy of `text` to be freed with mg_free(context, copy, strlen(copy) + 1). NULL on failure. */
MG_API char *mg_strdup(mg_context *context, const char *text);

/* Bytes handed out by mg_alloc/mg_resize and not yet freed, and the largest that number has been. */
MG_API size_t mg_context_bytes(const mg_context *context);
MG_API size_t mg_context_peak_bytes(const mg_context *context);

/* Log lines above `level` are dropped. Without a sink nothing is printed. */
MG_API void mg_context_set_log(mg_context *context, mg_log_sink sink, void *user, mg_log_level level);
MG_API void mg_log_line(mg_context *context, mg_log_level level, const char *format, ...) MG_PRINTF(3, 4);

#endif
