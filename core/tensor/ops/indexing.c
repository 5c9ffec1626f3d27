/* Rows and columns chosen by ids, and choosing the ids of the largest elements. */
#include "tensor/tape_internal.h"

/* ---- gather_rows --------------------------------------------------------------------------------------------- */

static mg_status gather_rows_shape(const mg_op_check *check) {
  return mg__out_matrix(check, 0, mg_tensor_count(check->call->in[1]), mg_tensor_columns(check->call->in[0]));
}

static mg_status scatter_add_rows_shape(const mg_op_check *check) {
  const mg_tensor *dout = check->call->in[0];
  MG_TRY(mg__want_count(check, 1, mg_tensor_rows(dout), "one for each row of dout"));
  MG_TRY(mg__out_given(check, 0));
  return mg__out_matrix(check, 0, mg_tensor_rows(check->call->out[0]), mg_tensor_columns(dout));
}

static void gather_rows_backward(mg_backward *b) {
  mg_op_call call = {
      .op = MG_OP_SCATTER_ADD_ROWS, .in = {b->dout[0], b->call->in[1]}, .out = {mg__blank_like(b, b->call->in[0])}};
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_gather_rows = {.in = {{"table", MG_OPERAND_REAL, .stored = true}, {"ids", MG_OPERAND_I32}},
                                       .out = {{"out", MG_OPERAND_REAL}},
                                       .shape = gather_rows_shape,
                                       .backward = gather_rows_backward};

const mg_op_info mg__op_scatter_add_rows = {.in = {{"dout", MG_OPERAND_REAL}, {"ids", MG_OPERAND_I32}},
                                            .out = {{"out", MG_OPERAND_REAL}},
                                            .shape = scatter_add_rows_shape,
                                            .flops_each = 1};

mg_var *mg_gather_rows(mg_tape *tape, mg_var *table, mg_var *ids) {
  mg_application gather = {.op = MG_OP_GATHER_ROWS, .in = {table, ids}};
  return mg__apply(tape, &gather);
}

/* ---- gather_columns ------------------------------------------------------------------------------------------ */

static mg_status gather_columns_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0], *ids = check->call->in[1];
  MG_TRY(mg__want_matrix(check, 1, mg_tensor_rows(x), mg_tensor_columns(ids), "as many rows as x"));
  return mg__out_matrix(check, 0, mg_tensor_rows(ids), mg_tensor_columns(ids));
}

static mg_status scatter_columns_shape(const mg_op_check *check) {
  const mg_tensor *dout = check->call->in[0];
  MG_TRY(mg__want_matrix(check, 1, mg_tensor_rows(dout), mg_tensor_columns(dout), "dout"));
  MG_TRY(mg__out_given(check, 0));
  return mg__out_matrix(check, 0, mg_tensor_rows(dout), mg_tensor_columns(check->call->out[0]));
}

/* The gradient of columns chosen by ids, put back where they came from. */
static void give_scattered(mg_backward *b, const mg_tensor *dout, const mg_tensor *ids) {
  mg_op_call call = {.op = MG_OP_SCATTER_COLUMNS, .in = {dout, ids}, .out = {mg__blank_like(b, b->call->in[0])}};
  mg__give(b, 0, mg__compute(b, &call));
}

static void gather_columns_backward(mg_backward *b) {
  give_scattered(b, b->dout[0], b->call->in[1]);
}

const mg_op_info mg__op_gather_columns = {.in = {{"x", MG_OPERAND_REAL}, {"ids", MG_OPERAND_I32}},
                                          .out = {{"out", MG_OPERAND_REAL}},
                                          .shape = gather_columns_shape,
                                          .backward = gather_columns_backward};

