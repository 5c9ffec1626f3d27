/* adamw: one step of Adam with decoupled weight decay (Loshchilov and Hutter 2019), in place. With g the gradient times
 * gradient_scale and n the step, counted from 1:
 *   first  = beta1 first  + (1 - beta1) g,    second = beta2 second + (1 - beta2) g^2,
 *   parameter -= rate (first / (1 - beta1^n) / (sqrt(second / (1 - beta2^n)) + epsilon) + decay parameter).
 * Rate 0 moves the moments and leaves the parameter as it is. */
#include "reference.h"

mg_status mg__reference_adamw(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *gradient = call->in[0];
  const mg_tensor *parameter = call->out[0], *first = call->out[1], *second = call->out[2];
  const double rate = call->attributes.adamw.rate, decay = call->attributes.adamw.decay;
  const double beta1 = call->attributes.adamw.beta1, beta2 = call->attributes.adamw.beta2;
  const double epsilon = call->attributes.adamw.epsilon, n = (double)call->attributes.adamw.step;
  for (int64_t i = 0; i < mg_tensor_count(parameter); i++) {
    const double g = call->attributes.adamw.gradient_scale * at(gradient, i);
    const double m = beta1 * at(first, i) + (1 - beta1) * g;
    const double v = beta2 * at(second, i) + (1 - beta2) * g * g;
    const double update = m / (1 - pow(beta1, n)) / (sqrt(v / (1 - pow(beta2, n))) + epsilon);
    put(first, i, m);
    put(second, i, v);
    put(parameter, i, at(parameter, i) - rate * (update + decay * at(parameter, i)));
  }
  return MG_OK;
}
