/* A released checkpoint: the named tensors and the metadata of one or many files, safetensors or GGUF, that nobody need
 * trust. Opening reads headers only, so its time and memory depend on the number of tensors and not on their size.
 *
 * Two ways lead to a weight:
 *   read or load   copies rows through pread, converting or dequantising. A file that was cut or changed is an error.
 *   view           points into a read-only mapping, for weights used as they lie. Touching pages that the file lost
 *                  raises SIGBUS; mg_checkpoint_guard turns that into zeros that mg_checkpoint_unchanged reports.
 *
 * Every refusal is MG_FILE with one message: the file, the rule, the tensor or key, and the byte where it stands. */
#ifndef MG_MODEL_CHECKPOINT_H
#define MG_MODEL_CHECKPOINT_H

#include <jansson.h>

#include "model/storage.h"
#include "moegauge/backend.h"

enum { MG_CHECKPOINT_DIMS_MAX = 8 };

typedef enum mg_checkpoint_format { MG_CHECKPOINT_SAFETENSORS, MG_CHECKPOINT_GGUF } mg_checkpoint_format;

/* What a header may hold at most; more is refused before anything is allocated for it. */
typedef struct mg_checkpoint_limits {
  uint64_t header_bytes;  /* of one file: 1 GiB; in safetensors never more than the 100,000,000 of its definition */
  uint64_t text_bytes;    /* one text of GGUF metadata: 16 MiB */
  uint64_t list_elements; /* one list of GGUF metadata: 16 Mi */
  uint64_t name_bytes;    /* a tensor's name or a key: 1,024 */
  uint64_t keys;          /* of metadata: 65,536 */
  uint64_t tensors;       /* of all files: 1 Mi */
  uint64_t files;         /* shards: 1,024 */
} mg_checkpoint_limits;
mg_checkpoint_limits mg_checkpoint_default_limits(void);

typedef struct mg_checkpoint mg_checkpoint;

/* How the values of a tensor are completed by a second one. */
typedef enum mg_scaling {
  MG_SCALING_NONE,
  MG_SCALING_BLOCKS_128, /* NAME and NAME_scale_inv: one factor for each 128 x 128 of a matrix (DeepSeek-V3) */
  MG_SCALING_MXFP4_PAIR  /* NAME_blocks [.., groups, 16] and NAME_scales [.., groups]: 32 values a group (gpt-oss) */
} mg_scaling;

/* A tensor as it is stored. Row r is the r-th run of the last dimension, so that expert e of [E, out, in] is the rows
 * e * out to (e + 1) * out. A scalar (no dimension) is one row of one element. */
typedef struct mg_checkpoint_tensor {
  const char *name; /* lives as long as the checkpoint */
  mg_storage storage;
  int32_t dims;
  int64_t shape[MG_CHECKPOINT_DIMS_MAX]; /* outermost first in both formats; of the values, not of packed bytes */
  int64_t rows, columns;
  uint64_t bytes; /* in the file, scales not included */
  int64_t index;  /* of the stored tensor */
  mg_scaling scaling;
  int64_t scales; /* index of the tensor of scales; -1 = none */
} mg_checkpoint_tensor;

/* Opens a folder (model.safetensors.index.json, else model.safetensors, else its one GGUF model), an index, a
 * .safetensors file, or a .gguf file (its first part if it is split). `limits` may be NULL for the defaults. */
mg_status mg_checkpoint_open(mg_context *context, const char *path, const mg_checkpoint_limits *limits,
                             mg_checkpoint **out);
/* Whether mg_checkpoint_open would open a GGUF model there; false also where there is no model. */
bool mg_checkpoint_names_gguf(mg_context *context, const char *path);
/* Ends every view. NULL is allowed. */
void mg_checkpoint_close(mg_checkpoint *checkpoint);

mg_checkpoint_format mg_checkpoint_kind(const mg_checkpoint *checkpoint);
/* The first file. */
const char *mg_checkpoint_path(const mg_checkpoint *checkpoint);

/* ---- tensors ---- */

int64_t mg_checkpoint_count(const mg_checkpoint *checkpoint);
/* The stored tensor `index`, in the order of the headers; scales are not looked for. */
void mg_checkpoint_at(const mg_checkpoint *checkpoint, int64_t index, mg_checkpoint_tensor *out);
/* The index of a stored tensor; -1 if there is none of that name. */
int64_t mg_checkpoint_find(const mg_checkpoint *checkpoint, const char *name);
/* The tensor `name` as a model wants it, with its scales: MXFP4 pairs appear under the name without _blocks. MG_FILE if
 * it is missing or its scales do not fit. */
mg_status mg_checkpoint_get(const mg_checkpoint *checkpoint, const char *name, mg_checkpoint_tensor *out);

enum { MG__PRINTABLE_BYTES = 160 };
/* A name from a file for a message: cut, and with what is not printable as \xNN. */
const char *mg__printable(const char *name, char text[MG__PRINTABLE_BYTES]);

/* The stored dtype (moegauge/tensor.h) that holds the tensor's values as they are, scales included; false if none does. */
bool mg_checkpoint_stored_dtype(const mg_checkpoint_tensor *tensor, mg_dtype *out);
/* Rows [first_row, first_row + rows) as `dtype` into host memory. Integers go to i32 if they fit (else MG_FILE);
 * everything with a decoding goes to f32, bf16 and f64, and to its stored dtype. */
