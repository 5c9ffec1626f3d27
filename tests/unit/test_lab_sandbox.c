/* What a process in a sandbox can and cannot do, each tried in a child that entered one: the rest of the file system, the
 * network, other processes, code from files, and more than its share of memory, time and file. */
#include "support/testing.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/sandbox.h"

enum { SKIPPED = 77, NOT_ENTERED = 99, DIED = 1000, MEGABYTE = 1 << 20 };

static mg_context *context;
static char folder[] = "/tmp/moegauge-sandbox-XXXXXX", given[64], given_file[64], work[64], secret[64];
static char plugin[4096];

static void write_file(const char *path) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_true(fputs("words\n", file) >= 0 && fclose(file) == 0);
}

static int open_world(void **state) {
  (void)state;
  if (mg_context_create(NULL, &context) != MG_OK || !mkdtemp(folder)) return 1;
  snprintf(given, sizeof given, "%s/given", folder);
  snprintf(given_file, sizeof given_file, "%s/given/file", folder);
  snprintf(work, sizeof work, "%s/work", folder);
  snprintf(secret, sizeof secret, "%s/secret", folder);
  snprintf(plugin, sizeof plugin, "%s/lib/moegauge/routers/topk.so", getenv("MOEGAUGE_BUILD"));
  if (mkdir(given, 0755) != 0 || mkdir(work, 0755) != 0) return 1;
  write_file(given_file);
  write_file(secret);
  return 0;
}

static int close_world(void **state) {
  char command[128];
  (void)state;
  mg_context_destroy(context);
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}

/* Runs `attempt` in a child that entered the sandbox: 0 if it succeeded, else the error that it met, or DIED and the
 * signal. */
static int try_in(const mg_sandbox *sandbox, int (*attempt)(void)) {
  int status;
  fflush(stdout);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    if (mg_sandbox_enter(context, sandbox) != MG_OK) _exit(NOT_ENTERED);
    errno = 0;
    _exit(attempt() ? 0 : errno);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) return DIED + WTERMSIG(status);
  assert_int_not_equal(WEXITSTATUS(status), NOT_ENTERED);
  return WEXITSTATUS(status);
}

static int try(int (*attempt)(void)) {
  const char *const readable[] = {given, plugin, "/nowhere/at/all"};
  const mg_sandbox sandbox = {.readable = readable, .readable_count = MG_COUNT(readable), .writable = work};
  return try_in(&sandbox, attempt);
}

/* ---- files -------------------------------------------------------------------------------------------------- */

static int opens(const char *path, int flags) {
  return open(path, flags | O_CLOEXEC, 0644) >= 0;
}

static int read_given(void) {
  return opens(given_file, O_RDONLY) && opens(given, O_RDONLY | O_DIRECTORY);
}
static int read_secret(void) {
  return opens(secret, O_RDONLY);
}
static int read_secret_around(void) {
  return chdir(given) == 0 && opens("../secret", O_RDONLY);
}
static int read_secret_by_name(void) {
  char path[160];
  snprintf(path, sizeof path, "%s/../secret", given);
  return opens(path, O_RDONLY);
}
static int list_folder(void) {
  return opens(folder, O_RDONLY | O_DIRECTORY);
}
static int read_another_process(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/environ", (int)getppid());
  return opens(path, O_RDONLY);
}
static int write_given(void) {
  return opens(given_file, O_WRONLY);
}
static int truncate_given(void) {
  return opens(given_file, O_RDONLY | O_TRUNC);
}
static int truncate_given_by_name(void) {
  return truncate(given_file, 0) == 0;
}
static int write_beside(void) {
  char path[96];
  snprintf(path, sizeof path, "%s/new", folder);
  return opens(path, O_WRONLY | O_CREAT);
}
static int remove_secret(void) {
  return unlink(secret) == 0;
}

static void chain_work(char path[96], const char *name) {
  snprintf(path, 96, "%s/%s", work, name);
}

