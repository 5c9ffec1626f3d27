/* The conformance suite: walks the tables, runs each case on both backends, and says what came of it. */
#include "measure/op_suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "measure/op_suite_internal.h"
#include "tensor/op_info.h"

/* ---- walking the tables --------------------------------------------------------------------------------------- */

/* One case of a table: a row, a dtype and a variant. */
typedef struct suite_item {
  suite_case row;
  mg_dtype dtype;
  char name[MG_SUITE_NAME_BYTES];
} suite_item;

typedef struct suite_walk {
  mg_context *context;
  const mg_suite_request *request;
  /* Called with each item; *stop ends the walk. */
  mg_status (*each)(struct suite_walk *walk, const suite_item *item, bool *stop);
  void *user;
} suite_walk;

static void add_words(char *name, const char *before, const char *words, const char *after) {
  const size_t used = strlen(name);
  if (words[0]) snprintf(name + used, MG_SUITE_NAME_BYTES - used, "%s%s%s", before, words, after);
}

static void add_shape(char *name, const mg_tensor *tensor) {
  char text[MG_SHAPE_TEXT_BYTES];
  if (tensor->dims) add_words(name, " ", mg_shape_text(tensor, text), "");
}

/* "matmul f32 a b^T [7, 17] [33, 17] (deep)" */
static void name_item(suite_item *item, const char *words) {
  const suite_case *row = &item->row;
  suite_data outline;
  mg__suite_data_outline(row, item->dtype, &outline);
  item->name[0] = '\0';
  add_words(item->name, "", mg_op_name(row->op), "");
  add_words(item->name, " ", mg_dtype_name(item->dtype), "");
  add_words(item->name, " ", words, "");
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++) add_shape(item->name, &outline.in[i]);
  if (!outline.in[0].dims) add_shape(item->name, &outline.out[0]);
  add_words(item->name, " (", row->label, ")");
}

static mg_status walk_row(suite_walk *walk, const suite_case *row, bool *stop) {
  const int64_t variants = row->variants > 0 ? row->variants : 1;
  for (int dtype = 0; dtype < MG_DTYPE_COUNT; dtype++) {
    if (!(row->dtypes >> dtype & 1)) continue;
    for (int64_t v = 0; v < variants && !*stop; v++) {
      suite_item item = {.dtype = (mg_dtype)dtype};
      char words[MG_SUITE_NAME_BYTES / 2];
      if (!mg__suite_variant(row, v, item.dtype, &item.row, words, sizeof words)) continue;
      name_item(&item, words);
      MG_TRY(walk->each(walk, &item, stop));
    }
  }
  return MG_OK;
}

static mg_status walk_table(suite_walk *walk, suite_table table) {
  const char *filter = walk->request->filter ? walk->request->filter : "";
  bool stop = false, found = false;
  for (int op = 0; op < MG_OP_COUNT; op++) {
    if (!strstr(mg_op_name((mg_op)op), filter)) continue;
    found = true;
    for (int64_t i = 0; i < table.count && !stop; i++)
      if (table.rows[i].op == (mg_op)op) MG_TRY(walk_row(walk, &table.rows[i], &stop));
  }
  if (found) return MG_OK;
  return mg_fail(walk->context, MG_NOTHING, "no primitive's name has '%s' in it; moegauge/op.h lists the names",
                 filter);
}

/* ---- support ---------------------------------------------------------------------------------------------------- */

typedef enum suite_answer { ANSWER_YES, ANSWER_NO, ANSWER_FALSE_CLAIM } suite_answer;

static suite_answer ask(const mg_backend *backend, const mg_op_call *call) {
  const mg_backend_plugin *plugin = backend->plugin;
  const bool present = (uint32_t)call->op < plugin->kernels_count && plugin->kernels[call->op];
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (call->in[i] && mg_dtype_is_stored(call->in[i]->dtype) && !plugin->stored_dtypes) return ANSWER_NO;
  const bool claimed = plugin->supports ? plugin->supports(backend, call) : present;
  if (claimed && !present) return ANSWER_FALSE_CLAIM;
  return claimed ? ANSWER_YES : ANSWER_NO;
}

/* The call of `data`; its tensors are those of the host. */
static mg_op_call call_of(suite_data *data) {
  mg_op_call call = {.op = data->op, .attributes = data->attributes};
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (data->in[i].dims) call.in[i] = &data->in[i];
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++)
    if (data->out[i].dims) call.out[i] = &data->out[i];
  return call;
}

