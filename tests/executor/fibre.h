/* Fibres: stacks of their own between which one thread of the operating system switches. */
#ifndef MG_TESTS_EXECUTOR_FIBRE_H
#define MG_TESTS_EXECUTOR_FIBRE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fibre fibre;

/* A fibre that will run entry(user) when it is first switched to; entry must not return. NULL when memory runs out. */
fibre *fibre_create(void (*entry)(void *user), void *user);
/* Not the running one. What stands on its stack is dropped. */
void fibre_destroy(fibre *f);
/* The fibre of the caller, for switching back to it; to be destroyed too. */
fibre *fibre_of_caller(void);
/* Leaves `from`, the running fibre, and continues `to`. */
void fibre_switch(fibre *from, fibre *to);

#ifdef __cplusplus
}
#endif

#endif
