/* One reader for each kind of table. Loads in them are uniform, so that messages are what random routing expects. */
#include "cluster/measurements.h"

#include <math.h>
#include <string.h>

#include "cluster/csv.h"

/* Rows of a tile of a grouped product: with few rows, so many fill one expert before the next gets any. */
static const double tile_rows = 128;

double mg_expected_groups(double experts, double groups, double k) {
  const double size = experts / groups;
  double none = 1; /* that all k miss one group */
  for (double i = 0; i < k; i++) none *= fmax(0, (experts - size - i) / (experts - i));
  return groups * (1 - none);
}

typedef struct table_row {
  mg_context *context;
  const mg_csv *csv;
  const mg_accelerator *accelerator;
  mg_measurements *out;
} table_row;

/* Largest number that a column may hold, and largest count of ranks, nodes, experts and choices. */
static const double most_number = 1e15, most_count = 65536;

/* Numbers of the present line, in the order of `names`. */
static mg_status numbers(const table_row *r, const char *const *names, double *values) {
  for (int i = 0; names[i]; i++) {
    MG_TRY(mg_csv_number(r->csv, names[i], &values[i]));
    if (values[i] < 0)
      return mg_fail(r->context, MG_FILE, "%s: line %lld: '%s' is below 0", r->csv->path, (long long)r->csv->line,
                     names[i]);
    if (values[i] > most_number)
      return mg_fail(r->context, MG_FILE, "%s: line %lld: '%s' is above %g", r->csv->path, (long long)r->csv->line,
                     names[i], most_number);
  }
  return MG_OK;
}

/* A count that is divided by or counted up to. */
static mg_status check_count(const table_row *r, const char *name, double value) {
  if (value >= 1 && value <= most_count) return MG_OK;
  return mg_fail(r->context, MG_FILE, "%s: line %lld: '%s' must be from 1 to %.0f, not %g", r->csv->path,
                 (long long)r->csv->line, name, most_count, value);
}

static mg_status add(const table_row *r, mg_form_kind kind, const double *variables, double seconds) {
  if (!(seconds > 0) || !isfinite(seconds))
    return mg_fail(r->context, MG_FILE, "%s: line %lld: a time must be above 0", r->csv->path, (long long)r->csv->line);
  r->out->data[kind].kind = kind;
  return mg_fit_data_add(r->context, &r->out->data[kind], variables, seconds);
}

static mg_status read_gemm(const table_row *r) {
  static const char *const names[] = {"m", "n", "k", "groups", "element_bytes", "tflops", NULL};
  double v[6];
  MG_TRY(numbers(r, names, v));
  const double rows = v[0] * v[3], variables[MG_FORM_VARIABLES_MAX] = {rows, v[1], v[2], v[3], v[4]};
  return add(r, MG_FORM_GEMM, variables, 2 * rows * v[1] * v[2] / (v[5] * 1e12));
}

/* `num_tokens` are those of all ranks. */
static mg_status read_expert_ffn(const table_row *r) {
  static const char *const names[] = {"num_tokens",  "hidden_size", "inter_size", "topk", "num_experts",
                                      "moe_ep_size", "moe_tp_size", "latency",    NULL};
  double v[8];
  MG_TRY(numbers(r, names, v));
  for (int i = 3; i < 7; i++) MG_TRY(check_count(r, names[i], v[i]));
  const bool prefill = strcmp(mg_csv_text(r->csv, "op_name"), "moe_context") == 0;
  const double rows = v[0] * v[3] / v[5], filled = prefill ? ceil(rows / tile_rows) : rows;
  const double element = strncmp(mg_csv_text(r->csv, "moe_dtype"), "fp8", 3) == 0 ? 1 : 2;
  const double variables[MG_FORM_VARIABLES_MAX] = {rows,   fmax(1, fmin(v[4] / v[5], filled)), v[0], v[1], v[2] / v[6],
                                                   element};
  return add(r, prefill ? MG_FORM_EXPERT_FFN_PREFILL : MG_FORM_EXPERT_FFN_DECODE, variables, v[7] * 1e-3);
}

/* Every assignment to another rank is a message; dispatch in fp8, combine in bf16. */
static mg_status read_low_latency(const table_row *r) {
  static const char *const names[] = {"node_num",    "hidden_size",       "num_token",        "num_topk",
                                      "num_experts", "dispatch_avg_t_us", "combine_avg_t_us", NULL};
  double v[7];
  MG_TRY(numbers(r, names, v));
  MG_TRY(check_count(r, names[0], v[0]));
  const double per_node = (double)r->accelerator->node_ranks, ranks = v[0] * per_node;
  const double near_messages = v[2] * v[3] * (per_node - 1) / ranks, far = v[2] * v[3] * (1 - per_node / ranks);
  for (int combine = 0; combine < 2; combine++) {
    const double bytes = mg_message_bytes(v[1], combine ? 2 : 1);
    const double variables[MG_FORM_VARIABLES_MAX] = {near_messages * bytes, far * bytes, v[0], v[4]};
    MG_TRY(add(r, combine ? MG_FORM_COMBINE_LOW_LATENCY : MG_FORM_DISPATCH_LOW_LATENCY, variables,
               v[combine ? 6 : 5] * 1e-6));
  }
  return MG_OK;
}

