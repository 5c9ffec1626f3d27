/* The tape: differentiable functions over the primitives. Routers, layers and losses are written with these calls; the
 * tape runs each at once on its backend, remembers it, and differentiates the whole by walking back.
 *
 * Failure is sticky: a function that fails returns NULL, the tape keeps the first failure (status and message in its
 * context), and every later call that meets a NULL or a failed tape returns NULL. Straight-line code therefore needs
 * one check, at its end: `return mg_tape_status(tape)`.
 *
 * Shapes are written [rows, columns]; a tensor of more dimensions counts as a matrix whose last dimension is the
 * columns. Variables live until mg_tape_reset; their memory is the tape's arena. */
#ifndef MOEGAUGE_TAPE_H
#define MOEGAUGE_TAPE_H

#include "moegauge/backend.h"

typedef struct mg_tape mg_tape;
/* A tensor on the tape, and its gradient once mg_tape_backward has run. */
typedef struct mg_var mg_var;

/* ---- life ------------------------------------------------------------------------------------------------- */

/* A tape over `backend`, which must outlive it. `compute` is how matrix products treat their operands: MG_F32, MG_BF16
 * (operands rounded to bf16, f32 accumulation) or MG_F64. */
MG_API mg_status mg_tape_create(mg_backend *backend, mg_dtype compute, mg_tape **out);
MG_API void mg_tape_destroy(mg_tape *tape);
/* Forgets all variables and any failure; keeps the memory for the next step. */
MG_API void mg_tape_reset(mg_tape *tape);
MG_API mg_status mg_tape_status(const mg_tape *tape);
MG_API mg_context *mg_tape_context(const mg_tape *tape);
MG_API mg_backend *mg_tape_backend(const mg_tape *tape);
/* Without recording (inference) nothing is remembered and backward is not possible. Default: recording. */
MG_API void mg_tape_set_recording(mg_tape *tape, bool recording);
/* The precision of matrix products from here on; returns the one before. A router's gate runs in MG_F32. */
MG_API mg_dtype mg_tape_set_compute(mg_tape *tape, mg_dtype compute);
/* The part to which the following work is counted; returns the one before. */
MG_API mg_part mg_tape_set_part(mg_tape *tape, mg_part part);
/* Marks the tape as failed; returns NULL so that `return mg_tape_fail(...)` works. */
MG_API mg_var *mg_tape_fail(mg_tape *tape, mg_status status, const char *format, ...) MG_PRINTF(3, 4);
/* Bytes of arena memory in use, and the most since the tape was created. */
MG_API size_t mg_tape_bytes(const mg_tape *tape);
MG_API size_t mg_tape_peak_bytes(const mg_tape *tape);

/* ---- variables -------------------------------------------------------------------------------------------- */

/* Brings a tensor that outlives the step onto the tape. With `gradient` (same shape, f32 or f64) backward ADDS into it;
 * NULL makes a constant. Both are borrowed until reset. */
MG_API mg_var *mg_tape_leaf(mg_tape *tape, const mg_tensor *tensor, mg_tensor *gradient);
/* A new variable copied from host memory; a constant. */
MG_API mg_var *mg_tape_upload(mg_tape *tape, mg_dtype dtype, int32_t dims, const int64_t *shape, const void *host);
/* Copies a variable to host memory of `bytes` (checked). Waits for the device. */
MG_API mg_status mg_tape_download(mg_tape *tape, const mg_var *x, void *host, size_t bytes);
/* A variable of the given shape filled with `value`; a constant. */
MG_API mg_var *mg_fill(mg_tape *tape, mg_dtype dtype, int32_t dims, const int64_t *shape, double value);
/* Draws: uniform on (low, high), or normal with mean `low` and standard deviation `high`; a constant. */
MG_API mg_var *mg_random(mg_tape *tape, mg_dtype dtype, int32_t dims, const int64_t *shape, mg_random_kind kind,
                         mg_stream stream, double low, double high);

MG_API const mg_tensor *mg_var_tensor(const mg_var *x);
/* The gradient after backward of a leaf, or of a variable marked before with mg_var_keep_gradient (the memory of others
 * is recycled); NULL if none reached x. */
MG_API const mg_tensor *mg_var_gradient(const mg_var *x);
MG_API void mg_var_keep_gradient(mg_var *x);
MG_API bool mg_var_needs_gradient(const mg_var *x);
MG_API int64_t mg_var_rows(const mg_var *x);    /* 0 for NULL */
MG_API int64_t mg_var_columns(const mg_var *x); /* 0 for NULL */
MG_API mg_dtype mg_var_dtype(const mg_var *x);  /* MG_F32 for NULL */

/* Gradients of `loss` (one element) for every variable that led to it. May be called once per reset. */
MG_API mg_status mg_tape_backward(mg_tape *tape, mg_var *loss);

/* ---- elementwise ------------------------------------------------------------------------------------------ */

