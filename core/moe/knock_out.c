/* Knocked-out choices: what a trained layer is worth without its best choices or without some of its experts (Dai et al.
 * 2024, arXiv 2401.06066, section 4.5). A lost choice weighs nothing, like one that finds its expert full; the weights of
 * the others stay. */
#include "moe/internal.h"
#include "moe/spec.h"

static const mg_option options[] = {
    MG_OPTION_INT(mg__knock_out, choices, 0, 0, 4096, "the first so many choices of every token are lost"),
    MG_OPTION_END};

static mg_status read_experts(mg_context *context, const json_t *json, mg__moe_spec *out) {
  mg__knock_out *knock_out = &out->knock_out;
  if (!json) return MG_OK;
  if (!json_is_array(json) || json_array_size(json) > MG__KNOCK_OUT_MAX)
    return mg_fail(context, MG_USAGE, "knock_out: 'experts' must be a list of at most %d expert numbers, from 0",
                   MG__KNOCK_OUT_MAX);
  for (size_t i = 0; i < json_array_size(json); i++) {
    const json_t *number = json_array_get(json, i);
    const json_int_t expert = json_is_integer(number) ? json_integer_value(number) : -1;
    if (expert < 0 || expert >= out->experts)
      return mg_fail(context, MG_USAGE, "knock_out: 'experts' holds numbers from 0 to %lld, and entry %zu is none",
                     (long long)(out->experts - 1), i + 1);
    knock_out->experts[knock_out->experts_count++] = expert;
  }
  return MG_OK;
}

mg_status mg__knock_out_read(mg_context *context, const json_t *json, mg__moe_spec *out) {
  mg_spec_part experts = {"experts", NULL};
  MG_TRY(mg_spec_read(context, options, &experts, 1, json, "knock_out", &out->knock_out));
  return read_experts(context, experts.value, out);
}

json_t *mg__knock_out_json(const mg__knock_out *knock_out) {
  if (knock_out->choices == 0 && knock_out->experts_count == 0) return NULL;
  json_t *experts = json_array();
  for (int64_t i = 0; i < knock_out->experts_count; i++)
    json_array_append_new(experts, json_integer(knock_out->experts[i]));
  return json_pack("{s:I, s:o}", "choices", (json_int_t)knock_out->choices, "experts", experts);
}

/* 0 for the first choices, else 1: [1,S]. */
static mg_var *late_choices(mg_tape *tape, int64_t choices, int64_t lost) {
  const int64_t shape[] = {1, choices};
  mg_var *numbers = mg_cumsum(tape, mg_fill(tape, MG_F32, 2, shape, 1)); /* from 1 */
  return mg_unary_op(tape, MG_UNARY_STEP, mg_affine(tape, numbers, 1, -0.5 - (double)lost), 0, 0);
}

/* 1 where the chosen expert works, 0 where it is knocked out or there is none: [T,S]. */
static mg_var *working(const mg_moe *moe, mg_tape *tape, mg_var *ids) {
  const mg__knock_out *knock_out = &moe->spec.knock_out;
  const int64_t tokens = mg_var_rows(ids), choices = mg_var_columns(ids), experts = moe->spec.experts;
  const int64_t lost_shape[] = {1, knock_out->experts_count}, slots = tokens * choices;
  int32_t lost[MG__KNOCK_OUT_MAX];
  for (int64_t i = 0; i < knock_out->experts_count; i++) lost[i] = (int32_t)knock_out->experts[i];
  mg_var *ones = mg_fill(tape, MG_F32, 2, lost_shape, 1);
  mg_var *row = mg_scatter_columns(tape, ones, mg_tape_upload(tape, MG_I32, 2, lost_shape, lost), experts);
  mg_var *works = mg_affine(tape, mg_unary_op(tape, MG_UNARY_STEP, row, 0, 0), -1, 1); /* a number may stand twice */
  mg_var *chosen = mg_gather_rows(tape, mg_reshape2(tape, works, experts, 1), mg_reshape(tape, ids, 1, &slots));
  return mg_reshape2(tape, chosen, tokens, choices);
}

mg_var *mg__surviving_ids(const mg_moe *moe, mg_tape *tape, mg_var *ids) {
  const mg__knock_out *knock_out = &moe->spec.knock_out;
  if ((knock_out->choices == 0 && knock_out->experts_count == 0) || mg_var_rows(ids) == 0) return ids;
  mg_var *counted = mg_affine(tape, mg_cast(tape, ids, MG_F32), 1, 1); /* from 1; 0 = no choice */
  if (knock_out->choices) counted = mg_mul(tape, counted, late_choices(tape, mg_var_columns(ids), knock_out->choices));
  if (knock_out->experts_count) counted = mg_mul(tape, counted, working(moe, tape, ids));
  return mg_cast(tape, mg_affine(tape, counted, 1, -1), MG_I32);
}
