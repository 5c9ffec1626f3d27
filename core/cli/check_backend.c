/* moegauge check backend: the conformance suite on a terminal or as JSON. */
#include <stdio.h>
#include <string.h>

#include "cli/check.h"
#include "measure/op_suite.h"

enum { OP_COLUMN = 24, DEVICE_BYTES = 256, PERF_LEAST_NS = 50000000 };

/* What the visitors add to: JSON rows, or the line of the primitive that is being printed. */
typedef struct report {
  mg_cli *cli;
  const mg_check_options *set;
  json_t *rows;
  bool open; /* a line of counts has begun */
  mg_op op;
  mg_suite_summary counts; /* of `op` */
  double worst;
} report;

static const char *const verdict_names[] = {"passed", "failed", "unsupported"};

/* ---- check ------------------------------------------------------------------------------------------------ */

static void end_line(report *to) {
  if (!to->open) return;
  to->open = false;
  printf("%-*s %7lld %12lld %7lld", OP_COLUMN, mg_op_name(to->op), (long long)to->counts.passed,
         (long long)to->counts.unsupported, (long long)to->counts.failed);
  if (to->counts.passed + to->counts.failed > 0 && to->worst < 1e6) printf(" %9.3g", to->worst);
  putchar('\n');
}

static void count_row(report *to, const mg_suite_row *row) {
  if (!to->open || to->op != row->op) {
    end_line(to);
    to->open = true;
    to->op = row->op;
    to->counts = (mg_suite_summary){0};
    to->worst = 0.0;
  }
  to->counts.passed += row->verdict == MG_SUITE_PASSED;
  to->counts.failed += row->verdict == MG_SUITE_FAILED;
  to->counts.unsupported += row->verdict == MG_SUITE_UNSUPPORTED;
  if (row->verdict != MG_SUITE_UNSUPPORTED && !(row->worst <= to->worst)) to->worst = row->worst;
}

static bool visit_row(void *user, const mg_suite_row *row) {
  report *to = user;
  if (to->set->json) {
    json_t *json = json_pack("{s:s, s:s, s:s, s:s}", "op", mg_op_name(row->op), "dtype", mg_dtype_name(row->dtype),
                             "name", row->name, "verdict", verdict_names[row->verdict]);
    if (row->worst >= 0.0 && row->worst < 1e300) json_object_set_new(json, "worst", json_real(row->worst));
    if (*row->detail) json_object_set_new(json, "detail", json_string(row->detail));
    json_array_append_new(to->rows, json);
    return true;
  }
  count_row(to, row);
  if (row->verdict == MG_SUITE_FAILED) printf("failed: %s: %s\n", row->name, row->detail);
  return true;
}

static mg_status run_check(report *to, const mg_suite_request *request, const char *name) {
  mg_suite_summary all = {0};
  if (!to->set->json)
    printf("%-*s %7s %12s %7s %9s\n", OP_COLUMN, "primitive", "passed", "unsupported", "failed", "worst");
  MG_TRY(mg_op_suite_check(to->cli->context, request, visit_row, &all));
  end_line(to);
  if (!to->set->json)
    printf("\n%lld passed, %lld unsupported, %lld failed; worst is the largest error as a share of what is allowed\n",
           (long long)all.passed, (long long)all.unsupported, (long long)all.failed);
  if (all.failed == 0) return MG_OK;
  return mg_fail(to->cli->context, MG_PLUGIN, "backend %s: %lld of %lld cases differ from the reference", name,
                 (long long)all.failed, (long long)all.failed + all.passed);
}

/* ---- perf and support -------------------------------------------------------------------------------------- */

static bool visit_perf(void *user, const mg_suite_perf *row) {
  report *to = user;
  if (to->set->json)
    json_array_append_new(to->rows, json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:I}", "op", mg_op_name(row->op),
                                              "dtype", mg_dtype_name(row->dtype), "name", row->name, "verdict",
                                              verdict_names[row->verdict], "median_ns", row->median_ns, "gflops",
                                              row->gflops, "gbytes", row->gbytes, "calls", (json_int_t)row->calls));
  else if (row->verdict == MG_SUITE_UNSUPPORTED)
    printf("%12s %10s %10s  %s\n", "unsupported", "", "", row->name);
  else
    printf("%12.1f %10.2f %10.2f  %s\n", row->median_ns / 1e3, row->gflops, row->gbytes, row->name);
  fflush(stdout); /* each row takes a while */
  return true;
}

