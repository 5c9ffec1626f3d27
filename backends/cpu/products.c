/* Many matrix products at once, in parallel: the engine below matmul, the grouped products and nothing else.
 *
 * First all rows of the a operands are packed into blocks of gemm->rows rows; then tasks of (product, columns, rows)
 * run in any order: each packs its columns of b, as many as fit the L2 cache, and multiplies every block with every
 * panel. A block of a stays in the L1 cache while the panels of b pass. Products with few rows need no padding: a block
 * has as many rows as there are, and rows are split evenly between blocks. */
#include "gemm.h"

enum {
  B_WORDS = 64 * 1024, /* packed words of b per task: 256 KiB; with as much of the next task, it fits 1 MiB of L2 */
  DEPTH_WORDS = 1024,  /* depth of one pass over an f32 result; a bf16 result takes the whole depth in one pass */
  TASKS_PER_THREAD = 6,
  BLOCK_GROUP = 8,   /* blocks of a that are packed side by side */
  DIRECT_ROWS = 4,   /* up to so many rows read b in place: packing it would take longer than multiplying */
  ROW_BLOCKS_MIN = 4 /* in a task that shares its columns with others: below this, packing b again is not paid back */
};

/* How one product is cut; made once by plan(). */
typedef struct product_plan {
  int64_t words;      /* depth in padded words */
  int64_t pass_words; /* depth of one pass */
  int64_t blocks;     /* of rows */
  int64_t columns;    /* per task, a multiple of gemm->columns */
  int64_t column_chunks;
  int64_t blocks_per_task;
  int64_t row_chunks;
  int64_t first_block, first_task;
  size_t first_word; /* of the packed a */
  bool direct;       /* few rows: b is read in place */
} product_plan;

typedef struct product_run {
  const cpu_gemm *gemm;
  const cpu_product *products;
  product_plan *plans;
  int64_t count, blocks, tasks;
  cpu_product_settings settings;
  uint32_t *a; /* packed blocks of all products */
  size_t a_words;
  uint32_t *thread_scratch; /* per thread: columns of b, then one block of results */
  size_t thread_words, b_words;
} product_run;

static const cpu_gemm *choose_gemm(const cpu_state *state, mg_dtype a, mg_dtype b, mg_dtype compute) {
  const bool exact = a == MG_BF16 && b == MG_BF16; /* products of bf16 are exact in f32 */
  return state->gemm_bf16 && (compute == MG_BF16 || exact) ? state->gemm_bf16 : state->gemm_f32;
}

/* Both operands must run along the depth, and b must need no rounding. */
static bool is_direct(const product_run *run, const cpu_product *product) {
  const bool along = product->a.column == 1 && product->b.column == 1;
  return along && product->rows <= DIRECT_ROWS && (product->b.dtype == MG_BF16 || run->settings.compute != MG_BF16);
}

static void plan_product(product_run *run, int64_t p) {
  const cpu_product *product = &run->products[p];
  const cpu_gemm *gemm = run->gemm;
  product_plan *plan = &run->plans[p];
  plan->words = gemm_words(gemm, product->depth);
  plan->pass_words = plan->words;
  if (run->settings.c_dtype == MG_F32 && plan->words > DEPTH_WORDS) {
    const int64_t passes = cpu_ceil_div(plan->words, DEPTH_WORDS);
    plan->pass_words = cpu_round_up(cpu_ceil_div(plan->words, passes), 16);
  }
  const int64_t fit = B_WORDS / cpu_max(plan->pass_words, 1) / gemm->columns * gemm->columns;
  const int64_t wanted = cpu_round_up(cpu_max(product->columns, 1), gemm->columns);
  plan->columns = cpu_min(wanted, cpu_min(512, cpu_max(gemm->columns, fit)));
  plan->column_chunks = product->rows ? cpu_ceil_div(product->columns, plan->columns) : 0;
  plan->blocks = cpu_ceil_div(product->rows, gemm->rows);
  plan->blocks_per_task = plan->blocks;
  plan->row_chunks = 1;
  plan->direct = is_direct(run, product);
}

