/* The accelerator as a table of options. */
#include "cluster/hardware.h"

#include "base/options.h"

#define NUMBER(field, default_, help) MG_OPTION_FLOAT(mg_accelerator, field, default_, 0, 1e9, help)

const mg_option mg_accelerator_options[] = {
    MG_OPTION_STRING(mg_accelerator, name, "accelerator", "what it is called"),
    NUMBER(bf16_tflops, 0, "dense bf16 peak, 1e12 FLOPs a second"),
    NUMBER(fp8_tflops, 0, "dense fp8 peak, 1e12 FLOPs a second; 0 = none"),
    NUMBER(memory_gb, 0, "memory, 1e9 bytes"),
    NUMBER(memory_gb_s, 0, "bandwidth of the memory, 1e9 bytes a second"),
    MG_OPTION_INT(mg_accelerator, sms, 132, 1, 100000, "units that compute, of which communication may take some"),
    MG_OPTION_INT(mg_accelerator, node_ranks, 8, 1, 65536, "accelerators of a node"),
    NUMBER(near_gb_s, 0, "links inside the node, one way, 1e9 bytes a second"),
    NUMBER(far_gb_s, 0, "network of one accelerator, one way, 1e9 bytes a second"),
    NUMBER(near_us, 2, "latency of a message inside the node, microseconds"),
    NUMBER(far_us, 10, "latency of a message between nodes, microseconds"),
    NUMBER(power_w, 0, "power, watts; 0 = not known"),
    NUMBER(dollars_per_hour, 0, "price of an hour; 0 = not known"),
    MG_OPTION_END};

mg_status mg_accelerator_read(mg_context *context, const json_t *json, mg_accelerator *out) {
  mg_options_defaults(mg_accelerator_options, out);
  MG_TRY(mg_options_from_json(context, mg_accelerator_options, json, "accelerator", out));
  const struct {
    const char *name;
    double value;
  } needed[] = {{"bf16_tflops", out->bf16_tflops},
                {"memory_gb", out->memory_gb},
                {"memory_gb_s", out->memory_gb_s},
                {"near_gb_s", out->near_gb_s},
                {"far_gb_s", out->far_gb_s}};
  for (size_t i = 0; i < MG_COUNT(needed); i++)
    if (!(needed[i].value > 0))
      return mg_fail(context, MG_USAGE, "accelerator '%s': '%s' is needed, above 0", out->name, needed[i].name);
  return MG_OK;
}

double mg_accelerator_flops(const mg_accelerator *a, int64_t element_bytes) {
  return (element_bytes == 1 && a->fp8_tflops > 0 ? a->fp8_tflops : a->bf16_tflops) * 1e12;
}
