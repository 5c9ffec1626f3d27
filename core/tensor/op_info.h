/* One row per primitive: its operands, shape rule, backward rule and cost. The rows stand in ops, one file per family;
 * op.c collects them by MG_OP_LIST, so a primitive without a row does not link. */
#ifndef MG_TENSOR_OP_INFO_H
#define MG_TENSOR_OP_INFO_H

#include "moegauge/backend.h"

/* Which dtypes an operand may have. */
typedef enum mg_operand_kind {
  MG_OPERAND_NONE,  /* the op has no such operand */
  MG_OPERAND_REAL,  /* f32, bf16 or f64, the same in all REAL operands of the call */
  MG_OPERAND_MIXED, /* f32 and bf16 in any mix, or f64 in all MIXED operands */
  MG_OPERAND_WIDE,  /* f64 beside f64 REAL operands, else f32 */
  MG_OPERAND_F32,
  MG_OPERAND_I32,
  MG_OPERAND_ANY
} mg_operand_kind;

typedef struct mg_operand {
  const char *name;
  mg_operand_kind kind;
  bool optional; /* may be NULL */
  bool stored;   /* may have a stored dtype, which then counts as f32 */
} mg_operand;

typedef struct mg_op_info mg_op_info;

/* A call under inspection. */
typedef struct mg_op_check {
  mg_context *context;
  const mg_op_call *call;
  const mg_op_info *info;
} mg_op_check;

struct mg_backward;

struct mg_op_info {
  mg_operand in[MG_OP_INPUTS_MAX], out[MG_OP_OUTPUTS_MAX];
  /* Checks the shapes of the inputs and states those of the outputs with mg__out. Dtypes were checked before. */
  mg_status (*shape)(const mg_op_check *check);
  /* Gives a gradient to each input that wants one (tensor/backward.h). NULL: the outputs are constants. */
  void (*backward)(struct mg_backward *backward);
  /* FLOPs of a call, or NULL: then flops_each for every element of the first input (or of the output of an op that has
   * no input). */
  double (*flops)(const mg_op_call *call);
  double flops_each;
};

/* The row of an op; NULL if `op` is none. */
const mg_op_info *mg__op_info(mg_op op);

/* Checks a whole call. An output whose dims are 0 gets its dtype and shape from the rule; one that has a shape is
 * compared with the rule. MG_USAGE with a message that names the op, the operand and what it must be. */
mg_status mg__op_check(mg_context *context, const mg_op_call *call);

enum { MG_CALL_TEXT_BYTES = 512 };
/* Writes "matmul(a f32 [8, 4], b bf16 [4, 2])" into `text` and returns it. */
const char *mg__call_text(const mg_op_call *call, char text[MG_CALL_TEXT_BYTES]);

/* Whether the backend has the primitive and runs it on these operands; outputs may be left out. */
bool mg__op_runs(const mg_backend *backend, const mg_op_call *call);
/* Asks the backend whether it can run a checked call, and runs it. A call whose outputs have no elements is not run. */
mg_status mg__op_run(mg_backend *backend, const mg_op_call *call);

/* ---- for shape rules (op_check.c) -------------------------------------------------------------------------- */

/* MG_USAGE: "OP: " and the text. */
mg_status mg__refuse(const mg_op_check *check, const char *format, ...) MG_PRINTF(2, 3);

/* Input `index` must have this many dimensions. */
mg_status mg__want_dims(const mg_op_check *check, int32_t index, int32_t dims);
/* Input `index`, seen as a matrix, must be [rows, columns]; `because` says where that comes from. NULL inputs pass. */
mg_status mg__want_matrix(const mg_op_check *check, int32_t index, int64_t rows, int64_t columns, const char *because);
/* Input `index` must have this many elements. NULL inputs pass. */
mg_status mg__want_count(const mg_op_check *check, int32_t index, int64_t count, const char *because);

/* The precision of a product must be f32, bf16 or f64. */
mg_status mg__want_compute(const mg_op_check *check, mg_dtype compute);

/* States the shape of output `index`: fills it in, or compares as matrices. NULL outputs pass. */
mg_status mg__out(const mg_op_check *check, int32_t index, int32_t dims, const int64_t *shape);
mg_status mg__out_matrix(const mg_op_check *check, int32_t index, int64_t rows, int64_t columns);
mg_status mg__out_vector(const mg_op_check *check, int32_t index, int64_t count);
mg_status mg__out_like(const mg_op_check *check, int32_t index, const mg_tensor *tensor);
/* Output `index` has a shape that only the caller knows. */
mg_status mg__out_given(const mg_op_check *check, int32_t index);
/* The shape rule of elementwise ops: every input and output has the first input's shape. */
mg_status mg__shape_all_alike(const mg_op_check *check);

#endif
