/* Weights stay as their checkpoint stores them, whatever the storage type: a model holds no more than its file and a tenth,
 * loading needs no more for itself, and it computes what the same weights compute once they are decoded. */
#include "support/stored_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "support/golden.h"

static char folder[] = "/tmp/moegauge-stored-XXXXXX";

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  static const char *const names[] = {"model.gguf", "model.safetensors", "config.json"};
  (void)state;
  for (size_t i = 0; i < MG_COUNT(names); i++) {
    char path[1100];
    snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    unlink(path);
  }
  return rmdir(folder);
}

typedef struct kept {
  mg_world world;
  json_t *family;
  mg_checkpoint *checkpoint;
  mg_model *model, *decoded;
  int64_t file_bytes;
} kept;

static void load(kept *k, mg_dtype precision, mg_model **out) {
  mg_context *context = k->world.context;
  assert_ok(context, mg_model_load(context, k->world.registry, k->world.backend, json_object_get(k->family, "spec"),
                                   json_object_get(k->family, "tensors"), json_object_get(k->family, "ignored"),
                                   k->checkpoint, precision, out));
}

static void open_kind(kept *k, const char *kind, const char *backend, mg_dtype precision) {
  const mg_stored_model shape = {
      .name = kind, .layers = 2, .width = 256, .experts = 8, .hidden = 256, .vocabulary = 512};
  char path[1100];
  assert_true(mg_stored_model_write(&shape, folder, path, &k->file_bytes));
  mg_world_open(&k->world, backend, precision);
  mg_tape_set_recording(k->world.tape, false);
  k->family = mg_golden_family(&k->world, strstr(path, ".gguf") ? path : folder);
  assert_ok(k->world.context, mg_checkpoint_open(k->world.context, path, NULL, &k->checkpoint));
  load(k, precision, &k->model);
}

static void close_kind(kept *k) {
  mg_tape_reset(k->world.tape);
  mg_model_destroy(k->model);
  mg_model_destroy(k->decoded);
  mg_checkpoint_close(k->checkpoint);
  json_decref(k->family);
  mg_world_close(&k->world);
}

static void a_model_takes_no_more_than_its_file_and_a_tenth(void **state) {
  static const mg_dtype precisions[] = {MG_F32, MG_BF16};
  for (size_t i = 0; i < MG_COUNT(precisions); i++) {
    kept k = {0};
    open_kind(&k, *state, "cpu", precisions[i]);
    const double values = (double)mg_params_memory(mg_model_params(k.model)).values;
    if (values > 1.1 * (double)k.file_bytes)
      fail_msg("%s in %s: parameters take %.0f bytes, the file %lld", (const char *)*state,
               mg_dtype_name(precisions[i]), values, (long long)k.file_bytes);
    close_kind(&k);
  }
}

/* What loading allocated at most, the model's own memory included; weights used in place are the file's. */
static void loading_needs_no_more_for_itself(void **state) {
  enum { SMALL = 1 << 20 };
  kept k = {0};
  open_kind(&k, *state, "cpu", MG_BF16);
  assert_true((double)mg_context_peak_bytes(k.world.context) <= 1.1 * (double)k.file_bytes + SMALL);
  close_kind(&k);
}

static float *logits_of(kept *k, mg_model *model, int64_t tokens, int64_t *count) {
  int32_t ids[40];
  for (int64_t i = 0; i < tokens; i++) ids[i] = (int32_t)(i * 37 % 512);
  const mg_model_batch batch = {.inputs = ids, .sequences = 1, .sequence_tokens = tokens};
  mg_model_output out;
  assert_ok(k->world.context, mg_model_forward(model, k->world.tape, &batch, &out));
  *count = mg_var_rows(out.logits) * mg_var_columns(out.logits);
  float *logits = malloc((size_t)*count * sizeof *logits);
  for (int64_t i = 0; i < *count; i++) logits[i] = (float)mg_world_value(&k->world, out.logits, i);
  mg_tape_reset(k->world.tape);
  return logits;
}

/* Loads the model a second time, on a backend that is said to read no stored dtypes, and holds logits against its. */
static void compare(const char *kind, const char *backend, mg_dtype precision, int64_t tokens, double tolerance) {
  kept k = {0};
  open_kind(&k, kind, backend, precision);
  const mg_backend_plugin *plugin = k.world.backend->plugin;
  mg_backend_plugin plain = *plugin;
  plain.stored_dtypes = false;
  k.world.backend->plugin = &plain;
  load(&k, precision, &k.decoded);
  k.world.backend->plugin = plugin;
  int64_t count, again;
  float *ours = logits_of(&k, k.model, tokens, &count), *due = logits_of(&k, k.decoded, tokens, &again);
  assert_int_equal(count, again);
  double largest = 0, worst = 0;
  for (int64_t i = 0; i < count; i++) {
    const double off = fabs((double)ours[i] - (double)due[i]);
    largest = fmax(largest, fabs((double)due[i]));
    if (!(off <= worst)) worst = off;
  }
  if (!(worst <= tolerance * largest && largest > 0))
    fail_msg("%s on %s in %s: logits are off by %g of %g", kind, backend, mg_dtype_name(precision), worst, largest);
  free(ours);
  free(due);
  close_kind(&k);
}

static void it_computes_what_decoded_weights_compute_to_the_bit(void **state) {
  compare(*state, "reference", MG_F32, 3, 0);
  compare(*state, "reference", MG_BF16, 3, 0);
}

/* One token reads weights row by row, forty pack them. Sums may be taken in another order. */
static void it_computes_what_decoded_weights_compute(void **state) {
  compare(*state, "cpu", MG_F32, 1, 1e-5);
  compare(*state, "cpu", MG_F32, 40, 1e-5);
  compare(*state, "cpu", MG_BF16, 1, 0.02);
}

int main(void) {
#define CASE(name, test)                                                                                               \
  { #test " " name, test, NULL, NULL, (void *)(name) }
#define KIND(name)                                                                                                     \
  CASE(name, a_model_takes_no_more_than_its_file_and_a_tenth), CASE(name, loading_needs_no_more_for_itself),           \
      CASE(name, it_computes_what_decoded_weights_compute_to_the_bit),                                                 \
      CASE(name, it_computes_what_decoded_weights_compute)
  const struct CMUnitTest tests[] = {KIND("f32"),   KIND("f16"),     KIND("bf16"),       KIND("q8_0"),
                                     KIND("q4_0"),  KIND("q4_k"),    KIND("q5_k"),       KIND("q6_k"),
                                     KIND("mxfp4"), KIND("f8_e4m3"), KIND("mxfp4_pairs")};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