static int write_work(void) {
  char below[96], one[96], other[96];
  chain_work(below, "below");
  chain_work(one, "below/one");
  chain_work(other, "other");
  return mkdir(below, 0755) == 0 && opens(one, O_WRONLY | O_CREAT | O_TRUNC) && opens(one, O_RDONLY) &&
         rename(one, other) == 0 && unlink(other) == 0 && rmdir(below) == 0;
}
static int link_work(void) {
  char path[96];
  chain_work(path, "link");
  return symlink(secret, path) == 0;
}
static int hard_link_work(void) {
  char path[96];
  chain_work(path, "link");
  return link(secret, path) == 0;
}
static int grow_a_file(void) {
  char path[96];
  chain_work(path, "large");
  const int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  return file >= 0 && ftruncate(file, (off_t)5 << 30) == 0;
}

static void files_are_read_and_written_where_allowed(void **state) {
  (void)state;
  assert_int_equal(try(read_given), 0);
  assert_int_equal(try(write_work), 0);
}

static void other_files_are_out_of_reach(void **state) {
  (void)state;
  assert_int_equal(try(read_secret), EACCES);
  assert_int_equal(try(read_secret_by_name), EACCES);
  assert_int_equal(try(read_secret_around), EPERM);
  assert_int_equal(try(list_folder), EACCES);
  assert_int_equal(try(read_another_process), EACCES);
  assert_int_equal(try(remove_secret), EACCES);
  assert_int_equal(try(write_beside), EACCES);
  assert_int_equal(try(link_work), EPERM);
  assert_int_equal(try(hard_link_work), EPERM);
}

static void what_may_be_read_cannot_be_changed(void **state) {
  (void)state;
  assert_int_equal(try(write_given), EACCES);
  assert_int_equal(try(truncate_given), EPERM);
  assert_int_equal(try(truncate_given_by_name), EPERM);
  struct stat about;
  assert_int_equal(stat(given_file, &about), 0);
  assert_int_equal(about.st_size, 6);
}

/* ---- the network, processes, code ---------------------------------------------------------------------------- */

static int internet(void) {
  return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}
static int local_socket(void) {
  return socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
}
static int socket_pair(void) {
  int ends[2];
  return socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0;
}
static int fork_one(void) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  return child > 0;
}
static int execute_shell(void) {
  return execl("/bin/sh", "sh", "-c", "exit 0", (char *)NULL) == 0;
}
static int execute_true(void) {
  return execl("/bin/true", "true", (char *)NULL) == 0;
}
static int signal_parent(void) {
  return kill(getppid(), SIGTERM) == 0;
}
static int signal_group(void) {
  return kill(0, SIGTERM) == 0;
}
static int signal_by_file(void) {
  return fcntl(STDIN_FILENO, F_SETOWN, getppid()) == 0;
}
static int trace_parent(void) {
  return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == 0;
}
static int outlive_parent(void) {
  return setsid() >= 0;
}
static int load_library(void) {
  if (dlopen(plugin, RTLD_NOW)) return 1;
  errno = strstr(dlerror(), "failed to map segment") ? EPERM : ENOENT;
  return 0;
}

static void there_is_no_network(void **state) {
  (void)state;
  assert_int_equal(try(internet), EPERM);
  assert_int_equal(try(local_socket), EPERM);
  assert_int_equal(try(socket_pair), EPERM);
}

static void there_are_no_other_processes(void **state) {
  (void)state;
  assert_int_equal(try(fork_one), EPERM);
  assert_int_equal(try(execute_shell), EPERM);
  assert_int_equal(try(signal_parent), EPERM);
  assert_int_equal(try(signal_group), EPERM);
  assert_int_equal(try(signal_by_file), EPERM);
  assert_int_equal(try(trace_parent), EPERM);
  assert_int_equal(try(outlive_parent), EPERM);
}

static void only_the_program_that_was_named_is_started(void **state) {
  (void)state;
  char program[4096];
  assert_non_null(realpath("/bin/true", program));
  const mg_sandbox sandbox = {.program = program};
  assert_int_equal(try_in(&sandbox, execute_true), 0);
  assert_int_equal(try_in(&sandbox, execute_shell), EACCES);
  assert_int_equal(try_in(&sandbox, internet), EPERM);
  assert_int_equal(try_in(&sandbox, read_secret), EACCES);
}

static void no_file_becomes_code(void **state) {
  (void)state;
  assert_int_equal(try(load_library), EPERM);
}

