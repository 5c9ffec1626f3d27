/* The forms. Bytes are read or written once; a matrix product writes bf16 whatever it reads. */
#include "cluster/forms.h"

#include <math.h>

double mg_message_bytes(double width, int64_t element_bytes) {
  return element_bytes == 1 ? width + width / 128 * 4 : 2 * width;
}

static double memory_s(const mg_accelerator *a, double bytes) {
  return bytes / (a->memory_gb_s * 1e9);
}

static void gemm(const mg_accelerator *a, const double *v, double *x) {
  const double rows = v[0], outputs = v[1], inputs = v[2], matrices = v[3], element = v[4];
  x[0] = 1;
  x[1] = memory_s(a, matrices * outputs * inputs * element + rows * inputs * element + rows * outputs * 2);
  x[2] = 2 * rows * outputs * inputs / mg_accelerator_flops(a, (int64_t)element);
}

/* Three matrices of width x hidden; `tokens` hidden states are gathered from what was received. */
static void expert_ffn(const mg_accelerator *a, const double *v, double *x) {
  const double rows = v[0], active = v[1], tokens = v[2], width = v[3], hidden = v[4], element = v[5];
  x[0] = 1;
  x[1] = memory_s(a, active * 3 * width * hidden * element);
  x[2] = rows * 6 * width * hidden / mg_accelerator_flops(a, (int64_t)element);
  x[3] = memory_s(a, tokens * width * 2);
}

static void low_latency(const mg_accelerator *a, const double *v, double *x) {
  const double near_bytes = v[0], far_bytes = v[1], nodes = v[2], experts = v[3];
  x[0] = 1;
  x[1] = nodes > 1 ? log2(nodes) : 0;
  x[2] = experts;
  x[3] = near_bytes / (a->near_gb_s * 1e9);
  x[4] = far_bytes / (a->far_gb_s * 1e9);
}

/* What a rank copies crosses its links inside the node, and each unit that copies, if any does, has a speed of its own. */
static void normal(const mg_accelerator *a, const double *v, double *x) {
  const double far_bytes = v[0], copied_bytes = v[1], sms = v[2], nodes = v[3];
  const double copied_s = copied_bytes / (a->near_gb_s * 1e9), each_s = sms > 0 ? copied_s * (double)a->sms / sms : 0;
  x[0] = nodes > 1 ? 0 : 1;
  x[1] = nodes > 1 ? 1 : 0;
  x[2] = nodes > 1 ? log2(nodes) : 0;
  x[3] = far_bytes / (a->far_gb_s * 1e9);
  x[4] = copied_s;
  x[5] = nodes > 1 ? each_s : 0;
  x[6] = nodes > 1 ? 0 : each_s;
}

static void attention(const mg_accelerator *a, const double *v, double *x) {
  x[0] = 1;
  x[1] = memory_s(a, v[0]);
  x[2] = v[1] / mg_accelerator_flops(a, 2);
}

static void memory(const mg_accelerator *a, const double *v, double *x) {
  x[0] = 1;
  x[1] = memory_s(a, v[0]);
}

#define FFN_VARIABLES                                                                                                  \
  { "rows", "active", "tokens", "width", "hidden", "element_bytes", NULL }
#define FFN_FEATURES                                                                                                   \
  {                                                                                                                    \
    {"constant_s", 0, true}, {"memory", 1}, {"compute", 1}, {"gather", 2}, {                                           \
      NULL                                                                                                             \
    }                                                                                                                  \
  }
#define LOW_LATENCY_VARIABLES                                                                                          \
  { "near_bytes", "far_bytes", "nodes", "experts", NULL }
#define LOW_LATENCY_FEATURES                                                                                           \
  {                                                                                                                    \
    {"constant_s", 0, true}, {"doubling_s", 1, true}, {"expert_s", 2, true}, {"near", 3}, {"far", 3}, {                \
      NULL                                                                                                             \
    }                                                                                                                  \
  }
#define NORMAL_VARIABLES                                                                                               \
  { "far_bytes", "copied_bytes", "sms", "nodes", NULL }
#define NORMAL_FEATURES                                                                                                \
  {                                                                                                                    \
    {"one_node_s", 0, true}, {"nodes_s", 1, true}, {"doubling_s", 2, true}, {"far", 3}, {"near", 3},                   \
        {"copied", 3, true}, {"copied_one_node", 3, true}, {                                                           \
      NULL                                                                                                             \
    }                                                                                                                  \
  }
#define ATTENTION_FEATURES                                                                                             \
  {                                                                                                                    \
    {"constant_s", 0, true}, {"memory", 1}, {"compute", 1}, {                                                          \
      NULL                                                                                                             \
    }                                                                                                                  \
  }

const mg_form mg_forms[MG_FORM_COUNT] = {
    [MG_FORM_GEMM] = {"gemm",
                      {"rows", "outputs", "inputs", "matrices", "element_bytes", NULL},
                      {{"constant_s", 0, true}, {"memory", 1}, {"compute", 2}, {NULL}},
                      gemm},
    [MG_FORM_EXPERT_FFN_DECODE] = {"expert_ffn_decode", FFN_VARIABLES, FFN_FEATURES, expert_ffn},
    [MG_FORM_EXPERT_FFN_PREFILL] = {"expert_ffn_prefill", FFN_VARIABLES, FFN_FEATURES, expert_ffn},
    [MG_FORM_DISPATCH_LOW_LATENCY] = {"dispatch_low_latency", LOW_LATENCY_VARIABLES, LOW_LATENCY_FEATURES, low_latency},
    [MG_FORM_COMBINE_LOW_LATENCY] = {"combine_low_latency", LOW_LATENCY_VARIABLES, LOW_LATENCY_FEATURES, low_latency},
    [MG_FORM_DISPATCH_NORMAL] = {"dispatch_normal", NORMAL_VARIABLES, NORMAL_FEATURES, normal},
    [MG_FORM_COMBINE_NORMAL] = {"combine_normal", NORMAL_VARIABLES, NORMAL_FEATURES, normal},
    [MG_FORM_ATTENTION_DECODE] = {"attention_decode", {"bytes", "flops", NULL}, ATTENTION_FEATURES, attention},
    [MG_FORM_ATTENTION_PREFILL] = {"attention_prefill", {"bytes", "flops", NULL}, ATTENTION_FEATURES, attention},
    [MG_FORM_ATTENTION_BACKWARD] = {"attention_backward", {"bytes", "flops", NULL}, ATTENTION_FEATURES, attention},
    [MG_FORM_MEMORY] = {"memory", {"bytes", NULL}, {{"constant_s", 0, true}, {"memory", 1}, {NULL}}, memory},
};

int mg_form_variables(const mg_form *form) {
  int count = 0;
  while (form->variables[count]) count++;
  return count;
}

int mg_form_features(const mg_form *form) {
  int count = 0;
  while (form->features[count].name) count++;
  return count;
}

double mg_form_value(const mg_form *form, const double *coefficients, const double *features) {
  double sum = 0;
  for (int f = 0; form->features[f].name;) {
    const int term = form->features[f].term;
    double largest = 0;
    for (; form->features[f].name && form->features[f].term == term; f++)
      largest = fmax(largest, coefficients[f] * features[f]);
    sum += largest;
  }
  return sum;
}
