/* A fit finds the coefficients that data was made with and says where it fails; costs refuse what they were not
 * calibrated for; shapes give the published numbers of DeepSeek-V3. */
#include "base/file.h"
#include "cluster/calibration.h"
#include "support/cluster.h"

static mg_file_world world;
static mg_context *context;
static const char *const path = world.scratch.path;
static const mg_accelerator device = {.name = "device",
                                      .bf16_tflops = 1000,
                                      .fp8_tflops = 2000,
                                      .memory_gb = 80,
                                      .memory_gb_s = 1000,
                                      .sms = 100,
                                      .node_ranks = 8,
                                      .near_gb_s = 100,
                                      .far_gb_s = 10};

static int open_world(void **state) {
  (void)state;
  const int failed = mg_file_world_open(&world);
  context = world.context;
  return failed;
}

static int close_world(void **state) {
  (void)state;
  return mg_file_world_close(&world);
}

/* Attention: constant 5 us, 1.5 times the memory's time or 2 times the peak's, whichever is longer. */
static void add_attention_rows(mg_fit_data *data, double noise) {
  static const double truth[MG_FORM_FEATURES_MAX] = {5e-6, 1.5, 2};
  data->kind = MG_FORM_ATTENTION_DECODE;
  for (int i = 0; i < 40; i++) {
    const double bytes = 1e5 * pow(1.4, i % 8), flops = 1e7 * pow(3, i / 8);
    const double variables[MG_FORM_VARIABLES_MAX] = {bytes, flops};
    double features[MG_FORM_FEATURES_MAX] = {0};
    mg_forms[data->kind].evaluate(&device, variables, features);
    const double seconds = mg_form_value(&mg_forms[data->kind], truth, features) * (1 + noise * (i % 3 - 1));
    assert_ok(context, mg_fit_data_add(context, data, variables, seconds));
  }
}

static void a_fit_recovers_its_coefficients(void **state) {
  (void)state;
  mg_fit_data data = {0};
  mg_fit fit;
  add_attention_rows(&data, 0);
  assert_ok(context, mg_fit_form(context, &device, &data, &fit));
  assert_near(fit.coefficients[0], 5e-6, 1e-8);
  assert_near(fit.coefficients[1], 1.5, 1e-3);
  assert_near(fit.coefficients[2], 2, 1e-3);
  assert_true(fit.worst_left_out < 1e-3);
  assert_near(fit.least[0], 1e5, 1e-6);
  assert_int_equal(fit.rows, 40);
  mg_fit_data_free(context, &data);
}

static void a_fit_says_how_wrong_it_is(void **state) {
  (void)state;
  mg_fit_data data = {0};
  mg_fit fit;
  add_attention_rows(&data, 0.1);
  assert_ok(context, mg_fit_form(context, &device, &data, &fit));
  assert_true(fit.median_left_out > 0.05 && fit.median_left_out < 0.15);
  assert_true(fit.worst_left_out >= fit.worst_residual);
  data.count = 3;
  assert_refused(context, MG_USAGE, "needs more rows", mg_fit_form(context, &device, &data, &fit));
  mg_fit_data_free(context, &data);
}

/* Each row predicted by a fit that never saw it: fitted anew here without it. */
static void rows_are_left_out_one_by_one(void **state) {
  (void)state;
  enum { ROWS = 40 };
  mg_fit_data data = {0};
  mg_fit all, rest;
  double errors[ROWS], worst = 0;
  add_attention_rows(&data, 0.1);
  assert_ok(context, mg_fit_form(context, &device, &data, &all));
  for (size_t row = 0; row < ROWS; row++) {
    mg_fit_data others = {.kind = data.kind};
    for (size_t i = 0; i < ROWS; i++)
      if (i != row)
        assert_ok(context,
                  mg_fit_data_add(context, &others, data.variables + i * MG_FORM_VARIABLES_MAX, data.seconds[i]));
    assert_ok(context, mg_fit_form(context, &device, &others, &rest));
    double features[MG_FORM_FEATURES_MAX] = {0};
    mg_forms[data.kind].evaluate(&device, data.variables + row * MG_FORM_VARIABLES_MAX, features);
    errors[row] = fabs(mg_form_value(&mg_forms[data.kind], rest.coefficients, features) / data.seconds[row] - 1);
    worst = fmax(worst, errors[row]);
    mg_fit_data_free(context, &others);
  }
  assert_near(all.worst_left_out, worst, 1e-12);
  int below = 0;
  for (size_t row = 0; row < ROWS; row++) below += errors[row] <= all.median_left_out;
  assert_int_equal(below, ROWS / 2);
  mg_fit_data_free(context, &data);
}

