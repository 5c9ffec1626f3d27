/* Logarithmic bins: bin i holds durations from 1e-6 * 1.01^i seconds on; shorter ones are in the first, longer ones in the
 * last. */
#include "cluster/durations.h"

#include <math.h>

static const double shortest = 1e-6, width = 0.00995033085316808285; /* ln 1.01 */

void mg_durations_add(mg_durations *durations, double seconds, int64_t count) {
  const double bin = seconds > shortest ? log(seconds / shortest) / width : 0;
  durations->bins[bin < MG_DURATIONS_BINS - 1 ? (int64_t)bin : MG_DURATIONS_BINS - 1] += count;
  durations->count += count;
  durations->sum += seconds * (double)count;
}

double mg_durations_mean(const mg_durations *durations) {
  return durations->count > 0 ? durations->sum / (double)durations->count : NAN;
}

double mg_durations_quantile(const mg_durations *durations, double share) {
  if (durations->count == 0) return NAN;
  const double wanted = share * (double)durations->count;
  int64_t bin = 0;
  for (int64_t seen = durations->bins[0]; (double)seen < wanted && bin < MG_DURATIONS_BINS - 1;)
    seen += durations->bins[++bin];
  return shortest * exp(((double)bin + 0.5) * width);
}
