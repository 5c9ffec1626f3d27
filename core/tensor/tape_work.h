/* What the tape counts, for layers above that account for work. */
#ifndef MG_TENSOR_TAPE_WORK_H
#define MG_TENSOR_TAPE_WORK_H

#include "base/counters.h"
#include "moegauge/tape.h"

/* The tape's counters, indexed by mg_part; the caller may zero them. Work is counted as calls are made. */
mg_counters *mg_tape_counters(mg_tape *tape);

/* With timing on, the tape waits for the device after each call and adds its time to the call's part. */
void mg_tape_set_timing(mg_tape *tape, bool timing);

/* Runs one call on the tape's backend without recording it (optimiser, evaluation), counted like any other. */
mg_status mg_tape_run(mg_tape *tape, mg_op_call *call);

#endif
