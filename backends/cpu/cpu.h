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

/* The register-blocked heart of a matrix product: c [rows, columns] (+)= a b over packed operands.
 *
 * Packed operands are 32-bit words: one f32, or a pair of bf16 with neighbouring depths. A block of a holds, for each
 * depth word, one word per row; a panel of b holds, for each depth word, one word per column, padded to `columns`.
 * With `tiles`, a block of a is instead a sequence of AMX tiles: 16 rows of 16 words. */
typedef struct cpu_gemm {
  int32_t rows, columns; /* of the register block */
  int32_t pack;          /* depths per word: 1 = f32, 2 = bf16 */
  int32_t depth_words;   /* the depth is padded with zeros to a multiple of so many words */
  bool tiles;
  /* Copies `lanes` (at most 16) rows and `words` depth words of a view into dst: word w of lane l goes to
   * dst[w * stride + l]. Lanes from `lanes` to `padded` get zeros. `round` rounds f32 words to bf16 precision. */
  void (*pack_lanes)(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes, int32_t padded,
                     int64_t depth, int64_t depth_end, int64_t words, bool round);
  /* With `tiles`: 16 words of `lanes` rows (at most 16, others zero) from `depth` on, one row after the other. */
  void (*pack_tile)(uint32_t *dst, const cpu_matrix *view, int64_t lane, int32_t lanes, int64_t depth,
                    int64_t depth_end);
  /* Multiplies `words` depth words of a block of a, which was packed with `block_words` of them, and a panel of b. c is
   * f32 with `stride` floats between rows; all `columns` of the panel are written. `next` are bytes that a later product
   * will read: they are asked for evenly over the words (`next_bytes` 0 = none). */
  void (*multiply)(int32_t rows, int64_t words, int64_t block_words, const uint32_t *a, const uint32_t *b, float *c,
                   int64_t stride, bool accumulate, const char *next, int64_t next_bytes);
  /* Called by each thread before and after its products; NULL = nothing to do. */
  void (*enter)(void);
  void (*leave)(void);
} cpu_gemm;

/* Memory that only grows. */
typedef struct cpu_memory {
  void *aligned;
  size_t bytes;
} cpu_memory;

typedef struct cpu_state {
  int32_t threads;
  cpu_isa isa;
  const mg_kernel *kernels;
  const cpu_gemm *gemm_f32;
  const cpu_gemm *gemm_bf16;           /* NULL: bf16 products run on gemm_f32 with rounded operands */
  cpu_memory scratch, plans, products; /* grow in warm-up, freed at close */
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