/* Splits rows too when there are too few columns to keep all threads busy. */
static void split_rows(product_run *run, int32_t threads) {
  int64_t tasks = 0;
  for (int64_t p = 0; p < run->count; p++) tasks += run->plans[p].column_chunks;
  const int64_t wanted = threads == 1 ? 1 : threads * TASKS_PER_THREAD;
  const int64_t pieces = tasks ? cpu_ceil_div(wanted, tasks) : 1;
  int64_t task = 0, block = 0;
  size_t word = 0, b_words = 0;
  for (int64_t p = 0; p < run->count; p++) {
    product_plan *plan = &run->plans[p];
    plan->blocks_per_task = cpu_max(cpu_ceil_div(plan->blocks, pieces), ROW_BLOCKS_MIN);
    plan->row_chunks = cpu_ceil_div(plan->blocks, plan->blocks_per_task);
    plan->first_block = block;
    plan->first_task = task;
    plan->first_word = word;
    block += plan->blocks;
    task += plan->column_chunks * plan->row_chunks;
    word += (size_t)gemm_block_words(run->gemm, run->products[p].rows, plan->words);
    const size_t direct = plan->direct ? (size_t)(DIRECT_ROWS * run->products[p].depth) : 0;
    size_t here = (size_t)(plan->columns * plan->pass_words);
    if (direct > here) here = direct;
    if (here > b_words) b_words = here;
  }
  run->blocks = block;
  run->tasks = task;
  run->a_words = (word + 15) / 16 * 16;
  run->b_words = (b_words + 15) / 16 * 16;
}

