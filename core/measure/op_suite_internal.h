/* What the files of the conformance suite share: how a case is written down, filled with numbers, and compared. */
#ifndef MG_MEASURE_OP_SUITE_INTERNAL_H
#define MG_MEASURE_OP_SUITE_INTERNAL_H

#include <math.h>

#include "measure/op_suite.h"

/* ---- how a case is written (op_suite_cases.c) ---------------------------------------------------------------- */

/* An operand's dtype, as a table row says it; 0 leaves the operand out (NULL). */
typedef enum suite_type {
  TYPE_NONE,
  TYPE_CASE, /* the dtype of the case */
  TYPE_WIDE, /* f64 in an f64 case, else f32 */
  TYPE_F32,
  TYPE_BF16,
  TYPE_F64,
  TYPE_I32,
#define TYPE_OF_STORED(NAME, name, values, bytes) TYPE_##NAME,
  MG_STORED_LIST(TYPE_OF_STORED)
#undef TYPE_OF_STORED
} suite_type;

/* What an input holds. */
typedef enum suite_fill {
  FILL_NORMAL,    /* standard normal */
  FILL_WIDE,      /* normal times 30 */
  FILL_POSITIVE,  /* e^normal */
  FILL_MASK,      /* 0 or 1 */
  FILL_TIES,      /* integers 0 .. 3, so that equal values abound */
  FILL_HOLES,     /* normal, a quarter of it -inf and the first row wholly so */
  FILL_NAN,       /* ties with some NaN and -inf */
  FILL_SOME_NAN,  /* normal, an eighth of it NaN */
  FILL_FEW_NAN,   /* normal, a 64th of it NaN */
  FILL_INTEGERS,  /* any integer up to a million */
  FILL_IDS,       /* integers in [0, bound) */
  FILL_SOME_IDS,  /* the same, a quarter of them -1 */
  FILL_POSITIONS, /* integers in [0, bound] */
  FILL_OFFSETS,   /* these four come from the case's routing */
  FILL_SLOTS,
  FILL_POSITION,
  FILL_CHOICES,
  FILL_FREQUENCIES, /* rotary: 10000^(-i/count) */
  FILL_FORWARD      /* an output of the forward primitive, run on the reference */
} suite_fill;

enum { ROWS = -1 }; /* a dimension: the number of assignments of the case's routing */

typedef struct suite_operand {
  suite_type type;
  suite_fill fill;
  int64_t bound;
  int32_t dims;
  int64_t shape[MG_DIMS_MAX];
} suite_operand;

/* How the choices of a routing fall. */
typedef enum suite_spread {
  SPREAD_EVEN, /* at random over all experts */
  SPREAD_ONE,  /* all on the last expert */
  SPREAD_GAP,  /* at random, never on expert 0 */
  SPREAD_SOME  /* at random, a quarter of them -1 */
} suite_spread;

typedef struct suite_routing {
  int64_t tokens, choices, experts, capacity;
  suite_spread spread;
  bool padded; /* each expert has exactly `capacity` rows; those without a token have slot -1 */
} suite_routing;

enum {
  REALS = 1 << MG_F32 | 1 << MG_BF16 | 1 << MG_F64,
  ANY = REALS | 1 << MG_I32,
  F32_F64 = 1 << MG_F32 | 1 << MG_F64
};

typedef struct suite_case {
  mg_op op;
  const char *label; /* what is special about it; "" */
  int dtypes;        /* a set of 1 << mg_dtype */
  int64_t variants;  /* of attributes (op_suite_variants.c); 0 counts as 1 */
  mg_op_attributes attributes;
  suite_routing routing;
  suite_operand in[MG_OP_INPUTS_MAX], out[MG_OP_OUTPUTS_MAX];
} suite_case;

typedef struct suite_table {
  const suite_case *rows;
  int64_t count;
} suite_table;

suite_table mg__suite_check_cases(void);
suite_table mg__suite_perf_cases(void);

/* The case with variant v of its attributes and shapes, and words for it. False if the variant makes no sense for
 * dtype. */
bool mg__suite_variant(const suite_case *row, int64_t v, mg_dtype dtype, suite_case *out, char *words, size_t bytes);

/* ---- a case filled with numbers (op_suite_data.c) ------------------------------------------------------------- */

/* Host copies of all operands; those that the case leaves out have dims 0. */
typedef struct suite_data {
  mg_context *context;
  mg_op op;
  mg_dtype dtype; /* of the case */
  mg_op_attributes attributes;
  mg_tensor in[MG_OP_INPUTS_MAX], out[MG_OP_OUTPUTS_MAX]; /* data on the host; outputs as they are before the call */
} suite_data;

/* Fills the inputs from Philox under the case's name. Outputs that are updated in place get numbers, others NaN.
 * Forward results and routings that the case needs are computed by `reference`. */
mg_status mg__suite_data_create(mg_context *context, mg_backend *reference, const suite_case *row, mg_dtype dtype,
                                const char *name, suite_data *out);
void mg__suite_data_destroy(suite_data *data);

/* The same shapes and dtypes without numbers or memory; a ROWS dimension counts every choice. Needs no destroy. */
void mg__suite_data_outline(const suite_case *row, mg_dtype dtype, suite_data *out);

/* Element i of a host tensor, and its counterpart, which rounds to the dtype; what no i32 can hold becomes 0 there. */
double mg__suite_at(const mg_tensor *x, int64_t i);
void mg__suite_put(const mg_tensor *x, int64_t i, double value);

/* Operands of stored dtypes (op_suite_stored.c): random blocks, element i, and the same values as f32 in place. */
void mg__suite_fill_stored(const mg_tensor *x, mg_stream stream);
double mg__suite_stored_at(const mg_tensor *x, int64_t i);
mg_status mg__suite_decode(mg_context *context, mg_tensor *x);

/* True if the primitive reads what its outputs hold. */
bool mg__suite_in_place(mg_op op, const mg_op_attributes *attributes);

/* Runs the call of `data` on a backend: copies operands there, calls the kernel, copies outputs to `results` (host
 * tensors like data->out). Fails with MG_PLUGIN when a byte beside an output or an input changed; the message says
 * which. */
mg_status mg__suite_run(mg_backend *backend, const suite_data *data, mg_tensor *results);

/* Repeats the call until `least_ns` have passed, after one call that is not counted; gives the median of single calls.
 */
mg_status mg__suite_time(mg_backend *backend, const suite_data *data, int64_t least_ns, double *median_ns,
                         int64_t *calls);

/* Allocates and frees host tensors like the outputs of `data`. */
mg_status mg__suite_results_create(const suite_data *data, mg_tensor *results);
void mg__suite_results_destroy(const suite_data *data, mg_tensor *results);

/* ---- comparison (op_suite_compare.c) -------------------------------------------------------------------------- */

/* Compares what the backend gave with what the reference gave, and returns the worst error as a share of what is
 * allowed; `detail` names the element if that is over 1. `reference` runs the call on |inputs| where the tolerance
 * needs it, which changes the numbers in `data`. */
mg_status mg__suite_compare(mg_backend *reference, suite_data *data, const mg_tensor *expected,
                            const mg_tensor *results, double *worst, char *detail, size_t bytes);

#endif
