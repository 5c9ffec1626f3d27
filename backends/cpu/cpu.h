/* What the files of the cpu backend share: its state, scratch memory, and one kernel table per instruction set.
 *
 * The kernel files are compiled once for each instruction set ("level"); CPU_NAME(x) gives each copy its own symbols.
 * Which table is used is decided once, when the backend opens. */
#ifndef MG_CPU_H
#define MG_CPU_H

#include "moegauge/backend.h"

typedef enum cpu_isa {
  CPU_AUTO,
  CPU_PORTABLE,
  CPU_AVX2,
  CPU_AVX512,
  CPU_AVX512_BF16,
  CPU_AMX,
  CPU_AMX_EMULATED, /* the AMX kernel over tiles in plain C; for tests on machines without AMX */
  CPU_ISA_COUNT
} cpu_isa;

typedef struct cpu_options {
  int64_t threads;
  int64_t isa;
} cpu_options;

/* A matrix in memory: element (i, k) is data[i * row + k * column], in elements of its dtype. */
typedef struct cpu_matrix {
  const void *data;
  mg_dtype dtype;
  int64_t row, column;
} cpu_matrix;

/* An operand as 32-bit words: word w of row r is data[r * row + w * word], and one of the two strides is 1. */
typedef struct cpu_words {
  const uint32_t *data;
  int64_t row, word;
} cpu_words;

/* Where a block of f32 results goes, `stride` floats from row to row. `stream` writes past the caches, which only pays
 * where nobody reads the results soon; data and stride are then multiples of 64 bytes. */
typedef struct cpu_result {
  float *data;
  int64_t stride;
  bool accumulate, stream;
} cpu_result;

/* The register-blocked heart of a matrix product: c [rows, columns] (+)= a b over operands of 32-bit words.
 *
 * A word is one f32, or a pair of bf16 with neighbouring depths. The rows of a may lie anywhere: in the tensor itself
 * where it holds such words, else packed. A panel of b holds, for each depth word, one word per column, side by side.
 * With `tiles` (AMX), rows of a are always packed, with `word` 1, and zeros fill them up to a multiple of 16. */
typedef struct cpu_gemm {
  int32_t rows, columns; /* of the register block */
  int32_t lanes;         /* columns that are computed at once: a panel with fewer left ends at a multiple of these */
  int32_t pack;          /* depths per word: 1 = f32, 2 = bf16 */
  int32_t depth_words;   /* the depth is padded with zeros to a multiple of so many words */
  bool tiles;
  /* Copies `lanes` (at most 32) rows and `words` depth words of a view into dst: word w of lane l goes to
   * dst[w * stride + l]. Lanes from `lanes` to `padded` get zeros. `round` rounds f32 words to bf16 precision. */
  void (*pack_lanes)(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes, int32_t padded,
                     int64_t depth, int64_t depth_end, int64_t words, bool round);
  /* Copies `rows` rows, each in one piece: word w of row r goes to dst[r * stride + w]. Without `tiles` the view must
   * run along the depth. */
  void (*pack_rows)(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t row, int32_t rows, int64_t depth,
                    int64_t depth_end, int64_t words, bool round);
  /* Multiplies `words` depth words of `rows` rows of a and of a panel of b, whose words of one depth are followed by
   * those of the next after `b_word` words. `columns`, rounded up to `lanes`, are written. For each depth word one line
   * of memory that a later product will read is asked for, from `next` on in steps of `next_step` bytes. a and c come by
   * pointer: to copy them onto the stack would wait for all results of the block before to reach memory. */
  void (*multiply)(int32_t rows, int32_t columns, int64_t words, const cpu_words *a, const uint32_t *b, int64_t b_word,
                   const cpu_result *c, const char *next, int64_t next_step);
  /* c (+)= x for one row, rounded to bf16; `stream` as in cpu_result, where c is aligned for it. */
  void (*store_bf16)(uint16_t *c, const float *x, int64_t columns, bool accumulate, bool stream);
  /* c [columns, rows] (+)= the transpose of a block of `rows` rows of results, as many floats apart as the register block
   * has columns; rows of c are `stride` elements apart. NULL = products are never computed across. */
  void (*store_across)(void *c, mg_dtype dtype, int64_t stride, const float *block, int32_t rows, int32_t columns,
                       bool accumulate);
  /* c [rows, columns] = a b^T for words of both that run along the depth, of at least 4 rows and at most `dots_columns`
   * columns; rows of c are as far apart as those of a register block. NULL beside dots_columns = 0. */
  void (*dots)(int32_t rows, int32_t columns, int64_t words, const cpu_words *a, const cpu_words *b, float *c);
  int32_t dots_columns;
  /* Called by each thread before and after its products; NULL = nothing to do. */
  void (*enter)(void);
  void (*leave)(void);
} cpu_gemm;

/* Memory that only grows. */
typedef struct cpu_memory {
  void *aligned;
  size_t bytes;
} cpu_memory;

/* Cosines and sines of rotary positions, kept between calls: row i holds those of position i for all pairs. They stand
 * behind a copy of the frequencies in `memory`. */
typedef struct cpu_angles {
  cpu_memory memory;
  int64_t positions, pairs;
  double scale;
} cpu_angles;

typedef struct cpu_state {
  int32_t threads;
  cpu_isa isa;
  const mg_kernel *kernels;
  const cpu_gemm *gemm_f32;
  const cpu_gemm *gemm_bf16;           /* NULL: bf16 products run on gemm_f32 with rounded operands */
  cpu_memory scratch, plans, products; /* grow in warm-up, freed at close */
  cpu_angles angles;
} cpu_state;

static inline cpu_state *cpu_state_of(const mg_backend *backend) {
  return backend->state;
}

/* At least `bytes` of 64-byte aligned memory, valid until the next call. NULL after mg_fail when memory runs out. */
void *mg__cpu_scratch(mg_backend *backend, size_t bytes);
/* The same in a memory of its own. */
void *mg__cpu_grow(mg_backend *backend, cpu_memory *memory, size_t bytes);

/* The best instruction set of this machine, and whether one in particular can run here. */
cpu_isa mg__cpu_best_isa(void);
bool mg__cpu_can_run(cpu_isa isa);

/* c [rows, columns] (+)= a [rows, depth] b [depth, columns]; `a` is seen as (row, depth), `b` as (column, depth). */
typedef struct cpu_product {
  cpu_matrix a, b;
  void *c;
  int64_t rows, columns, depth;
} cpu_product;

typedef struct cpu_product_settings {
  mg_dtype c_dtype;
  bool accumulate;
  mg_dtype compute;
} cpu_product_settings;

#define CPU_DECLARE_LEVEL(level)                                                                                       \
  extern const mg_kernel mg__cpu_kernels_##level[MG_OP_COUNT];                                                         \
  extern const cpu_gemm mg__cpu_gemm_f32_##level;
CPU_DECLARE_LEVEL(portable)
extern const cpu_gemm mg__cpu_gemm_bf16_amx_emulated;
#if defined(__x86_64__)
CPU_DECLARE_LEVEL(avx2)
CPU_DECLARE_LEVEL(avx512)
extern const cpu_gemm mg__cpu_gemm_bf16_avx512_bf16;
extern const cpu_gemm mg__cpu_gemm_bf16_amx;
#endif
#undef CPU_DECLARE_LEVEL

#endif