/* The product that block or task `index` belongs to; `first` picks which numbering. */
static int64_t find_product(const product_run *run, int64_t index, bool by_task) {
  int64_t low = 0, high = run->count - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    const product_plan *plan = &run->plans[middle];
    if ((by_task ? plan->first_task : plan->first_block) <= index)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

static int64_t block_row(const product_run *run, int64_t p, int64_t block) {
  const product_plan *plan = &run->plans[p];
  const int64_t rows = run->products[p].rows;
  if (run->gemm->tiles) return cpu_min(block * run->gemm->rows, rows);
  return plan->blocks ? rows * block / plan->blocks : 0;
}

typedef struct row_block {
  const cpu_matrix *a;
  int64_t row, depth, words;
  int32_t rows;
  uint32_t *packed;
} row_block;

static row_block find_block(const product_run *run, int64_t index) {
  const int64_t p = find_product(run, index, false);
  const product_plan *plan = &run->plans[p];
  const cpu_product *product = &run->products[p];
  const int64_t block = index - plan->first_block, row = block_row(run, p, block);
  return (row_block){&product->a,
                     row,
                     product->depth,
                     plan->words,
                     (int32_t)(block_row(run, p, block + 1) - row),
                     run->a + plan->first_word + row * plan->words};
}

/* Blocks [first, end), at most BLOCK_GROUP. Where rows lie side by side in memory (a transposed operand), the depth is
 * walked in short steps over all blocks, so that memory is read in longer pieces. */
static void pack_blocks(const product_run *run, int64_t first, int64_t end) {
  enum { STEP = 16 };
  const cpu_gemm *gemm = run->gemm;
  const bool round = run->settings.compute == MG_BF16;
  row_block block[BLOCK_GROUP];
  int64_t longest = 0;
  for (int64_t i = first; i < end; i++) {
    block[i - first] = find_block(run, i);
    longest = cpu_max(longest, block[i - first].words);
  }
  const bool across = !gemm->tiles && block[0].a->row == 1 && block[0].a->column != 1;
  const int64_t step = across ? STEP : cpu_max(longest, 1);
  for (int64_t w = 0; w < longest; w += step)
    for (const row_block *b = block; b < block + (end - first); b++) {
      if (w >= b->words) continue;
      if (across)
        gemm->pack_lanes(b->packed + w * b->rows, b->rows, b->a, b->row, b->rows, b->rows, w * gemm->pack, b->depth,
                         cpu_min(STEP, b->words - w), round);
      else
        gemm_pack_block(gemm, b->a, b->row, b->rows, b->depth, b->words, round, b->packed);
    }
}

/* Adds or copies a block of f32 results to c. */
static void store_block(const product_run *run, const cpu_product *product, int64_t row, int32_t rows, int64_t column,
                        int64_t columns, const float *block, bool accumulate) {
  for (int32_t r = 0; r < rows; r++, block += run->gemm->columns) {
    const int64_t first = (row + r) * product->columns + column;
    if (run->settings.c_dtype == MG_F32) {
      float *c = (float *)product->c + first;
#pragma omp simd
      for (int64_t i = 0; i < columns; i++) c[i] = accumulate ? c[i] + block[i] : block[i];
    } else {
      uint16_t *c = (uint16_t *)product->c + first;
#pragma omp simd
      for (int64_t i = 0; i < columns; i++)
        c[i] = cpu_bf16_from_f32(accumulate ? cpu_bf16_to_f32(c[i]) + block[i] : block[i]);
    }
  }
}

/* What a later task will pack, asked for piece by piece while this one computes. */
typedef struct next_read {
  const char *data;
  int64_t bytes; /* per register block */
} next_read;

/* The columns of b of the task that this thread probably runs next, if they are one piece of memory. */
static next_read read_of_task(const product_run *run, int64_t task, int64_t pieces) {
  if (task >= run->tasks || pieces == 0) return (next_read){(const char *)run->a, 0};
  const int64_t p = find_product(run, task, true);
  const cpu_product *product = &run->products[p];
  const product_plan *plan = &run->plans[p];
  if (product->b.row != product->depth || product->b.column != 1) return (next_read){(const char *)run->a, 0};
  const int64_t element = product->b.dtype == MG_F32 ? 4 : 2;
  const int64_t column = (task - plan->first_task) / plan->row_chunks * plan->columns;
  const int64_t columns = cpu_min(plan->columns, product->columns - column);
  return (next_read){(const char *)product->b.data + column * product->depth * element,
                     columns * product->depth * element / pieces};
}

static void multiply_block(const product_run *run, int64_t p, int64_t block, int64_t column, int64_t columns,
                           int64_t word, int64_t words, const uint32_t *b, float *results, next_read *next) {
  const cpu_product *product = &run->products[p];
  const product_plan *plan = &run->plans[p];
  const cpu_gemm *gemm = run->gemm;
  const int64_t row = block_row(run, p, block);
  const int32_t rows = (int32_t)(block_row(run, p, block + 1) - row);
  const uint32_t *a = run->a + plan->first_word + row * plan->words + word * (gemm->tiles ? 16 : rows);
  const bool accumulate = run->settings.accumulate || word > 0;
  for (int64_t first = 0; first < columns; first += gemm->columns, b += gemm->columns * words) {
    const int64_t here = cpu_min(gemm->columns, columns - first);
    if (run->settings.c_dtype == MG_F32 && here == gemm->columns) {
      float *c = (float *)product->c + row * product->columns + column + first;
      gemm->multiply(rows, words, plan->words, a, b, c, product->columns, accumulate, next->data, next->bytes);
    } else {
      gemm->multiply(rows, words, plan->words, a, b, results, gemm->columns, false, next->data, next->bytes);
      store_block(run, product, row, rows, column + first, here, results, accumulate);
    }
    next->data += next->bytes;
  }
}

/* x . w for f32 x and w of either dtype. */
static float dot_in_place(const float *x, const cpu_matrix *w, int64_t column, int64_t depth) {
  float sum = 0.0f;
  if (w->dtype == MG_F32) {
    const float *values = (const float *)w->data + column * w->row;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < depth; k++) sum += x[k] * values[k];
  } else {
    const uint16_t *values = (const uint16_t *)w->data + column * w->row;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < depth; k++) sum += x[k] * cpu_bf16_to_f32(values[k]);
  }
  return sum;
}

