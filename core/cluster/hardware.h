/* What an accelerator and its links do at best. scripts/moegauge/cluster/catalogue.lua has the numbers with sources. */
#ifndef MG_CLUSTER_HARDWARE_H
#define MG_CLUSTER_HARDWARE_H

#include <jansson.h>

#include "moegauge/option.h"

/* Dense peaks; bandwidths are one way, in units of 1e9 bytes a second. */
typedef struct mg_accelerator {
  char name[MG_OPTION_STRING_MAX];
  double bf16_tflops, fp8_tflops; /* 0 = has none */
  double memory_gb, memory_gb_s;
  int64_t sms;
  int64_t node_ranks;               /* accelerators of a node (a scale-up domain) */
  double near_gb_s;                 /* links inside the node, all of one accelerator together */
  double far_gb_s;                  /* NICs of one accelerator */
  double near_us, far_us;           /* latency of one message */
  double power_w, dollars_per_hour; /* 0 = not known */
} mg_accelerator;
extern const mg_option mg_accelerator_options[];

/* MG_USAGE names the key. */
mg_status mg_accelerator_read(mg_context *context, const json_t *json, mg_accelerator *out);

/* FLOPs a second with numbers of this many bytes (1: fp8 where there is some, else bf16; 2: bf16). */
double mg_accelerator_flops(const mg_accelerator *a, int64_t element_bytes);

#endif
