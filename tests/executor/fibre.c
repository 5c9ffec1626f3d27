/* Fibres by an own switch where the processor is known, and by ucontext elsewhere: the latter asks the kernel at every
 * switch, which takes a hundred times as long. Sanitizers are told of each switch. */
#include "fibre.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBRE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBRE_ADDRESS_SANITIZER 1
#endif
#endif
#ifdef FIBRE_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

enum { STACK_BYTES = 256 << 10 }; /* touched pages alone take memory */

struct fibre {
#if defined(__x86_64__)
  void *stack_pointer;
#else
  ucontext_t context;
#endif
  char *stack; /* NULL for the caller's own; begins with a page that faults */
  size_t bytes;
  void (*entry)(void *user);
  void *user;
#ifdef FIBRE_ADDRESS_SANITIZER
  void *fake_stack;
  const void *bottom; /* of a fibre_of_caller, learnt at the first switch away */
  size_t bottom_bytes;
#endif
};

static void arrived(fibre *self, fibre *from);

/* ---- the switch ------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)

/* Saves what a call must keep (System V ABI) and the stack pointer in *save, and takes up what `load` saved. The
 * registers of the floating-point mode are not touched by anybody here. `argument` arrives in the second fibre. */
#define IN_REGISTER __attribute__((unused))
__attribute__((naked, noinline)) static void *swap(IN_REGISTER void **save, IN_REGISTER void *load,
                                                   IN_REGISTER void *argument) {
  __asm__("pushq %rbp\n"
          "pushq %rbx\n"
          "pushq %r12\n"
          "pushq %r13\n"
          "pushq %r14\n"
          "pushq %r15\n"
          "movq %rsp, (%rdi)\n"
          "movq %rsi, %rsp\n"
          "popq %r15\n"
          "popq %r14\n"
          "popq %r13\n"
          "popq %r12\n"
          "popq %rbx\n"
          "popq %rbp\n"
          "movq %rdx, %rax\n"
          "retq\n");
}

/* Where a new fibre's first switch arrives: the fibre stands in r12, the one it came from in rax. */
__attribute__((naked, noinline)) static void enter(void) {
  __asm__("movq %r12, %rdi\n"
          "movq %rax, %rsi\n"
          "callq *%r13\n"
          "ud2\n");
}

static void first_steps(fibre *self, fibre *from) {
  arrived(self, from);
  self->entry(self->user);
  abort();
}

static void prepare(fibre *f) {
  void **top = (void **)(void *)(f->stack + f->bytes);
  top -= 2; /* nothing returns from here; aligned as a call expects it */
  *--top = (void *)(uintptr_t)enter;
  *--top = NULL;                           /* rbp */
  *--top = NULL;                           /* rbx */
  *--top = f;                              /* r12 */
  *--top = (void *)(uintptr_t)first_steps; /* r13 */
  *--top = NULL;                           /* r14 */
  *--top = NULL;                           /* r15 */
  f->stack_pointer = top;
}

static fibre *swap_to(fibre *from, fibre *to) {
  return swap(&from->stack_pointer, to->stack_pointer, from);
}

#else

static _Thread_local fibre *came_from;

static void first_steps(unsigned high, unsigned low) {
  fibre *self = (fibre *)(uintptr_t)((uint64_t)high << 32 | low);
  arrived(self, came_from);
  self->entry(self->user);
  abort();
}

static void prepare(fibre *f) {
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = f->bytes;
  const uint64_t address = (uintptr_t)f;
  makecontext(&f->context, (void (*)(void))first_steps, 2, (unsigned)(address >> 32), (unsigned)address);
}

static fibre *swap_to(fibre *from, fibre *to) {
  came_from = from;
  swapcontext(&from->context, &to->context);
  return came_from;
}

#endif

/* ---- the sanitizer's part --------------------------------------------------------------------------------------- */

static void arrived(fibre *self, fibre *from) {
#ifdef FIBRE_ADDRESS_SANITIZER
  const void *bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(self->fake_stack, &bottom, &bytes);
  if (from->stack) return;
  from->bottom = bottom;
  from->bottom_bytes = bytes;
#else
  (void)self, (void)from;
#endif
}

void fibre_switch(fibre *from, fibre *to) {
#ifdef FIBRE_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&from->fake_stack, to->stack ? to->stack : to->bottom,
                                 to->stack ? to->bytes : to->bottom_bytes);
#endif
  arrived(from, swap_to(from, to));
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

fibre *fibre_of_caller(void) {
  return calloc(1, sizeof(fibre));
}

fibre *fibre_create(void (*entry)(void *user), void *user) {
  fibre *f = calloc(1, sizeof *f);
  if (!f) return NULL;
  void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) {
    free(f);
    return NULL;
  }
  (void)mprotect(stack, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE);
  f->stack = stack;
  f->bytes = STACK_BYTES;
  f->entry = entry;
  f->user = user;
  prepare(f);
  return f;
}

void fibre_destroy(fibre *f) {
  if (!f) return;
#ifdef FIBRE_ADDRESS_SANITIZER
  if (f->stack) __asan_unpoison_memory_region(f->stack, f->bytes);
#endif
  if (f->stack) munmap(f->stack, f->bytes);
  free(f);
}
