/* The register block of a matrix product, for one level and one kind of word: BLOCK_ROWS rows by PANEL_VECTORS vectors
 * stay in registers over the whole depth. Each depth word loads the vectors of b once and, for each row, multiplies
 * them with one word of a held in all lanes. The including file defines BLOCK_ROWS, PANEL_VECTORS, and
 * block_load, block_all(a_word pointer), block_multiply(a_word, b_word, sum). Where half a vector takes half the time,
 * it defines BLOCK_HALF and the same for half_vector, and a panel's last vector may be half a one. */
#ifdef BLOCK_HALF
enum { BLOCK_LANES = VECTOR_FLOATS / 2 };
#else /* stand-ins for what is never called */
enum { BLOCK_LANES = VECTOR_FLOATS };
typedef vector half_vector;
typedef block_word half_word;
#define half_load(b) block_load(b)
#define half_all(a) block_all(a)
#define half_multiply(a, b, sum) block_multiply(a, b, sum)
#define half_zero() vector_all(0.0f)
#define half_load_sum(from) vector_load(from)
#define half_store(to, x) vector_store(to, x)
#endif

/* Where the words of each row of a are at one depth. Rows that lie apart are reached from every third one, which leaves
 * enough registers for their addresses. */
typedef struct block_place {
  const char *third[(BLOCK_ROWS + 2) / 3];
} block_place;

static inline __attribute__((always_inline)) const char *place_of_row(const block_place *place, int32_t r, bool apart,
                                                                      int64_t row_bytes) {
  return apart ? place->third[r / 3] + r % 3 * row_bytes : place->third[0] + r * (int32_t)sizeof(uint32_t);
}

/* Written for one row count, vector count and layout at a time, so that the sums have fixed registers. */
static inline __attribute__((always_inline)) void block_rows(const int32_t rows, const int32_t vectors, const bool half,
                                                             const bool apart, int64_t words, cpu_words a,
                                                             const uint32_t *b, int64_t b_word, cpu_result c,
                                                             const char *next, int64_t next_step) {
  vector sum[BLOCK_ROWS][PANEL_VECTORS];
  half_vector rest[BLOCK_ROWS];
#pragma GCC unroll 16
  for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int32_t v = 0; v < vectors; v++)
      sum[r][v] = c.accumulate ? vector_load(c.data + r * c.stride + v * VECTOR_FLOATS) : vector_all(0.0f);
  if (half) {
#pragma GCC unroll 16
    for (int32_t r = 0; r < rows; r++)
      rest[r] = c.accumulate ? half_load_sum(c.data + r * c.stride + vectors * VECTOR_FLOATS) : half_zero();
  }
  const int64_t row_bytes = a.row * (int64_t)sizeof(uint32_t);
  const int64_t word_bytes = apart ? (int64_t)sizeof(uint32_t) : a.word * (int64_t)sizeof(uint32_t);
  const int32_t places = apart ? (rows + 2) / 3 : 1;
  block_place place;
#pragma GCC unroll 16
  for (int32_t i = 0; i < places; i++) place.third[i] = (const char *)a.data + 3 * i * row_bytes;
  for (int64_t w = 0; w < words; w++) {
    __builtin_prefetch(next, 0, 2);
    next += next_step;
    block_word words_of_b[PANEL_VECTORS];
#pragma GCC unroll 4
    for (int32_t v = 0; v < vectors; v++) words_of_b[v] = block_load(b + v * VECTOR_FLOATS);
    half_word half_of_b;
    if (half) half_of_b = half_load(b + vectors * VECTOR_FLOATS);
#pragma GCC unroll 16
    for (int32_t r = 0; r < rows; r++) {
      const char *at = place_of_row(&place, r, apart, row_bytes);
#pragma GCC unroll 4
      for (int32_t v = 0; v < vectors; v++) sum[r][v] = block_multiply(block_all(at), words_of_b[v], sum[r][v]);
      if (half) rest[r] = half_multiply(half_all(at), half_of_b, rest[r]);
    }
#pragma GCC unroll 16
    for (int32_t i = 0; i < places; i++) place.third[i] += word_bytes;
    b += b_word;
  }
  if (half) {
#pragma GCC unroll 16
    for (int32_t r = 0; r < rows; r++) half_store(c.data + r * c.stride + vectors * VECTOR_FLOATS, rest[r]);
  }
  if (c.stream) {
#pragma GCC unroll 16
    for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
      for (int32_t v = 0; v < vectors; v++) vector_stream(c.data + r * c.stride + v * VECTOR_FLOATS, sum[r][v]);
    return;
  }
#pragma GCC unroll 16
  for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int32_t v = 0; v < vectors; v++) vector_store(c.data + r * c.stride + v * VECTOR_FLOATS, sum[r][v]);
}

#define ROWS_CASE(n)                                                                                                   \
  case n: block_rows(n, vectors, half, apart, words, a, b, b_word, c, next, next_step); break

static inline __attribute__((always_inline)) void multiply_form(const int32_t vectors, const bool half,
                                                                const bool apart, int32_t rows, int64_t words,
                                                                cpu_words a, const uint32_t *b, int64_t b_word,
                                                                cpu_result c, const char *next, int64_t next_step) {
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

#define MULTIPLY_FORM(vectors, half)                                                                                   \
  do {                                                                                                                 \
    if (apart)                                                                                                         \
      multiply_form(vectors, half, true, rows, words, *a, b, b_word, *c, next, next_step);                             \
    else                                                                                                               \
      multiply_form(vectors, half, false, rows, words, *a, b, b_word, *c, next, next_step);                            \
  } while (0)

static void multiply(int32_t rows, int32_t columns, int64_t words, const cpu_words *a, const uint32_t *b,
                     int64_t b_word, const cpu_result *c, const char *next, int64_t next_step) {
  const bool apart = a->word == 1 && rows > 1;
  const int32_t lanes_in_vector = VECTOR_FLOATS / BLOCK_LANES;
  const bool half = lanes_in_vector > 1 && (columns - 1) / BLOCK_LANES % lanes_in_vector == 0;
  if (half && columns <= BLOCK_LANES)
    MULTIPLY_FORM(0, true);
  else if (columns <= VECTOR_FLOATS)
    MULTIPLY_FORM(1, false);
  else if (half)
    MULTIPLY_FORM(1, true);
  else
    MULTIPLY_FORM(PANEL_VECTORS, false);
}
#undef MULTIPLY_FORM
