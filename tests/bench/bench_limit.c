/* What a mixture asks of a device, each beside its limit, by turns on the same backend and by its own clock: the expert
 * products and a training step beside one dense bf16 product, gating and moving tokens beside a copy.
 *
 * `of_limit` is the share of the limit's rate that was reached: of FLOPs per second, or of bytes per second. The shapes
 * are divided by --scale: tokens and widths, never experts or choices. */
#include <math.h>

#include "bench.h"

enum { EXPERTS = 64, CHOICES = 8, TOKENS = 16384, WIDTH = 2048, HIDDEN = 1024 };
enum { GATE_TOKENS = 65536, GATE_EXPERTS = 256 };
enum { COPY_ELEMENTS = 1 << 26, SQUARE = 8192 };
enum { NARROWEST_HEAD = 8, HEADS_MAX = 16 };

static int64_t scaled(int64_t size) {
  const int64_t smaller = size / bench_world_get()->scale;
  return smaller > 1 ? smaller : 1;
}

/* ---- the limits --------------------------------------------------------------------------------------------- */

/* f32 to f32: the bytes of x read, and as many written. */
typedef struct copy_limit {
  mg_tensor from, to;
} copy_limit;

static copy_limit make_copy(void) {
  const int64_t shape[] = {scaled(COPY_ELEMENTS)};
  return (copy_limit){.from = bench_tensor(MG_F32, 1, shape, 1.0), .to = bench_tensor(MG_F32, 1, shape, 1.0)};
}

static bool run_copy(gbench_state *state, copy_limit *c) {
  const mg_op_call call = {.op = MG_OP_CAST, .in = {&c->from}, .out = {&c->to}};
  return bench_run(state, &call);
}

static void release_copy(copy_limit *c) {
  bench_release(&c->from), bench_release(&c->to);
}

/* [rows, depth] x [columns, depth]^T in bf16. */
typedef struct product_limit {
  mg_tensor a, b, out;
} product_limit;

static product_limit make_product(int64_t rows, int64_t columns, int64_t depth) {
  return (product_limit){.a = bench_tensor(MG_BF16, 2, (int64_t[]){rows, depth}, 1.0),
                         .b = bench_tensor(MG_BF16, 2, (int64_t[]){columns, depth}, 0.03),
                         .out = bench_tensor(MG_BF16, 2, (int64_t[]){rows, columns}, 1.0)};
}

static mg_op_call product_call(product_limit *p) {
  mg_op_call call = {.op = MG_OP_MATMUL, .in = {&p->a, &p->b}, .out = {&p->out}};
  call.attributes.matmul.transpose_b = true;
  call.attributes.matmul.compute = MG_BF16;
  return call;
}

static bool run_product(gbench_state *state, product_limit *p) {
  const mg_op_call call = product_call(p);
  return bench_run(state, &call);
}

static void release_product(product_limit *p) {
  bench_release(&p->a), bench_release(&p->b), bench_release(&p->out);
}

/* `work` and `limit_work` are the FLOPs or bytes of the subject and of its limit. */
static void report(gbench_state *state, const char *rate, const char *limit_rate, double work, double seconds,
                   double limit_work, double limit_seconds) {
  gbench_number(state, "median_ms", 1e3 * seconds);
  gbench_number(state, "limit_ms", 1e3 * limit_seconds);
  gbench_number(state, rate, work / seconds);
  gbench_number(state, limit_rate, limit_work / limit_seconds);
  gbench_number(state, "of_limit", work / seconds / (limit_work / limit_seconds));
}

/* ---- expert products ---------------------------------------------------------------------------------------- */

typedef struct expert_case {
  const char *name;
  double exponent; /* expert e is chosen in proportion to (e + 1)^-exponent, but by a token once at most */
} expert_case;

static const expert_case expert_cases[] = {{"limit/expert_mlp/bf16/balanced", 0.0},
                                           {"limit/expert_mlp/bf16/zipf", 1.0}};

typedef struct expert_block {
  mg_tensor rows, gate, up, down, offsets, g, u, h, y;
  product_limit dense;
} expert_block;

