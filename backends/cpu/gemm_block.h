/* The register block of a matrix product, for one level and one kind of word: BLOCK_ROWS rows by PANEL_VECTORS vectors
 * stay in registers over the whole depth. Each depth word loads the vectors of b once and, for each row, multiplies
 * them with one word of a held in all lanes. The including file defines BLOCK_ROWS, PANEL_VECTORS, and
 * block_multiply(a_word, b_word pointer, sum). */

/* Written for one row count at a time, so that the sums have fixed registers. */
static inline __attribute__((always_inline)) void block_rows(const int32_t rows, int64_t words, const uint32_t *a,
                                                             const uint32_t *b, float *c, int64_t stride,
                                                             bool accumulate, const char *next, int64_t next_bytes) {
  vector sum[BLOCK_ROWS][PANEL_VECTORS];
#pragma GCC unroll 16
  for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int32_t v = 0; v < PANEL_VECTORS; v++)
      sum[r][v] = accumulate ? vector_load(c + r * stride + v * VECTOR_FLOATS) : vector_all(0.0f);
  const int64_t next_step = words ? next_bytes / words : 0;
  for (int64_t w = 0; w < words; w++) {
    __builtin_prefetch(next, 0, 2);
    next += next_step;
    block_word words_of_b[PANEL_VECTORS];
#pragma GCC unroll 4
    for (int32_t v = 0; v < PANEL_VECTORS; v++) words_of_b[v] = block_load(b + v * VECTOR_FLOATS);
#pragma GCC unroll 16
    for (int32_t r = 0; r < rows; r++) {
      const block_word word_of_a = block_all(a + r);
#pragma GCC unroll 4
      for (int32_t v = 0; v < PANEL_VECTORS; v++) sum[r][v] = block_multiply(word_of_a, words_of_b[v], sum[r][v]);
    }
    a += rows;
    b += PANEL_VECTORS * VECTOR_FLOATS;
  }
#pragma GCC unroll 16
  for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int32_t v = 0; v < PANEL_VECTORS; v++) vector_store(c + r * stride + v * VECTOR_FLOATS, sum[r][v]);
}

#define ROWS_CASE(n)                                                                                                   \
  case n: block_rows(n, words, a, b, c, stride, accumulate, next, next_bytes); break

static void multiply(int32_t rows, int64_t words, int64_t block_words, const uint32_t *a, const uint32_t *b, float *c,
                     int64_t stride, bool accumulate, const char *next, int64_t next_bytes) {
  (void)block_words;
  switch (rows) {
    ROWS_CASE(1);
    ROWS_CASE(2);
    ROWS_CASE(3);
    ROWS_CASE(4);
#if BLOCK_ROWS >= 6
    ROWS_CASE(5);
    ROWS_CASE(6);
#endif
#if BLOCK_ROWS >= 14
    ROWS_CASE(7);
    ROWS_CASE(8);
    ROWS_CASE(9);
    ROWS_CASE(10);
    ROWS_CASE(11);
    ROWS_CASE(12);
    ROWS_CASE(13);
    ROWS_CASE(14);
#endif
  }
}
#undef ROWS_CASE