/* One message for each other node, then one copy for each rank, the own included. */
static mg_status read_normal(const table_row *r) {
  static const char *const names[] = {"node_num",           "hidden_size",          "num_token",
                                      "num_topk",           "num_experts",          "dispatch_sms",
                                      "combine_sms",        "dispatch_transmit_us", "combine_transmit_us",
                                      "dispatch_notify_us", "combine_notify_us",    NULL};
  double v[11];
  MG_TRY(numbers(r, names, v));
  static const int counts[] = {0, 3, 4, 5, 6};
  for (size_t i = 0; i < MG_COUNT(counts); i++) MG_TRY(check_count(r, names[counts[i]], v[counts[i]]));
  const double ranks = v[0] * (double)r->accelerator->node_ranks;
  const double far = mg_expected_groups(v[4], v[0], v[3]) * (v[0] - 1) / v[0];
  for (int combine = 0; combine < 2; combine++) {
    const double bytes = mg_message_bytes(v[1], combine ? 2 : 1) * v[2];
    const double variables[MG_FORM_VARIABLES_MAX] = {far * bytes, mg_expected_groups(v[4], ranks, v[3]) * bytes,
                                                     v[5 + combine], v[0]};
    MG_TRY(add(r, combine ? MG_FORM_COMBINE_NORMAL : MG_FORM_DISPATCH_NORMAL, variables,
               (v[7 + combine] + v[9 + combine]) * 1e-6));
  }
  return MG_OK;
}

static mg_status read_collective(const table_row *r) {
  static const char *const names[] = {"num_gpus", "message_size", "latency", NULL};
  double v[3];
  MG_TRY(numbers(r, names, v));
  MG_TRY(check_count(r, names[0], v[0]));
  const char *name = mg_csv_text(r->csv, "op_name");
  int collective = 0;
  while (mg_collective_names[collective] && strcmp(mg_collective_names[collective], name) != 0) collective++;
  if (!mg_collective_names[collective])
    return mg_fail(r->context, MG_FILE, "%s: line %lld: '%s' is no known collective", r->csv->path,
                   (long long)r->csv->line, name);
  const double element = strcmp(mg_csv_text(r->csv, "nccl_dtype"), "half") == 0 ? 2 : 1;
  if (!(v[1] > 0) || !(v[2] > 0))
    return mg_fail(r->context, MG_FILE, "%s: line %lld: sizes and times must be above 0", r->csv->path,
                   (long long)r->csv->line);
  const mg_collective_point point = {(mg_collective)collective, (int64_t)v[0], v[1] * element, v[2] * 1e-3};
  return mg_collective_add(r->context, &r->out->collectives, &point);
}

typedef mg_status (*row_reader)(const table_row *r);

static const struct {
  const char *tells[3]; /* columns that only this table has */
  row_reader read;
} tables[] = {{{"tflops", "groups"}, read_gemm},
              {{"moe_ep_size", "latency"}, read_expert_ffn},
              {{"dispatch_avg_t_us", "combine_avg_t_us"}, read_low_latency},
              {{"dispatch_transmit_us", "combine_transmit_us"}, read_normal},
              {{"num_gpus", "message_size"}, read_collective}};

static mg_status find_reader(mg_context *context, const mg_csv *csv, row_reader *out) {
  for (size_t i = 0; i < MG_COUNT(tables); i++) {
    *out = tables[i].read;
    if (mg_csv_column(csv, tables[i].tells[0]) >= 0 && mg_csv_column(csv, tables[i].tells[1]) >= 0) return MG_OK;
  }
  return mg_fail(context, MG_FILE,
                 "%s: its columns are those of no known table; `moegauge cluster --help` lists what can be fitted",
                 csv->path);
}

static mg_status check_where(mg_context *context, const mg_csv *csv, const json_t *where) {
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)where, key, value) {
    if (mg_csv_column(csv, key) < 0)
      return mg_fail(context, MG_USAGE, "%s: has no column '%s' to choose rows by", csv->path, key);
  }
  return MG_OK;
}

static bool kept(const mg_csv *csv, const json_t *where) {
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)where, key, value) {
    const char *text = json_string_value(value);
    if (!text || strcmp(mg_csv_text(csv, key), text) != 0) return false;
  }
  return true;
}

static mg_status read_rows(mg_context *context, mg_csv *csv, const mg_accelerator *accelerator, const json_t *where,
                           mg_measurements *out) {
  const table_row row = {.context = context, .csv = csv, .accelerator = accelerator, .out = out};
  row_reader read;
  bool more;
  MG_TRY(find_reader(context, csv, &read));
  MG_TRY(check_where(context, csv, where));
  do {
    MG_TRY(mg_csv_next(csv, &more));
    if (more && kept(csv, where)) MG_TRY(read(&row));
  } while (more);
  mg_collective_sort(&out->collectives);
  return MG_OK;
}

mg_status mg_measurements_read(mg_context *context, const char *path, const mg_accelerator *accelerator,
                               const json_t *where, mg_measurements *out) {
  mg_csv csv;
  MG_TRY(mg_csv_open(context, path, &csv));
  const mg_status status = read_rows(context, &csv, accelerator, where, out);
  mg_csv_close(&csv);
  return status;
}

void mg_measurements_free(mg_context *context, mg_measurements *m) {
  for (int kind = 0; kind < MG_FORM_COUNT; kind++) mg_fit_data_free(context, &m->data[kind]);
  mg_collective_free(context, &m->collectives);
}
