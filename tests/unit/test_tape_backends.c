/* One training step of a small decoder with an MoE layer gives the same loss and gradients on every backend that opens
 * on this machine as on the reference. */
#include <stdlib.h>
#include <string.h>

#include "support/world.h"
#include "tensor/params.h"

enum { BATCH = 2, SEQUENCE = 9, TOKENS = BATCH * SEQUENCE, VOCABULARY = 23, WIDTH = 16, HEADS = 2, HEAD = 8 };
enum { EXPERTS = 5, CHOICES = 2, HIDDEN = 12, PARAMS = 8, ELEMENTS_MAX = 1 << 15 };

typedef struct result {
  double loss;
  int64_t count;
  float gradients[ELEMENTS_MAX];
} result;

/* ---- the model ----------------------------------------------------------------------------------------------- */

enum { EMBEDDING, NORM, QKV, PROJECTION, GATE, UP, GATED, DOWN };

static const mg_param_request requests[PARAMS] = {
    [EMBEDDING] = {.name = "embedding", .dims = 2, .shape = {VOCABULARY, WIDTH}, .init = MG_INIT_NORMAL, .scale = 1},
    [NORM] = {.name = "norm", .dims = 1, .shape = {WIDTH}, .init = MG_INIT_ONE},
    [QKV] = {.name = "qkv", .dims = 2, .shape = {3 * WIDTH, WIDTH}, .init = MG_INIT_TRUNCATED_FAN_IN, .scale = 1},
    [PROJECTION] = {.name = "out", .dims = 2, .shape = {WIDTH, WIDTH}, .init = MG_INIT_TRUNCATED_FAN_IN, .scale = 1},
    [GATE] = {.name = "gate", .dims = 2, .shape = {EXPERTS, WIDTH}, .init = MG_INIT_NORMAL, .scale = 0.5},
    [UP] = {.name = "up", .dims = 3, .shape = {EXPERTS, HIDDEN, WIDTH}, .init = MG_INIT_NORMAL, .scale = 0.3},
    [GATED] = {.name = "gated", .dims = 3, .shape = {EXPERTS, HIDDEN, WIDTH}, .init = MG_INIT_NORMAL, .scale = 0.3},
    [DOWN] = {.name = "down", .dims = 3, .shape = {EXPERTS, WIDTH, HIDDEN}, .init = MG_INIT_NORMAL, .scale = 0.3}};

typedef struct model {
  mg_tape *tape;
  mg_params *params;
  mg_dtype dtype; /* of activations */
} model;

static mg_var *param(const model *m, int64_t index) {
  return mg_params_var(m->params, m->tape, index);
}

static mg_var *normed(const model *m, mg_var *x) {
  return mg_norm(m->tape, MG_NORM_RMS, x, mg_cast(m->tape, param(m, NORM), m->dtype), NULL, 1e-5);
}

static mg_var *attention(const model *m, mg_var *x) {
  mg_tape *tape = m->tape;
  int32_t places[TOKENS];
  for (int32_t i = 0; i < TOKENS; i++) places[i] = i % SEQUENCE;
  const float turns[] = {1.0f, 0.3f, 0.1f, 0.03f};
  mg_var *positions = mg_tape_upload(tape, MG_I32, 1, (const int64_t[]){TOKENS}, places);
  mg_var *frequencies = mg_tape_upload(tape, MG_F32, 1, (const int64_t[]){HEAD / 2}, turns);
  const mg_rope_settings rope = {.head = HEAD, .rotary = HEAD, .scale = 1};
  mg_var *qkv = mg_linear(tape, normed(m, x), param(m, QKV));
  mg_var *q = mg_rope(tape, mg_slice(tape, qkv, 0, WIDTH), positions, frequencies, rope);
  mg_var *k = mg_rope(tape, mg_slice(tape, qkv, WIDTH, WIDTH), positions, frequencies, rope);
  mg_var *v = mg_slice(tape, qkv, 2 * WIDTH, WIDTH);
  const mg_attention_settings settings = {
      .batch = BATCH, .heads = HEADS, .kv_heads = HEADS, .causal = true, .scale = 0.35};
  return mg_linear(tape, mg_attention(tape, q, k, v, NULL, NULL, settings), param(m, PROJECTION));
}

static mg_var *moe(const model *m, mg_var *x) {
  mg_tape *tape = m->tape;
  mg_var *in = normed(m, x), *weights = NULL;
  const mg_dtype before = mg_tape_set_compute(tape, MG_F32);
  mg_var *probs = mg_softmax(tape, mg_linear(tape, mg_cast(tape, in, MG_F32), param(m, GATE)));
  mg_tape_set_compute(tape, before);
  mg_var *ids = mg_top_k(tape, probs, CHOICES, &weights);
  mg_assignment assignment;
  mg_assign(tape, ids, NULL, EXPERTS, 6, MG_ORDER_POSITION, &assignment);
  mg_var *rows = mg_dispatch(tape, in, &assignment);
  mg_var *gate = mg_grouped_linear(tape, rows, param(m, GATED), assignment.offsets);
  mg_var *up = mg_grouped_linear(tape, rows, param(m, UP), assignment.offsets);
  mg_var *hidden = mg_glu(tape, MG_GLU_SILU, gate, up);
  mg_var *out = mg_grouped_linear(tape, hidden, param(m, DOWN), assignment.offsets);
  return mg_combine(tape, out, mg_cast(tape, weights, m->dtype), &assignment);
}