/* Rows of each expert, all together TOKENS x CHOICES. What an expert cannot take goes to the next that can. */
static void fill_offsets(double exponent, int64_t tokens, int32_t offsets[EXPERTS + 1]) {
  double weight[EXPERTS], sum = 0.0;
  for (int32_t e = 0; e < EXPERTS; e++) sum += weight[e] = pow(e + 1, -exponent);
  int64_t left = tokens * CHOICES;
  offsets[0] = 0;
  for (int32_t e = 0; e < EXPERTS; e++) {
    int64_t rows = e == EXPERTS - 1 ? left : (int64_t)((double)left * weight[e] / sum + 0.5);
    if (rows > tokens) rows = tokens;
    offsets[e + 1] = offsets[e] + (int32_t)rows;
    left -= rows;
    sum -= weight[e];
  }
}

static expert_block make_experts(const expert_case *c) {
  int32_t offsets[EXPERTS + 1];
  const int64_t tokens = scaled(TOKENS), rows = tokens * CHOICES, width = scaled(WIDTH), hidden = scaled(HIDDEN);
  const int64_t wide[] = {rows, width}, narrow[] = {rows, hidden}, in[] = {EXPERTS, hidden, width},
                out[] = {EXPERTS, width, hidden};
  fill_offsets(c->exponent, tokens, offsets);
  return (expert_block){.rows = bench_tensor(MG_BF16, 2, wide, 1.0),
                        .gate = bench_tensor(MG_BF16, 3, in, 0.03),
                        .up = bench_tensor(MG_BF16, 3, in, 0.03),
                        .down = bench_tensor(MG_BF16, 3, out, 0.03),
                        .offsets = bench_i32(1, EXPERTS + 1, offsets),
                        .g = bench_tensor(MG_BF16, 2, narrow, 1.0),
                        .u = bench_tensor(MG_BF16, 2, narrow, 1.0),
                        .h = bench_tensor(MG_BF16, 2, narrow, 1.0),
                        .y = bench_tensor(MG_BF16, 2, wide, 1.0),
                        .dense = make_product(rows, 3 * hidden, width)};
}

static bool run_grouped(gbench_state *state, const mg_tensor *x, const mg_tensor *w, const mg_tensor *offsets,
                        mg_tensor *out) {
  mg_op_call call = {.op = MG_OP_GROUPED_MATMUL, .in = {x, w, offsets}, .out = {out}};
  call.attributes.grouped.transpose_w = true;
  call.attributes.grouped.compute = MG_BF16;
  return bench_run(state, &call);
}

static bool work_experts(gbench_state *state, void *user) {
  expert_block *b = user;
  mg_op_call glu = {.op = MG_OP_GLU, .in = {&b->g, &b->u}, .out = {&b->h}};
  glu.attributes.glu.kind = MG_GLU_SILU;
  return run_grouped(state, &b->rows, &b->gate, &b->offsets, &b->g) &&
         run_grouped(state, &b->rows, &b->up, &b->offsets, &b->u) && bench_run(state, &glu) &&
         run_grouped(state, &b->h, &b->down, &b->offsets, &b->y);
}

static bool work_dense(gbench_state *state, void *user) {
  return run_product(state, &((expert_block *)user)->dense);
}

static void run_experts(gbench_state *state, const void *argument) {
  expert_block b = make_experts(argument);
  mg_tensor *const all[] = {&b.rows, &b.gate, &b.up, &b.down, &b.offsets, &b.g, &b.u, &b.h, &b.y};
  const mg_op_call dense = product_call(&b.dense);
  const double flops = mg_op_flops(&dense);
  double seconds, limit_seconds;
  if (bench_by_turns(state, work_experts, work_dense, &b, &seconds, &limit_seconds))
    report(state, "FLOP/s", "limit_FLOP/s", flops, seconds, flops, limit_seconds);
  for (size_t i = 0; i < MG_COUNT(all); i++) bench_release(all[i]);
  release_product(&b.dense);
}

/* ---- gating ------------------------------------------------------------------------------------------------- */

typedef struct gate_block {
  mg_tensor logits, probs, values, ids, sums, weights, demand;
  copy_limit copy;
} gate_block;

static gate_block make_gate(void) {
  const int64_t tokens = scaled(GATE_TOKENS), scores[] = {tokens, GATE_EXPERTS}, chosen[] = {tokens, CHOICES};
  return (gate_block){.logits = bench_tensor(MG_F32, 2, scores, 1.0),
                      .probs = bench_tensor(MG_F32, 2, scores, 1.0),
                      .values = bench_tensor(MG_F32, 2, chosen, 1.0),
                      .ids = bench_ids(tokens, CHOICES, GATE_EXPERTS),
                      .sums = bench_tensor(MG_F32, 2, (int64_t[]){tokens, 1}, 1.0),
                      .weights = bench_tensor(MG_F32, 2, chosen, 1.0),
                      .demand = bench_tensor(MG_F32, 2, (int64_t[]){1, GATE_EXPERTS}, 1.0),
                      .copy = make_copy()};
}

