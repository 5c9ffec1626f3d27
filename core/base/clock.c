/* clock_gettime and /proc/self, wrapped. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t mg_clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t mg_clock_unix_seconds(void) {
  return (int64_t)time(NULL);
}

int64_t mg_process_peak_bytes(void) {
  FILE *file = fopen("/proc/self/status", "r");
  if (!file) return 0;
  char line[256];
  long long kibibytes = 0;
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "VmHWM: %lld kB", &kibibytes) == 1) break;
  fclose(file);
  return (int64_t)kibibytes * 1024;
}

void mg_process_reset_peak(void) {
  FILE *file = fopen("/proc/self/clear_refs", "w");
  if (!file) return;
  fputs("5", file); /* 5 resets VmHWM (proc(5)) */
  fclose(file);
}
