/* Collectives as measured: time over size for each operation and number of ranks, interpolated, because their libraries
 * switch protocols and no formula follows them. */
#ifndef MG_CLUSTER_INTERPOLATION_H
#define MG_CLUSTER_INTERPOLATION_H

#include "moegauge/context.h"

typedef enum mg_collective {
  MG_COLLECTIVE_ALL_REDUCE,
  MG_COLLECTIVE_ALL_GATHER,
  MG_COLLECTIVE_REDUCE_SCATTER,
  MG_COLLECTIVE_ALL_TO_ALL,
  MG_COLLECTIVE_COUNT
} mg_collective;
extern const char *const mg_collective_names[]; /* "all_reduce", ...; NULL-terminated */

typedef struct mg_collective_point {
  mg_collective collective;
  int64_t ranks;
  double bytes, seconds;
} mg_collective_point;

/* Points sorted by collective, ranks and bytes. */
typedef struct mg_collective_table {
  mg_collective_point *points;
  size_t count, room;
} mg_collective_table;

mg_status mg_collective_add(mg_context *context, mg_collective_table *table, const mg_collective_point *point);
/* Sorts, and keeps the fastest of points that were measured more than once. */
void mg_collective_sort(mg_collective_table *table);
void mg_collective_free(mg_context *context, mg_collective_table *table);

/* Log-log between the two nearest sizes of the ranks that were measured; `left_out` is a point to be ignored, count =
 * none. False if ranks or bytes lie outside what was measured; *seconds then is the nearest point scaled in proportion
 * to the bytes, or 0 without any. */
bool mg_collective_time(const mg_collective_table *table, size_t left_out, mg_collective collective, int64_t ranks,
                        double bytes, double *seconds);
/* Median and worst relative error of each inner point predicted from the others. 0 points: zeros. */
mg_status mg_collective_errors(mg_context *context, const mg_collective_table *table, double *median, double *worst);

#endif