static bool choose_by_parts(gbench_state *state, gate_block *b) {
  const mg_op_call softmax = {.op = MG_OP_SOFTMAX, .in = {&b->logits}, .out = {&b->probs}};
  const mg_op_call top_k = {.op = MG_OP_TOP_K, .in = {&b->probs}, .out = {&b->values, &b->ids}};
  mg_op_call sum = {.op = MG_OP_REDUCE, .in = {&b->values}, .out = {&b->sums}};
  mg_op_call divide = {.op = MG_OP_BINARY, .in = {&b->values, &b->sums}, .out = {&b->weights}};
  sum.attributes.reduce.kind = MG_REDUCE_SUM;
  sum.attributes.reduce.axis = MG_OVER_COLUMNS;
  divide.attributes.binary.kind = MG_BINARY_DIV;
  return bench_run(state, &softmax) && bench_run(state, &top_k) && bench_run(state, &sum) && bench_run(state, &divide);
}

/* The fused primitive where the backend has it; without the scores, which only training asks for, where it can. */
static bool work_gate(gbench_state *state, void *user) {
  gate_block *b = user;
  mg_op_call gate = {.op = MG_OP_GATE, .in = {&b->logits}, .out = {NULL, &b->weights, &b->ids}};
  mg_op_call count = {.op = MG_OP_HISTOGRAM, .in = {&b->ids}, .out = {&b->demand}};
  gate.attributes.gate.score = MG_GATE_SOFTMAX;
  gate.attributes.gate.weight = MG_GATE_SHARES;
  count.attributes.histogram.segments = 1;
  if (!bench_supports(&gate)) gate.out[0] = &b->probs;
  const bool chosen = bench_supports(&gate) ? bench_run(state, &gate) : choose_by_parts(state, b);
  return chosen && bench_run(state, &count);
}

static bool work_gate_copy(gbench_state *state, void *user) {
  return run_copy(state, &((gate_block *)user)->copy);
}

static void run_gate(gbench_state *state, const void *argument) {
  (void)argument;
  gate_block b = make_gate();
  mg_tensor *const all[] = {&b.logits, &b.probs, &b.values, &b.ids, &b.sums, &b.weights, &b.demand};
  double seconds, limit_seconds;
  if (bench_by_turns(state, work_gate, work_gate_copy, &b, &seconds, &limit_seconds))
    report(state, "B/s", "limit_B/s", (double)mg_tensor_bytes(&b.logits), seconds,
           2.0 * (double)mg_tensor_bytes(&b.copy.from), limit_seconds);
  for (size_t i = 0; i < MG_COUNT(all); i++) bench_release(all[i]);
  release_copy(&b.copy);
}

/* ---- dispatch and combine ----------------------------------------------------------------------------------- */

typedef struct move_block {
  mg_tensor x, ids, offsets, slots, position, demand, rows, weights, out;
  copy_limit copy;
} move_block;

static move_block make_move(void) {
  const int64_t tokens = scaled(TOKENS), width = scaled(WIDTH), wide[] = {tokens, width};
  return (move_block){.x = bench_tensor(MG_BF16, 2, wide, 1.0),
                      .ids = bench_ids(tokens, CHOICES, EXPERTS),
                      .offsets = bench_tensor(MG_I32, 1, (int64_t[]){EXPERTS + 1}, 0.0),
                      .slots = bench_tensor(MG_I32, 1, (int64_t[]){tokens * CHOICES}, 0.0),
                      .position = bench_tensor(MG_I32, 2, (int64_t[]){tokens, CHOICES}, 0.0),
                      .demand = bench_tensor(MG_I32, 1, (int64_t[]){EXPERTS}, 0.0),
                      .rows = bench_tensor(MG_BF16, 2, (int64_t[]){tokens * CHOICES, width}, 1.0),
                      .weights = bench_tensor(MG_BF16, 2, (int64_t[]){tokens, CHOICES}, 0.1),
                      .out = bench_tensor(MG_BF16, 2, wide, 1.0),
                      .copy = make_copy()};
}