/* ---- shares -------------------------------------------------------------------------------------------------- */

static void *nothing(void *user) {
  return user;
}
static int start_thread(void) {
  pthread_t thread;
  return pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
}
static int eat_memory(void) {
  return malloc((size_t)512 * MEGABYTE) != NULL;
}
static int some_memory(void) {
  return malloc((size_t)16 * MEGABYTE) != NULL;
}
static int eat_time(void) {
  volatile int64_t rounds = 0;
  while (rounds >= 0) rounds = rounds + 1;
  return 1;
}
static int eat_descriptors(void) {
  for (int i = 0; i < 1000; i++)
    if (dup(STDIN_FILENO) < 0) return 0;
  return 1;
}
static int raise_limit(void) {
  const struct rlimit more = {1 << 20, 1 << 20};
  return setrlimit(RLIMIT_NOFILE, &more) == 0;
}

static void threads_run(void **state) {
  (void)state;
  assert_int_equal(try(start_thread), 0);
}

static void memory_time_and_files_are_limited(void **state) {
  (void)state;
  const char *sanitizer = getenv("MOEGAUGE_SANITIZE");
  const mg_sandbox tight = {.memory_bytes = (int64_t)256 * MEGABYTE, .cpu_seconds = 1};
  assert_int_equal(try_in(&tight, some_memory), 0);
  if (!sanitizer || !*sanitizer) assert_int_equal(try_in(&tight, eat_memory), ENOMEM);
  assert_int_equal(try_in(&tight, eat_time), DIED + SIGXCPU);
  assert_int_equal(try(eat_descriptors), EMFILE);
  assert_int_equal(try(raise_limit), EPERM);
  assert_int_equal(try(grow_a_file), EFBIG);
}

/* As a kernel without Landlock answers. */
static void a_kernel_that_cannot_shut_in_is_refused(void **state) {
  (void)state;
  int status;
  const pid_t child = fork();
  if (child == 0) {
    const mg_sandbox sandbox = {0};
    const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    const int old = seccomp_syscall_resolve_name("landlock_create_ruleset");
    const bool made = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), old, 0) == 0 && seccomp_load(filter) == 0;
    const bool refused = mg_sandbox_enter(context, &sandbox) == MG_UNSUPPORTED &&
                         strstr(mg_context_message(context), "there is no sandbox: this kernel has no Landlock");
    _exit(made && refused && mg_status_exit_code(MG_UNSUPPORTED) == 6 ? 0 : 1);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static void *wait_long(void *user) {
  sleep(60);
  return user;
}

/* Landlock binds one thread: the others would stay free. */
static void a_process_with_threads_is_not_shut_in(void **state) {
  (void)state;
  int status;
  const pid_t child = fork();
  if (child == 0) {
    pthread_t thread;
    pthread_create(&thread, NULL, wait_long, NULL);
    const mg_sandbox sandbox = {0};
    _exit(mg_sandbox_enter(context, &sandbox) == MG_BUG &&
                  strstr(mg_context_message(context), "the process has 2 threads already")
              ? 0
              : 1);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(files_are_read_and_written_where_allowed),
      cmocka_unit_test(other_files_are_out_of_reach),
      cmocka_unit_test(what_may_be_read_cannot_be_changed),
      cmocka_unit_test(there_is_no_network),
      cmocka_unit_test(there_are_no_other_processes),
      cmocka_unit_test(only_the_program_that_was_named_is_started),
      cmocka_unit_test(no_file_becomes_code),
      cmocka_unit_test(threads_run),
      cmocka_unit_test(memory_time_and_files_are_limited),
      cmocka_unit_test(a_kernel_that_cannot_shut_in_is_refused),
      cmocka_unit_test(a_process_with_threads_is_not_shut_in),
  };
  mg_context *probe;
  if (mg_context_create(NULL, &probe) != MG_OK) return 1;
  const bool possible = mg_sandbox_check(probe) == MG_OK;
  if (!possible) printf("skipped: %s\n", mg_context_message(probe));
  mg_context_destroy(probe);
  return possible ? cmocka_run_group_tests(tests, open_world, close_world) : SKIPPED;
}