/* Whatever the coefficients, no amount of work that grows makes an operation quicker. */
static void more_work_never_takes_less(void **state) {
  (void)state;
  static const char *const sizes[] = {"element_bytes", "nodes", "sms", NULL}; /* which are no amounts of work */
  static const double coefficients[MG_FORM_FEATURES_MAX] = {1e-6, 1.5, 0.7, 2, 3, 0.2, 1, 1};
  for (int kind = 0; kind < MG_FORM_COUNT; kind++)
    for (int v = 0; mg_forms[kind].variables[v]; v++) {
      bool size = false;
      for (int i = 0; sizes[i]; i++) size |= strcmp(mg_forms[kind].variables[v], sizes[i]) == 0;
      double variables[MG_FORM_VARIABLES_MAX] = {64, 32, 16, 2, 2, 2, 2}, last = 0;
      for (int step = 0; step < 20 && !size; step++, variables[v] *= 3) {
        double features[MG_FORM_FEATURES_MAX] = {0};
        mg_forms[kind].evaluate(&device, variables, features);
        const double seconds = mg_form_value(&mg_forms[kind], coefficients, features);
        assert_true(seconds >= last && seconds > 0);
        last = seconds;
      }
    }
}

static void attention_calibration(mg_calibration *calibration) {
  json_t *json = json_pack("{s:{s:{s:{s:f,s:f,s:f}, s:{s:[f,f]}}}}", "forms", "attention_decode", "coefficients",
                           "constant_s", 1e-6, "memory", 2.0, "compute", 3.0, "range", "bytes", 1e3, 1e6);
  assert_ok(context, mg_calibration_read(context, json, calibration));
  json_decref(json);
}

static void costs_are_refused_outside_their_range(void **state) {
  (void)state;
  mg_calibration calibration;
  attention_calibration(&calibration);
  mg_costs costs = {.context = context, .accelerator = &device, .calibration = &calibration};
  const double inside[MG_FORM_VARIABLES_MAX] = {1e6, 1e6}, outside[MG_FORM_VARIABLES_MAX] = {1e7, 1e6};
  double seconds;
  assert_ok(context, mg_cost(&costs, MG_FORM_ATTENTION_DECODE, inside, &seconds));
  assert_near(seconds, 1e-6 + 2e-6, 1e-12);
  assert_refused(context, MG_USAGE, "calibrated for bytes from 1000 to 1e+06, not 1e+07",
                 mg_cost(&costs, MG_FORM_ATTENTION_DECODE, outside, &seconds));
  assert_refused(context, MG_USAGE, "no coefficients of 'gemm'", mg_cost(&costs, MG_FORM_GEMM, inside, &seconds));
  costs.extrapolate = true;
  assert_ok(context, mg_cost(&costs, MG_FORM_ATTENTION_DECODE, outside, &seconds));
  json_t *listed = mg_costs_outside(&costs);
  assert_int_equal(json_array_size(listed), 1);
  assert_near(json_number_value(json_object_get(json_array_get(listed, 0), "factor")), 10, 1e-9);
  json_decref(listed);
  mg_calibration_free(context, &calibration);
}

static void the_roofline_is_the_peak(void **state) {
  (void)state;
  mg_costs costs = {.context = context, .accelerator = &device};
  const double product[MG_FORM_VARIABLES_MAX] = {1000, 1000, 1000, 1, 1};
  const double far[MG_FORM_VARIABLES_MAX] = {1e10, 0, 20, 4};
  double seconds;
  assert_ok(context, mg_cost(&costs, MG_FORM_GEMM, product, &seconds));
  assert_near(seconds, 2e9 / 2e15 + (1e6 + 1e6 + 2e6) / 1e12, 1e-12);
  assert_ok(context, mg_cost(&costs, MG_FORM_DISPATCH_NORMAL, far, &seconds));
  assert_near(seconds, 1, 1e-9);
  assert_ok(context, mg_collective_cost(&costs, MG_COLLECTIVE_ALL_REDUCE, 4, 4, 1e11, &seconds));
  assert_near(seconds, 2 * 0.75, 1e-9);
}