static mg_var *loss_of(const model *m) {
  mg_tape *tape = m->tape;
  int32_t ids[TOKENS + 1];
  for (int32_t i = 0; i <= TOKENS; i++) ids[i] = (i * i + 3) % VOCABULARY;
  const int64_t shape[] = {TOKENS};
  mg_var *inputs = mg_tape_upload(tape, MG_I32, 1, shape, ids),
         *targets = mg_tape_upload(tape, MG_I32, 1, shape, ids + 1);
  mg_var *x = mg_cast(tape, mg_gather_rows(tape, param(m, EMBEDDING), inputs), m->dtype);
  x = mg_add(tape, x, attention(m, x));
  x = mg_add(tape, x, moe(m, x));
  return mg_mean(tape, mg_cross_entropy(tape, mg_linear(tape, normed(m, x), param(m, EMBEDDING)), targets));
}

/* ---- running it ---------------------------------------------------------------------------------------------- */

static void collect(mg_world *world, mg_params *params, result *out) {
  out->count = 0;
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_tensor *gradient = &mg_params_at(params, i)->gradient;
    assert_true(out->count + mg_tensor_count(gradient) <= ELEMENTS_MAX);
    assert_ok(world->context, world->backend->plugin->download(world->backend, out->gradients + out->count,
                                                               gradient->data, mg_tensor_bytes(gradient)));
    out->count += mg_tensor_count(gradient);
  }
}

static void run(mg_world *world, mg_dtype dtype, result *out) {
  model m = {.tape = world->tape, .dtype = dtype};
  assert_ok(world->context, mg_params_create(world->backend, MG_F32, &m.params));
  for (int64_t i = 0; i < PARAMS; i++) {
    mg_param_request request = requests[i];
    request.stream = mg_stream_named(5, request.name, 0, 0);
    assert_ok(world->context, mg_params_add(m.params, &request, NULL));
  }
  mg_var *loss = loss_of(&m);
  assert_ok(world->context, mg_tape_status(world->tape));
  assert_ok(world->context, mg_tape_backward(world->tape, loss));
  out->loss = mg_world_value(world, loss, 0);
  assert_ok(world->context, world->backend->plugin->synchronize(world->backend));
  collect(world, m.params, out);
  mg_params_destroy(m.params);
}

/* Largest difference of the gradients beside the largest gradient. */
static double distance(const result *a, const result *b) {
  double largest = 0, apart = 0;
  assert_int_equal(a->count, b->count);
  for (int64_t i = 0; i < a->count; i++) {
    largest = fmax(largest, fabs((double)a->gradients[i]));
    apart = fmax(apart, fabs((double)a->gradients[i] - (double)b->gradients[i]));
    if (isnan(b->gradients[i])) return INFINITY;
  }
  return apart / largest;
}

/* ---- every backend ------------------------------------------------------------------------------------------- */

enum { NAMES_MAX = 16, NAME_BYTES = 32 };
typedef struct name_list {
  char names[NAMES_MAX][NAME_BYTES];
  int count;
} name_list;

static bool note_name(void *user, const mg_plugin_entry *entry) {
  name_list *list = user;
  snprintf(list->names[list->count++], NAME_BYTES, "%s", entry->name);
  return list->count < NAMES_MAX;
}

static bool opens(mg_world *world, const char *name) {
  mg_backend *backend = NULL;
  if (mg_backend_open(world->context, world->registry, name, NULL, &backend) != MG_OK) return false;
  mg_backend_close(backend);
  return true;
}

static void compare_all(mg_dtype dtype, double loss_tolerance, double gradient_tolerance) {
  result *expected = calloc(1, sizeof *expected), *actual = calloc(1, sizeof *actual);
  name_list backends = {.count = 0};
  mg_world world;
  mg_world_open(&world, "reference", dtype);
  assert_ok(world.context, mg_registry_each(world.registry, MG_PLUGIN_BACKEND, note_name, &backends));
  run(&world, dtype, expected);
  for (int i = 0; i < backends.count; i++) {
    if (!opens(&world, backends.names[i])) continue;
    mg_world other;
    mg_world_open(&other, backends.names[i], dtype);
    run(&other, dtype, actual);
    const double apart = distance(expected, actual);
    if (!(fabs(actual->loss - expected->loss) <= loss_tolerance && apart <= gradient_tolerance))
      fail_msg("%s: loss %.9g, reference %.9g; gradients apart by %.3g of the largest", backends.names[i], actual->loss,
               expected->loss, apart);
    mg_world_close(&other);
  }
  mg_world_close(&world);
  free(expected);
  free(actual);
}

static void every_backend_trains_alike_in_f32(void **state) {
  (void)state;
  compare_all(MG_F32, 1e-5, 1e-5);
}

/* bf16 keeps 8 bits, so sums in another order may round to neighbours that lie 2^-8 apart. */
static void every_backend_trains_alike_in_bf16(void **state) {
  (void)state;
  compare_all(MG_BF16, 2e-2, 4e-2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_backend_trains_alike_in_f32),
      cmocka_unit_test(every_backend_trains_alike_in_bf16),
  };
  return cmocka_run_group_tests_name("tape on every backend", tests, NULL, NULL);
}