/* b has a's shape, or is one row [C], one column [R,1], or one element; gradients of b are summed accordingly. */
MG_API mg_var *mg_binary_op(mg_tape *tape, mg_binary kind, mg_var *a, mg_var *b);
MG_API mg_var *mg_add(mg_tape *tape, mg_var *a, mg_var *b);
MG_API mg_var *mg_sub(mg_tape *tape, mg_var *a, mg_var *b);
MG_API mg_var *mg_mul(mg_tape *tape, mg_var *a, mg_var *b);
MG_API mg_var *mg_div(mg_tape *tape, mg_var *a, mg_var *b);

MG_API mg_var *mg_unary_op(mg_tape *tape, mg_unary kind, mg_var *x, double alpha, double beta);
MG_API mg_var *mg_affine(mg_tape *tape, mg_var *x, double scale, double shift); /* scale * x + shift */
MG_API mg_var *mg_scale(mg_tape *tape, mg_var *x, double factor);
MG_API mg_var *mg_exp(mg_tape *tape, mg_var *x);
MG_API mg_var *mg_log(mg_tape *tape, mg_var *x);
MG_API mg_var *mg_square(mg_tape *tape, mg_var *x);
MG_API mg_var *mg_sigmoid(mg_tape *tape, mg_var *x);
MG_API mg_var *mg_relu(mg_tape *tape, mg_var *x);
MG_API mg_var *mg_softplus(mg_tape *tape, mg_var *x);
MG_API mg_var *mg_normal_cdf(mg_tape *tape, mg_var *x);

/* x where mask != 0, else value; no gradient through mask. */
MG_API mg_var *mg_where(mg_tape *tape, mg_var *mask, mg_var *x, double value);
/* i32 ids where the real mask is not 0, else -1, no choice; ids below 2^24. */
MG_API mg_var *mg_ids_where(mg_tape *tape, mg_var *mask, mg_var *ids);
MG_API mg_var *mg_cast(mg_tape *tape, mg_var *x, mg_dtype dtype);
/* The same elements as a constant: no gradient flows to x. */
MG_API mg_var *mg_detach(mg_tape *tape, mg_var *x);
/* act(gate) * up, elementwise. */
MG_API mg_var *mg_glu(mg_tape *tape, mg_glu_kind kind, mg_var *gate, mg_var *up);

/* ---- shape ------------------------------------------------------------------------------------------------ */

/* The same elements under another shape of as many elements; one dimension may be -1. */
MG_API mg_var *mg_reshape(mg_tape *tape, mg_var *x, int32_t dims, const int64_t *shape);
MG_API mg_var *mg_reshape2(mg_tape *tape, mg_var *x, int64_t rows, int64_t columns);
MG_API mg_var *mg_slice(mg_tape *tape, mg_var *x, int64_t first, int64_t count); /* columns */
MG_API mg_var *mg_concat(mg_tape *tape, mg_var *a, mg_var *b);                   /* columns of a, then of b */
MG_API mg_var *mg_transpose(mg_tape *tape, mg_var *x);                           /* last two dimensions */

/* ---- reductions ------------------------------------------------------------------------------------------- */

MG_API mg_var *mg_reduce_op(mg_tape *tape, mg_reduce kind, mg_axis axis, mg_var *x);
MG_API mg_var *mg_sum_columns(mg_tape *tape, mg_var *x); /* [R,C] -> [R,1] */
MG_API mg_var *mg_sum_rows(mg_tape *tape, mg_var *x);    /* [R,C] -> [C] */
MG_API mg_var *mg_mean_rows(mg_tape *tape, mg_var *x);   /* [R,C] -> [C] */
MG_API mg_var *mg_sum(mg_tape *tape, mg_var *x);         /* all elements -> [1] */
MG_API mg_var *mg_mean(mg_tape *tape, mg_var *x);        /* all elements -> [1] */
MG_API mg_var *mg_cumsum(mg_tape *tape, mg_var *x);      /* along each row */
MG_API mg_var *mg_softmax(mg_tape *tape, mg_var *x);
MG_API mg_var *mg_log_sum_exp(mg_tape *tape, mg_var *x); /* [R,C] -> [R,1] */
/* Each row divided by its sum + 1e-20, so that a row of zeros stays finite; by its length, sqrt(sum of squares + 1e-12). */
MG_API mg_var *mg_shares(mg_tape *tape, mg_var *x);
MG_API mg_var *mg_unit_rows(mg_tape *tape, mg_var *x);
/* sqrt(softplus(x) + 1e-20), elementwise; the floor keeps the gradient finite where softplus underflows. */
MG_API mg_var *mg_sqrt_softplus(mg_tape *tape, mg_var *x);

/* ---- matrix products -------------------------------------------------------------------------------------- */