static mg_status run_perf(report *to, const mg_suite_request *request) {
  if (!to->set->json) printf("%12s %10s %10s  %s\n", "median us", "GFLOP/s", "GB/s", "call");
  return mg_op_suite_perf(to->cli->context, request, PERF_LEAST_NS, visit_perf);
}

static bool visit_support(void *user, const mg_suite_support *cell) {
  report *to = user;
  if (to->set->json)
    json_array_append_new(to->rows, json_pack("{s:s, s:s, s:I, s:I}", "op", mg_op_name(cell->op), "dtype",
                                              mg_dtype_name(cell->dtype), "supported", (json_int_t)cell->supported,
                                              "cases", (json_int_t)cell->cases));
  else
    printf("%-*s %-6s %6lld of %lld\n", OP_COLUMN, mg_op_name(cell->op), mg_dtype_name(cell->dtype),
           (long long)cell->supported, (long long)cell->cases);
  return true;
}

static mg_status run_support(report *to, const mg_suite_request *request) {
  if (!to->set->json) printf("%-*s %-6s %s\n", OP_COLUMN, "primitive", "dtype", "supported cases");
  return mg_op_suite_support(to->cli->context, request, visit_support);
}

/* ---- all -------------------------------------------------------------------------------------------------- */

static mg_status run_mode(report *to, const mg_suite_request *request, const char *name) {
  switch ((mg_check_mode)to->set->mode) {
  case MG_CHECK_CHECK: return run_check(to, request, name);
  case MG_CHECK_PERF: return run_perf(to, request);
  case MG_CHECK_SUPPORT: return run_support(to, request);
  }
  return mg_fail(to->cli->context, MG_BUG, "check: mode %lld", (long long)to->set->mode);
}

/* Prints the rows with what they are about; keeps `status`, the verdict on the backend. */
static mg_status print_rows(report *to, const char *name, const char *device, mg_status status) {
  static const char *const modes[] = {"check", "perf", "support"};
  if (status != MG_OK && status != MG_PLUGIN) {
    json_decref(to->rows);
    return status;
  }
  json_t *json = json_pack("{s:s, s:s, s:s, s:o}", "backend", name, "device", device, "mode", modes[to->set->mode],
                           "rows", to->rows);
  const mg_status printed = mg_cli_print_json(to->cli, json);
  return printed == MG_OK ? status : printed;
}

static mg_status check_open(mg_cli *cli, const mg_check_options *set, mg_backend *backend, mg_backend *reference) {
  const char *name = backend->plugin->name;
  char device[DEVICE_BYTES] = "";
  backend->plugin->describe(backend, device, sizeof device);
  report to = {.cli = cli, .set = set};
  if (set->json && !(to.rows = json_array())) return mg_fail(cli->context, MG_MEMORY, "out of host memory");
  if (!set->json) printf("backend %s: %s\n\n", name, device);
  const mg_suite_request request = {.backend = backend, .reference = reference, .filter = set->filter, .user = &to};
  const mg_status status = run_mode(&to, &request, name);
  return set->json ? print_rows(&to, name, device, status) : status;
}

mg_status mg__check_backend(mg_cli *cli, const mg_check_options *set, const char *name, const json_t *plugin_options) {
  mg_registry *registry;
  mg_backend *backend, *reference;
  MG_TRY(mg_cli_registry(cli, &registry));
  MG_TRY(mg_backend_open(cli->context, registry, name, plugin_options, &backend));
  mg_status status = mg_backend_open(cli->context, registry, "reference", NULL, &reference);
  if (status == MG_OK) status = check_open(cli, set, backend, reference);
  mg_backend_close(reference);
  mg_backend_close(backend);
  return status;
}
