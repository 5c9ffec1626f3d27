/* The parameters of a model: named tensors that outlive a step, with their gradients and optimiser moments. */
#ifndef MG_TENSOR_PARAMS_H
#define MG_TENSOR_PARAMS_H

#include "moegauge/param.h"
#include "moegauge/rng.h"
#include "moegauge/tape.h"

enum { MG_PARAM_NAME_BYTES = 96 };

typedef struct mg_param {
  char name[MG_PARAM_NAME_BYTES]; /* "layers.2.moe.gate" */
  mg_tensor value;                /* in backend memory */
  mg_tensor gradient;             /* f32 (f64 for f64 values); data NULL when fixed or frozen */
  mg_tensor first, second;        /* AdamW moments; data NULL until mg_params_make_moments */
  bool fixed;                     /* a buffer: never trained */
  bool decay;                     /* weight decay applies (matrices, not norms or biases) */
} mg_param;

typedef struct mg_params mg_params;

/* A store on `backend`. New parameters have `dtype` (MG_F32 for training, MG_F64 for gradient checks). */
mg_status mg_params_create(mg_backend *backend, mg_dtype dtype, mg_params **out);
/* A store that only describes: names and shapes of any size, no memory for values, nothing to run with. */
mg_status mg_params_describe(mg_context *context, mg_dtype dtype, mg_params **out);
bool mg_params_described(const mg_params *params);
/* From here on new parameters get neither memory nor gradients: mg_params_bind gives them what they hold. */
void mg_params_defer(mg_params *params);
/* The memory of a deferred parameter: `value` has its shape, in any dtype that its uses accept. `owned` memory came from
 * the backend's allocate and is released with the store; other memory must outlive the store and is only read. */
mg_status mg_params_bind(mg_params *params, int64_t index, const mg_tensor *value, bool owned);
/* Gives a deferred parameter memory of its own in `dtype`, with the initial values that it was added with. */
mg_status mg_params_draw(mg_params *params, int64_t index, mg_dtype dtype);
void mg_params_destroy(mg_params *params);

typedef struct mg_param_request {
  const char *name;
  int32_t dims;
  int64_t shape[MG_DIMS_MAX];
  mg_init init;
  double scale;
  bool fixed, decay;
  mg_stream stream; /* for random initial values; element i uses draw i */
} mg_param_request;

/* Adds and initialises a parameter; *index is its place. MG_USAGE if the name exists. */
mg_status mg_params_add(mg_params *params, const mg_param_request *request, int64_t *index);
int64_t mg_params_count(const mg_params *params);
mg_param *mg_params_at(mg_params *params, int64_t index);
const mg_param *mg_params_look(const mg_params *params, int64_t index);
/* -1 if there is none of that name. */
int64_t mg_params_find(const mg_params *params, const char *name);
/* Elements of all parameters (buffers not counted), and bytes of values, gradients and moments. */
int64_t mg_params_elements(const mg_params *params);
typedef struct mg_params_bytes {
  size_t values, gradients, moments;
} mg_params_bytes;
mg_params_bytes mg_params_memory(const mg_params *params);

/* The parameter as a variable on the tape, its gradient collected in the store. One variable per tape step: asking
 * twice gives the same one. */
mg_var *mg_params_var(mg_params *params, mg_tape *tape, int64_t index);

/* Which parameters are trained: all that a store made itself, none that were bound or drawn. Their memory may move: call
 * these between steps, and keep no address of it. */
/* From here on the store holds the memory of the value, in which the same numbers stand: for what will be written to. */
mg_status mg_params_own(mg_params *params, int64_t index);
/* From here on the parameter is trained: its value is the store's own, in f32 (or f64), and it has a gradient. MG_USAGE
 * for a buffer. */
mg_status mg_params_train(mg_params *params, int64_t index);
/* From here on it is not: gradient and moments are released, the value stays. */
void mg_params_freeze(mg_params *params, int64_t index);

mg_status mg_params_zero_gradients(mg_params *params);
mg_status mg_params_make_moments(mg_params *params);

#endif
