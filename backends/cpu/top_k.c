/* TOP_K: the k largest of each row, descending, equal values by lowest id, NaN as -inf.
 *
 * A sorted list of k is filled from the first columns; from then on only columns above its last value enter, found
 * many at a time. A later column never displaces an equal earlier one, which gives the order of ties. */
#include "kernels.h"

static inline float nan_as_least(float value) {
  return isnan(value) ? -INFINITY : value;
}

/* Inserts behind all values not below it; `used` entries are in the list. */
static void insert(float *values, int32_t *ids, int64_t used, int64_t k, float value, int32_t id) {
  int64_t place = used < k ? used : k - 1;
  for (; place > 0 && values[place - 1] < value; place--) {
    values[place] = values[place - 1];
    ids[place] = ids[place - 1];
  }
  values[place] = value;
  ids[place] = id;
}

enum { GROUP = 32 }; /* columns tested at once */

static bool any_above(const float *x, float threshold) {
  int32_t any = 0;
#pragma omp simd reduction(| : any)
  for (int32_t i = 0; i < GROUP; i++) any |= x[i] > threshold;
  return any != 0;
}

static void top_k_row(const float *x, int64_t columns, int64_t k, float *values, int32_t *ids) {
  int64_t c = 0;
  for (; c < k; c++) insert(values, ids, c, k, nan_as_least(x[c]), (int32_t)c);
  while (c < columns) {
    if (c + GROUP <= columns && !any_above(x + c, values[k - 1])) {
      c += GROUP;
      continue;
    }
    const int64_t end = cpu_min(columns, c + GROUP);
    for (; c < end; c++)
      if (x[c] > values[k - 1]) insert(values, ids, k, k, x[c], (int32_t)c);
  }
}

#if defined(CPU_VECTOR_AVX512)
/* For up to 16 choices. The k-th largest of the 16 lanes' maxima is a lower bound of
 * the k-th largest column, because each lane holds a column at least as large; the few columns that reach it are
 * ranked by comparing each with all others at once. */
#include "pack_avx512.h"

enum { CHOICES_MAX = 16, CANDIDATES_MAX = 32 };

static inline __m512i lane_numbers(void) {
  return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

static inline __mmask16 lanes_below(int64_t count) {
  return (__mmask16)(count >= 16 ? 0xffff : (1 << count) - 1);
}

/* The comparisons below are false for NaN, and vmaxps gives its second operand, so that a NaN is passed over. */
static inline __m512 load_columns(const float *x, int64_t columns, int64_t c) {
  if (c + 16 <= columns) return _mm512_loadu_ps(x + c);
  return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), lanes_below(columns - c), x + c);
}

/* The k-th largest of 16 lanes. */
static inline float lane_bound(__m512 lanes, int64_t k) {
  float lane[16];
  _mm512_storeu_ps(lane, lanes);
  __m512i rank = _mm512_setzero_si512();
  const __m512i one = _mm512_set1_epi32(1);
#pragma GCC unroll 16
  for (int32_t i = 0; i < 16; i++)
    rank = _mm512_mask_add_epi32(rank, _mm512_cmp_ps_mask(_mm512_set1_ps(lane[i]), lanes, _CMP_GT_OQ), rank, one);
  /* lanes with fewer than k above them are among the k largest; the least of those is the k-th */
  const __mmask16 among = _mm512_cmplt_epi32_mask(rank, _mm512_set1_epi32((int32_t)k));
  return _mm512_mask_reduce_min_ps(among, lanes);
}

/* Writes the k best of `count` candidates in order. */
static void rank_candidates(const float *candidate, const int32_t *id, int32_t count, int64_t k, float *values,
                            int32_t *ids) {
  const __m512 low = _mm512_loadu_ps(candidate), high = _mm512_loadu_ps(candidate + 16);
  const uint32_t real = count == 32 ? 0xffffffffu : (1u << count) - 1u;
  float ranked[CANDIDATES_MAX];
  int32_t ranked_id[CANDIDATES_MAX];
  for (int32_t i = 0; i < count; i++) {
    const __m512 own = _mm512_set1_ps(candidate[i]);
    const uint32_t above =
        (uint32_t)_mm512_cmp_ps_mask(low, own, _CMP_GT_OQ) | (uint32_t)_mm512_cmp_ps_mask(high, own, _CMP_GT_OQ) << 16;
    const uint32_t equal =
        (uint32_t)_mm512_cmp_ps_mask(low, own, _CMP_EQ_OQ) | (uint32_t)_mm512_cmp_ps_mask(high, own, _CMP_EQ_OQ) << 16;
    const int32_t rank = __builtin_popcount((above & real) | (equal & ((1u << i) - 1u)));
    ranked[rank] = candidate[i];
    ranked_id[rank] = id[i];
  }
  for (int64_t i = 0; i < k; i++) {
    values[i] = ranked[i];
    ids[i] = ranked_id[i];
  }
}

