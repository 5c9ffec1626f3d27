/* What the tape counts, for layers above that account for work. */
#ifndef MG_TENSOR_TAPE_WORK_H
#define MG_TENSOR_TAPE_WORK_H

#include "base/counters.h"
#include "moegauge/tape.h"

/* The tape's counters, indexed by mg_part; the caller may zero them. Work is counted as calls are made. */
mg_counters *mg_tape_counters(mg_tape *tape);

/* With timing on, the tape waits for the device after each call and adds its time to the call's part. */
void mg_tape_set_timing(mg_tape *tape, bool timing);

/* Whether the tape remembers what runs, for backward. */
bool mg_tape_recording(const mg_tape *tape);

/* What runs between the two is a step like the one before but for addresses and sizes, which the backend may submit as one
 * (step_begin in moegauge/backend.h). The end follows the begin also on a tape that has failed, and fails the tape when
 * the submission does. */
void mg_tape_begin_step(mg_tape *tape);
void mg_tape_end_step(mg_tape *tape);

/* A place in the tape's memory. Going back to it gives back the memory of all variables made since: they must not be used
 * any more. Only where the tape does not record. */
typedef struct mg_tape_place {
  const void *chunk;
  size_t chunk_used, used;
} mg_tape_place;
mg_tape_place mg_tape_here(const mg_tape *tape);
void mg_tape_go_back(mg_tape *tape, mg_tape_place place);

/* Runs one call on the tape's backend without recording it (optimiser, evaluation), counted like any other. */
mg_status mg_tape_run(mg_tape *tape, mg_op_call *call);

#endif
