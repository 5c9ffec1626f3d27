/* What happens when a mapped file loses pages under a view: the kernel raises SIGBUS in the thread that touched one.
 *
 * The handler looks the address up among the mappings of open checkpoints, puts zero pages where the rest of that
 * mapping was, marks it as damaged, and returns: the thread goes on with zeros, and mg_checkpoint_unchanged tells. No
 * thread is unwound, so kernels and their locks need not know. An address of no checkpoint goes to the handler that was
 * there before. The table below is the only memory that a signal handler can reach, hence mutable and global; it is
 * written with atomics alone. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/checkpoint/internal.h"

/* begin is 0 where free and 1 while it is being filled. */
static struct {
  _Atomic uintptr_t begin, bytes;
  atomic_bool damaged;
} guarded[MG__GUARDED_MAX];
static struct sigaction before;
static atomic_flag installed = ATOMIC_FLAG_INIT;

int mg__guard_add(const void *mapping, uint64_t bytes) {
  for (int i = 0; i < MG__GUARDED_MAX; i++) {
    uintptr_t expected = 0;
    if (!atomic_compare_exchange_strong(&guarded[i].begin, &expected, 1)) continue;
    atomic_store(&guarded[i].bytes, (uintptr_t)bytes);
    atomic_store(&guarded[i].damaged, false);
    atomic_store(&guarded[i].begin, (uintptr_t)mapping);
    return i;
  }
  return -1;
}

void mg__guard_remove(int place) {
  if (place >= 0) atomic_store(&guarded[place].begin, 0);
}

bool mg__guard_damaged(int place) {
  return place >= 0 && atomic_load(&guarded[place].damaged);
}

/* Zero pages from the page of `address` to the end of its mapping; false if it belongs to none. */
static bool replace_rest(uintptr_t address) {
  for (int i = 0; i < MG__GUARDED_MAX; i++) {
    const uintptr_t begin = atomic_load(&guarded[i].begin), bytes = atomic_load(&guarded[i].bytes);
    if (begin <= 1 || address < begin || address - begin >= bytes) continue;
    const uintptr_t page = address & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    atomic_store(&guarded[i].damaged, true);
    return mmap((void *)page, begin + bytes - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
           MAP_FAILED;
  }
  return false;
}

static void on_bus_error(int number, siginfo_t *info, void *machine) {
  const int kept = errno;
  const bool ours = info->si_code == BUS_ADRERR && replace_rest((uintptr_t)info->si_addr);
  errno = kept;
  if (ours) return;
  if (before.sa_flags & SA_SIGINFO)
    before.sa_sigaction(number, info, machine);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
    before.sa_handler(number);
  else
    signal(number, SIG_DFL); /* the instruction runs again and ends the process as it would have */
}

mg_status mg_checkpoint_guard(mg_context *context) {
  if (atomic_flag_test_and_set(&installed)) return MG_OK;
  struct sigaction wanted = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&wanted.sa_mask);
  if (sigaction(SIGBUS, NULL, &before) == 0 && sigaction(SIGBUS, &wanted, NULL) == 0) return MG_OK;
  atomic_flag_clear(&installed);
  return mg_fail(context, MG_BUG, "no handler for SIGBUS could be installed: %s", strerror(errno));
}
