/* seccomp: only the system calls that computing, reading and writing files need; every other fails with EPERM. A list of
 * what is allowed, as one of what is forbidden would miss what the next kernel adds. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "lab/sandbox_internal.h"

/* Calls whose arguments do not matter. Those that an architecture lacks are left out there. */
static const char *const free_calls[] = {
    /* files that are open, or are opened under Landlock's rules */
    "access", "close", "close_range", "copy_file_range", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64",
    "fallocate", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd", "getdents64", "lseek",
    "lstat", "memfd_create", "mkdir", "mkdirat", "newfstatat", "pipe2", "pread64", "preadv", "pwrite64", "pwritev",
    "read", "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "stat", "statfs", "statx",
    "umask", "unlink", "unlinkat", "write", "writev",
    /* memory */
    "brk", "madvise", "membarrier", "mincore", "mlock", "mlock2", "mprotect", "mremap", "msync", "munlock", "munmap",
    /* threads of this process */
    "exit", "exit_group", "futex", "get_robust_list", "getcpu", "restart_syscall", "rseq", "sched_getaffinity",
    "sched_setaffinity", "sched_yield", "set_robust_list", "set_tid_address",
    /* signals taken */
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "sigaltstack",
    /* waiting and time */
    "clock_getres", "clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "poll", "ppoll", "pselect6",
    "select", "time", "times",
    /* what the process and the machine are */
    "arch_prctl", "getegid", "geteuid", "getgid", "getpgrp", "getpid", "getppid", "getrandom", "getresgid", "getresuid",
    "getrlimit", "getrusage", "gettid", "getuid", "sysinfo", "uname"};

/* What starting a program takes beside; it stays in the sandbox. */
static const char *const program_calls[] = {"execve", "fork", "vfork", "pipe", "wait4", "waitid", "chdir", "fchdir"};

typedef struct filter {
  scmp_filter_ctx of;
  int failed; /* the first error, 0 = none */
} filter;

static void add(filter *to, const char *name, unsigned count, const struct scmp_arg_cmp *arguments) {
  const int call = seccomp_syscall_resolve_name(name);
  if (call == __NR_SCMP_ERROR || to->failed) return;
  const int failed = seccomp_rule_add_array(to->of, SCMP_ACT_ALLOW, call, count, arguments);
  if (failed && failed != -EDOM) to->failed = failed; /* EDOM: this architecture has no such call */
}

static void add_if(filter *to, const char *name, struct scmp_arg_cmp argument) {
  add(to, name, 1, &argument);
}

/* Opening, as long as Landlock sees that a file is to be written: it does not where one is opened to read and truncated,
 * before its third interface. */
static void add_open(filter *to) {
  static const uint64_t writing[] = {O_TRUNC | O_WRONLY, O_TRUNC | O_RDWR};
  add_if(to, "openat", SCMP_A2_64(SCMP_CMP_MASKED_EQ, O_TRUNC, 0));
  for (size_t i = 0; i < MG_COUNT(writing); i++)
    add_if(to, "openat", SCMP_A2_64(SCMP_CMP_MASKED_EQ, O_TRUNC | O_ACCMODE, writing[i]));
}

/* A file is not mapped as code, so that no library can be loaded. Code may be made in memory: PCRE2 does, and threads
 * have stacks that allow it once a plugin's library (HIP's) asks for such. */
static void add_map(filter *to) {
  add_if(to, "mmap", SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  add_if(to, "mmap", SCMP_A3_64(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
}

/* Not F_SETOWN and F_SETSIG, which send any signal to any process. */
static void add_control(filter *to) {
  static const scmp_datum_t commands[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD,  F_SETFD,     F_GETFL,     F_SETFL,
                                          F_GETLK, F_SETLK,         F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW};
  for (size_t i = 0; i < MG_COUNT(commands); i++) add_if(to, "fcntl", SCMP_A1_64(SCMP_CMP_EQ, commands[i]));
}

static void add_own(filter *to) {
  const scmp_datum_t self = (scmp_datum_t)getpid();
  add_if(to, "tgkill", SCMP_A0_64(SCMP_CMP_EQ, self)); /* abort */
  add_if(to, "kill", SCMP_A0_64(SCMP_CMP_EQ, self));
  const struct scmp_arg_cmp reading[] = {SCMP_A0_64(SCMP_CMP_EQ, 0), SCMP_A2_64(SCMP_CMP_EQ, 0)};
  add(to, "prlimit64", MG_COUNT(reading), reading);
  add_if(to, "prctl", SCMP_A0_64(SCMP_CMP_EQ, PR_SET_NAME));
  add_if(to, "prctl", SCMP_A0_64(SCMP_CMP_EQ, PR_GET_NAME));
  add_if(to, "ioctl", SCMP_A1_64(SCMP_CMP_EQ, TCGETS)); /* isatty */
}

static void add_processes(filter *to, bool programs) {
  const uint64_t spaces =
      CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
  if (!programs) {
    add_if(to, "clone", SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    add_map(to);
    return;
  }
  add(to, "mmap", 0, NULL);
  add_if(to, "setuid", SCMP_A0_64(SCMP_CMP_EQ, (scmp_datum_t)getuid())); /* gnuplot gives up what it does not have */
  add_if(to, "clone", SCMP_A0_64(SCMP_CMP_MASKED_EQ, spaces, 0));
  for (size_t i = 0; i < MG_COUNT(program_calls); i++) add(to, program_calls[i], 0, NULL);
}

static int build(filter *to, bool programs) {
  to->of = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  if (!to->of) return -ENOMEM;
  for (size_t i = 0; i < MG_COUNT(free_calls); i++) add(to, free_calls[i], 0, NULL);
  add_open(to);
  add_control(to);
  add_own(to);
  add_processes(to, programs);
  if (to->failed) return to->failed;
  /* The flags of clone3 lie in memory, where a filter cannot look; the C library then takes clone. */
  const int missing = seccomp_rule_add(to->of, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  return missing ? missing : seccomp_load(to->of);
}

mg_status mg__sandbox_calls_check(mg_context *context) {
  if (prctl(PR_GET_SECCOMP) >= 0) return MG_OK;
  return mg_fail(context, MG_UNSUPPORTED,
                 "there is no sandbox: this kernel has no seccomp (%s); read the script and run it without --sandbox",
                 strerror(errno));
}

mg_status mg__sandbox_calls(mg_context *context, bool programs) {
  filter to = {0};
  const int failed = build(&to, programs);
  if (to.of) seccomp_release(to.of);
  return failed ? mg_fail(context, MG_UNSUPPORTED, "the sandbox cannot be entered: seccomp: %s", strerror(-failed))
                : MG_OK;
}