static mg_op_call dispatch_call(move_block *b) {
  mg_op_call call = {.op = MG_OP_DISPATCH, .in = {&b->x, &b->slots, &b->offsets}, .out = {&b->rows}};
  call.attributes.dispatch.choices = CHOICES;
  return call;
}

static mg_op_call combine_call(move_block *b) {
  mg_op_call call = {.op = MG_OP_COMBINE, .in = {&b->rows, &b->weights, &b->position}, .out = {&b->out}};
  call.attributes.dispatch.choices = CHOICES;
  return call;
}

static bool work_move(gbench_state *state, void *user) {
  const mg_op_call dispatch = dispatch_call(user), combine = combine_call(user);
  return bench_run(state, &dispatch) && bench_run(state, &combine);
}

static bool work_move_copy(gbench_state *state, void *user) {
  return run_copy(state, &((move_block *)user)->copy);
}

static void run_move(gbench_state *state, const void *argument) {
  (void)argument;
  move_block b = make_move();
  mg_tensor *const all[] = {&b.x, &b.ids, &b.offsets, &b.slots, &b.position, &b.demand, &b.rows, &b.weights, &b.out};
  const mg_op_call assign = {.op = MG_OP_ASSIGN, .in = {&b.ids}, .out = {&b.offsets, &b.slots, &b.position, &b.demand}};
  const mg_op_call dispatch = dispatch_call(&b), combine = combine_call(&b);
  double seconds, limit_seconds;
  if (b.ids.data && b.demand.data && !bench_run(state, &assign)) return;
  if (bench_by_turns(state, work_move, work_move_copy, &b, &seconds, &limit_seconds))
    report(state, "B/s", "limit_B/s", mg_op_bytes(&dispatch) + mg_op_bytes(&combine), seconds,
           2.0 * (double)mg_tensor_bytes(&b.copy.from), limit_seconds);
  for (size_t i = 0; i < MG_COUNT(all); i++) bench_release(all[i]);
  release_copy(&b.copy);
}

/* ---- training ----------------------------------------------------------------------------------------------- */

typedef struct step_block {
  bench_trainer *trainer;
  product_limit dense;
} step_block;

static bool work_step(gbench_state *state, void *user) {
  return bench_trainer_step(state, ((step_block *)user)->trainer);
}

static bool work_square(gbench_state *state, void *user) {
  return run_product(state, &((step_block *)user)->dense);
}

static void run_step(gbench_state *state, const void *argument) {
  (void)argument;
  const int32_t width = (int32_t)scaled(1024), heads = width / NARROWEST_HEAD;
  const bench_model model = {.layers = 4,
                             .width = width,
                             .heads = heads > HEADS_MAX ? HEADS_MAX : heads,
                             .vocabulary = (int32_t)scaled(32768),
                             .experts = EXPERTS,
                             .hidden = (int32_t)scaled(512),
                             .choices = CHOICES,
                             .sequences = 8,
                             .length = (int32_t)scaled(1024)};
  const int64_t square = scaled(SQUARE);
  step_block b = {.dense = make_product(square, square, square)};
  const mg_op_call dense = product_call(&b.dense);
  double seconds, limit_seconds;
  b.trainer = bench_trainer_open(state, &model, MG_BF16);
  if (b.trainer && bench_by_turns(state, work_step, work_square, &b, &seconds, &limit_seconds)) {
    report(state, "FLOP/s", "limit_FLOP/s", bench_trainer_flops(b.trainer), seconds, mg_op_flops(&dense),
           limit_seconds);
    gbench_number(state, "tokens/s", (double)(model.sequences * model.length) / seconds);
  }
  if (b.trainer) bench_trainer_close(b.trainer);
  release_product(&b.dense);
}

static void add(const char *name, gbench_function function, const void *argument) {
  gbench_register_rounds(name, function, argument, (int32_t)bench_world_get()->rounds);
}

void bench_register_limit(void) {
  for (size_t i = 0; i < MG_COUNT(expert_cases); i++) add(expert_cases[i].name, run_experts, &expert_cases[i]);
  add("limit/gate/f32", run_gate, NULL);
  add("limit/dispatch_combine/bf16", run_move, NULL);
  add("limit/training_step/bf16", run_step, NULL);
}
