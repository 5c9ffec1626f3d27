/* Specifications that contradict themselves, do not fit or are absurd are refused with what is wrong, before anything
 * runs. */
#include "cluster/simulation.h"
#include "support/cluster.h"

static mg_context *context;

static int open_context(void **state) {
  (void)state;
  return mg_context_create(NULL, &context) != MG_OK;
}

static int close_context(void **state) {
  (void)state;
  void *left = context;
  return mg_testing_close_context(&left);
}

static void wrong_specifications_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *more, *words;
  } wrong[] = {{"{\"tokns\": 3}", "did you mean 'tokens'"},
               {"{\"ranks\": 6}", "do not divide over nodes of 4"},
               {"{\"slots\": 20}", "do not divide over 8 ranks"},
               {"{\"slots\": 8}", "too few for 16 experts"},
               {"{\"placement\": \"elpb\"}", "did you mean 'eplb'"},
               {"{\"costs\": \"calibrated\"}", "no calibration for toy"},
               {"{\"tensor_parallel\": 3}", "tensor_parallel = 3 does not divide"},
               {"{\"tokens\": 16000000, \"context\": 1}", "do not fit into toy's 4 GB"},
               {"{\"trace\": {\"experts\": 32}}", "leave both out of a generated trace"},
               {"{\"trace\": {\"path\": 3}}", "'path'"},
               {"{\"trace\": {\"path\": \"/tmp\", \"kind\": \"zipf\"}}", "'kind'"},
               {"{\"assignment\": [[1]], \"trace\": {\"layers\": 1}}", "layer 0 has 1 slots instead of 16"},
               {"{\"kernels\": \"normal\", \"comm_sms\": 132}", "comm_sms = 132 leaves nothing"},
               {"{\"step\": \"training\", \"stages\": 9}", "4 blocks cannot make 9"}};
  for (size_t i = 0; i < MG_COUNT(wrong); i++) {
    json_t *spec = mg_cluster_specification("decode", 8, wrong[i].more), *result;
    assert_refused(context, MG_USAGE, wrong[i].words, mg_simulation_run(context, spec, &result));
    json_decref(spec);
  }
}

/* Sizes that nobody can mean end in a message, not in an overflow, a loop without end or all memory. */
static void absurd_sizes_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *more, *words;
  } absurd[] = {{"{\"model\": {\"experts\": 1099511627776}}", "'experts'"},
                {"{\"model\": {\"experts\": -1}}", "'experts'"},
                {"{\"model\": {\"layers\": 9223372036854775807}}", "'layers'"},
                {"{\"model\": {\"layers\": 4096}, \"ranks\": 65536}", "268435456 times of ranks in layers"},
                {"{\"tokens\": -5}", "'tokens'"},
                {"{\"tokens\": 16777216, \"ranks\": 65536}", "2199023255552 assignments in a layer"},
                {"{\"trace\": {\"tokens\": 1073741824, \"layers\": 4096}}", "their product at most"},
                {"{\"accelerator\": {\"memory_gb\": 1e300}}", "'memory_gb'"},
                {"{\"capacity\": -1}", "'capacity'"},
                {"{\"step\": \"training\", \"stages\": 1024, \"micro_batches\": 65536, \"model\": {\"layers\": 1024}}",
                 "together at most"}};
  for (size_t i = 0; i < MG_COUNT(absurd); i++) {
    json_t *spec = mg_cluster_specification("decode", 8, "{}"), *more = json_loads(absurd[i].more, 0, NULL), *result;
    assert_non_null(more);
    json_object_update_recursive(spec, more);
    assert_refused(context, MG_USAGE, absurd[i].words, mg_simulation_run(context, spec, &result));
    json_decref(more);
    json_decref(spec);
  }
}

static void absurd_grids_are_refused(void **state) {
  (void)state;
  static const char *const grids[] = {"{\"tokens\": [1e300], \"context\": [1]}", "{\"tokens\": [1], \"context\": [-1]}",
                                      "{\"tokens\": [\"x\"], \"context\": [1]}"};
  json_t *spec = mg_cluster_specification("decode", 8, "{}"), *costs;
  for (size_t i = 0; i < MG_COUNT(grids); i++) {
    json_t *grid = json_loads(grids[i], 0, NULL);
    assert_non_null(grid);
    assert_refused(context, MG_USAGE, "must be a number from 0", mg_simulation_step_costs(context, spec, grid, &costs));
    json_decref(grid);
  }
  json_decref(spec);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_specifications_are_refused),
                                     cmocka_unit_test(absurd_sizes_are_refused),
                                     cmocka_unit_test(absurd_grids_are_refused)};
  return cmocka_run_group_tests(tests, open_context, close_context);
}
