/* The learning rate over a run: a linear warm-up to `rate`, then a cosine (Loshchilov and Hutter 2016, arXiv
 * 1608.03983), a line, or a constant down to final_rate * rate. */
#include "train/run.h"

#include <math.h>

double mg__schedule_rate(const mg__train_settings *settings, int64_t step, int64_t steps) {
  static const double pi = 3.14159265358979323846;
  const double warm = ceil(settings->warmup * (double)steps);
  if ((double)step <= warm) return settings->rate * (double)step / warm;
  const double progress = ((double)step - warm) / fmax((double)steps - warm, 1.0);
  double left = 1.0; /* of the way down to the final rate */
  if (settings->schedule == MG__SCHEDULE_COSINE) left = 0.5 * (1.0 + cos(pi * progress));
  if (settings->schedule == MG__SCHEDULE_LINEAR) left = 1.0 - progress;
  return settings->rate * (settings->final_rate + (1.0 - settings->final_rate) * left);
}
