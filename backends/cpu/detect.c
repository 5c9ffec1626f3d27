/* What this processor and its operating system can run. */
#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQ_XCOMP_PERM_NUMBER = 0x1023, XFEATURE_XTILEDATA = 18 };

/* CPUID leaf 7, sub-leaf 0: AMX-BF16 is EDX bit 22, AMX-TILE bit 24. Linux hands the tile registers out on request. */
static bool amx_granted(void) {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  if (!(edx & (1u << 22)) || !(edx & (1u << 24))) return false;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_NUMBER, XFEATURE_XTILEDATA) == 0;
}

/* CPUID leaf 7, sub-leaf 1: AVX512-BF16 is EAX bit 5. */
static bool has_avx512_bf16(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << 5));
}

bool mg__cpu_can_run(cpu_isa isa) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  switch (isa) {
  case CPU_AVX2: return avx2;
  case CPU_AVX512: return avx512;
  case CPU_AVX512_BF16: return avx512 && has_avx512_bf16();
  case CPU_AMX: return avx512 && amx_granted();
  case CPU_AUTO:
  case CPU_PORTABLE:
  case CPU_AMX_EMULATED:
  case CPU_ISA_COUNT: break;
  }
  return true;
}

cpu_isa mg__cpu_best_isa(void) {
  static const cpu_isa best_first[] = {CPU_AMX, CPU_AVX512_BF16, CPU_AVX512, CPU_AVX2};
  for (size_t i = 0; i < MG_COUNT(best_first); i++)
    if (mg__cpu_can_run(best_first[i])) return best_first[i];
  return CPU_PORTABLE;
}

#else

bool mg__cpu_can_run(cpu_isa isa) {
  return isa == CPU_AUTO || isa == CPU_PORTABLE || isa == CPU_AMX_EMULATED;
}

cpu_isa mg__cpu_best_isa(void) {
  return CPU_PORTABLE;
}
#endif
