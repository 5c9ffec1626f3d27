/* How a list of products is cut into tasks, and where each operand is read; products.h explains the choices. */
#include "dots.h"
#include "products.h"

enum {
  B_WORDS = 64 * 1024, /* packed words of b per task: 256 KiB; with as much of the next task, it fits 1 MiB of L2 */
  COLUMNS_MAX = 1024,  /* per task */
  DEPTH_WORDS = 1024,  /* most depth of one pass over an f32 result; a bf16 result takes the whole depth in one pass */
  DEPTH_WORDS_MIN = 256,
  TASKS_PER_THREAD = 6,
  GROUP_WORDS = 32 * 1024, /* of the blocks of a that a task packs side by side */
  BLOCK_GROUP = 8,         /* most blocks of a that are packed side by side */
  PANEL_GROUP = 4,         /* most panels of b that are packed side by side when they are packed for all tasks */
  PACKING_ROWS = 9,
  ACROSS_WORDS = 2 * B_WORDS, /* most packed rows of a product across */
  DIRECT_BYTES = 32 << 10,    /* of b that a task with few rows reads in place */
  ROW_BLOCKS_MIN = 2,         /* blocks of rows in a task that shares its columns with others, where there are many */
  STREAM_BYTES = 32 << 20,    /* results of so many bytes leave the caches before anybody reads them */
  SET_BYTES = 4096            /* rows so far apart in memory fall into the same sets of the L1 cache */
};

static const cpu_gemm *choose_gemm(const cpu_state *state, mg_dtype a, mg_dtype b, mg_dtype compute) {
  const bool exact = a == MG_BF16 && b == MG_BF16; /* products of bf16 are exact in f32 */
  return state->gemm_bf16 && (compute == MG_BF16 || exact) ? state->gemm_bf16 : state->gemm_f32;
}

/* Few rows read b in place: packing it would take longer than multiplying. Both operands must run along the depth, and b
 * must need no rounding, but where it is decoded anyway. */
static bool is_direct(const product_run *run, const cpu_product *product) {
  const bool along = product->a.column == 1 && product->b.column == 1;
  const bool as_it_is = product->b.dtype == MG_BF16 || run->settings.compute != MG_BF16;
  return along && product->rows <= DOTS_ROWS && (as_it_is || mg_dtype_is_stored(product->b.dtype));
}

/* Rows of a that meet in the L1 cache must not fall into the same sets. */
static bool reads_a_as_stored(const product_run *run, const cpu_product *product) {
  const cpu_matrix *a = &product->a;
  const int64_t apart = (a->column == 1 ? a->row : a->column) * (a->dtype == MG_F32 ? 4 : 2);
  return gemm_holds_words(run->gemm, a, product->depth, run->round) && apart % SET_BYTES != 0;
}

/* Rows of a, beyond whole lanes, that are cheaper as dots than as lanes of which most are empty. */
static int64_t rows_as_dots(const product_run *run, const cpu_product *product) {
  const cpu_gemm *gemm = run->gemm;
  const int64_t rest = product->rows % gemm->lanes;
  const bool apt = rest <= gemm->dots_columns && gemm_runs_along(&product->a);
  return apt && gemm_holds_words(gemm, &product->a, product->depth, run->round) ? rest : 0;
}

/* Packing a column of b takes as long as multiplying PACKING_ROWS rows with it. Across, rows of a are packed instead, and
 * filled up to whole lanes. */
static bool is_across(const product_run *run, const cpu_product *product) {
  const cpu_gemm *gemm = run->gemm;
  const int64_t words = gemm_words(gemm, product->depth), dots = rows_as_dots(run, product);
  const int64_t filled = dots ? product->rows : cpu_round_up(product->rows, gemm->lanes);
  return gemm->store_across && gemm_holds_words(gemm, &product->b, product->depth, run->round) &&
         filled * words <= ACROSS_WORDS &&
         PACKING_ROWS * (product->columns - product->rows) > (filled - product->rows) * product->columns;
}