/* ---- check --------------------------------------------------------------------------------------------------------
 */

typedef struct check_state {
  bool (*visit)(void *user, const mg_suite_row *row);
  mg_suite_summary *summary;
} check_state;

static void fail_row(mg_suite_row *row, const char *text) {
  row->verdict = MG_SUITE_FAILED;
  row->worst = row->worst > 1 ? row->worst : 1e300;
  snprintf(row->detail, sizeof row->detail, "%s", text);
}

static bool same_bytes(const mg_tensor *a, const mg_tensor *b) {
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++)
    if (a[i].data && memcmp(a[i].data, b[i].data, mg_tensor_bytes(&a[i])) != 0) return false;
  return true;
}

/* Runs the case twice on the backend under test: it must succeed, keep to its memory and repeat itself to the bit. */
static mg_status run_tested(mg_backend *backend, const suite_data *data, mg_tensor *results, mg_suite_row *row) {
  mg_tensor again[MG_OP_OUTPUTS_MAX];
  MG_TRY(mg__suite_results_create(data, again));
  mg_status status = mg__suite_run(backend, data, results);
  if (status == MG_OK) status = mg__suite_run(backend, data, again);
  if (status != MG_OK)
    fail_row(row, mg_context_message(data->context));
  else if (!same_bytes(results, again))
    fail_row(row, "two runs of the same call gave different bits");
  mg__suite_results_destroy(data, again);
  return status == MG_MEMORY ? status : MG_OK;
}

/* Without this a reference older than the suite would be called where its table ends. */
static mg_status check_reference(const mg_backend *reference, suite_data *data) {
  const mg_op_call call = call_of(data);
  if (ask(reference, &call) == ANSWER_YES) return MG_OK;
  return mg_fail(data->context, MG_PLUGIN,
                 "backend %s, which defines what primitives give, lacks %s: it was built for another moegauge; build "
                 "both again",
                 reference->plugin->name, mg_op_name(data->op));
}

static mg_status compare_backends(const mg_suite_request *request, suite_data *data, mg_tensor *expected,
                                  mg_tensor *results, mg_suite_row *row) {
  MG_TRY(check_reference(request->reference, data));
  MG_TRY(mg__suite_run(request->reference, data, expected));
  MG_TRY(run_tested(request->backend, data, results, row));
  if (row->verdict == MG_SUITE_FAILED) return MG_OK;
  MG_TRY(mg__suite_compare(request->reference, data, expected, results, &row->worst, row->detail, sizeof row->detail));
  if (row->worst > 1) row->verdict = MG_SUITE_FAILED;
  return MG_OK;
}

static mg_status check_data(const mg_suite_request *request, suite_data *data, mg_suite_row *row) {
  const mg_op_call call = call_of(data);
  MG_TRY(mg__op_check(data->context, &call));
  const suite_answer answer = ask(request->backend, &call);
  if (answer == ANSWER_FALSE_CLAIM) {
    fail_row(row, "supports() says yes, but the table of kernels has none for this primitive");
    return MG_OK;
  }
  if (answer == ANSWER_NO) {
    row->verdict = MG_SUITE_UNSUPPORTED;
    snprintf(row->detail, sizeof row->detail, "the backend has no kernel for this call");
    return MG_OK;
  }
  mg_tensor expected[MG_OP_OUTPUTS_MAX], results[MG_OP_OUTPUTS_MAX];
  MG_TRY(mg__suite_results_create(data, expected));
  mg_status status = mg__suite_results_create(data, results);
  if (status == MG_OK) {
    status = compare_backends(request, data, expected, results, row);
    mg__suite_results_destroy(data, results);
  }
  mg__suite_results_destroy(data, expected);
  return status;
}

static void count_row(mg_suite_summary *summary, mg_suite_verdict verdict) {
  if (verdict == MG_SUITE_PASSED) summary->passed++;
  if (verdict == MG_SUITE_FAILED) summary->failed++;
  if (verdict == MG_SUITE_UNSUPPORTED) summary->unsupported++;
}

static mg_status check_item(suite_walk *walk, const suite_item *item, bool *stop) {
  check_state *state = walk->user;
  mg_suite_row row = {.op = item->row.op, .dtype = item->dtype, .verdict = MG_SUITE_PASSED};
  memcpy(row.name, item->name, sizeof row.name);
  suite_data data;
  mg_status status =
      mg__suite_data_create(walk->context, walk->request->reference, &item->row, item->dtype, item->name, &data);
  if (status == MG_OK) {
    status = check_data(walk->request, &data, &row);
    mg__suite_data_destroy(&data);
  }
  if (status != MG_OK) return mg_fail_where(walk->context, status, "suite case %s", item->name);
  count_row(state->summary, row.verdict);
  if (state->visit) *stop = !state->visit(walk->request->user, &row);
  return MG_OK;
}