/* False when too many columns reach the bound (many equal ones): the caller then takes the general way. */
static bool top_k_row_ranked(const float *x, int64_t columns, int64_t k, float *values, int32_t *ids) {
  __m512 most = _mm512_set1_ps(-INFINITY);
  for (int64_t c = 0; c < columns; c += 16) most = _mm512_max_ps(load_columns(x, columns, c), most);
  const float bound = lane_bound(most, k);
  if (bound == -INFINITY) return false;
  float candidate[CANDIDATES_MAX + 16];
  int32_t id[CANDIDATES_MAX + 16], count = 0;
  __m512i own_id = lane_numbers();
  for (int64_t c = 0; c < columns; c += 16) {
    const __m512 value = load_columns(x, columns, c);
    const __mmask16 reaches = _mm512_cmp_ps_mask(value, _mm512_set1_ps(bound), _CMP_GE_OQ);
    _mm512_storeu_ps(candidate + count, _mm512_maskz_compress_ps(reaches, value));
    _mm512_storeu_si512(id + count, _mm512_maskz_compress_epi32(reaches, own_id));
    count += __builtin_popcount(reaches);
    if (count > CANDIDATES_MAX) return false;
    own_id = _mm512_add_epi32(own_id, _mm512_set1_epi32(16));
  }
  rank_candidates(candidate, id, count, k, values, ids);
  return true;
}

/* Sixteen rows at once, a row to a lane: each column is compared with all k kept values and put in its place in every
 * row. NaN stands for a place that is still empty: every column goes before it. */
enum { LANE_ROWS = 16, LANE_CHOICES_MAX = 8, LANE_WORK_MAX = 800, LANE_COLUMNS_MIN = 16, LANE_COLUMNS_MAX = 256 };

static inline __attribute__((always_inline)) void lanes_insert(const int32_t k, __m512 x, __m512i id, __m512 *best,
                                                               __m512i *best_id) {
  __mmask16 before[LANE_CHOICES_MAX];
#pragma GCC unroll 8
  for (int32_t j = 0; j < k; j++) before[j] = _mm512_cmp_ps_mask(x, best[j], _CMP_NLE_UQ);
#pragma GCC unroll 8
  for (int32_t j = k - 1; j > 0; j--) {
    best[j] = _mm512_mask_mov_ps(_mm512_mask_mov_ps(best[j], before[j], x), before[j - 1], best[j - 1]);
    best_id[j] = _mm512_mask_mov_epi32(_mm512_mask_mov_epi32(best_id[j], before[j], id), before[j - 1], best_id[j - 1]);
  }
  best[0] = _mm512_mask_mov_ps(best[0], before[0], x);
  best_id[0] = _mm512_mask_mov_epi32(best_id[0], before[0], id);
}

static inline __attribute__((always_inline)) void lanes_top_k(const int32_t k, const float *x, int64_t columns,
                                                              float *values, int32_t *ids) {
  __m512 best[LANE_CHOICES_MAX];
  __m512i best_id[LANE_CHOICES_MAX];
#pragma GCC unroll 8
  for (int32_t j = 0; j < k; j++) {
    best[j] = _mm512_set1_ps(NAN);
    best_id[j] = _mm512_setzero_si512();
  }
  const __m512 least = _mm512_set1_ps(-INFINITY);
  for (int64_t first = 0; first < columns; first += 16) {
    const __mmask16 mask = lanes_below(columns - first);
    __m512i column[16];
#pragma GCC unroll 16
    for (int64_t r = 0; r < 16; r++)
      column[r] = _mm512_castps_si512(_mm512_maskz_loadu_ps(mask, x + r * columns + first));
    pack_transpose(column);
    for (int64_t c = 0; c < cpu_min(16, columns - first); c++) {
      const __m512 value = _mm512_castsi512_ps(column[c]);
      const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
      lanes_insert(k, _mm512_mask_mov_ps(value, nan, least), _mm512_set1_epi32((int32_t)(first + c)), best, best_id);
    }
  }
  const __m512i place = _mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32(k));
