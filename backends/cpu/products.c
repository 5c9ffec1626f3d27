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

/* Words [word, word + words) of one side of a product, and where its rows from `row` on are packed. */
typedef struct depth_range {
  int64_t p, word, words, row;
  uint32_t *packed;
  int32_t side;
} depth_range;

/* The same words of another side of a. */
static depth_range range_of_side(const product_run *run, depth_range range, int32_t side) {
  range.packed += (side - range.side) * run->plans[range.p].a_apart;
  range.side = side;
  return range;
}

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
  const cpu_matrix *a = left_of(&run->plans[range->p], range->side);
  const int64_t depth = run->plans[range->p].product.depth;
  const bool across = !gemm->tiles && !gemm_runs_along(a);
  const int64_t step = across ? STEP : cpu_max(range->words, 1);
  for (int64_t w = 0; w < range->words; w += step)
    for (int64_t block = first; block < end; block++) {
      const int64_t row = block_row(run, range->p, block);
      const int32_t rows = (int32_t)(block_row(run, range->p, block + 1) - row);
      const cpu_words packed = packed_block(run, range, block);
      uint32_t *target = range->packed + (packed.data - range->packed) + w * packed.word;
      gemm_pack_block(gemm, a, row, rows, depth, range->word + w, cpu_min(step, range->words - w), run->round, target);
    }
}

static depth_range whole_depth(const product_run *run, int64_t p, int32_t side) {
  const depth_range range = {p, 0, run->plans[p].words, 0, run->shared + run->plans[p].a_word, 0};
  return range_of_side(run, range, side);
}