/* op(a) op(b), where op transposes the last two dimensions if asked; both 2-D, or both 3-D with one batch. */
MG_API mg_var *mg_matmul(mg_tape *tape, mg_var *a, bool transpose_a, mg_var *b, bool transpose_b);
/* x [T,D] by a weight stored [out, D] as checkpoints do -> [T,out]. */
MG_API mg_var *mg_linear(mg_tape *tape, mg_var *x, mg_var *weight);
/* Row a of x [A,K] times the weight of its expert; w [E,N,K] -> [A,N]. */
MG_API mg_var *mg_grouped_linear(mg_tape *tape, mg_var *x, mg_var *weight, mg_var *offsets);
/* x[t] . w[ids[t,m]] -> [T,M]: gates of the chosen rows only. */
MG_API mg_var *mg_gather_dot(mg_tape *tape, mg_var *x, mg_var *weight, mg_var *ids);

/* ---- indexing --------------------------------------------------------------------------------------------- */

MG_API mg_var *mg_gather_rows(mg_tape *tape, mg_var *table, mg_var *ids);
MG_API mg_var *mg_gather_columns(mg_tape *tape, mg_var *x, mg_var *ids);
/* The reverse: x [T,S] laid out over `columns` columns by ids [T,S], summed where ids repeat, 0 elsewhere. */
MG_API mg_var *mg_scatter_columns(mg_tape *tape, mg_var *x, mg_var *ids, int64_t columns);
/* The k largest of each row, descending; ties to the lowest id. Returns the ids [R,k] (i32, constant); `values` may be
 * NULL, else gets the values, differentiable. */
MG_API mg_var *mg_top_k(mg_tape *tape, mg_var *x, int64_t k, mg_var **values);
/* Scores of logits [T,E], and the k best of each token with their weights: mg_softmax or another score, mg_top_k and
 * mg_shares or mg_softmax, at once where the backend has the primitive. Returns the ids [T,k] (constant); `scores` and
 * `weights` get [T,E] and [T,k], differentiable. */
MG_API mg_var *mg_gate(mg_tape *tape, mg_var *logits, int64_t k, mg_gate_score score, mg_gate_weight weight,
                       mg_var **scores, mg_var **weights);
/* How often each id in [0, bins) occurs in each of `segments` equal runs of rows -> f32 [segments, bins], constant. */
MG_API mg_var *mg_histogram(mg_tape *tape, mg_var *ids, int64_t bins, int64_t segments);

/* ---- routing ---------------------------------------------------------------------------------------------- */

/* Assignments sorted by expert, in token order within an expert; see core/moe/README.md. All constants. */
typedef struct mg_assignment {
  mg_var *offsets;  /* i32 [E+1]: expert e has rows offsets[e] .. offsets[e+1] */
  mg_var *slots;    /* i32 [T*S]: row a came from token slots[a] / S, choice slots[a] % S; -1 beyond offsets[E] */
  mg_var *position; /* i32 [T,S]: the row of this choice, -1 if none or dropped */
  mg_var *demand;   /* i32 [E]: choices of each expert before any drop */
  int64_t rows;     /* offsets[E] where the host can read it without waiting, else T*S */
  int64_t tokens, choices, experts;
} mg_assignment;

/* ids i32 [T,S], -1 = no choice. capacity 0 = keep all. `priority` [T,S] is read when order is MG_ORDER_PRIORITY. */
MG_API mg_status mg_assign(mg_tape *tape, mg_var *ids, mg_var *priority, int64_t experts, int64_t capacity,
                           mg_capacity_order order, mg_assignment *out);
MG_API mg_var *mg_dispatch(mg_tape *tape, mg_var *x, const mg_assignment *assignment); /* [T,D] -> [A,D] */
/* weights may be NULL (all 1). [A,D] -> [T,D]. */
MG_API mg_var *mg_combine(mg_tape *tape, mg_var *y, mg_var *weights, const mg_assignment *assignment);

/* ---- transformer ------------------------------------------------------------------------------------------ */

MG_API mg_var *mg_norm(mg_tape *tape, mg_norm_kind kind, mg_var *x, mg_var *scale, mg_var *shift, double epsilon);
typedef struct mg_rope_settings {
  int64_t head, rotary;
  bool interleaved;
  double scale;
} mg_rope_settings;
MG_API mg_var *mg_rope(mg_tape *tape, mg_var *x, mg_var *positions, mg_var *frequencies, mg_rope_settings settings);
typedef struct mg_attention_settings {
  int64_t batch, heads, kv_heads, window;
  bool causal;
  double scale;
  int64_t keys; /* rows of each sequence of k and v that count; 0 = all */
} mg_attention_settings;
/* sinks and bias may be NULL. */
MG_API mg_var *mg_attention(mg_tape *tape, mg_var *q, mg_var *k, mg_var *v, mg_var *sinks, mg_var *bias,
                            mg_attention_settings settings);
/* Loss in nats per token [T,1]; 0 where the target is -1. */
MG_API mg_var *mg_cross_entropy(mg_tape *tape, mg_var *logits, mg_var *targets);

#endif
