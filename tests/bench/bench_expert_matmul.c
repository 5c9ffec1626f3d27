/* Expert matmul: tokens [T,1024] by the weight of one of 64 experts [2048,1024], the experts in rotation so that weights
 * come from memory; beside oneDNN (weights as stored, and prepacked in its own layout) and OpenBLAS.
 *
 * `moegauge` is one matmul call per expert, as the others have; `moegauge_grouped` is one call for all 64 experts. */
#include <cblas.h>
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum { EXPERTS = 64, DEPTH = 1024, COLUMNS = 2048, NAME_BYTES = 64 };

typedef enum matmul_kind { OURS, OURS_GROUPED, ONEDNN, ONEDNN_PREPACKED, OPENBLAS, KINDS } matmul_kind;
static const char *const kind_names[KINDS] = {"moegauge", "moegauge_grouped", "onednn", "onednn_prepacked", "openblas"};

typedef struct matmul_case {
  matmul_kind kind;
  mg_dtype dtype;
  int64_t tokens;
} matmul_case;

typedef struct operands {
  mg_tensor x, w, y; /* x and y for one expert, or for all in the grouped case */
} operands;

static operands make_operands(const matmul_case *c) {
  const int64_t rows = c->kind == OURS_GROUPED ? c->tokens * EXPERTS : c->tokens;
  operands o;
  o.x = bench_tensor(c->dtype, 2, (int64_t[]){rows, DEPTH}, 1.0);
  o.w = bench_tensor(c->dtype, 3, (int64_t[]){EXPERTS, COLUMNS, DEPTH}, 0.03);
  o.y = bench_tensor(c->dtype, 2, (int64_t[]){rows, COLUMNS}, 1.0);
  return o;
}

static mg_tensor expert_weight(const operands *o, int64_t expert) {
  mg_tensor w = {.dims = 2, .dtype = o->w.dtype, .shape = {COLUMNS, DEPTH}};
  w.data = (char *)o->w.data + (size_t)(expert * COLUMNS * DEPTH) * mg_dtype_bytes(o->w.dtype);
  return w;
}

static void run_ours(gbench_state *state, const operands *o) {
  int64_t expert = 0;
  while (gbench_keep_running(state)) {
    const mg_tensor w = expert_weight(o, expert++ % EXPERTS);
    mg_tensor y = o->y;
    mg_op_call call = {.op = MG_OP_MATMUL, .in = {&o->x, &w}, .out = {&y}};
    call.attributes.matmul.transpose_b = true;
    call.attributes.matmul.compute = o->x.dtype;
    if (!bench_run(state, &call)) break;
  }
}

static void run_grouped(gbench_state *state, operands *o, int64_t tokens) {
  mg_tensor offsets = bench_ids(EXPERTS + 1, 1, 2);
  for (int32_t e = 0; e <= EXPERTS; e++) ((int32_t *)offsets.data)[e] = e * (int32_t)tokens;
  mg_op_call call = {.op = MG_OP_GROUPED_MATMUL, .in = {&o->x, &o->w, &offsets}, .out = {&o->y}};
  call.attributes.grouped.transpose_w = true;
  call.attributes.grouped.compute = o->x.dtype;
  while (gbench_keep_running(state))
    if (!bench_run(state, &call)) break;
  bench_release(&offsets);
}

static void run_openblas(gbench_state *state, const operands *o, int64_t tokens) {
  int64_t expert = 0;
  while (gbench_keep_running(state)) {
    const mg_tensor w = expert_weight(o, expert++ % EXPERTS);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tokens, COLUMNS, DEPTH, 1.0f, o->x.data, DEPTH, w.data,
                DEPTH, 0.0f, o->y.data, COLUMNS);
  }
}

/* ---- oneDNN ----------------------------------------------------------------------------------------------- */

typedef struct onednn {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_desc_t description;
  dnnl_primitive_t matmul;
  dnnl_memory_desc_t x, w, y;
  dnnl_memory_t x_memory, y_memory, w_memory[EXPERTS];
} onednn;

#define DNNL_TRY(call)                                                                                                 \
  do {                                                                                                                 \
    if ((call) != dnnl_success) return false;                                                                          \
  } while (0)

/* Weights as stored are K x N with depth along memory; prepacked ones have the layout that oneDNN likes best. */
static bool onednn_open(onednn *d, const operands *o, int64_t tokens, bool prepacked) {
  const dnnl_data_type_t type = o->x.dtype == MG_BF16 ? dnnl_bf16 : dnnl_f32;
  dnnl_matmul_desc_t matmul;
  DNNL_TRY(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
  DNNL_TRY(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags));
  DNNL_TRY(dnnl_memory_desc_init_by_tag(&d->x, 2, (dnnl_dims_t){tokens, DEPTH}, type, dnnl_ab));
  DNNL_TRY(dnnl_memory_desc_init_by_tag(&d->w, 2, (dnnl_dims_t){DEPTH, COLUMNS}, type,
                                        prepacked ? dnnl_format_tag_any : dnnl_ba));
  DNNL_TRY(dnnl_memory_desc_init_by_tag(&d->y, 2, (dnnl_dims_t){tokens, COLUMNS}, type, dnnl_ab));
  DNNL_TRY(dnnl_matmul_desc_init(&matmul, &d->x, &d->w, NULL, &d->y));
  DNNL_TRY(dnnl_primitive_desc_create(&d->description, &matmul, NULL, d->engine, NULL));
  DNNL_TRY(dnnl_primitive_create(&d->matmul, d->description));
  d->w = *dnnl_primitive_desc_query_md(d->description, dnnl_query_weights_md, 0);
  DNNL_TRY(dnnl_memory_create(&d->x_memory, &d->x, d->engine, o->x.data));
  DNNL_TRY(dnnl_memory_create(&d->y_memory, &d->y, d->engine, o->y.data));
  return true;
}

