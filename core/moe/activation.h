/* Activations of feed-forwards, dense and routed: one list of names for every specification. */
#ifndef MG_MOE_ACTIVATION_H
#define MG_MOE_ACTIVATION_H

#include "moegauge/tape.h"

/* clamped_silu (gpt-oss): g = min(gate, limit), u = clamp(up, -limit, limit), (u + 1) g sigmoid(alpha g).
 * relu_squared: relu(x)^2 (So et al. 2021, arXiv 2109.08668). */
typedef enum mg_activation {
  MG_ACTIVATION_SILU,
  MG_ACTIVATION_GELU,
  MG_ACTIVATION_GELU_TANH,
  MG_ACTIVATION_RELU,
  MG_ACTIVATION_SIGMOID,
  MG_ACTIVATION_CLAMPED_SILU,
  MG_ACTIVATION_RELU_SQUARED
} mg_activation;

/* In the order of the enumeration, NULL-terminated. */
extern const char *const mg_activation_names[];

/* FLOPs of one hidden unit: the primitive's formula, or the operations of the formula above. */
double mg_activation_flops(int64_t activation, bool gated);

typedef struct mg_activation_settings {
  int64_t activation;  /* mg_activation */
  double alpha, limit; /* of clamped_silu */
} mg_activation_settings;
/* act(gate) * up, or act(up) where `gate` is NULL. clamped_silu needs a gate. */
mg_var *mg_activate(mg_tape *tape, const mg_activation_settings *settings, mg_var *gate, mg_var *up);

#endif
