/* What planning and multiplying of products share: how each product is cut, and where its operands are read.
 *
 * Products with up to DOTS_ROWS rows (dots.h) are direct: b is read in place, row by row. Other products are made of
 * register blocks. A product across exchanges its operands: b is read where it lies, as rows, and a is packed; that pays
 * where a has too few rows for packing b to be worth it. */
#ifndef MG_CPU_PRODUCTS_H
#define MG_CPU_PRODUCTS_H

#include "gemm.h"

typedef enum operand_source { AS_STORED, PACKED_BY_TASK, PACKED_FOR_ALL } operand_source;

/* How one product is cut; made once by plan_product(). */
typedef struct product_plan {
  cpu_product product; /* as it was asked for, or across: with a and b exchanged */
  int64_t c_row;       /* elements between rows of the result as it was asked for */
  int64_t words;       /* depth in padded words */
  int64_t pass_words;  /* depth of one pass */
  int64_t blocks;      /* of rows */
  int64_t columns;     /* per task, a multiple of gemm->columns */
  int64_t column_chunks;
  int64_t blocks_per_task;
  int64_t row_chunks;
  int64_t group;       /* blocks of a that are packed side by side */
  int64_t panel_group; /* panels of b that are packed side by side when they are packed for all tasks */
  int64_t first_task, first_item;
  operand_source a, b;
  size_t a_word, b_word; /* where the parts packed for all begin */
  bool direct;           /* few rows: b is read in place */
  bool across;           /* c^T = b^T a^T is computed, so that b is read where it lies and few rows of a are packed */
  int64_t dots;          /* across: so many last columns would fill too few lanes and are computed as dots */
} product_plan;

typedef struct product_run {
  const cpu_gemm *gemm;
  const cpu_product *products;
  product_plan *plans;
  int64_t count, tasks;
  int32_t threads;
  int64_t items; /* groups of blocks and of panels that are packed for all */
  cpu_product_settings settings;
  bool round;
  bool stream;      /* results are written past the caches */
  bool direct;      /* every product is: each thread then reads long runs of tasks */
  uint32_t *shared; /* what is packed for all */
  size_t shared_words;
  uint32_t *thread_scratch; /* per thread: columns of b, then a group of blocks of a, then one block of results */
  size_t thread_words, b_words, a_words;
} product_run;

/* Fills in run->plans and the sizes of scratch memory; products, plans, count and settings are given. */
void CPU_NAME(plan_products)(product_run *run, const cpu_state *state);

#endif