static void wrong_calibrations_are_refused(void **state) {
  (void)state;
  mg_calibration calibration;
  static const struct {
    const char *json, *words;
  } wrong[] = {{"{\"forms\": {\"gem\": {}}}", "did you mean 'gemm'"},
               {"{\"forms\": {\"gemm\": {}}}", "needs the coefficient 'constant_s'"},
               {"{\"forms\": {\"memory\": {\"coefficients\": {\"constant_s\": 0, \"memory\": -1}}}}", "'memory'"},
               {"{\"collectives\": {\"alltoall\": {\"8\": [[0, 1]]}}}", "above 0"}};
  for (size_t i = 0; i < MG_COUNT(wrong); i++) {
    json_t *json = json_loads(wrong[i].json, 0, NULL);
    assert_refused(context, MG_USAGE, wrong[i].words, mg_calibration_read(context, json, &calibration));
    json_decref(json);
  }
}

/* ---- tables --------------------------------------------------------------------------------------------------- */

static void write_file(const char *text) {
  assert_ok(context, mg_file_write_atomic(context, path, text, strlen(text)));
}

static void collectives_are_interpolated_between_sizes(void **state) {
  (void)state;
  mg_measurements data = {0};
  json_t *json;
  mg_calibration calibration;
  write_file("# made up\nop_name,nccl_dtype,num_gpus,message_size,latency\n"
             "all_reduce,half,8,500,0.001\nall_reduce,half,8,5000,0.01\nall_reduce,half,8,50000,0.1\n");
  assert_ok(context, mg_measurements_read(context, path, &device, NULL, &data));
  assert_ok(context, mg_calibration_fit(context, &device, &data, &json));
  assert_near(json_number_value(json_object_get(json_object_get(json, "collective_errors"), "worst_left_out")), 0,
              1e-9);
  assert_ok(context, mg_calibration_read(context, json, &calibration));
  mg_costs costs = {.context = context, .accelerator = &device, .calibration = &calibration};
  double seconds;
  assert_ok(context, mg_collective_cost(&costs, MG_COLLECTIVE_ALL_REDUCE, 8, 8, 2000, &seconds));
  assert_near(seconds, 2e-6, 1e-10);
  assert_refused(context, MG_USAGE, "outside what the calibration measured",
                 mg_collective_cost(&costs, MG_COLLECTIVE_ALL_REDUCE, 4, 4, 2000, &seconds));
  assert_refused(context, MG_USAGE, "outside",
                 mg_collective_cost(&costs, MG_COLLECTIVE_ALL_REDUCE, 8, 8, 1e9, &seconds));
  /* Eight ranks of eight nodes meet over NICs, of which nothing was measured: refused, or their peak, and said. */
  assert_refused(context, MG_USAGE, "over 8 ranks among 64",
                 mg_collective_cost(&costs, MG_COLLECTIVE_ALL_REDUCE, 8, 64, 2000, &seconds));
  costs.extrapolate = true;
  assert_ok(context, mg_collective_cost(&costs, MG_COLLECTIVE_ALL_REDUCE, 8, 64, 2000, &seconds));
  assert_near(seconds, 2 * 7.0 / 8 * 2000 / (device.far_gb_s * 1e9), 1e-15);
  json_t *listed = mg_costs_outside(&costs);
  assert_string_equal(json_string_value(json_object_get(json_array_get(listed, 0), "variable")), "ranks");
  assert_int_equal(json_array_size(listed), 1);
  json_decref(listed);
  mg_calibration_free(context, &calibration);
  mg_measurements_free(context, &data);
  json_decref(json);
}