mg_status mg_checkpoint_read(const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *tensor, int64_t first_row,
                             int64_t rows, mg_dtype dtype, void *out);
/* The same into a backend's memory: as many rows as `out` has, whose columns must be the tensor's. */
mg_status mg_checkpoint_load_rows(const mg_checkpoint *checkpoint, mg_backend *backend,
                                  const mg_checkpoint_tensor *tensor, int64_t first_row, const mg_tensor *out);
/* The whole tensor `name`, which must have the shape of `out` (a scalar: [1]). */
mg_status mg_checkpoint_load(const mg_checkpoint *checkpoint, mg_backend *backend, const char *name,
                             const mg_tensor *out);

/* How many of the stored values are NaN or infinite, integers never; -1 if the type is known by its size alone. Factors in
 * tensors of their own are not applied. Reads the tensor in small steps. */
mg_status mg_checkpoint_count_not_finite(const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *tensor,
                                         int64_t *out);

/* Maps the tensor's file if it is not yet, and points to the tensor's bytes as stored; no copy, no conversion. The
 * address is a multiple of the element's size or block alignment only if the file laid it out so: check before use. */
mg_status mg_checkpoint_view(mg_checkpoint *checkpoint, const mg_checkpoint_tensor *tensor, const void **out);
/* MG_FILE if a file was cut, written to since it was opened, or lost pages under a view. Costs one system call a file:
 * ask after each use of views, before believing the result. */
mg_status mg_checkpoint_unchanged(const mg_checkpoint *checkpoint);
/* Installs a SIGBUS handler for the whole process, once, for programs that use views: pages of a view that the file no
 * longer has become zeros, in whatever thread touches them, and the view counts as damaged. Every other SIGBUS goes to
 * the handler that was there before. The library never calls this by itself. */
mg_status mg_checkpoint_guard(mg_context *context);

/* For files that mg_safetensors_write made: reads all and compares the checksum. MG_FILE if it differs or there is
 * none. */
mg_status mg_checkpoint_verify(const mg_checkpoint *checkpoint);

/* ---- metadata: of the first file; all values of safetensors are texts ---- */

/* Numbered as in GGUF files. */
typedef enum mg_value_type {
  MG_VALUE_U8,
  MG_VALUE_I8,
  MG_VALUE_U16,
  MG_VALUE_I16,
  MG_VALUE_U32,
  MG_VALUE_I32,
  MG_VALUE_F32,
  MG_VALUE_BOOL,
  MG_VALUE_TEXT,
  MG_VALUE_LIST,
  MG_VALUE_U64,
  MG_VALUE_I64,
  MG_VALUE_F64,
  MG_VALUE_TYPE_COUNT
} mg_value_type;
const char *mg_value_type_name(mg_value_type type);

/* A value, or a list to walk with mg_value_next. Borrowed from the checkpoint. */
typedef struct mg_value {
  mg_value_type type;
  mg_value_type element; /* of a list */
  int64_t count;         /* elements of a list, or of what is left of it; 1 otherwise */
  const unsigned char *data;
  size_t text_bytes; /* of a text */
} mg_value;

int64_t mg_checkpoint_keys(const mg_checkpoint *checkpoint);
/* Key `index`, in file order, and its value. */
const char *mg_checkpoint_key(const mg_checkpoint *checkpoint, int64_t index, mg_value *out);
/* False if there is no such key. */
bool mg_checkpoint_value(const mg_checkpoint *checkpoint, const char *key, mg_value *out);

/* Take the next element from a list, or the one value of a scalar. False if none is left or it has another type.
 * Integers of every width pass, as long as they fit; reals are f32 or f64. A text may hold NULs within its `bytes`, and
 * one follows it. */
bool mg_value_next_integer(mg_value *value, int64_t *out);
bool mg_value_next_real(mg_value *value, double *out);
bool mg_value_next_flag(mg_value *value, bool *out);
bool mg_value_next_text(mg_value *value, const char **out, size_t *bytes);

/* All keys as a JSON object, for code that reads a configuration: numbers (reals that are not finite as null), bools,
 * texts, lists of up to 256 elements as lists, longer ones as their count. Texts that are no UTF-8 are left out (null in
 * a list). NULL when memory runs out. */
json_t *mg_checkpoint_metadata(const mg_checkpoint *checkpoint);

/* The value of a key that must be there and have this type; otherwise MG_FILE with the key, what came and what was
 * wanted. */
mg_status mg_checkpoint_text(const mg_checkpoint *checkpoint, const char *key, const char **out);
mg_status mg_checkpoint_integer(const mg_checkpoint *checkpoint, const char *key, int64_t least, int64_t most,
                                int64_t *out);
mg_status mg_checkpoint_real(const mg_checkpoint *checkpoint, const char *key, double *out);
mg_status mg_checkpoint_flag(const mg_checkpoint *checkpoint, const char *key, bool *out);
mg_status mg_checkpoint_list(const mg_checkpoint *checkpoint, const char *key, mg_value_type element, mg_value *out);

#endif
