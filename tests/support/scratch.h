/* A folder of a test program's own, and one file in it. */
#ifndef MG_TESTS_SUPPORT_SCRATCH_H
#define MG_TESTS_SUPPORT_SCRATCH_H

typedef struct mg_scratch {
  char folder[48];
  char path[64]; /* of the file, which is not there yet */
} mg_scratch;

/* Makes the folder; 0, or 1 after a failure, as cmocka's setups return. `name` has at most 15 bytes. */
int mg_scratch_open(mg_scratch *scratch, const char *name);
/* Removes the folder with what is in it; 0, or another number after a failure. */
int mg_scratch_close(const mg_scratch *scratch);

#endif
