/* Inside the tape: its memory, its variables, and the list of what ran. */
#ifndef MG_TENSOR_TAPE_INTERNAL_H
#define MG_TENSOR_TAPE_INTERNAL_H

#include "base/arena.h"
#include "tensor/backward.h"
#include "tensor/op_info.h"
#include "tensor/tape_work.h"

/* ---- device memory (tape_memory.c) --------------------------------------------------------------------------- */

/* Memory of a gradient or temporary. It is recycled when nothing holds it any more. */
typedef struct mg_buffer {
  void *data;
  size_t bytes;
  int32_t holders;
  struct mg_buffer *next; /* in the list of free buffers */
} mg_buffer;

typedef struct mg_chunk {
  struct mg_chunk *next;
  void *data;
  size_t bytes, used;
} mg_chunk;

/* Bump allocation in device chunks, newest first, of which those newer than the current one are empty; they merge into one
 * at a reset. */
typedef struct mg_memory {
  mg_backend *backend;
  mg_chunk *chunks, *current;
  size_t used, peak;
  size_t high;     /* the most that was used since the last reset */
  mg_buffer *free; /* buffers that nothing holds */
  mg_arena *host;  /* nodes, variables and buffer records */
} mg_memory;

mg_status mg__memory_open(mg_memory *memory, mg_backend *backend);
void mg__memory_close(mg_memory *memory);
void mg__memory_reset(mg_memory *memory);
/* Gives back what was taken since `place` was asked for. */
mg_tape_place mg__memory_place(const mg_memory *memory);
void mg__memory_rewind(mg_memory *memory, mg_tape_place place);
/* Memory until reset; *out is NULL for 0 bytes. */
mg_status mg__memory_take(mg_memory *memory, size_t bytes, void **out);
/* Memory until released: one holder. */
mg_status mg__buffer_take(mg_memory *memory, size_t bytes, mg_buffer **out);
void mg__buffer_release(mg_memory *memory, mg_buffer *buffer);

/* ---- variables and nodes ------------------------------------------------------------------------------------- */

struct mg_var {
  mg_tape *tape;
  mg_tensor tensor;
  mg_tensor gradient;       /* meaningful while has_gradient */
  mg_buffer *buffer;        /* memory of the gradient; NULL for a leaf's */
  mg_tensor *leaf_gradient; /* the caller's tensor, for leaves */
  bool needs_gradient, has_gradient, keeps_gradient;
};

/* One call that backward must undo. A view (reshape) has op MG_OP_COUNT: its gradient is its output's. */
typedef struct mg_node {
  struct mg_node *previous;
  mg_op_call call;
  mg_var *in[MG_OP_INPUTS_MAX];
  mg_var *out[MG_OP_OUTPUTS_MAX];
  const mg_tensor *companions[MG_COMPANIONS_MAX];
} mg_node;

/* A temporary of a backward rule. `tensor` comes first: rules hold its address. */
typedef struct mg_held {
  mg_tensor tensor;
  mg_buffer *buffer;
  struct mg_held *next;
} mg_held;

struct mg_tape {
  mg_backend *backend;
  mg_context *context;
  mg_memory memory;
  mg_node *last;
  mg_status status;
  mg_dtype compute;
  mg_part part;
  bool recording, timing, walked_back;
  uint64_t generation; /* differs after every reset */
  mg_counters counters;
};

/* A call on variables. */
typedef struct mg_application {
  mg_op op;
  mg_var *in[MG_OP_INPUTS_MAX];
  mg_tensor out[MG_OP_OUTPUTS_MAX]; /* dims 0: as the shape rule says, or not wanted if it is optional */
  mg_op_attributes attributes;
  mg_var *companions[MG_COMPANIONS_MAX]; /* what the backward rule reads and the call itself does not */
  mg_var *result[MG_OP_OUTPUTS_MAX];     /* filled */
} mg_application;

/* Runs and records an application; returns result[0], or NULL when the tape has failed. */
mg_var *mg__apply(mg_tape *tape, mg_application *application);
/* Whether the backend runs this fused primitive; where not, the tape composes what it stands for. */
bool mg__has_fused(const mg_tape *tape, const mg_application *application);
/* The same memory under another shape; differentiable when `connected`. */
mg_var *mg__view(mg_tape *tape, mg_var *x, int32_t dims, const int64_t *shape, bool connected);
/* A fresh constant without memory; NULL when the tape fails. */
mg_var *mg__var_new(mg_tape *tape);
/* False, failing the tape, when it has failed or `x` is NULL or another tape's. */
bool mg__usable(mg_tape *tape, const mg_var *x, const char *what);
/* Notes a failure whose message is in the context; returns whether `status` is MG_OK. */
bool mg__passed(mg_tape *tape, mg_status status);
/* Runs a checked call with memory and counts it. */
mg_status mg__tape_execute(mg_tape *tape, const mg_op_call *call, bool backward);
/* Tensor of an operand: shape and dtype without memory. */
mg_tensor mg__shape_of(mg_dtype dtype, int32_t dims, const int64_t *shape);

/* Identifies the step of a tape, for caches of variables. */
uint64_t mg__tape_generation(const mg_tape *tape);

#endif
