/* Entering a sandbox: limits, then capabilities, then files, then system calls, each step taking the means to undo the
 * one before. */
#include "lab/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <omp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/sandbox_internal.h"

enum { DESCRIPTORS_MAX = 256 };

static const int64_t file_bytes_most = (int64_t)1 << 32;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MG_UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MG_UNDER_SANITIZER 1
#endif
#endif
#ifndef MG_UNDER_SANITIZER
#define MG_UNDER_SANITIZER 0
#endif

static mg_status refuse(mg_context *context, const char *what) {
  return mg_fail(context, MG_UNSUPPORTED, "the sandbox cannot be entered: %s: %s", what, strerror(errno));
}

/* Landlock and seccomp bind the calling thread and its children: one that runs already would stay free. */
static mg_status check_alone(mg_context *context) {
  DIR *tasks = opendir("/proc/self/task");
  int count = 0;
  if (!tasks) return refuse(context, "/proc/self/task");
  for (const struct dirent *entry; (entry = readdir(tasks));) count += entry->d_name[0] != '.';
  closedir(tasks);
  if (count == 1) return MG_OK;
  return mg_fail(context, MG_BUG, "the sandbox cannot be entered: the process has %d threads already", count);
}

/* Sets the soft limit to `most` and the hard one so much higher; lower ones stay as they are. */
static bool limit(__rlimit_resource_t resource, int64_t most, int64_t higher) {
  struct rlimit now;
  if (getrlimit(resource, &now) != 0) return false;
  const rlim_t soft = (rlim_t)most, hard = (rlim_t)(most + higher);
  if (now.rlim_max > hard) now.rlim_max = hard;
  if (now.rlim_cur > soft) now.rlim_cur = soft;
  return setrlimit(resource, &now) == 0;
}

static mg_status set_limits(mg_context *context, const mg_sandbox *sandbox) {
  bool good =
      limit(RLIMIT_CORE, 0, 0) && limit(RLIMIT_NOFILE, DESCRIPTORS_MAX, 0) && limit(RLIMIT_FSIZE, file_bytes_most, 0);
  if (good && sandbox->memory_bytes && !MG_UNDER_SANITIZER) good = limit(RLIMIT_AS, sandbox->memory_bytes, 0);
  if (good && sandbox->cpu_seconds) /* the hard limit kills without a name; the soft one is SIGXCPU */
    good = limit(RLIMIT_CPU, sandbox->cpu_seconds, 1);
  signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is then a failed write with its message */
  return good ? MG_OK : refuse(context, "limits");
}

/* Root without capabilities is no more than the owner of root's files. */
static mg_status drop_capabilities(mg_context *context) {
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
  const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return refuse(context, "no_new_privs");
  return syscall(SYS_capset, &head, none) == 0 ? MG_OK : refuse(context, "capabilities");
}

mg_status mg_sandbox_check(mg_context *context) {
  MG_TRY(mg__sandbox_files_check(context));
  return mg__sandbox_calls_check(context);
}

mg_status mg_sandbox_enter(mg_context *context, const mg_sandbox *sandbox) {
  MG_TRY(mg_sandbox_check(context));
  /* clang's OpenMP registers itself in shared memory when it is first used, which would be refused later. */
  (void)omp_get_max_threads();
  MG_TRY(check_alone(context));
  MG_TRY(set_limits(context, sandbox));
  MG_TRY(drop_capabilities(context));
  MG_TRY(mg__sandbox_files(context, sandbox));
  return mg__sandbox_calls(context, sandbox->program != NULL);
}
