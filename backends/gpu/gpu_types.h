/* Types that the vendor headers fill in and the shared code reads. */
#ifndef MG_GPU_TYPES_H
#define MG_GPU_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an error of the runtime means to the user. */
typedef enum gpu_problem {
  GPU_PROBLEM_NONE,
  GPU_PROBLEM_MEMORY,       /* the device's memory is used up */
  GPU_PROBLEM_NO_DEVICE,    /* none is there, or its driver is not */
  GPU_PROBLEM_ARCHITECTURE, /* the plugin holds no code for this device */
  GPU_PROBLEM_CALL,         /* a launch or call was refused: a fault of this plugin */
  GPU_PROBLEM_LOST          /* the device failed; this process can use it no more */
} gpu_problem;

enum { GPU_NAME_BYTES = 256, GPU_WORD_BYTES = 48 };

typedef struct gpu_device_facts {
  char name[GPU_NAME_BYTES];         /* "NVIDIA H100 80GB HBM3" */
  char architecture[GPU_NAME_BYTES]; /* "sm_90", "gfx90a:sramecc+:xnack-" */
  char driver[GPU_WORD_BYTES];       /* version */
  char bus[GPU_WORD_BYTES];          /* PCI address, by which the energy meters know the device */
  int multiprocessors;
  int warp; /* threads that run in step */
  int64_t memory_bytes;
} gpu_device_facts;

/* The device's energy meter, which a library of the vendor reads; found at run time, absent on many machines. */
typedef struct gpu_meter {
  void *library; /* NULL: there is none */
  void *device;  /* as the library names it */
} gpu_meter;

/* The vendor's library of matrix products, found at run time too. */
typedef struct gpu_blas {
  bool ready; /* false: there is none, or it is of no use */
  void *library, *handle;
  char name[GPU_WORD_BYTES]; /* with its version */
} gpu_blas;

/* out = left right, [M, N] with K between, for each of `count` matrices that follow each other; f32 sums. */
typedef struct gpu_gemm {
  const void *left, *right;
  void *out;
  bool bf16, out_bf16;        /* elements of left and right, and of out; else f32 */
  bool left_last, right_last; /* is the depth the last index of the operand as stored? */
  bool accumulate;            /* add to what out holds */
  int64_t M, N, K, count;     /* each from 1 to INT32_MAX */
} gpu_gemm;

/* Blocks of a launch along x and y. */
typedef struct gpu_grid {
  uint32_t x, y;
} gpu_grid;

#endif
