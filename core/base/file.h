/* Files that survive a crash, and hashes of what is in them. */
#ifndef MG_BASE_FILE_H
#define MG_BASE_FILE_H

#include "moegauge/context.h"

/* Reads a whole file. *out is freed with mg_free(context, *out, *bytes + 1); a NUL follows the last byte. MG_FILE if it
 * is missing, unreadable, not a regular file, or larger than `most_bytes`. */
mg_status mg_file_read(mg_context *context, const char *path, size_t most_bytes, char **out, size_t *bytes);

/* Replaces `path` by a file of these bytes: written beside it under a temporary name, synced, renamed, and the folder
 * synced, so that after a crash the old or the new file is there, whole. MG_WRITE with the reason on failure. */
mg_status mg_file_write_atomic(mg_context *context, const char *path, const void *data, size_t bytes);

/* The same for content that is made piece by piece. After open, end with commit or abandon, which free the stream. */
typedef struct mg_file_stream mg_file_stream;
mg_status mg_file_stream_open(mg_context *context, const char *path, mg_file_stream **out);
mg_status mg_file_stream_append(mg_file_stream *stream, const void *data, size_t bytes);
/* Overwrites bytes that were appended before. */
mg_status mg_file_stream_patch(mg_file_stream *stream, size_t offset, const void *data, size_t bytes);
/* Puts the file in its place; on failure the old one stays. */
mg_status mg_file_stream_commit(mg_file_stream *stream);
/* Leaves the old file as it was. NULL is allowed. */
void mg_file_stream_abandon(mg_file_stream *stream);

/* Makes a folder and its parents; existing ones are no error. */
mg_status mg_folder_make(mg_context *context, const char *path);

enum { MG_HASH_TEXT_BYTES = 33 };
/* XXH3-128 of the bytes as 32 lower-case hexadecimal digits. */
void mg_hash_bytes(const void *data, size_t bytes, char text[MG_HASH_TEXT_BYTES]);
/* The same over a file's content, without reading it whole. */
mg_status mg_hash_file(mg_context *context, const char *path, char text[MG_HASH_TEXT_BYTES]);

#endif