static void damaged_tables_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *words;
  } wrong[] = {{"", "no header"},
               {"a,b\n1,2\n", "no known table"},
               {"m,n,k,groups,element_bytes,tflops\n1,2,3\n", "line 2 has 3 fields, the header 6"},
               {"m,n,k,groups,element_bytes,tflops\n1,2,x,1,1,5\n", "line 2: 'k' must be a number, not 'x'"},
               {"m,n,k,groups,element_bytes,tflops\n1,2,-3,1,1,5\n", "'k' is below 0"},
               {"m,n,k,groups,element_bytes,tflops\n1,2,0,1,1,5\n", "above 0"},
               {"m,n,k,groups,element_bytes,tflops\n1,2,nan,1,1,5\n", "'k' must be a number, not 'nan'"},
               {"m,n,k,groups,element_bytes,tflops\n1,2,1e300,1,1,5\n", "'k' is above 1e+15"},
               {"m,n,k,groups,element_bytes,tflops\n1,2,3,1,1,0\n", "a time must be above 0"},
               {"op_name,num_gpus,message_size,latency\nreduce,8,1,1\n", "no known collective"},
               {"op_name,num_gpus,message_size,latency\nall_reduce,1e12,1,1\n", "'num_gpus' must be from 1 to 65536"},
               {"node_num,hidden_size,num_token,num_topk,num_experts,dispatch_sms,combine_sms,dispatch_transmit_us,"
                "combine_transmit_us,dispatch_notify_us,combine_notify_us\n2,64,1,1000000,64,20,20,1,1,1,1\n",
                "'num_topk' must be from 1 to 65536"},
               {"m,n,\"k\"\n", "quoted"}};
  for (size_t i = 0; i < MG_COUNT(wrong); i++) {
    mg_measurements data = {0};
    write_file(wrong[i].text);
    assert_refused(context, MG_FILE, wrong[i].words, mg_measurements_read(context, path, &device, NULL, &data));
    mg_measurements_free(context, &data);
  }
}

static void rows_are_chosen_by_columns(void **state) {
  (void)state;
  mg_measurements data = {0};
  write_file("m,n,k,groups,element_bytes,tflops,run\n64,64,64,1,1,1,a\n64,64,64,1,1,1,b\n128,64,64,1,1,1,a\n");
  json_t *where = json_pack("{s:s}", "run", "a"), *none = json_pack("{s:s}", "rum", "a");
  assert_ok(context, mg_measurements_read(context, path, &device, where, &data));
  assert_int_equal(data.data[MG_FORM_GEMM].count, 2);
  assert_refused(context, MG_USAGE, "no column 'rum'", mg_measurements_read(context, path, &device, none, &data));
  mg_measurements_free(context, &data);
  json_decref(where);
  json_decref(none);
}

/* 8 distinct of 256 experts over 4 nodes: 4 (1 - C(192,8) / C(256,8)). */
static void random_choices_fall_into_groups(void **state) {
  (void)state;
  assert_near(mg_expected_groups(256, 256, 8), 8, 1e-9);
  assert_near(mg_expected_groups(256, 1, 8), 1, 1e-12);
  assert_near(mg_expected_groups(4, 2, 2), 2 * (1 - 1.0 / 6), 1e-12);
}

/* ---- shapes --------------------------------------------------------------------------------------------------- */

/* The cache of the models' table in bf16, the routed and attention's parameters, and FLOPs without attention's core. */
static void deepseek_v3_has_its_published_size(void **state) {
  (void)state;
  assert_near(61 * 2 * mg_shape_cache_elements(&mg_shape_deepseek_v3, 1), 70272, 0);
  assert_near(58 * 256 * mg_shape_expert_parameters(&mg_shape_deepseek_v3), 653908770816.0, 0);
  assert_near(61 * (mg_shape_attention_parameters(&mg_shape_deepseek_v3, 1) + 1536 + 512), 11413547008.0,
              0);                                                                  /* and two norms */
  assert_near(mg_shape_token_flops(&mg_shape_deepseek_v3, 0), 73251236864.0, 3e6); /* which counts norms too */
}

static void the_cache_of_grouped_queries(void **state) {
  (void)state;
  const mg_shape qwen = {.layers = 80, .attention = MG_ATTENTION_GQA, .kv_heads = 8, .head_width = 128};
  assert_near(80 * 2 * mg_shape_cache_elements(&qwen, 1), 327680, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_fit_recovers_its_coefficients),
                                     cmocka_unit_test(a_fit_says_how_wrong_it_is),
                                     cmocka_unit_test(rows_are_left_out_one_by_one),
                                     cmocka_unit_test(more_work_never_takes_less),
                                     cmocka_unit_test(costs_are_refused_outside_their_range),
                                     cmocka_unit_test(the_roofline_is_the_peak),
                                     cmocka_unit_test(wrong_calibrations_are_refused),
                                     cmocka_unit_test(collectives_are_interpolated_between_sizes),
                                     cmocka_unit_test(damaged_tables_are_refused),
                                     cmocka_unit_test(rows_are_chosen_by_columns),
                                     cmocka_unit_test(random_choices_fall_into_groups),
                                     cmocka_unit_test(deepseek_v3_has_its_published_size),
                                     cmocka_unit_test(the_cache_of_grouped_queries)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
