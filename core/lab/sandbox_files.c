/* Landlock: a process gives up all access to files but what its rules name, for itself and all that it starts
 * (https://docs.kernel.org/userspace-api/landlock.html). */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/sandbox_internal.h"

static const uint64_t execute = LANDLOCK_ACCESS_FS_EXECUTE,
                      read_only = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
                      /* Links, devices, sockets and pipes are not made. */
    change = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
             LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR;

/* What a later kernel controls beside: moving between folders (interface 2) and truncating (3). The headers of Debian 12
 * have no name for the latter; seccomp covers it where Landlock does not. */
static const uint64_t refer = (uint64_t)1 << 13, truncates = (uint64_t)1 << 14;

/* What the C library, the threads' library and a processor's description need. */
static const char *const system_readable[] = {
    "/proc/cpuinfo",       "/proc/meminfo", "/proc/self", "/sys/devices/system", "/etc/localtime",
    "/usr/share/zoneinfo", "/dev/urandom",  "/dev/null",  "/dev/zero",           "/proc/sys/vm/overcommit_memory"};
/* And what the loader of a program needs, and gnuplot to draw. */
static const char *const program_readable[] = {"/usr",         "/lib",      "/lib64", "/etc/ld.so.cache",
                                               "/etc/gnuplot", "/etc/fonts"};

typedef struct rules {
  mg_context *context;
  int set;
  uint64_t handled;
} rules;

static int interface_version(void) {
  return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

mg_status mg__sandbox_files_check(mg_context *context) {
  if (interface_version() >= 1) return MG_OK;
  return mg_fail(
      context, MG_UNSUPPORTED,
      "there is no sandbox: this kernel has no Landlock (%s); use Linux 5.13 or newer with Landlock switched on, or "
      "read the script and run it without --sandbox",
      strerror(errno));
}

/* Allows `access` to a file, or to a folder and all below it. A path that is not there is no error. */
static mg_status allow(const rules *to, const char *path, uint64_t access) {
  struct stat about;
  const int file = open(path, O_PATH | O_CLOEXEC);
  if (file < 0) return MG_OK;
  const uint64_t of_files = execute | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | truncates;
  if (fstat(file, &about) == 0 && !S_ISDIR(about.st_mode)) access &= of_files;
  const struct landlock_path_beneath_attr rule = {.allowed_access = access & to->handled, .parent_fd = file};
  const long failed = syscall(SYS_landlock_add_rule, to->set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
  const int reason = errno;
  close(file);
  if (!failed) return MG_OK;
  return mg_fail(to->context, MG_UNSUPPORTED, "the sandbox cannot be entered: %s: %s", path, strerror(reason));
}

static mg_status allow_all(const rules *to, const char *const *paths, size_t count) {
  for (size_t i = 0; i < count; i++) MG_TRY(allow(to, paths[i], read_only));
  return MG_OK;
}

/* A dynamic program is started by the loader that started this one. */
static mg_status allow_program(const rules *to, const char *program) {
  Dl_info about;
  const unsigned long loader = getauxval(AT_BASE);
  MG_TRY(allow_all(to, program_readable, MG_COUNT(program_readable)));
  MG_TRY(allow(to, program, execute | LANDLOCK_ACCESS_FS_READ_FILE));
  if (loader && dladdr((void *)(uintptr_t)loader, &about) && about.dli_fname)
    MG_TRY(allow(to, about.dli_fname, execute | LANDLOCK_ACCESS_FS_READ_FILE));
  return MG_OK;
}

static mg_status fill(const rules *to, const mg_sandbox *sandbox) {
  MG_TRY(allow_all(to, system_readable, MG_COUNT(system_readable)));
  MG_TRY(allow_all(to, sandbox->readable, (size_t)sandbox->readable_count));
  MG_TRY(allow(to, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | truncates));
  if (sandbox->writable) MG_TRY(allow(to, sandbox->writable, read_only | change | refer | truncates));
  return sandbox->program ? allow_program(to, sandbox->program) : MG_OK;
}

mg_status mg__sandbox_files(mg_context *context, const mg_sandbox *sandbox) {
  const int version = interface_version();
  struct landlock_ruleset_attr all = {.handled_access_fs = refer - 1}; /* every right of interface 1 */
  if (version >= 2) all.handled_access_fs |= refer;
  if (version >= 3) all.handled_access_fs |= truncates;
  const rules to = {context, (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all.handled_access_fs, 0),
                    all.handled_access_fs};
  if (to.set < 0) return mg_fail(context, MG_UNSUPPORTED, "the sandbox cannot be entered: %s", strerror(errno));
  mg_status status = fill(&to, sandbox);
  if (status == MG_OK && syscall(SYS_landlock_restrict_self, to.set, 0) != 0)
    status = mg_fail(context, MG_UNSUPPORTED, "the sandbox cannot be entered: Landlock: %s", strerror(errno));
  close(to.set);
  return status;
}
