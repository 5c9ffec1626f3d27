/* How long an operation takes: a sum of terms, each the largest of its features times their coefficients.
 *
 *   T = sum over terms of max over the term's features of  c_f * x_f(variables),   c_f >= 0
 *
 * A feature is seconds at the hardware's peak, so that its coefficient is how many times slower than the peak; or the
 * constant 1, whose coefficient is seconds; or a cost that no peak is known of. Physics allows the first with coefficient
 * 1 and the others with 0. core/cluster/README.md lists the forms. */
#ifndef MG_CLUSTER_FORMS_H
#define MG_CLUSTER_FORMS_H

#include "cluster/hardware.h"

enum { MG_FORM_VARIABLES_MAX = 7, MG_FORM_FEATURES_MAX = 8 };

typedef enum mg_form_kind {
  MG_FORM_GEMM,                 /* rows, outputs, inputs, matrices, element_bytes */
  MG_FORM_EXPERT_FFN_DECODE,    /* rows, active, tokens, width, hidden, element_bytes */
  MG_FORM_EXPERT_FFN_PREFILL,   /* the same */
  MG_FORM_DISPATCH_LOW_LATENCY, /* near_bytes, far_bytes, nodes, experts */
  MG_FORM_COMBINE_LOW_LATENCY,
  MG_FORM_DISPATCH_NORMAL, /* far_bytes, copied_bytes, sms, nodes */
  MG_FORM_COMBINE_NORMAL,
  MG_FORM_ATTENTION_DECODE,  /* bytes, flops */
  MG_FORM_ATTENTION_PREFILL, /* bytes, flops */
  MG_FORM_ATTENTION_BACKWARD,
  MG_FORM_MEMORY, /* bytes: kernels that only move data */
  MG_FORM_COUNT
} mg_form_kind;

typedef struct mg_form_feature {
  const char *name; /* of its coefficient */
  int term;
  bool empirical; /* physics alone would allow 0; else the coefficient is a multiple of the peak's time */
} mg_form_feature;

typedef struct mg_form {
  const char *name;
  const char *variables[MG_FORM_VARIABLES_MAX + 1];   /* NULL-terminated */
  mg_form_feature features[MG_FORM_FEATURES_MAX + 1]; /* ends with a NULL name */
  void (*evaluate)(const mg_accelerator *a, const double *variables, double *features);
} mg_form;
extern const mg_form mg_forms[MG_FORM_COUNT];

int mg_form_variables(const mg_form *form);
int mg_form_features(const mg_form *form);
/* The form's value for features already evaluated. */
double mg_form_value(const mg_form *form, const double *coefficients, const double *features);

/* Bytes of a hidden state sent in fp8 with one f32 factor for each 128 elements (element_bytes 1), or in bf16. */
double mg_message_bytes(double width, int64_t element_bytes);

#endif