/* Columns [column, column + columns) of a product with few rows, which are first converted into `rows`. */
static void multiply_direct(const product_run *run, const cpu_product *product, int64_t column, int64_t columns,
                            float *rows) {
  const bool round = run->settings.compute == MG_BF16 && product->a.dtype == MG_F32;
  const int64_t depth = product->depth;
  for (int64_t r = 0; r < product->rows; r++) {
    const mg_tensor a = {.data = (void *)(uintptr_t)product->a.data, .dtype = product->a.dtype};
    const float *values = cpu_read(&a, r * product->a.row, depth, rows + r * depth);
    for (int64_t k = 0; k < depth; k++)
      rows[r * depth + k] = round ? cpu_bf16_to_f32(cpu_bf16_from_f32(values[k])) : values[k];
  }
  for (int64_t n = column; n < column + columns; n++)
    for (int64_t r = 0; r < product->rows; r++) {
      const float sum = dot_in_place(rows + r * depth, &product->b, n, depth);
      const mg_tensor c = {.data = product->c, .dtype = run->settings.c_dtype};
      const int64_t at = r * product->columns + n;
      cpu_set(&c, at, run->settings.accumulate ? cpu_at(&c, at) + sum : sum);
    }
}

static void run_task(const product_run *run, int64_t task, int32_t threads, uint32_t *scratch) {
  const int64_t p = find_product(run, task, true);
  const cpu_product *product = &run->products[p];
  const product_plan *plan = &run->plans[p];
  const int64_t local = task - plan->first_task;
  const int64_t column = local / plan->row_chunks * plan->columns, chunk = local % plan->row_chunks;
  const int64_t columns = cpu_min(plan->columns, product->columns - column);
  const int64_t block_end = cpu_min(plan->blocks, (chunk + 1) * plan->blocks_per_task);
  if (plan->direct) {
    multiply_direct(run, product, column, columns, (float *)(void *)scratch);
    return;
  }
  float *results = (float *)(void *)(scratch + run->b_words);
  const int64_t passes = cpu_max(1, cpu_ceil_div(plan->words, cpu_max(plan->pass_words, 1)));
  const int64_t panels = cpu_ceil_div(columns, run->gemm->columns);
  next_read next = read_of_task(run, task + threads, (block_end - chunk * plan->blocks_per_task) * panels * passes);
  int64_t word = 0;
  do { /* once even without depth, which writes zeros */
    const int64_t words = cpu_min(plan->pass_words, plan->words - word);
    gemm_pack_panels(run->gemm, &product->b, column, columns, product->depth, word, words,
                     run->settings.compute == MG_BF16, scratch);
    for (int64_t block = chunk * plan->blocks_per_task; block < block_end; block++)
      multiply_block(run, p, block, column, columns, word, words, scratch, results, &next);
    word += words;
  } while (word < plan->words);
}

static void run_all(const product_run *run, int32_t threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    uint32_t *scratch = run->thread_scratch + (size_t)omp_get_thread_num() * run->thread_words;
    if (run->gemm->enter) run->gemm->enter();
#pragma omp for schedule(static)
    for (int64_t block = 0; block < run->blocks; block += BLOCK_GROUP)
      pack_blocks(run, block, cpu_min(run->blocks, block + BLOCK_GROUP));
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < run->tasks; task++) run_task(run, task, threads, scratch);
    if (run->gemm->leave) run->gemm->leave();
  }
}

mg_status CPU_NAME(multiply)(mg_backend *backend, const cpu_product *products, int64_t count,
                             cpu_product_settings settings) {
  cpu_state *state = cpu_state_of(backend);
  if (count == 0) return MG_OK;
  product_run run = {.products = products, .count = count, .settings = settings};
  run.gemm = choose_gemm(state, products->a.dtype, products->b.dtype, settings.compute);
  run.plans = mg__cpu_grow(backend, &state->plans, (size_t)count * sizeof *run.plans);
  if (!run.plans) return MG_MEMORY;
  double work = 0;
  for (int64_t p = 0; p < count; p++) {
    plan_product(&run, p);
    work += (double)products[p].rows * (double)products[p].columns * (double)(products[p].depth + 16);
  }
  const int32_t threads = CPU_WORTH_THREADS(work, 1e5) ? state->threads : 1;
  split_rows(&run, threads);
  if (run.tasks == 0) return MG_OK;
  run.thread_words = run.b_words + (size_t)(run.gemm->rows * run.gemm->columns) + 16;
  run.a = mg__cpu_scratch(backend, (run.a_words + (size_t)threads * run.thread_words) * sizeof(uint32_t));
  if (!run.a) return MG_MEMORY;
  run.thread_scratch = run.a + run.a_words;
  run_all(&run, threads);
  return MG_OK;
}