#pragma GCC unroll 8
  for (int32_t j = 0; j < k; j++) {
    _mm512_i32scatter_ps(values + j, place, best[j], sizeof(float));
    _mm512_i32scatter_epi32(ids + j, place, best_id[j], sizeof(int32_t));
  }
}

/* Sorting networks over keys of 32 bits, a row to a lane: a key is the order of its value with the lowest bits replaced
 * by the inverse of its column, which takes two instructions to put in place instead of five. */
static inline __attribute__((always_inline)) void exchange(__m512i *high, __m512i *low) {
  const __m512i most = _mm512_max_epi32(*high, *low);
  *low = _mm512_min_epi32(*high, *low);
  *high = most;
}

/* Four or eight keys, the largest first. */
static inline __attribute__((always_inline)) void sort_keys(const int32_t width, __m512i *key) {
#pragma GCC unroll 2
  for (int32_t first = 0; first < width; first += 4) {
    exchange(key + first, key + first + 2), exchange(key + first + 1, key + first + 3);
    exchange(key + first, key + first + 1), exchange(key + first + 2, key + first + 3);
    exchange(key + first + 1, key + first + 2);
  }
  if (width == 4) return;
  exchange(key, key + 4), exchange(key + 1, key + 5), exchange(key + 2, key + 6), exchange(key + 3, key + 7);
  exchange(key + 2, key + 4), exchange(key + 3, key + 5);
  exchange(key + 1, key + 2), exchange(key + 3, key + 4), exchange(key + 5, key + 6);
}

/* The `width` largest of two sorted lists, sorted: the larger of each pair from opposite ends, then a bitonic merge.
 * *left becomes the largest key that was ever left out. */
static inline __attribute__((always_inline)) void merge_keys(const int32_t width, __m512i *best, const __m512i *key,
                                                             __m512i *left) {
#pragma GCC unroll 8
  for (int32_t j = 0; j < width; j++) {
    *left = _mm512_max_epi32(*left, _mm512_min_epi32(best[j], key[width - 1 - j]));
    best[j] = _mm512_max_epi32(best[j], key[width - 1 - j]);
  }
#pragma GCC unroll 4
  for (int32_t step = width / 2; step > 0; step /= 2)
#pragma GCC unroll 8
    for (int32_t j = 0; j < width; j++)
      if ((j & step) == 0) exchange(best + j, best + j + step);
}

/* Up to 16 columns of sixteen rows as keys, a column to a vector; columns beyond the end come below all others. */
static inline void make_keys(const float *x, int64_t columns, int64_t first, __m512i column_bits, __m512i key[16]) {
  const __mmask16 mask = lanes_below(columns - first);
  const __m512i sign = _mm512_set1_epi32(INT32_MIN), below = sign;
  const __m512i id = _mm512_sub_epi32(_mm512_set1_epi32(~(int32_t)first), lane_numbers());
  const __m512 least = _mm512_set1_ps(-INFINITY);
#pragma GCC unroll 16
  for (int64_t r = 0; r < 16; r++) {
    const __m512 value = _mm512_max_ps(_mm512_maskz_loadu_ps(mask, x + r * columns + first), least); /* NaN as -inf */
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i order = _mm512_mask_sub_epi32(bits, _mm512_movepi32_mask(bits), sign, bits); /* -0 as 0 */
    const __m512i whole =
        _mm512_ternarylogic_epi32(column_bits, id, order, 0xca); /* bits of the column, else of order */
    key[r] = _mm512_mask_mov_epi32(below, mask, whole);
  }
  pack_transpose(key);
}

/* Lanes in which the first `k` keys, or the k-th and the next, differ in the column alone: their order is not known. */
static inline __mmask16 unordered(const int32_t width, const __m512i *best, __m512i left, int64_t k,
                                  __m512i column_bits) {
  __mmask16 close = 0;
  for (int64_t j = 0; j < k; j++) {
    const __m512i differ = _mm512_xor_si512(best[j], j + 1 < width ? best[j + 1] : left);
    close |= _mm512_testn_epi32_mask(_mm512_andnot_si512(column_bits, differ), _mm512_set1_epi32(-1));
  }
  return close;
}

