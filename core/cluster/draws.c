/* Inversion, Box-Muller, and rejection for the gamma distribution. */
#include "cluster/draws.h"

#include <math.h>

double mg__draw_uniform(mg__draws *draws) {
  return mg_random_uniform(draws->stream, draws->next++);
}

double mg__draw_normal(mg__draws *draws) {
  draws->next += draws->next & 1;
  const double value = mg_random_normal(draws->stream, draws->next / 2);
  draws->next += 2;
  return value;
}

double mg__draw_exponential(mg__draws *draws, double mean) {
  return -mean * log(mg__draw_uniform(draws));
}

/* d v with d = shape - 1/3 and v = (1 + x / sqrt(9 d))^3 for normal x, kept with a probability that makes it exact. */
static double gamma_from_one(mg__draws *draws, double shape) {
  const double d = shape - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
  for (;;) {
    const double x = mg__draw_normal(draws), root = 1.0 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root, u = mg__draw_uniform(draws);
    if (log(u) < 0.5 * x * x + d - d * v + d * log(v)) return d * v;
  }
}

double mg__draw_gamma(mg__draws *draws, double shape) {
  if (shape == 1.0) return mg__draw_exponential(draws, 1.0);
  if (shape > 1.0) return gamma_from_one(draws, shape);
  const double more = gamma_from_one(draws, shape + 1.0);
  return more * pow(mg__draw_uniform(draws), 1.0 / shape);
}
