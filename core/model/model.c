/* The life of a model: creation from a specification, accessors, and the demand that its routers are told after a step.
 */
#include "model/block.h"

#include <string.h>

static mg_status make_demand(mg_model *model, int64_t index) {
  const int64_t experts = mg_moe_describe(mg_model_moe(model, index)).experts;
  model->demand[index] = mg_alloc(model->context, (size_t)experts * sizeof(double));
  return model->demand[index] ? MG_OK : MG_MEMORY;
}

/* Block `index`, counted through encoder and decoder. */
static const mg__block *block_at(const mg_model *model, int64_t index) {
  const int64_t encoder = model->spec.encoder.count;
  return index < encoder ? &model->encoder[index] : &model->blocks[index - encoder];
}

static mg_status make_hidden(mg_model *model) {
  const int64_t count = model->spec.encoder.count + model->spec.decoder.count + 2;
  model->hidden = mg_alloc(model->context, (size_t)count * sizeof *model->hidden);
  return model->hidden ? MG_OK : MG_MEMORY;
}

static mg_status make_records(mg_model *model) {
  const int64_t layers = model->spec.encoder.count + model->spec.decoder.count;
  for (int64_t i = 0; i < layers; i++) model->moe_layers += block_at(model, i)->moe != NULL;
  if (model->moe_layers == 0) return MG_OK;
  const size_t count = (size_t)model->moe_layers;
  model->moe_layer = mg_alloc(model->context, count * sizeof *model->moe_layer);
  model->records = mg_alloc(model->context, count * sizeof *model->records);
  model->demand = mg_alloc(model->context, count * sizeof *model->demand);
  if (!model->moe_layer || !model->records || !model->demand) return MG_MEMORY;
  int64_t next = 0;
  for (int64_t i = 0; i < layers; i++)
    if (block_at(model, i)->moe) model->moe_layer[next++] = i;
  for (int64_t i = 0; i < next; i++) MG_TRY(make_demand(model, i));
  return MG_OK;
}

static mg_status make_blocks(mg_model *model) {
  const mg__model_spec *spec = &model->spec;
  model->blocks = mg_alloc(model->context, (size_t)spec->decoder.count * sizeof *model->blocks);
  if (!model->blocks) return MG_MEMORY;
  if (spec->encoder.count) {
    model->encoder = mg_alloc(model->context, (size_t)spec->encoder.count * sizeof *model->encoder);
    if (!model->encoder) return MG_MEMORY;
  }
  if (!spec->prediction_modules || model->backend) return MG_OK;
  model->modules = mg_alloc(model->context, (size_t)spec->prediction_modules * sizeof *model->modules);
  return model->modules ? MG_OK : MG_MEMORY;
}

static mg_status fill_model(mg_model *model, mg_registry *registry, const json_t *spec, mg_dtype dtype, bool deferred) {
  MG_TRY(mg__model_spec_read(model->context, registry, spec, &model->spec));
  if (model->backend) {
    MG_TRY(mg__model_spec_runs(model->context, &model->spec));
    MG_TRY(mg_params_create(model->backend, dtype, &model->params));
    if (deferred) mg_params_defer(model->params);
  } else {
    MG_TRY(mg_params_describe(model->context, dtype, &model->params));
  }
  MG_TRY(make_blocks(model));
  MG_TRY(mg__model_build(model, registry));
  MG_TRY(make_hidden(model));
  return make_records(model);
}

static mg_status create(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                        mg_dtype dtype, uint64_t seed, bool deferred, mg_model **out) {
  *out = NULL;
  mg_model *model = mg_alloc(context, sizeof *model);
  if (!model) return MG_MEMORY;
  model->context = context;
  model->registry = registry;
  model->backend = backend;
  model->seed = seed;
  const mg_status status = fill_model(model, registry, spec, dtype, deferred);
  if (status != MG_OK)
    mg_model_destroy(model);
  else
    *out = model;
  return status;
}

mg_status mg_model_create(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                          mg_dtype dtype, uint64_t seed, mg_model **out) {
  return create(context, registry, backend, spec, dtype, seed, false, out);
}

mg_status mg_model_describe(mg_context *context, mg_registry *registry, const json_t *spec, mg_model **out) {
  return create(context, registry, NULL, spec, MG_F32, 0, false, out);
}

mg_status mg__model_create_empty(mg_context *context, mg_registry *registry, mg_backend *backend, const json_t *spec,
                                 uint64_t seed, mg_model **out) {
  return create(context, registry, backend, spec, MG_F32, seed, true, out);
}

static void destroy_records(mg_model *model) {
  const size_t count = (size_t)model->moe_layers;
  for (size_t i = 0; i < count && model->demand; i++) {
    if (!model->demand[i]) continue;
    const int64_t experts = mg_moe_describe(mg_model_moe(model, (int64_t)i)).experts;
    mg_free(model->context, model->demand[i], (size_t)experts * sizeof(double));
  }
  mg_free(model->context, model->demand, model->demand ? count * sizeof *model->demand : 0);
  mg_free(model->context, model->records, model->records ? count * sizeof *model->records : 0);
  mg_free(model->context, model->moe_layer, model->moe_layer ? count * sizeof *model->moe_layer : 0);
}