static bool onednn_prepack(onednn *d, dnnl_memory_t from, dnnl_memory_t to) {
  dnnl_primitive_desc_t description;
  dnnl_primitive_t reorder;
  const dnnl_memory_desc_t *from_form, *to_form;
  DNNL_TRY(dnnl_memory_get_memory_desc(from, &from_form));
  DNNL_TRY(dnnl_memory_get_memory_desc(to, &to_form));
  DNNL_TRY(dnnl_reorder_primitive_desc_create(&description, from_form, d->engine, to_form, d->engine, NULL));
  DNNL_TRY(dnnl_primitive_create(&reorder, description));
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
  DNNL_TRY(dnnl_primitive_execute(reorder, d->stream, 2, arguments));
  DNNL_TRY(dnnl_stream_wait(d->stream));
  dnnl_primitive_destroy(reorder);
  dnnl_primitive_desc_destroy(description);
  return true;
}

static bool onednn_take_weights(onednn *d, const operands *o, bool prepacked) {
  dnnl_memory_desc_t stored;
  DNNL_TRY(dnnl_memory_desc_init_by_tag(&stored, 2, (dnnl_dims_t){DEPTH, COLUMNS}, d->x.data_type, dnnl_ba));
  for (int64_t e = 0; e < EXPERTS; e++) {
    const mg_tensor w = expert_weight(o, e);
    if (!prepacked) {
      DNNL_TRY(dnnl_memory_create(&d->w_memory[e], &d->w, d->engine, w.data));
      continue;
    }
    dnnl_memory_t from;
    DNNL_TRY(dnnl_memory_create(&from, &stored, d->engine, w.data));
    DNNL_TRY(dnnl_memory_create(&d->w_memory[e], &d->w, d->engine, DNNL_MEMORY_ALLOCATE));
    if (!onednn_prepack(d, from, d->w_memory[e])) return false;
    dnnl_memory_destroy(from);
  }
  return true;
}

static void onednn_close(onednn *d) {
  for (int64_t e = 0; e < EXPERTS; e++)
    if (d->w_memory[e]) dnnl_memory_destroy(d->w_memory[e]);
  if (d->x_memory) dnnl_memory_destroy(d->x_memory);
  if (d->y_memory) dnnl_memory_destroy(d->y_memory);
  if (d->matmul) dnnl_primitive_destroy(d->matmul);
  if (d->description) dnnl_primitive_desc_destroy(d->description);
  if (d->stream) dnnl_stream_destroy(d->stream);
  if (d->engine) dnnl_engine_destroy(d->engine);
}

static void run_onednn(gbench_state *state, const operands *o, int64_t tokens, bool prepacked) {
  onednn d = {0};
  if (!onednn_open(&d, o, tokens, prepacked) || !onednn_take_weights(&d, o, prepacked)) {
    gbench_skip(state, "oneDNN refused this matmul");
    onednn_close(&d);
    return;
  }
  int64_t expert = 0;
  while (gbench_keep_running(state)) {
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, d.x_memory}, {DNNL_ARG_WEIGHTS, d.w_memory[expert++ % EXPERTS]}, {DNNL_ARG_DST, d.y_memory}};
    dnnl_primitive_execute(d.matmul, d.stream, 3, arguments);
    dnnl_stream_wait(d.stream);
  }
  onednn_close(&d);
}

static void run_case(gbench_state *state, const void *argument) {
  const matmul_case *c = argument;
  operands o = make_operands(c);
  switch (c->kind) {
  case OURS: run_ours(state, &o); break;
  case OURS_GROUPED: run_grouped(state, &o, c->tokens); break;
  case ONEDNN: run_onednn(state, &o, c->tokens, false); break;
  case ONEDNN_PREPACKED: run_onednn(state, &o, c->tokens, true); break;
  case OPENBLAS: run_openblas(state, &o, c->tokens); break;
  case KINDS: break;
  }
  bench_flops(state, c->dtype, 2.0 * (double)mg_tensor_rows(&o.x) * DEPTH * COLUMNS);
  bench_release(&o.x), bench_release(&o.w), bench_release(&o.y);
}

void bench_register_expert_matmul(void) {
  static const mg_dtype dtypes[] = {MG_BF16, MG_F32};
  static const int64_t tokens[] = {64, 128, 512};
  static matmul_case cases[2][3][KINDS];
  for (size_t d = 0; d < 2; d++)
    for (size_t t = 0; t < 3; t++)
      for (int32_t k = 0; k < KINDS; k++) {
        if (k == OPENBLAS && dtypes[d] != MG_F32) continue; /* Debian's has no bf16 product */
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "expert_matmul/%s/%lld/%s", mg_dtype_name(dtypes[d]), (long long)tokens[t],
                 kind_names[k]);
        cases[d][t][k] = (matmul_case){(matmul_kind)k, dtypes[d], tokens[t]};
        gbench_register(name, run_case, &cases[d][t][k]);
      }
}
