/* Matrix products, plain and batched. */
#include "tensor/tape_internal.h"

/* The precision of a product: f64 operands are always multiplied in f64. */
static mg_dtype compute_dtype(const mg_tape *tape, const mg_var *a) {
  return mg_var_dtype(a) == MG_F64 ? MG_F64 : tape->compute;
}

/* Rows and columns of an operand after its transposition. */
static void extents(const mg_tensor *tensor, bool transposed, int64_t *rows, int64_t *columns) {
  const int64_t last = tensor->shape[tensor->dims - 1], before = tensor->shape[tensor->dims - 2];
  *rows = transposed ? last : before;
  *columns = transposed ? before : last;
}

static double matmul_flops(const mg_op_call *call) {
  int64_t rows, inner;
  extents(call->in[0], call->attributes.matmul.transpose_a, &rows, &inner);
  return 2.0 * (double)mg_tensor_count(call->out[0]) * (double)inner;
}

static mg_status refuse_operands(const mg_op_check *check, const char *rule) {
  char a[MG_SHAPE_TEXT_BYTES], b[MG_SHAPE_TEXT_BYTES];
  return mg__refuse(check, "a is %s%s and b is %s%s; %s", mg_shape_text(check->call->in[0], a),
                    check->call->attributes.matmul.transpose_a ? " transposed" : "",
                    mg_shape_text(check->call->in[1], b),
                    check->call->attributes.matmul.transpose_b ? " transposed" : "", rule);
}

static mg_status matmul_shape(const mg_op_check *check) {
  const mg_tensor *a = check->call->in[0], *b = check->call->in[1], *out = check->call->out[0];
  int64_t rows, inner, inner_b, columns;
  MG_TRY(mg__want_compute(check, check->call->attributes.matmul.compute));
  if (a->dims != b->dims || a->dims < 2 || a->dims > 3)
    return refuse_operands(check, "both must have two dimensions, or both three");
  if (a->dims == 3 && a->shape[0] != b->shape[0])
    return refuse_operands(check, "they must agree in the first dimension");
  extents(a, check->call->attributes.matmul.transpose_a, &rows, &inner);
  extents(b, check->call->attributes.matmul.transpose_b, &inner_b, &columns);
  if (inner != inner_b) return refuse_operands(check, "the columns of a must be the rows of b");
  if (out->dtype != a->dtype && out->dtype != MG_F32)
    return mg__refuse(check, "out is %s beside a %s; it must have a's dtype or f32", mg_dtype_name(out->dtype),
                      mg_dtype_name(a->dtype));
  if (a->dims == 2) return mg__out_matrix(check, 0, rows, columns);
  return mg__out(check, 0, 3, (const int64_t[]){a->shape[0], rows, columns});
}

/* For out = op(a) op(b): d op(a) = dout op(b)^T and d op(b) = op(a)^T dout, each in the order that gives the operand as
 * it is stored. */
static void matmul_backward(mg_backward *b) {
  const mg_tensor *x = b->call->in[0], *y = b->call->in[1], *dout = b->dout[0];
  const bool tx = b->call->attributes.matmul.transpose_a, ty = b->call->attributes.matmul.transpose_b;
  const mg_dtype compute = b->call->attributes.matmul.compute;
  mg_op_call dx = {.op = MG_OP_MATMUL, .in = {tx ? y : dout, tx ? dout : y}};
  dx.attributes.matmul.transpose_a = tx ? ty : false;
  dx.attributes.matmul.transpose_b = tx ? true : !ty;
  dx.attributes.matmul.compute = compute;
  mg__give_product(b, 0, &dx, &dx.attributes.matmul.accumulate);
  mg_op_call dy = {.op = MG_OP_MATMUL, .in = {ty ? dout : x, ty ? x : dout}};
  dy.attributes.matmul.transpose_a = ty ? true : !tx;
  dy.attributes.matmul.transpose_b = ty ? tx : false;
  dy.attributes.matmul.compute = compute;
  mg__give_product(b, 1, &dy, &dy.attributes.matmul.accumulate);
}

const mg_op_info mg__op_matmul = {.in = {{"a", MG_OPERAND_MIXED}, {"b", MG_OPERAND_MIXED, .stored = true}},
                                  .out = {{"out", MG_OPERAND_MIXED}},
                                  .shape = matmul_shape,
                                  .backward = matmul_backward,
                                  .flops = matmul_flops};

mg_var *mg_matmul(mg_tape *tape, mg_var *a, bool transpose_a, mg_var *b, bool transpose_b) {
  mg_application matmul = {.op = MG_OP_MATMUL, .in = {a, b}};
  matmul.attributes.matmul.transpose_a = transpose_a;
  matmul.attributes.matmul.transpose_b = transpose_b;
  matmul.attributes.matmul.compute = compute_dtype(tape, a);
  return mg__apply(tape, &matmul);
}

mg_var *mg_linear(mg_tape *tape, mg_var *x, mg_var *weight) {
  return mg_matmul(tape, x, false, weight, true);
}