/* The depth of one pass: with few columns it is short enough for all of them to be packed at once. */
static int64_t pass_words(const product_run *run, int64_t words, int64_t columns) {
  const int64_t fit = B_WORDS / columns;
  const int64_t most = fit >= DEPTH_WORDS_MIN ? cpu_min(DEPTH_WORDS, fit) : DEPTH_WORDS;
  if (run->settings.c_dtype != MG_F32 || words <= most) return words;
  return cpu_round_up(cpu_ceil_div(words, cpu_ceil_div(words, most)), 16);
}

static void cut_columns(const cpu_gemm *gemm, product_plan *plan, int64_t most) {
  const int64_t wanted = cpu_round_up(cpu_max(plan->product.columns, 1), gemm->columns);
  plan->columns = cpu_min(wanted, cpu_max(gemm->columns, most / gemm->columns * gemm->columns));
  plan->column_chunks = plan->product.rows ? cpu_ceil_div(plan->product.columns, plan->columns) : 0;
}

static void plan_product(product_run *run, int64_t p) {
  const cpu_gemm *gemm = run->gemm;
  product_plan *plan = &run->plans[p];
  const cpu_product asked = run->products[p];
  *plan = (product_plan){.product = asked, .c_row = asked.columns, .words = gemm_words(gemm, asked.depth)};
  plan->direct = is_direct(run, &asked);
  plan->across = !plan->direct && is_across(run, &asked);
  if (plan->across) plan->dots = rows_as_dots(run, &asked);
  if (plan->across) plan->product = (cpu_product){asked.b, asked.a, asked.c, asked.columns, asked.rows, asked.depth};
  const cpu_product *product = &plan->product;
  const int64_t wanted = cpu_round_up(cpu_max(product->columns, 1), gemm->columns);
  plan->row_chunks = 1;
  plan->pass_words = plan->across ? plan->words : pass_words(run, plan->words, wanted);
  const int64_t packed = (plan->across ? ACROSS_WORDS : B_WORDS) / cpu_max(plan->pass_words, 1);
  cut_columns(gemm, plan, cpu_min(COLUMNS_MAX, packed));
  plan->blocks = cpu_ceil_div(product->rows, gemm->rows);
  plan->blocks_per_task = plan->blocks;
  plan->group = cpu_max(1, cpu_min(BLOCK_GROUP, GROUP_WORDS / cpu_max(1, plan->pass_words * gemm->rows)));
  if (!plan->direct) return;
  plan->columns = cpu_max(1, DIRECT_BYTES / cpu_max(1, (int64_t)mg_dtype_run_bytes(product->b.dtype, product->depth)));
  plan->column_chunks = product->rows ? cpu_ceil_div(product->columns, plan->columns) : 0;
}

/* Multiply-adds, and as much as sixteen of them for the rest of each result. */
static double product_work(const cpu_product *product) {
  return (double)product->rows * (double)product->columns * (double)(product->depth + 16);
}

/* Splits the rows of products that hold much of the work, so that all threads stay busy. Of products across, which need
 * no more packing when they are split, the last ones are split finer, so that all threads end together. */
static void split_rows(product_run *run, double work) {
  double left = work;
  for (int64_t p = 0; run->threads > 1 && work > 0 && p < run->count; p++) {
    const cpu_product *product = &run->plans[p].product;
    product_plan *plan = &run->plans[p];
    const double share = product_work(product) / (plan->across && left > 0 ? left : work);
    const int64_t tasks = (int64_t)(share * run->threads * TASKS_PER_THREAD + 0.01);
    const int64_t pieces = cpu_ceil_div(cpu_max(tasks, 1), cpu_max(plan->column_chunks, 1));
    const int64_t many = 4 * run->threads * ROW_BLOCKS_MIN; /* with fewer, an odd task leaves a thread idle for long */
    const int64_t least = plan->blocks * plan->column_chunks < many ? 1 : ROW_BLOCKS_MIN;
    plan->blocks_per_task = cpu_max(cpu_ceil_div(plan->blocks, pieces), least);
    plan->row_chunks = cpu_max(1, cpu_ceil_div(plan->blocks, plan->blocks_per_task));
    left -= product_work(product);
  }
}

