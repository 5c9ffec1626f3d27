/* Loss spikes: a loss more than 6 deviations above the mean of the last 128 steps, or more than 10 times their median.
 * The first 16 steps are only watched, because so few say nothing about the spread. */
#include "train/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WATCH_FIRST = 16 };

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double mg__median(double *values, int64_t count) {
  if (count == 0) return 0.0;
  qsort(values, (size_t)count, sizeof *values, by_value);
  return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

static bool is_spike(const mg__spikes *spikes, double loss) {
  const int64_t count = spikes->seen < MG__SPIKE_WINDOW ? spikes->seen : MG__SPIKE_WINDOW;
  if (count < WATCH_FIRST) return false;
  double sorted[MG__SPIKE_WINDOW], sum = 0.0, squares = 0.0;
  memcpy(sorted, spikes->window, (size_t)count * sizeof *sorted);
  for (int64_t i = 0; i < count; i++) sum += sorted[i];
  const double mean = sum / (double)count;
  for (int64_t i = 0; i < count; i++) squares += (sorted[i] - mean) * (sorted[i] - mean);
  const double deviation = sqrt(squares / (double)count);
  return (deviation > 0.0 && loss > mean + 6.0 * deviation) || loss > 10.0 * mg__median(sorted, count);
}

bool mg__spikes_add(mg__spikes *spikes, double loss) {
  const bool spike = is_spike(spikes, loss);
  spikes->window[spikes->seen % MG__SPIKE_WINDOW] = loss;
  spikes->seen++;
  spikes->count += spike;
  return spike;
}