static void destroy_blocks(const mg_model *model, mg__block *blocks, int64_t count) {
  for (int64_t i = 0; i < count && blocks; i++) mg_moe_destroy(blocks[i].moe);
  mg_free(model->context, blocks, blocks ? (size_t)count * sizeof *blocks : 0);
}

void mg_model_destroy(mg_model *model) {
  if (!model) return;
  const mg__model_spec *spec = &model->spec;
  destroy_records(model);
  mg_free(model->context, model->hidden,
          model->hidden ? (size_t)(spec->encoder.count + spec->decoder.count + 2) * sizeof *model->hidden : 0);
  destroy_blocks(model, model->blocks, spec->decoder.count);
  destroy_blocks(model, model->encoder, spec->encoder.count);
  for (int64_t i = 0; i < spec->prediction_modules && model->modules; i++) mg_moe_destroy(model->modules[i].block.moe);
  mg_free(model->context, model->modules,
          model->modules ? (size_t)spec->prediction_modules * sizeof *model->modules : 0);
  mg_params_destroy(model->params);
  mg__model_spec_release(model->context, &model->spec);
  mg_free(model->context, model, sizeof *model);
}

mg_params *mg_model_params(mg_model *model) {
  return model->params;
}
const mg_params *mg_model_description(const mg_model *model) {
  return model->params;
}
mg_backend *mg_model_backend(const mg_model *model) {
  return model->backend;
}
uint64_t mg_model_seed(const mg_model *model) {
  return model->seed;
}
const json_t *mg_model_spec(const mg_model *model) {
  return model->spec.resolved;
}
int64_t mg_model_moe_layers(const mg_model *model) {
  return model->moe_layers;
}
int64_t mg_model_moe_block(const mg_model *model, int64_t index) {
  return model->moe_layer[index];
}
mg_moe *mg_model_moe(const mg_model *model, int64_t index) {
  return block_at(model, model->moe_layer[index])->moe;
}
const double *mg_model_demand(const mg_model *model, int64_t index) {
  return model->demand[index];
}

static mg_status collect_layer(mg_model *model, mg_tape *tape, int64_t index, mg_moe_counts *counts) {
  mg_moe *moe = mg_model_moe(model, index);
  const int64_t experts = mg_moe_describe(moe).experts;
  const size_t bytes = (size_t)experts * sizeof(double);
  double *last = mg_alloc(model->context, bytes);
  if (!last) return MG_MEMORY;
  const mg_status status = mg_moe_count(moe, tape, &model->records[index], last, NULL, counts);
  for (int64_t e = 0; e < experts && status == MG_OK; e++) model->demand[index][e] += last[e];
  mg_free(model->context, last, bytes);
  return status;
}

mg_status mg_model_collect_demand(mg_model *model, mg_tape *tape, mg_moe_counts *counts) {
  for (int64_t i = 0; i < model->moe_layers; i++) MG_TRY(collect_layer(model, tape, i, &counts[i]));
  return MG_OK;
}

static void forget_layer(const mg_model *model, int64_t index) {
  const size_t experts = (size_t)mg_moe_describe(mg_model_moe(model, index)).experts;
  memset(model->demand[index], 0, experts * sizeof(double));
}

void mg_model_forget_demand(mg_model *model) {
  for (int64_t i = 0; i < model->moe_layers; i++) forget_layer(model, i);
}

static mg_status after_step_layer(mg_model *model, mg_tape *tape, int64_t index) {
  mg_moe_record record = model->records[index];
  const int64_t shape[] = {1, mg_moe_describe(mg_model_moe(model, index)).experts};
  const size_t bytes = (size_t)shape[1] * sizeof(float);
  float *demand = mg_alloc(model->context, bytes);
  if (!demand) return MG_MEMORY;
  for (int64_t e = 0; e < shape[1]; e++) demand[e] = (float)model->demand[index][e];
  record.demand = mg_tape_upload(tape, MG_F32, 2, shape, demand);
  mg_free(model->context, demand, bytes);
  MG_TRY(mg_tape_status(tape));
  forget_layer(model, index);
  return mg_moe_after_step(mg_model_moe(model, index), tape, &record);
}

mg_status mg_model_after_step(mg_model *model, mg_tape *tape) {
  for (int64_t i = 0; i < model->moe_layers; i++) MG_TRY(after_step_layer(model, tape, i));
  return MG_OK;
}

bool mg_model_wants_text(const mg_model *model) {
  bool wanted = false;
  for (int64_t i = 0; i < model->moe_layers; i++) wanted |= mg_router_wants_text(mg_moe_router(mg_model_moe(model, i)));
  return wanted;
}

mg_status mg_model_prepare(mg_model *model, mg_tape *tape, const mg_router_text *text) {
  for (int64_t i = 0; i < model->moe_layers; i++)
    MG_TRY(mg_router_prepare(mg_moe_router(mg_model_moe(model, i)), tape, text));
  mg_tape_reset(tape);
  return MG_OK;
}
