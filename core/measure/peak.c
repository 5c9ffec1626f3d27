/* The machine's peaks: loops of independent multiply-adds that never leave the registers, and walks through more memory
 * than the caches hold. Threads start each run together; a run's time is that of the slowest. */
#include "measure/peak.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { RUNS = 12, SUMS = 12, LINE_FLOATS = 16 };
static const size_t walk_bytes = (size_t)48 << 20; /* per thread and array */

/* One measured loop: does `rounds` rounds of work and returns a value that depends on all of it. */
typedef float (*work_loop)(int64_t rounds, float *from, float *to);

/* ---- arithmetic ------------------------------------------------------------------------------------------- */

static float multiply_add_plain(int64_t rounds, float *from, float *to) {
  typedef float four __attribute__((vector_size(16)));
  four sum[SUMS];
  (void)from, (void)to;
  memset(sum, 0, sizeof sum);
  for (int64_t i = 0; i < rounds; i++) {
    for (int32_t s = 0; s < SUMS; s++) sum[s] = sum[s] * 0.5f + 1e-3f;
    __asm__ volatile("" : "+m"(sum));
  }
  return sum[0][0] + sum[SUMS - 1][3];
}

#if defined(__x86_64__)
/* Keeps the compiler from merging rounds. */
#define KEEP(x) __asm__ volatile("" : "+x"(x))

__attribute__((target("avx2,fma"))) static float multiply_add_avx2(int64_t rounds, float *from, float *to) {
  __m256 sum[SUMS], factor = _mm256_set1_ps(0.5f), term = _mm256_set1_ps(1e-3f);
  (void)from, (void)to;
#pragma GCC unroll 12
  for (int32_t s = 0; s < SUMS; s++) sum[s] = _mm256_set1_ps((float)s);
  for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
    for (int32_t s = 0; s < SUMS; s++) sum[s] = _mm256_fmadd_ps(sum[s], factor, term);
    KEEP(sum[0]);
  }
  float total = 0.0f;
#pragma GCC unroll 12
  for (int32_t s = 0; s < SUMS; s++) total += _mm256_cvtss_f32(sum[s]);
  return total;
}

__attribute__((target("avx512f"))) static float multiply_add_avx512(int64_t rounds, float *from, float *to) {
  __m512 sum[SUMS], factor = _mm512_set1_ps(0.5f), term = _mm512_set1_ps(1e-3f);
  (void)from, (void)to;
#pragma GCC unroll 12
  for (int32_t s = 0; s < SUMS; s++) sum[s] = _mm512_set1_ps((float)s); /* different, or they would be one */
  for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
    for (int32_t s = 0; s < SUMS; s++) sum[s] = _mm512_fmadd_ps(sum[s], factor, term);
    __asm__ volatile("" : "+v"(sum[0]));
  }
  float total = 0.0f;
#pragma GCC unroll 12
  for (int32_t s = 0; s < SUMS; s++) total += _mm512_cvtss_f32(sum[s]);
  return total;
}

__attribute__((target("avx512f,avx512bf16"))) static float dot_bf16(int64_t rounds, float *from, float *to) {
  __m512 sum[SUMS];
  const __m512bh half = (__m512bh)_mm512_set1_epi32(0x3f003f00);
  (void)from, (void)to;
#pragma GCC unroll 12
  for (int32_t s = 0; s < SUMS; s++) sum[s] = _mm512_set1_ps((float)s); /* different, or they would be one */
  for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
    for (int32_t s = 0; s < SUMS; s++) sum[s] = _mm512_dpbf16_ps(sum[s], half, half);
    __asm__ volatile("" : "+v"(sum[0]));
  }
  float total = 0.0f;
#pragma GCC unroll 12
  for (int32_t s = 0; s < SUMS; s++) total += _mm512_cvtss_f32(sum[s]);
  return total;
}

typedef struct tile_configuration {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_configuration;

__attribute__((target("amx-tile,amx-bf16"))) static float multiply_tiles(int64_t rounds, float *from, float *to) {
  tile_configuration configuration = {.palette = 1};
  (void)from, (void)to;
  for (int32_t i = 0; i < 8; i++) {
    configuration.row_bytes[i] = 64;
    configuration.rows[i] = 16;
  }
  __asm__ volatile("" ::"m"(configuration) : "memory"); /* gcc 12 reads too little of the operand */
  _tile_loadconfig(&configuration);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t i = 0; i < rounds; i++) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
  return 0.0f;
}
#endif

/* ---- memory ----------------------------------------------------------------------------------------------- */

static float read_memory(int64_t rounds, float *from, float *to) {
  typedef float sixteen __attribute__((vector_size(64), aligned(64)));
  typedef sixteen sixteen_in_memory __attribute__((may_alias));
  sixteen sum[4];
  (void)to;
  memset(sum, 0, sizeof sum);
  for (int64_t round = 0; round < rounds; round++)
    for (size_t i = 0; i < walk_bytes / sizeof(float); i += 4 * LINE_FLOATS) {
      const sixteen_in_memory *line = (const sixteen_in_memory *)(const void *)(from + i);
      for (size_t ahead = 64; ahead < 68; ahead++) __builtin_prefetch(from + i + ahead * LINE_FLOATS, 0, 2);
      sum[0] += line[0];
      sum[1] += line[1];
      sum[2] += line[2];
      sum[3] += line[3];
    }
  return sum[0][0] + sum[1][1] + sum[2][2] + sum[3][3];
}