/* False where values are so close that the keys cannot tell them apart. */
static inline __attribute__((always_inline)) bool keyed_top_k(const int32_t width, const float *x, int64_t columns,
                                                              int64_t k, float *values, int32_t *ids) {
  __m512i best[LANE_CHOICES_MAX], key[16], left = _mm512_set1_epi32(INT32_MIN);
  int32_t column_mask = 15;
  while (column_mask < columns - 1) column_mask = 2 * column_mask + 1;
  const __m512i column_bits = _mm512_set1_epi32(column_mask);
#pragma GCC unroll 8
  for (int32_t j = 0; j < width; j++) best[j] = left;
  for (int64_t first = 0; first < columns; first += 16) {
    make_keys(x, columns, first, column_bits, key);
    for (int32_t group = 0; group < 16; group += width) {
      sort_keys(width, key + group);
      merge_keys(width, best, key + group, &left);
    }
  }
  if (unordered(width, best, left, k, column_bits)) return false;
  const __m512i row = _mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32((int32_t)columns));
  const __m512i place = _mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32((int32_t)k));
  for (int64_t j = 0; j < k; j++) {
    const __m512i id = _mm512_andnot_si512(best[j], column_bits);
    const __m512 value = _mm512_i32gather_ps(_mm512_add_epi32(row, id), x, sizeof(float));
    _mm512_i32scatter_ps(values + j, place, value, sizeof(float));
    _mm512_i32scatter_epi32(ids + j, place, id, sizeof(int32_t));
  }
  return true;
}

/* LANE_ROWS rows; false where ranking them one by one is faster. */
static bool top_k_rows_in_lanes(const float *x, int64_t rows, int64_t columns, int64_t k, float *values, int32_t *ids) {
  if (rows != LANE_ROWS || k > LANE_CHOICES_MAX || columns > LANE_COLUMNS_MAX) return false;
  if (k > 2 && columns > LANE_COLUMNS_MIN &&
      (k > 4 ? keyed_top_k(8, x, columns, k, values, ids) : keyed_top_k(4, x, columns, k, values, ids)))
    return true;
  if (columns * (k + 1) > LANE_WORK_MAX) return false;
  switch (k) {
  case 1: lanes_top_k(1, x, columns, values, ids); break;
  case 2: lanes_top_k(2, x, columns, values, ids); break;
  case 3: lanes_top_k(3, x, columns, values, ids); break;
  case 4: lanes_top_k(4, x, columns, values, ids); break;
  case 5: lanes_top_k(5, x, columns, values, ids); break;
  case 6: lanes_top_k(6, x, columns, values, ids); break;
  case 7: lanes_top_k(7, x, columns, values, ids); break;
  default: lanes_top_k(8, x, columns, values, ids); break;
  }
  return true;
}
#else
enum { CHOICES_MAX = 0, LANE_ROWS = 16 };
static bool top_k_rows_in_lanes(const float *x, int64_t rows, int64_t columns, int64_t k, float *values, int32_t *ids) {
  (void)x, (void)rows, (void)columns, (void)k, (void)values, (void)ids;
  return false;
}
static bool top_k_row_ranked(const float *x, int64_t columns, int64_t k, float *values, int32_t *ids) {
  (void)x, (void)columns, (void)k, (void)values, (void)ids;
  return false;
}
#endif

mg_status CPU_NAME(top_k)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *values_out = call->out[0];
  int32_t *ids = call->out[1]->data;
  const int64_t columns = mg_tensor_columns(x), k = mg_tensor_columns(values_out);
  const int64_t rows = mg_tensor_rows(x), work = rows * columns;
  if (k == 0) return MG_OK;
  const int64_t floats = LANE_ROWS * (columns + k);
  float *buffers = cpu_row_buffers(backend, floats);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row += LANE_ROWS) {
    const int64_t here = cpu_min(LANE_ROWS, rows - row);
    float *buffer = cpu_row_buffer(buffers, floats);
    float *values = cpu_write_begin(values_out, row * k, buffer + LANE_ROWS * columns);
    const float *scores = cpu_read(x, row * columns, here * columns, buffer);
    int32_t *chosen = ids + row * k;
    if (!top_k_rows_in_lanes(scores, here, columns, k, values, chosen))
      for (int64_t r = 0; r < here; r++)
        if (k > CHOICES_MAX || !top_k_row_ranked(scores + r * columns, columns, k, values + r * k, chosen + r * k))
          top_k_row(scores + r * columns, columns, k, values + r * k, chosen + r * k);
    cpu_write_end(values_out, row * k, here * k, values);
  }
  return MG_OK;
}