/* Where the operands are read, and the memory that takes. */
static void place_operands(product_run *run, int64_t p) {
  const cpu_product *product = &run->plans[p].product;
  const cpu_gemm *gemm = run->gemm;
  product_plan *plan = &run->plans[p];
  plan->a = plan->column_chunks > 1 ? PACKED_FOR_ALL : PACKED_BY_TASK;
  if (reads_a_as_stored(run, product)) plan->a = AS_STORED;
  plan->b = plan->row_chunks > 1 ? PACKED_FOR_ALL : PACKED_BY_TASK;
  if (plan->direct || plan->column_chunks == 0) plan->a = plan->b = AS_STORED;
  plan->a_word = run->shared_words;
  if (plan->a == PACKED_FOR_ALL) run->shared_words += (size_t)gemm_rows_words(gemm, product->rows, plan->words);
  plan->b_word = run->shared_words = (run->shared_words + 15) / 16 * 16;
  const int64_t panels = cpu_ceil_div(product->columns, gemm->columns);
  if (plan->b == PACKED_FOR_ALL) run->shared_words += (size_t)(panels * gemm->columns * plan->words);
  plan->first_item = run->items;
  if (plan->a == PACKED_FOR_ALL) run->items += cpu_ceil_div(plan->blocks, plan->group);
  plan->panel_group = cpu_max(1, cpu_min(PANEL_GROUP, panels / run->threads));
  if (plan->b == PACKED_FOR_ALL) run->items += cpu_ceil_div(panels, plan->panel_group);
  plan->first_task = run->tasks;
  run->tasks += plan->column_chunks * plan->row_chunks;

  size_t b = plan->b == PACKED_BY_TASK ? (size_t)(plan->columns * plan->pass_words) : 0;
  if (plan->direct) b = (size_t)(DOTS_ROWS * product->depth);
  if (plan->direct && mg_dtype_is_stored(product->b.dtype)) b += (size_t)(DOTS_COLUMNS * product->depth);
  const size_t a =
      plan->a == PACKED_BY_TASK ? (size_t)gemm_rows_words(gemm, plan->group * gemm->rows, plan->pass_words) : 0;
  if (b > run->b_words) run->b_words = b;
  if (a > run->a_words) run->a_words = a;
}

/* Whether the results are too many to stay in the caches, and each is written once. */
static bool is_streamed(const product_run *run) {
  double bytes = 0;
  for (int64_t p = 0; p < run->count; p++) {
    if (run->plans[p].pass_words < run->plans[p].words) return false;
    bytes += (double)run->products[p].rows * (double)run->products[p].columns;
  }
  bytes *= run->settings.c_dtype == MG_F32 ? 4 : 2;
  return !run->settings.accumulate && bytes >= STREAM_BYTES;
}

void CPU_NAME(plan_products)(product_run *run, const cpu_state *state) {
  double work = 0;
  run->gemm = choose_gemm(state, run->products->a.dtype, run->products->b.dtype, run->settings.compute);
  run->round = run->settings.compute == MG_BF16;
  for (int64_t p = 0; p < run->count; p++) work += product_work(&run->products[p]);
  run->direct = true;
  for (int64_t p = 0; p < run->count; p++) {
    plan_product(run, p);
    run->direct &= run->plans[p].direct || run->products[p].rows == 0;
  }
  const double least = run->direct ? 5e4 : 1e5; /* reading a matrix once takes longer than multiplying */
  run->threads = CPU_WORTH_THREADS(work, least) ? state->threads : 1;
  split_rows(run, work);
  for (int64_t p = 0; p < run->count; p++) place_operands(run, p);
  run->shared_words = (run->shared_words + 15) / 16 * 16;
  run->a_words = (run->a_words + 15) / 16 * 16;
  run->b_words = (run->b_words + 15) / 16 * 16;
  run->thread_words = run->b_words + run->a_words + (size_t)(run->gemm->rows * run->gemm->columns) + 16;
  run->stream = is_streamed(run);
}
