/* Many matrix products at once, in parallel: the engine below matmul, the grouped products and nothing else.
 *
 * Tasks of (product, columns, rows) run in any order; each multiplies every block of gemm->rows rows of a with every
 * panel of gemm->columns columns of b. A block of a stays in the L1 cache while the panels of b, as many as fit the L2
 * cache, pass. An operand that holds the kernel's words is read where it lies. Any other is packed: by the task when no
 * other task needs the same part, else once for all, before the tasks begin. Products with few rows need no padding: a
 * block has as many rows as there are, and rows are split evenly between blocks. */
#include "products.h"

#include <stdatomic.h>

#include "dots.h"
#include "stored.h"

/* The product that task or packing item `index` belongs to. */
static int64_t find_product(const product_run *run, int64_t index, bool by_task) {
  int64_t low = 0, high = run->count - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    const product_plan *plan = &run->plans[middle];
    if ((by_task ? plan->first_task : plan->first_item) <= index)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

static int64_t block_row(const product_run *run, int64_t p, int64_t block) {
  const product_plan *plan = &run->plans[p];
  const int64_t rows = run->plans[p].product.rows;
  if (run->gemm->tiles) return cpu_min(block * run->gemm->rows, rows);
  return plan->blocks ? rows * block / plan->blocks : 0;
}

/* ---- packing ----------------------------------------------------------------------------------------------- */

/* Words [word, word + words) of one product, and where its rows from `row` on are packed. */
typedef struct depth_range {
  int64_t p, word, words, row;
  uint32_t *packed;
} depth_range;

static cpu_words packed_block(const product_run *run, const depth_range *range, int64_t block) {
  const int64_t row = block_row(run, range->p, block), rows = block_row(run, range->p, block + 1) - row;
  if (!run->gemm->tiles && !gemm_runs_along(&run->plans[range->p].product.a))
    return (cpu_words){range->packed + (row - range->row) * range->words, 1, rows};
  const int64_t stride = gemm_row_stride(range->words);
  return (cpu_words){range->packed + (row - range->row) * stride, stride, 1};
}

/* Blocks [first, end). Where rows lie side by side in memory (a transposed operand), the depth is walked in short steps
 * over all blocks, so that memory is read in longer pieces. */
static void pack_blocks(const product_run *run, const depth_range *range, int64_t first, int64_t end) {
  enum { STEP = 16 };
  const cpu_gemm *gemm = run->gemm;
  const cpu_product *product = &run->plans[range->p].product;
  const bool across = !gemm->tiles && !gemm_runs_along(&product->a);
  const int64_t step = across ? STEP : cpu_max(range->words, 1);
  for (int64_t w = 0; w < range->words; w += step)
    for (int64_t block = first; block < end; block++) {
      const int64_t row = block_row(run, range->p, block);
      const int32_t rows = (int32_t)(block_row(run, range->p, block + 1) - row);
      const cpu_words packed = packed_block(run, range, block);
      uint32_t *target = range->packed + (packed.data - range->packed) + w * packed.word;
      gemm_pack_block(gemm, &product->a, row, rows, product->depth, range->word + w, cpu_min(step, range->words - w),
                      run->round, target);
    }
}

static depth_range whole_depth(const product_run *run, int64_t p) {
  return (depth_range){p, 0, run->plans[p].words, 0, run->shared + run->plans[p].a_word};
}

/* One group of blocks of a, or of panels of b. */
static void pack_item(const product_run *run, int64_t index) {
  const int64_t p = find_product(run, index, false);
  const product_plan *plan = &run->plans[p];
  const cpu_product *product = &run->plans[p].product;
  int64_t item = index - plan->first_item;
  if (plan->a == PACKED_FOR_ALL) {
    const int64_t groups = cpu_ceil_div(plan->blocks, plan->group);
    if (item < groups) {
      const depth_range range = whole_depth(run, p);
      pack_blocks(run, &range, item * plan->group, cpu_min(plan->blocks, (item + 1) * plan->group));
      return;
    }
    item -= groups;
  }
  const int64_t width = run->gemm->columns * plan->panel_group, column = item * width;
  stored_pack_panels(run->gemm, &product->b, column, cpu_min(width, product->columns - column), product->depth, 0,
                     plan->words, plan->words, run->round, run->shared + plan->b_word + column * plan->words);
}

/* ---- few rows ---------------------------------------------------------------------------------------------- */

/* The few rows of a product as f32 [rows, depth], rounded where the product rounds. */
static void read_rows(const product_run *run, const cpu_product *product, float *rows) {
  const bool round = run->settings.compute == MG_BF16 && product->a.dtype == MG_F32;
  const mg_tensor a = {.data = (void *)(uintptr_t)product->a.data, .dtype = product->a.dtype};
  const int64_t depth = product->depth;
  for (int64_t r = 0; r < product->rows; r++, rows += depth) {
    const float *values = cpu_read(&a, r * product->a.row, depth, rows);
#pragma omp simd
    for (int64_t k = 0; k < depth; k++) rows[k] = round ? cpu_bf16_to_f32(cpu_bf16_from_f32(values[k])) : values[k];
  }
}

/* Columns [column, column + columns) of a product with few rows. `decoded` has room for DOTS_COLUMNS of them where b is of a
 * stored dtype. */
static void multiply_direct(const product_run *run, const cpu_product *product, int64_t column, int64_t columns,
                            const float *rows, float *decoded) {
  const bool stored = mg_dtype_is_stored(product->b.dtype);
  const mg_tensor c = {.data = product->c, .dtype = run->settings.c_dtype};
  cpu_dots dots = {.x = rows, .stride = product->depth, .depth = product->depth, .dtype = product->b.dtype};
  dots.rows = (int32_t)product->rows;
  dots.stream = !stored;
  dots.w_bytes = (int64_t)mg_dtype_run_bytes(product->b.dtype, product->b.row);
  if (stored) {
    dots.dtype = MG_F32;
    dots.w = decoded;
    dots.w_bytes = product->depth * (int64_t)sizeof *decoded;
  }
  for (int64_t n = column; n < column + columns; n += DOTS_COLUMNS) {
    float sums[DOTS_ROWS][DOTS_COLUMNS];
    dots.columns = (int32_t)cpu_min(DOTS_COLUMNS, column + columns - n);
    if (stored)
      stored_read_columns(&product->b, n, dots.columns, product->depth, run->round, decoded);
    else
      dots.w = (const char *)product->b.data + n * dots.w_bytes;
    cpu_dots_run(&dots, sums);
    for (int64_t r = 0; r < product->rows; r++)
      for (int64_t i = 0; i < dots.columns; i++) {
        const int64_t at = r * product->columns + n + i;
        cpu_set(&c, at, run->settings.accumulate ? cpu_at(&c, at) + sums[r][i] : sums[r][i]);
      }
  }
}

/* One task of a direct product; `have` is the product whose rows `scratch` holds. */
static void run_direct_task(const product_run *run, int64_t task, float *scratch, int64_t *have) {
  const int64_t p = find_product(run, task, true);
  const product_plan *plan = &run->plans[p];
  const int64_t column = (task - plan->first_task) * plan->columns;
  if (*have != p) read_rows(run, &plan->product, scratch);
  *have = p;
  multiply_direct(run, &plan->product, column, cpu_min(plan->columns, plan->product.columns - column), scratch,
                  scratch + DOTS_ROWS * plan->product.depth);
}

/* Takes the next tasks, a fair share of half of those that are left: at first long runs, which memory is read fastest
 * in, at last single tasks, so that all threads end together. False when none are left. */
static bool claim_tasks(const product_run *run, _Atomic int64_t *next, int64_t *first, int64_t *end) {
  int64_t taken = *next;
  do {
    if (taken >= run->tasks) return false;
    *first = taken;
    *end = taken + cpu_max(1, (run->tasks - taken) / (2 * run->threads));
  } while (!atomic_compare_exchange_weak(next, &taken, *end));
  return true;
}

static void run_direct(const product_run *run, _Atomic int64_t *next, float *scratch) {
  int64_t first, end, have = -1;
  while (claim_tasks(run, next, &first, &end))
    for (int64_t task = first; task < end; task++) run_direct_task(run, task, scratch, &have);
}

/* ---- multiplying ------------------------------------------------------------------------------------------- */

/* Adds or copies a block of f32 results to c. */
static void store_block(const product_run *run, const cpu_product *product, int64_t row, int32_t rows, int64_t column,
                        int64_t columns, const float *block, bool accumulate) {
  for (int32_t r = 0; r < rows; r++, block += run->gemm->columns) {
    const int64_t first = (row + r) * product->columns + column;
    if (run->settings.c_dtype == MG_BF16) {
      uint16_t *c = (uint16_t *)product->c + first;
      run->gemm->store_bf16(c, block, columns, accumulate, run->stream && (uintptr_t)c % LINE_BYTES == 0);
      continue;
    }
    float *c = (float *)product->c + first;
#pragma omp simd
    for (int64_t i = 0; i < columns; i++) c[i] = accumulate ? c[i] + block[i] : block[i];
  }
}

/* What a later task will pack, asked for piece by piece while this one computes: `rows` rows of `row_bytes`, `stride`
 * bytes apart, one line of memory of as many rows at a time as a register block has words. */
typedef struct next_read {
  const char *data;
  int64_t rows, row_bytes, stride;
  int64_t row, line; /* what is asked for next */
} next_read;

/* The columns of b of the task that this thread probably runs next. */
static next_read read_of_task(const product_run *run, int64_t task) {
  next_read next = {.data = (const char *)run->thread_scratch};
  if (task >= run->tasks) return next;
  const int64_t p = find_product(run, task, true);
  const cpu_product *product = &run->plans[p].product;
  const product_plan *plan = &run->plans[p];
  if (plan->b != PACKED_BY_TASK) return next;
  const int64_t element = (int64_t)mg_dtype_bytes(product->b.dtype);
  const int64_t column = (task - plan->first_task) / plan->row_chunks * plan->columns;
  const int64_t columns = cpu_min(plan->columns, product->columns - column);
  if (product->b.column == 1 && product->b.row == product->depth) { /* one piece, a line to a row */
    next.data = (const char *)product->b.data + mg_dtype_run_bytes(product->b.dtype, column * product->depth);
    next.rows = (int64_t)mg_dtype_run_bytes(product->b.dtype, columns * product->depth) / LINE_BYTES;
    next.row_bytes = next.stride = LINE_BYTES;
  } else if (product->b.row == 1 && element) {
    next.data = (const char *)product->b.data + column * element;
    next.rows = product->depth;
    next.row_bytes = columns * element;
    next.stride = product->b.column * element;
  }
  return next;
}

/* Where the next `words` lines are; `step` is 0 when all were asked for. */
static const char *ask_for_next(next_read *next, int64_t words, int64_t *step) {
  *step = next->line < next->row_bytes ? next->stride : 0;
  if (*step == 0) return next->data;
  const char *from = next->data + next->row * next->stride + next->line;
  next->row += words;
  if (next->row >= next->rows) {
    next->row = 0;
    next->line += LINE_BYTES;
  }
  return from;
}

/* The rows of a after the first block of a task across, which reads them where they lie. */
static next_read read_across(const product_run *run, int64_t p, int64_t first, int64_t end) {
  const cpu_matrix *a = &run->plans[p].product.a;
  const int64_t row = block_row(run, p, first + 1 < end ? first + 1 : end),
                row_bytes = a->row * (int64_t)sizeof(uint16_t);
  next_read next = {.data = (const char *)a->data + row * row_bytes, .row_bytes = LINE_BYTES, .stride = LINE_BYTES};
  next.rows = (block_row(run, p, end) - row) * row_bytes / LINE_BYTES;
  return next;
}

/* One task over one pass: its columns of b, packed from `b` on, and how its blocks of a are found. */
typedef struct task_pass {
  depth_range range;
  int64_t column, columns;
  const uint32_t *b;
  int64_t panel_words;
  float *results;
} task_pass;

static cpu_words block_words(const product_run *run, const task_pass *pass, int64_t block) {
  const product_plan *plan = &run->plans[pass->range.p];
  if (plan->a == PACKED_BY_TASK) return packed_block(run, &pass->range, block);
  cpu_words a;
  if (plan->a == AS_STORED) {
    const cpu_matrix *stored = &run->plans[pass->range.p].product.a;
    a = gemm_words_as_stored(run->gemm, stored, block_row(run, pass->range.p, block));
  } else {
    const depth_range whole = whole_depth(run, pass->range.p);
    a = packed_block(run, &whole, block);
  }
  a.data += pass->range.word * a.word;
  return a;
}

/* The last columns of a block across: dots of its rows with rows of b where they lie. */
static void multiply_dots(const product_run *run, const task_pass *pass, int64_t block, const cpu_words *a) {
  const product_plan *plan = &run->plans[pass->range.p];
  const int64_t row = block_row(run, pass->range.p, block), element = run->settings.c_dtype == MG_F32 ? 4 : 2;
  const int32_t rows = (int32_t)(block_row(run, pass->range.p, block + 1) - row), columns = (int32_t)plan->dots;
  const int64_t column = plan->product.columns - columns;
  const cpu_words b = gemm_words_as_stored(run->gemm, &plan->product.b, column);
  run->gemm->dots(rows, columns, pass->range.words, a, &b, pass->results);
  char *c = (char *)plan->product.c + (column * plan->c_row + row) * element;
  run->gemm->store_across(c, run->settings.c_dtype, plan->c_row, pass->results, rows, columns,
                          run->settings.accumulate);
}

/* The same for a product across: each row of results is a column of c. The first panel asks for as much of a as the block
 * reads, the others for what the next task packs. */
static void multiply_across(const product_run *run, const task_pass *pass, int64_t block, next_read *ahead,
                            next_read *next) {
  const int64_t p = pass->range.p, words = pass->range.words;
  const product_plan *plan = &run->plans[p];
  const cpu_gemm *gemm = run->gemm;
  const int64_t row = block_row(run, p, block), element = run->settings.c_dtype == MG_F32 ? 4 : 2;
  const int32_t rows = (int32_t)(block_row(run, p, block + 1) - row);
  const cpu_words a = block_words(run, pass, block);
  const cpu_result results = {pass->results, gemm->columns, false, false};
  for (int64_t first = 0; first < pass->columns; first += gemm->columns) {
    const int32_t here = (int32_t)cpu_min(gemm->columns, pass->columns - first);
    int64_t step;
    const char *ask = ask_for_next(first == 0 ? ahead : next, words, &step);
    gemm->multiply(rows, here, words, &a, pass->b + first * pass->panel_words, gemm->columns, &results, ask, step);
    char *c = (char *)plan->product.c + ((pass->column + first) * plan->c_row + row) * element;
    gemm->store_across(c, run->settings.c_dtype, plan->c_row, pass->results, rows, here, run->settings.accumulate);
  }
  if (plan->dots) multiply_dots(run, pass, block, &a);
}

static void multiply_block(const product_run *run, const task_pass *pass, int64_t block, next_read *next) {
  const int64_t p = pass->range.p, words = pass->range.words;
  const cpu_product *product = &run->plans[p].product;
  const cpu_gemm *gemm = run->gemm;
  const int64_t row = block_row(run, p, block);
  const int32_t rows = (int32_t)(block_row(run, p, block + 1) - row);
  const cpu_words a = block_words(run, pass, block);
  const cpu_result results = {pass->results, gemm->columns, false, false};
  const bool accumulate = run->settings.accumulate || pass->range.word > 0;
  const uint32_t *b = pass->b;
  for (int64_t first = 0; first < pass->columns; first += gemm->columns, b += gemm->columns * pass->panel_words) {
    const int32_t here = (int32_t)cpu_min(gemm->columns, pass->columns - first);
    const int64_t column = pass->column + first;
    int64_t step;
    const char *ask = ask_for_next(next, words, &step);
    if (run->settings.c_dtype == MG_F32 && here % gemm->lanes == 0) {
      cpu_result c = {(float *)product->c + row * product->columns + column, product->columns, accumulate, false};
      c.stream = run->stream && product->columns % 16 == 0 && (uintptr_t)c.data % LINE_BYTES == 0;
      gemm->multiply(rows, here, words, &a, b, gemm->columns, &c, ask, step);
    } else {
      gemm->multiply(rows, here, words, &a, b, gemm->columns, &results, ask, step);
      store_block(run, product, row, rows, column, here, pass->results, accumulate);
    }
  }
}

/* Blocks [first, end) of one pass. */
static void run_pass(const product_run *run, task_pass *pass, int64_t first, int64_t end, uint32_t *scratch,
                     next_read *ahead, next_read *next) {
  const int64_t p = pass->range.p;
  const cpu_product *product = &run->plans[p].product;
  const product_plan *plan = &run->plans[p];
  if (plan->b == PACKED_FOR_ALL) {
    pass->panel_words = plan->words;
    pass->b = run->shared + plan->b_word + pass->column * plan->words + pass->range.word * run->gemm->columns;
  } else {
    pass->panel_words = pass->range.words;
    pass->b = scratch;
    stored_pack_panels(run->gemm, &product->b, pass->column, pass->columns, product->depth, pass->range.word,
                       pass->range.words, pass->range.words, run->round, scratch);
  }
  for (int64_t group = first; group < end; group += plan->group) {
    const int64_t group_end = cpu_min(end, group + plan->group);
    pass->range.row = block_row(run, p, group);
    if (plan->a == PACKED_BY_TASK) pack_blocks(run, &pass->range, group, group_end);
    for (int64_t block = group; block < group_end; block++) {
      if (plan->across)
        multiply_across(run, pass, block, ahead, next);
      else
        multiply_block(run, pass, block, next);
    }
  }
}

static void run_task(const product_run *run, int64_t task, uint32_t *scratch) {
  const int64_t p = find_product(run, task, true);
  const cpu_product *product = &run->plans[p].product;
  const product_plan *plan = &run->plans[p];
  int64_t have = -1;
  if (plan->direct) {
    run_direct_task(run, task, (float *)(void *)scratch, &have);
    return;
  }
  const int64_t local = task - plan->first_task, chunk = local % plan->row_chunks;
  const int64_t column = local / plan->row_chunks * plan->columns;
  const int64_t columns = cpu_min(plan->columns, product->columns - column);
  const int64_t first = chunk * plan->blocks_per_task, end = cpu_min(plan->blocks, first + plan->blocks_per_task);
  next_read ahead = {0}, next = read_of_task(run, task + run->threads);
  if (plan->across) ahead = read_across(run, p, first, end);
  task_pass pass = {.column = column,
                    .columns = columns - plan->dots,
                    .results = (float *)(void *)(scratch + run->b_words + run->a_words)};
  int64_t word = 0;
  do { /* once even without depth, which writes zeros */
    pass.range = (depth_range){p, word, cpu_min(plan->pass_words, plan->words - word), 0, scratch + run->b_words};
    run_pass(run, &pass, first, end, scratch, &ahead, &next);
    word += pass.range.words;
  } while (word < plan->words);
}

static void run_all(const product_run *run) {
  _Atomic int64_t next = 0;
#pragma omp parallel num_threads(run->threads) if (run->threads > 1)
  {
    uint32_t *scratch = run->thread_scratch + (size_t)omp_get_thread_num() * run->thread_words;
    if (run->gemm->enter) run->gemm->enter();
    if (run->items) {
#pragma omp for schedule(dynamic, 1)
      for (int64_t item = 0; item < run->items; item++) pack_item(run, item);
    }
    if (run->direct) {
      run_direct(run, &next, (float *)(void *)scratch);
    } else {
#pragma omp for schedule(dynamic, 1)
      for (int64_t task = 0; task < run->tasks; task++) run_task(run, task, scratch);
    }
    if (run->gemm->leave) run->gemm->leave();
  }
}

mg_status CPU_NAME(multiply)(mg_backend *backend, const cpu_product *products, int64_t count,
                             cpu_product_settings settings) {
  cpu_state *state = cpu_state_of(backend);
  if (count == 0) return MG_OK;
  product_run run = {.products = products, .count = count, .settings = settings};
  run.plans = mg__cpu_grow(backend, &state->plans, (size_t)count * sizeof *run.plans);
  if (!run.plans) return MG_MEMORY;
  CPU_NAME(plan_products)(&run, state);
  if (run.tasks == 0) return MG_OK;
  const size_t words = run.shared_words + (size_t)run.threads * run.thread_words;
  run.shared = mg__cpu_scratch(backend, words * sizeof(uint32_t));
  if (!run.shared) return MG_MEMORY;
  run.thread_scratch = run.shared + run.shared_words;
  run_all(&run);
  return MG_OK;
}