static float copy_memory(int64_t rounds, float *from, float *to) {
  for (int64_t round = 0; round < rounds; round++) {
    memcpy(to, from, walk_bytes);
    __asm__ volatile("" ::"r"(to) : "memory");
  }
  return to[0];
}

/* ---- runs ------------------------------------------------------------------------------------------------- */

typedef struct peak_thread {
  pthread_t thread;
  _Atomic int32_t *start; /* 0 = wait, 1 = run, -1 = give up */
  work_loop loop;
  int64_t rounds, end_ns;
  float *from, *to, result;
} peak_thread;

static void *run_thread(void *argument) {
  peak_thread *t = argument;
  int32_t word = 0;
  while ((word = *t->start) == 0) sched_yield();
  if (word < 0) return NULL;
  t->result = t->loop(t->rounds, t->from, t->to);
  t->end_ns = mg_clock_ns();
  return NULL;
}

/* Rounds of all threads per second from the common start to the last one's end, or 0 when threads could not be started.
 * Rates of single threads must not be summed: one that runs while the other is held up has the memory for itself. */
static double run_once(peak_thread *threads, int32_t count, work_loop loop, int64_t rounds) {
  _Atomic int32_t start = 0;
  int32_t started = 0;
  for (int32_t i = 0; i < count; i++) {
    threads[i].start = &start;
    threads[i].loop = loop;
    threads[i].rounds = rounds;
  }
  while (started < count - 1 && !pthread_create(&threads[started].thread, NULL, run_thread, &threads[started]))
    started++;
  const int64_t start_ns = mg_clock_ns();
  start = started == count - 1 ? 1 : -1;
  run_thread(&threads[count - 1]);
  int64_t end_ns = start_ns + 1;
  for (int32_t i = 0; i < started; i++) pthread_join(threads[i].thread, NULL);
  for (int32_t i = 0; i < count; i++) end_ns = threads[i].end_ns > end_ns ? threads[i].end_ns : end_ns;
  return start < 0 ? 0 : (double)count * (double)rounds * 1e9 / (double)(end_ns - start_ns);
}

/* Units of work per second, where each thread does `units` per round; the best of several runs. */
static double best_rate(peak_thread *threads, int32_t count, work_loop loop, int64_t rounds, double units) {
  double best = 0;
  for (int32_t run = 0; run < RUNS; run++) {
    const double rate = units * run_once(threads, count, loop, rounds);
    best = rate > best ? rate : best;
  }
  return best;
}

static void measure_arithmetic(peak_thread *threads, int32_t count, mg_peak *out) {
  const int64_t rounds = 400000; /* a few milliseconds, so that some run is left in peace */
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  enum { ARCH_REQ_XCOMP_PERM_NUMBER = 0x1023, XFEATURE_XTILEDATA = 18 };
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f");
  if (avx512 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << 5)))
    out->bf16_flops = best_rate(threads, count, dot_bf16, rounds, SUMS * 16 * 4);
  if (avx512 && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & (1u << 22)) && (edx & (1u << 24)) &&
      syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_NUMBER, XFEATURE_XTILEDATA) == 0)
    out->amx_flops = best_rate(threads, count, multiply_tiles, rounds / 8, 4 * 16384);
  if (avx512) {
    out->f32_instruction = "avx512 fma";
    out->f32_flops = best_rate(threads, count, multiply_add_avx512, rounds, SUMS * 16 * 2);
    return;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    out->f32_instruction = "avx2 fma";
    out->f32_flops = best_rate(threads, count, multiply_add_avx2, rounds, SUMS * 8 * 2);
    return;
  }
#endif
  out->f32_instruction = "multiply, add";
  out->f32_flops = best_rate(threads, count, multiply_add_plain, rounds, SUMS * 4 * 2);
}

static int32_t usable_processors(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* In huge pages where the system has them, as the memory of a backend: walks through small pages are slower. */
static char *walked_memory(mg_context *context, size_t bytes) {
  enum { HUGE_PAGE = 2 << 20 };
  char *memory = mg_resize(context, NULL, 0, bytes);
  if (!memory) return NULL;
  const uintptr_t start = ((uintptr_t)memory + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  const uintptr_t end = ((uintptr_t)memory + bytes) / HUGE_PAGE * HUGE_PAGE;
  if (end > start) (void)madvise((void *)start, end - start, MADV_HUGEPAGE);
  return memset(memory, 0, bytes);
}

mg_status mg_peak_measure(mg_context *context, int32_t threads, mg_peak *out) {
  const int32_t count = threads > 0 ? threads : usable_processors();
  *out = (mg_peak){.threads = count};
  const size_t list_bytes = (size_t)count * sizeof(peak_thread), memory_bytes = (size_t)count * 2 * walk_bytes + 64;
  peak_thread *list = mg_alloc(context, list_bytes);
  char *memory = list ? walked_memory(context, memory_bytes) : NULL;
  if (memory) {
    float *aligned = (float *)(void *)(memory + (64 - (uintptr_t)memory % 64));
    for (int32_t i = 0; i < count; i++) {
      list[i].from = aligned + (size_t)i * 2 * (walk_bytes / sizeof(float));
      list[i].to = list[i].from + walk_bytes / sizeof(float);
    }
    measure_arithmetic(list, count, out);
    out->read_bytes = best_rate(list, count, read_memory, 1, (double)walk_bytes);
    out->copy_bytes = best_rate(list, count, copy_memory, 1, 2.0 * (double)walk_bytes);
  }
  mg_free(context, memory, memory_bytes);
  mg_free(context, list, list_bytes);
  return memory ? MG_OK : MG_MEMORY;
}