mg_status mg_op_suite_check(mg_context *context, const mg_suite_request *request,
                            bool (*visit)(void *user, const mg_suite_row *row), mg_suite_summary *summary) {
  *summary = (mg_suite_summary){0};
  check_state state = {visit, summary};
  suite_walk walk = {context, request, check_item, &state};
  return walk_table(&walk, mg__suite_check_cases());
}

/* ---- support ------------------------------------------------------------------------------------------------------
 */

typedef struct support_state {
  int64_t supported[MG_OP_COUNT][MG_DTYPE_COUNT], cases[MG_OP_COUNT][MG_DTYPE_COUNT];
} support_state;

/* Asks with tensors that have a shape and no data. */
static mg_status support_item(suite_walk *walk, const suite_item *item, bool *stop) {
  support_state *state = walk->user;
  suite_data data;
  mg__suite_data_outline(&item->row, item->dtype, &data);
  const mg_op_call call = call_of(&data);
  state->cases[item->row.op][item->dtype]++;
  state->supported[item->row.op][item->dtype] += ask(walk->request->backend, &call) == ANSWER_YES;
  *stop = false;
  return MG_OK;
}

mg_status mg_op_suite_support(mg_context *context, const mg_suite_request *request,
                              bool (*visit)(void *user, const mg_suite_support *cell)) {
  support_state state = {{{0}}, {{0}}};
  suite_walk walk = {context, request, support_item, &state};
  MG_TRY(walk_table(&walk, mg__suite_check_cases()));
  for (int op = 0; op < MG_OP_COUNT; op++)
    for (int dtype = 0; dtype < MG_DTYPE_COUNT; dtype++) {
      const mg_suite_support cell = {(mg_op)op, (mg_dtype)dtype, state.supported[op][dtype], state.cases[op][dtype]};
      if (cell.cases && !visit(request->user, &cell)) return MG_OK;
    }
  return MG_OK;
}

/* ---- perf ---------------------------------------------------------------------------------------------------------
 */

typedef struct perf_state {
  bool (*visit)(void *user, const mg_suite_perf *row);
  int64_t least_ns;
} perf_state;

static mg_status perf_item(suite_walk *walk, const suite_item *item, bool *stop) {
  perf_state *state = walk->user;
  mg_suite_perf row = {.op = item->row.op, .dtype = item->dtype};
  memcpy(row.name, item->name, sizeof row.name);
  suite_data data;
  mg__suite_data_outline(&item->row, item->dtype, &data);
  const mg_op_call outline = call_of(&data);
  const suite_answer answer = ask(walk->request->backend, &outline);
  if (answer != ANSWER_YES) {
    row.verdict = answer == ANSWER_NO ? MG_SUITE_UNSUPPORTED : MG_SUITE_FAILED;
  } else {
    mg_backend *reference = walk->request->reference;
    MG_TRY(mg__suite_data_create(walk->context, reference, &item->row, item->dtype, item->name, &data));
    const mg_op_call call = call_of(&data);
    const mg_status status = mg__suite_time(walk->request->backend, &data, state->least_ns, &row.median_ns, &row.calls);
    row.verdict = status == MG_OK ? MG_SUITE_PASSED : MG_SUITE_FAILED;
    if (row.median_ns > 0) row.gflops = mg_op_flops(&call) / row.median_ns;
    if (row.median_ns > 0) row.gbytes = mg_op_bytes(&call) / row.median_ns;
    mg__suite_data_destroy(&data);
  }
  if (state->visit) *stop = !state->visit(walk->request->user, &row);
  return MG_OK;
}

mg_status mg_op_suite_perf(mg_context *context, const mg_suite_request *request, int64_t least_ns,
                           bool (*visit)(void *user, const mg_suite_perf *row)) {
  perf_state state = {visit, least_ns};
  /* the tested backend makes the inputs that need a forward result: the reference would take minutes */
  mg_suite_request own = *request;
  own.reference = request->backend;
  suite_walk walk = {context, &own, perf_item, &state};
  return walk_table(&walk, mg__suite_perf_cases());
}