static void scatter_columns_backward(mg_backward *b) {
  mg_op_call call = {.op = MG_OP_GATHER_COLUMNS, .in = {b->dout[0], b->call->in[1]}};
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_scatter_columns = {.in = {{"dout", MG_OPERAND_REAL}, {"ids", MG_OPERAND_I32}},
                                           .out = {{"out", MG_OPERAND_REAL}},
                                           .shape = scatter_columns_shape,
                                           .backward = scatter_columns_backward,
                                           .flops_each = 1};

mg_var *mg_gather_columns(mg_tape *tape, mg_var *x, mg_var *ids) {
  mg_application gather = {.op = MG_OP_GATHER_COLUMNS, .in = {x, ids}};
  return mg__apply(tape, &gather);
}

mg_var *mg_scatter_columns(mg_tape *tape, mg_var *x, mg_var *ids, int64_t columns) {
  if (!mg__usable(tape, x, "scatter_columns: x")) return NULL;
  const int64_t shape[] = {mg_var_rows(x), columns};
  mg_application scatter = {
      .op = MG_OP_SCATTER_COLUMNS, .in = {x, ids}, .out = {mg__shape_of(x->tensor.dtype, 2, shape)}};
  return mg__apply(tape, &scatter);
}

/* ---- top_k --------------------------------------------------------------------------------------------------- */

static mg_status top_k_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0];
  MG_TRY(mg__out_given(check, 0));
  const int64_t k = mg_tensor_columns(check->call->out[0]);
  if (k < 1 || k > mg_tensor_columns(x))
    return mg__refuse(check, "the %lld largest of %lld columns were asked for; k must be from 1 to that number",
                      (long long)k, (long long)mg_tensor_columns(x));
  MG_TRY(mg__out_matrix(check, 0, mg_tensor_rows(x), k));
  return mg__out_matrix(check, 1, mg_tensor_rows(x), k);
}

static void top_k_backward(mg_backward *b) {
  give_scattered(b, b->dout[0], b->call->out[1]);
}

const mg_op_info mg__op_top_k = {.in = {{"x", MG_OPERAND_REAL}},
                                 .out = {{"values", MG_OPERAND_REAL}, {"ids", MG_OPERAND_I32}},
                                 .shape = top_k_shape,
                                 .backward = top_k_backward,
                                 .flops_each = 1};

mg_var *mg_top_k(mg_tape *tape, mg_var *x, int64_t k, mg_var **values) {
  if (values) *values = NULL;
  if (!mg__usable(tape, x, "top_k: x")) return NULL;
  const int64_t shape[] = {mg_var_rows(x), k};
  mg_application top_k = {.op = MG_OP_TOP_K, .in = {x}, .out = {mg__shape_of(x->tensor.dtype, 2, shape)}};
  if (!mg__apply(tape, &top_k)) return NULL;
  if (values) *values = top_k.result[0];
  return top_k.result[1];
}

/* ---- histogram ----------------------------------------------------------------------------------------------- */

static mg_status histogram_shape(const mg_op_check *check) {
  const int64_t rows = mg_tensor_rows(check->call->in[0]), segments = check->call->attributes.histogram.segments;
  if (segments < 1 || rows % segments != 0)
    return mg__refuse(check, "%lld rows in %lld segments were asked for; the rows must divide into equal segments",
                      (long long)rows, (long long)segments);
  MG_TRY(mg__out_given(check, 0));
  return mg__out_matrix(check, 0, segments, mg_tensor_columns(check->call->out[0]));
}

const mg_op_info mg__op_histogram = {
    .in = {{"ids", MG_OPERAND_I32}}, .out = {{"out", MG_OPERAND_F32}}, .shape = histogram_shape};

mg_var *mg_histogram(mg_tape *tape, mg_var *ids, int64_t bins, int64_t segments) {
  const int64_t shape[] = {segments, bins};
  mg_application histogram = {.op = MG_OP_HISTOGRAM,
                              .in = {ids},
                              .out = {mg__shape_of(MG_F32, 2, shape)},
                              .attributes.histogram.segments = segments};
  return mg__apply(tape, &histogram);
}
