/* AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101) over a store of parameters, and the norm of its gradients. */
#include "train/run.h"

#include <math.h>
#include <string.h>

static bool trained(const mg_param *param) {
  return param->gradient.data != NULL;
}

mg_status mg__optimiser_create(mg_context *context, mg_tape *tape, mg_params *params, mg__optimiser *out) {
  *out = (mg__optimiser){.context = context, .tape = tape, .params = params};
  MG_TRY(mg_params_make_moments(params));
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_at(params, i);
    if (trained(param)) out->rows += mg_tensor_rows(&param->gradient);
  }
  if (out->rows == 0) return mg_fail(context, MG_USAGE, "train: the model has no parameter to train");
  mg_backend *backend = mg_tape_backend(tape);
  const size_t bytes = (size_t)out->rows * sizeof(float);
  out->sums = (mg_tensor){.shape = {out->rows}, .dims = 1, .dtype = MG_F32};
  MG_TRY(backend->plugin->allocate(backend, bytes, &out->sums.data));
  out->host = mg_alloc(context, bytes);
  return out->host ? MG_OK : MG_MEMORY;
}

void mg__optimiser_destroy(mg__optimiser *optimiser) {
  if (!optimiser->tape) return;
  mg_backend *backend = mg_tape_backend(optimiser->tape);
  const size_t bytes = (size_t)optimiser->rows * sizeof(float);
  if (optimiser->sums.data) backend->plugin->release(backend, optimiser->sums.data, bytes);
  mg_free(optimiser->context, optimiser->host, optimiser->host ? bytes : 0);
}

/* Sums of squares of each row of one gradient, into `sums` from row `first` on. */
static mg_status reduce_rows(mg__optimiser *optimiser, const mg_tensor *gradient, int64_t first) {
  const int64_t rows = mg_tensor_rows(gradient), columns = mg_tensor_columns(gradient);
  const mg_tensor matrix = {.data = gradient->data, .shape = {rows, columns}, .dims = 2, .dtype = gradient->dtype};
  mg_tensor out = {.data = (float *)optimiser->sums.data + first, .shape = {rows, 1}, .dims = 2, .dtype = MG_F32};
  mg_op_call call = {.op = MG_OP_REDUCE, .part = MG_PART_OPTIMISER, .in = {&matrix}, .out = {&out}};
  call.attributes.reduce.kind = MG_REDUCE_SUM_SQUARES;
  call.attributes.reduce.axis = MG_OVER_COLUMNS;
  return mg_tape_run(optimiser->tape, &call);
}

mg_status mg__optimiser_norm(mg__optimiser *optimiser, double *norm) {
  mg_backend *backend = mg_tape_backend(optimiser->tape);
  int64_t first = 0;
  for (int64_t i = 0; i < mg_params_count(optimiser->params); i++) {
    const mg_param *param = mg_params_at(optimiser->params, i);
    if (!trained(param)) continue;
    MG_TRY(reduce_rows(optimiser, &param->gradient, first));
    first += mg_tensor_rows(&param->gradient);
  }
  MG_TRY(backend->plugin->download(backend, optimiser->host, optimiser->sums.data,
                                   (size_t)optimiser->rows * sizeof(float)));
  double sum = 0.0;
  for (int64_t i = 0; i < optimiser->rows; i++) sum += (double)optimiser->host[i];
  *norm = sqrt(sum);
  return MG_OK;
}

/* An AdamW step changes every weight by about the rate, and so a gate's logit by about the rate times its width: what
 * suits the experts may throw tokens from expert to expert, hence a factor of the routers' own. */
static double rate_factor(const mg_param *param, const mg__train_settings *settings) {
  return strstr(param->name, ".router.") ? settings->router_rate : 1.0;
}

mg_status mg__optimiser_step(mg__optimiser *optimiser, const mg__train_settings *settings, double rate,
                             double gradient_scale, int64_t step) {
  for (int64_t i = 0; i < mg_params_count(optimiser->params); i++) {
    mg_param *param = mg_params_at(optimiser->params, i);
    if (!trained(param)) continue;
    mg_op_call call = {.op = MG_OP_ADAMW,
                       .part = MG_PART_OPTIMISER,
                       .in = {&param->gradient},
                       .out = {&param->value, &param->first, &param->second}};
    call.attributes.adamw.rate = rate * rate_factor(param, settings);
    call.attributes.adamw.beta1 = settings->beta1;
    call.attributes.adamw.beta2 = settings->beta2;
    call.attributes.adamw.epsilon = settings->epsilon;
    call.attributes.adamw.decay = param->decay ? settings->decay : 0.0;
    call.attributes.adamw.gradient_scale = gradient_scale;
    call.attributes.adamw.step = step;
    MG_TRY(mg_tape_run(optimiser->tape, &call));
  }
  return MG_OK;
}