/* One group of blocks of a, or of panels of b. */
static void pack_item(const product_run *run, int64_t index) {
  const int64_t p = find_product(run, index, false);
  const product_plan *plan = &run->plans[p];
  const cpu_product *product = &run->plans[p].product;
  int64_t item = index - plan->first_item;
  if (plan->a == PACKED_FOR_ALL) {
    const int64_t groups = cpu_ceil_div(plan->blocks, plan->group);
    if (item < groups * plan->a_sides) {
      const depth_range range = whole_depth(run, p, (int32_t)(item / groups));
      const int64_t first = item % groups * plan->group;
      pack_blocks(run, &range, first, cpu_min(plan->blocks, first + plan->group));
      return;
    }
    item -= groups * plan->a_sides;
  }
  const int64_t width = run->gemm->columns * plan->panel_group, groups = cpu_ceil_div(product->columns, width);
  const int64_t column = item % groups * width;
  const int32_t side = (int32_t)(item / groups);
  stored_pack_panels(run->gemm, right_of(plan, side), column, cpu_min(width, product->columns - column), product->depth,
                     0, plan->words, plan->words, run->round,
                     run->shared + plan->b_word + side * plan->b_apart + column * plan->words);
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

/* `columns` columns of b from `column` on times the few rows. `decoded` has room for DOTS_COLUMNS columns of a stored dtype. */
static void multiply_few(const product_run *run, const cpu_product *product, const cpu_matrix *b, int64_t column,
                         int32_t columns, const float *rows, float *decoded, float sums[DOTS_ROWS][DOTS_COLUMNS]) {
  const bool stored = mg_dtype_is_stored(b->dtype);
  cpu_dots dots = {.x = rows, .stride = product->depth, .depth = product->depth, .dtype = b->dtype, .stream = true};
  dots.rows = (int32_t)product->rows;
  dots.columns = columns;
  dots.w_bytes = (int64_t)mg_dtype_run_bytes(b->dtype, b->row);
  dots.w = (const char *)b->data + column * dots.w_bytes;
  if (stored) {
    stored_read_columns(b, column, columns, product->depth, run->round, decoded);
    dots.dtype = MG_F32;
    dots.w = decoded;
    dots.w_bytes = product->depth * (int64_t)sizeof *decoded;
    dots.stream = false;
  }
  cpu_dots_run(&dots, sums);
}

static void store_few(const product_run *run, const cpu_product *product, void *data, int64_t column, int32_t columns,
                      float sums[DOTS_ROWS][DOTS_COLUMNS]) {
  const mg_tensor c = {.data = data, .dtype = run->settings.c_dtype};
  for (int64_t r = 0; r < product->rows; r++)
    for (int64_t i = 0; i < columns; i++) {
      const int64_t at = r * product->columns + column + i;
      cpu_set(&c, at, run->settings.accumulate ? cpu_at(&c, at) + sums[r][i] : sums[r][i]);
    }
}

/* Columns [column, column + columns) of a product with few rows. */
static void multiply_direct(const product_run *run, const product_plan *plan, int64_t column, int64_t columns,
                            const float *rows, float *decoded) {
  const cpu_product *product = &plan->product;
  for (int64_t n = column; n < column + columns; n += DOTS_COLUMNS) {
    float sums[2][DOTS_ROWS][DOTS_COLUMNS];
    const int32_t here = (int32_t)cpu_min(DOTS_COLUMNS, column + columns - n);
    for (int32_t side = 0; side < plan->b_sides; side++) {
      multiply_few(run, product, right_of(plan, side), n, here, rows, decoded, sums[side]);
      if (product->kept[side]) store_few(run, product, product->kept[side], n, here, sums[side]);
    }
    if (run->settings.gated)
      CPU_NAME(glu_values)(run->settings.activation, sums[0][0], sums[1][0], sums[0][0], product->rows * DOTS_COLUMNS);
    store_few(run, product, product->c, n, here, sums[0]);
  }
}

/* One task of a direct product; `have` is the product whose rows `scratch` holds. */
static void run_direct_task(const product_run *run, int64_t task, float *scratch, int64_t *have) {
  const int64_t p = find_product(run, task, true);
  const product_plan *plan = &run->plans[p];
  const int64_t column = (task - plan->first_task) * plan->columns;
  if (*have != p) read_rows(run, &plan->product, scratch);
  *have = p;
  multiply_direct(run, plan, column, cpu_min(plan->columns, plan->product.columns - column), scratch,
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

/* A block of f32 results: rows [row, row + rows) and columns [column, column + columns) of a product. */
typedef struct result_place {
  int64_t row, column;
  int32_t rows, columns;
} result_place;

/* Adds or copies a block of results to a matrix like c. */
static void store_block(const product_run *run, const product_plan *plan, void *data, const result_place *place,
                        const float *block, bool accumulate) {
  const int64_t columns = place->columns;
  if (plan->across) { /* each row of the block is a column of c */
    const int64_t first = place->column * plan->c_row + place->row;
    char *c = (char *)data + first * (int64_t)mg_dtype_bytes(run->settings.c_dtype);
    run->gemm->store_across(c, run->settings.c_dtype, plan->c_row, block, place->rows, place->columns, accumulate);
    return;
  }
  for (int32_t r = 0; r < place->rows; r++, block += run->gemm->columns) {
    const int64_t first = (place->row + r) * plan->product.columns + place->column;
    if (run->settings.c_dtype == MG_BF16) {
      uint16_t *c = (uint16_t *)data + first;
      run->gemm->store_bf16(c, block, columns, accumulate, run->stream && (uintptr_t)c % LINE_BYTES == 0);
      continue;
    }
    float *c = (float *)data + first;
#pragma omp simd
    for (int64_t i = 0; i < columns; i++) c[i] = accumulate ? c[i] + block[i] : block[i];
  }
}

/* Stores the block of a product, or of a gated one those of both sides where they are wanted, and what is made of them. */
static void store_sides(const product_run *run, const product_plan *plan, const result_place *place, float *block,
                        const float *up, bool accumulate) {
  const int64_t width = run->gemm->columns;
  if (run->settings.gated) {
    if (plan->product.kept[0]) store_block(run, plan, plan->product.kept[0], place, block, false);
    if (plan->product.kept[1]) store_block(run, plan, plan->product.kept[1], place, up, false);
    for (int32_t r = 0; r < place->rows; r++) {
      float *row = block + r * width;
      CPU_NAME(glu_values)(run->settings.activation, row, up + r * width, row, place->columns);
    }
  }
  store_block(run, plan, plan->product.c, place, block, accumulate);
}

/* What a later task will pack, asked for piece by piece while this one computes: `rows` rows of `row_bytes`, `stride`
 * bytes apart, one line of memory of as many rows at a time as a register block has words. */
typedef struct next_read {
  const char *data;
  int64_t rows, row_bytes, stride;
  int64_t row, line; /* what is asked for next */
} next_read;

/* One side of the columns of b of the task that this thread probably runs next. */
static next_read read_of_task(const product_run *run, int64_t task, int32_t side) {
  next_read next = {.data = (const char *)run->thread_scratch};
  if (task >= run->tasks) return next;
  const int64_t p = find_product(run, task, true);
  const cpu_product *product = &run->plans[p].product;
  const product_plan *plan = &run->plans[p];
  if (plan->b != PACKED_BY_TASK || side >= plan->b_sides) return next;
  const cpu_matrix *b = right_of(plan, side);
  const int64_t element = (int64_t)mg_dtype_bytes(b->dtype);
  const int64_t column = (task - plan->first_task) / plan->row_chunks * plan->columns;
  const int64_t columns = cpu_min(plan->columns, product->columns - column);
  if (b->column == 1 && b->row == product->depth) { /* one piece, a line to a row */
    next.data = (const char *)b->data + mg_dtype_run_bytes(b->dtype, column * product->depth);
    next.rows = (int64_t)mg_dtype_run_bytes(b->dtype, columns * product->depth) / LINE_BYTES;
    next.row_bytes = next.stride = LINE_BYTES;
  } else if (b->row == 1 && element) {
    next.data = (const char *)b->data + column * element;
    next.rows = product->depth;
    next.row_bytes = columns * element;
    next.stride = b->column * element;
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
static next_read read_across(const product_run *run, int64_t p, int64_t first, int64_t end, int32_t side) {
  const cpu_matrix *a = left_of(&run->plans[p], side);
  const int64_t row = block_row(run, p, first + 1 < end ? first + 1 : end),
                row_bytes = a->row * (int64_t)sizeof(uint16_t);
  next_read next = {.data = (const char *)a->data + row * row_bytes, .row_bytes = LINE_BYTES, .stride = LINE_BYTES};
  next.rows = (block_row(run, p, end) - row) * row_bytes / LINE_BYTES;
  return next;
}

/* One task over one pass: its columns of b, packed from `b` on, and how its blocks of a are found. What is asked for ahead,
 * for each side: rows of a after the first block of a task across, and columns of b of the next task. */
typedef struct task_pass {
  depth_range range;
  int64_t column, columns;
  const uint32_t *b;
  int64_t panel_words;
  float *results;
  next_read ahead[2], next[2];
} task_pass;

static cpu_words block_words(const product_run *run, const task_pass *pass, int64_t block, int32_t side) {
  const product_plan *plan = &run->plans[pass->range.p];
  const int32_t a_side = plan->a_sides > 1 ? side : 0;
  const depth_range range = range_of_side(run, pass->range, a_side);
  if (plan->a == PACKED_BY_TASK) return packed_block(run, &range, block);
  cpu_words a;
  if (plan->a == AS_STORED) {
    a = gemm_words_as_stored(run->gemm, left_of(plan, a_side), block_row(run, range.p, block));
  } else {
    const depth_range whole = whole_depth(run, range.p, a_side);
    a = packed_block(run, &whole, block);
  }
  a.data += pass->range.word * a.word;
  return a;
}

/* Piece `piece` of a block's results: a panel of columns, or across the last columns as dots. */
static result_place place_of_piece(const product_run *run, const task_pass *pass, int64_t block, int64_t piece) {
  const product_plan *plan = &run->plans[pass->range.p];
  const int64_t row = block_row(run, pass->range.p, block), first = piece * run->gemm->columns;
  result_place place = {.row = row, .rows = (int32_t)(block_row(run, pass->range.p, block + 1) - row)};
  const bool dots = first >= pass->columns;
  place.column = dots ? plan->product.columns - plan->dots : pass->column + first;
  place.columns = (int32_t)(dots ? plan->dots : cpu_min(run->gemm->columns, pass->columns - first));
  return place;
}

/* f32 results of whole lanes, which the register block can write to c itself. */
static bool goes_to_c(const product_run *run, const task_pass *pass, const result_place *place) {
  return run->settings.c_dtype == MG_F32 && !run->settings.gated && !run->plans[pass->range.p].across &&
         place->columns % run->gemm->lanes == 0;
}

static cpu_result result_in_c(const product_run *run, const task_pass *pass, const result_place *place) {
  const cpu_product *product = &run->plans[pass->range.p].product;
  cpu_result c = {(float *)product->c + place->row * product->columns + place->column, product->columns, false, false};
  c.accumulate = run->settings.accumulate || pass->range.word > 0;
  c.stream = run->stream && product->columns % 16 == 0 && (uintptr_t)c.data % LINE_BYTES == 0;
  return c;
}

/* One piece of one side. Across, the first asks for as much of a as the block reads; all others for what the next task
 * packs. */
static void multiply_piece(const product_run *run, task_pass *pass, int64_t piece, int32_t side, const cpu_words *a,
                           const result_place *place, const cpu_result *c) {
  const product_plan *plan = &run->plans[pass->range.p];
  const cpu_gemm *gemm = run->gemm;
  const int64_t words = pass->range.words, first = piece * gemm->columns;
  if (first >= pass->columns) {
    const cpu_words b = gemm_words_as_stored(gemm, &plan->product.b, place->column);
    gemm->dots(place->rows, place->columns, words, a, &b, c->data);
    return;
  }
  int64_t step;
  const char *ask = ask_for_next(plan->across && piece == 0 ? &pass->ahead[side] : &pass->next[side], words, &step);
  const uint32_t *b = pass->b + (plan->b_sides > 1 ? side * plan->b_apart : 0) + first * pass->panel_words;
  gemm->multiply(place->rows, place->columns, words, a, b, gemm->columns, c, ask, step);
}

/* One block of a, which stays in the L1 cache, times the columns of the task. A gated product's sides take turns: panel by
 * panel where they share the block, else one whole side after the other. */
static void multiply_block(const product_run *run, task_pass *pass, int64_t block) {
  const product_plan *plan = &run->plans[pass->range.p];
  const cpu_gemm *gemm = run->gemm;
  const int64_t block_floats = gemm->rows * gemm->columns, sides = run->settings.gated ? 2 : 1;
  const int64_t pieces = cpu_ceil_div(pass->columns, gemm->columns) + (plan->dots > 0);
  const bool apart = plan->a_sides > 1, accumulate = run->settings.accumulate || pass->range.word > 0;
  float *up = pass->results, *gates = pass->results + block_floats;
  for (int64_t i = 0; i < pieces * sides; i++) {
    const int64_t piece = apart ? i % pieces : i / sides;
    const int32_t side = (int32_t)(apart ? i / pieces : i % sides);
    const result_place place = place_of_piece(run, pass, block, piece);
    const cpu_words a = block_words(run, pass, block, side);
    float *gate = apart ? gates + piece * block_floats : gates;
    if (goes_to_c(run, pass, &place)) {
      const cpu_result c = result_in_c(run, pass, &place);
      multiply_piece(run, pass, piece, side, &a, &place, &c);
      continue;
    }
    const cpu_result c = {side ? up : gate, gemm->columns, false, false};
    multiply_piece(run, pass, piece, side, &a, &place, &c);
    if (side == sides - 1) store_sides(run, plan, &place, gate, up, accumulate);
  }
}

/* Blocks [first, end) of one pass. */
static void run_pass(const product_run *run, task_pass *pass, int64_t first, int64_t end, uint32_t *scratch) {
  const int64_t p = pass->range.p;
  const product_plan *plan = &run->plans[p];
  if (plan->b == PACKED_FOR_ALL) {
    pass->panel_words = plan->words;
    pass->b = run->shared + plan->b_word + pass->column * plan->words + pass->range.word * run->gemm->columns;
  } else {
    pass->panel_words = pass->range.words;
    pass->b = scratch;
    for (int32_t side = 0; side < plan->b_sides; side++)
      stored_pack_panels(run->gemm, right_of(plan, side), pass->column, pass->columns, plan->product.depth,
                         pass->range.word, pass->range.words, pass->range.words, run->round,
                         scratch + side * plan->b_apart);
  }
  for (int64_t group = first; group < end; group += plan->group) {
    const int64_t group_end = cpu_min(end, group + plan->group);
    pass->range.row = block_row(run, p, group);
    for (int32_t side = 0; side < plan->a_sides && plan->a == PACKED_BY_TASK; side++) {
      const depth_range range = range_of_side(run, pass->range, side);
      pack_blocks(run, &range, group, group_end);
    }
    for (int64_t block = group; block < group_end; block++) multiply_block(run, pass, block);
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
  task_pass pass = {.column = column,
                    .columns = columns - plan->dots,
                    .results = (float *)(void *)(scratch + run->b_words + run->a_words)};
  for (int32_t side = 0; side < (run->settings.gated ? 2 : 1); side++) {
    pass.next[side] = read_of_task(run, task + run->threads, side);
    if (plan->across) pass.ahead[side] = read_across(run, p, first, end, side);
  }
  int64_t word = 0;
  do { /* once even without depth, which writes zeros */
    pass.range = (depth_range){p, word, cpu_min(plan->pass_words, plan->words - word), 0, scratch + run->b_words, 0};
    run_pass(run, &pass, first, end, scratch);
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
