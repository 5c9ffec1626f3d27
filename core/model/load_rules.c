/* The rules by which a family's tensors become parameters: reading them, and names with numbers for {layer} and {expert}. */
#include <stdio.h>
#include <string.h>

#include "model/load_internal.h"

static const char layer_mark[] = "{layer}", expert_mark[] = "{expert}", blocks_end[] = "_blocks";

/* ---- rules --------------------------------------------------------------------------------------------------- */

static bool set_how(mg__load_rule *rule, const char *how) {
  struct {
    const char *name;
    bool *flag;
  } const words[] = {{"unpermute", &rule->unpermute},
                     {"unpack", &rule->unpack},
                     {"transpose", &rule->transpose},
                     {"split_rows", &rule->split_rows},
                     {"deinterleave_rows", &rule->deinterleave_rows},
                     {"deinterleave_columns", &rule->deinterleave_columns},
                     {"latent_heads", &rule->latent_heads},
                     {"mxfp4", NULL},
                     {"fp8_blocks", NULL}};
  for (size_t i = 0; how && i < MG_COUNT(words); i++) {
    if (strcmp(words[i].name, how) != 0) continue;
    if (words[i].flag) *words[i].flag = true;
    return true;
  }
  return false;
}

static bool set_from(mg__load_rule *rule, const json_t *from) {
  const bool two = json_is_array(from);
  const size_t end = sizeof blocks_end - 1;
  rule->from = json_string_value(two ? json_array_get(from, 0) : from);
  if (!rule->from) return false;
  rule->from_bytes = strlen(rule->from);
  rule->pair = two && rule->from_bytes > end && strcmp(rule->from + rule->from_bytes - end, blocks_end) == 0;
  if (rule->pair) rule->from_bytes -= end;
  if (two && !rule->pair) rule->second = json_string_value(json_array_get(from, 1));
  return two == (rule->pair || rule->second);
}

static bool set_to(mg__load_rule *rule, const json_t *to) {
  const size_t count = json_is_array(to) ? json_array_size(to) : 1;
  if (count < 1 || count > MG__RULE_TARGETS_MAX) return false;
  rule->to_count = (int64_t)count;
  bool good = true;
  for (size_t i = 0; i < count; i++) {
    rule->to[i] = json_string_value(json_is_array(to) ? json_array_get(to, i) : to);
    good &= rule->to[i] != NULL;
  }
  return good;
}

static bool read_rule(const json_t *json, mg__load_rule *rule) {
  bool good =
      json_array_size(json) >= 2 && set_from(rule, json_array_get(json, 0)) && set_to(rule, json_array_get(json, 1));
  for (size_t i = 2; good && i < json_array_size(json); i++)
    good = set_how(rule, json_string_value(json_array_get(json, i)));
  const int shares = rule->split_rows + rule->deinterleave_rows + rule->deinterleave_columns;
  return good && (rule->to_count > 1 ? shares == 1 : shares == 0) && rule->latent_heads == (rule->second != NULL);
}

mg_status mg__load_rules_read(mg_context *context, const json_t *json, mg__load_rules *out) {
  *out = (mg__load_rules){.count = (int64_t)json_array_size(json)};
  if (out->count == 0) return mg_fail(context, MG_BUG, "load: the family has no list of tensors");
  out->rule = mg_alloc(context, (size_t)out->count * sizeof *out->rule);
  if (!out->rule) return MG_MEMORY;
  for (int64_t i = 0; i < out->count; i++)
    if (!read_rule(json_array_get(json, (size_t)i), &out->rule[i]))
      return mg_fail(context, MG_BUG, "load: rule %lld of the family's tensors is not [from, to, how ...]",
                     (long long)i + 1);
  return MG_OK;
}

void mg__load_rules_release(mg_context *context, mg__load_rules *rules) {
  mg_free(context, rules->rule, rules->rule ? (size_t)rules->count * sizeof *rules->rule : 0);
}

/* ---- names --------------------------------------------------------------------------------------------------- */

bool mg__load_matches(const char *pattern, size_t bytes, const char *name, int64_t *layer, int64_t *expert) {
  const char *end = pattern + bytes;
  *layer = *expert = -1;
  while (pattern < end) {
    const size_t left = (size_t)(end - pattern);
    const bool is_layer = left >= sizeof layer_mark - 1 && strncmp(pattern, layer_mark, sizeof layer_mark - 1) == 0;
    const bool is_expert = left >= sizeof expert_mark - 1 && strncmp(pattern, expert_mark, sizeof expert_mark - 1) == 0;
    if (!is_layer && !is_expert) {
      if (*pattern++ != *name++) return false;
      continue;
    }
    int64_t number = 0, digits = 0;
    for (; *name >= '0' && *name <= '9' && digits < 9; digits++) number = 10 * number + (*name++ - '0');
    if (digits == 0) return false;
    *(is_layer ? layer : expert) = number;
    pattern += is_layer ? sizeof layer_mark - 1 : sizeof expert_mark - 1;
  }
  return *name == '\0';
}

mg_status mg__load_expand(mg_context *context, const char *pattern, size_t bytes, int64_t layer, int64_t expert,
                          char *out, size_t room) {
  size_t used = 0;
  for (const char *at = pattern; at < pattern + bytes && used < room;) {
    const size_t left = (size_t)(pattern + bytes - at);
    if (left >= sizeof layer_mark - 1 && strncmp(at, layer_mark, sizeof layer_mark - 1) == 0) {
      used += (size_t)snprintf(out + used, room - used, "%lld", (long long)layer);
      at += sizeof layer_mark - 1;
    } else if (left >= sizeof expert_mark - 1 && strncmp(at, expert_mark, sizeof expert_mark - 1) == 0) {
      used += (size_t)snprintf(out + used, room - used, "%lld", (long long)expert);
      at += sizeof expert_mark - 1;
    } else {
      out[used++] = *at++;
    }
  }
  if (used >= room) return mg_fail(context, MG_BUG, "load: the name '%.*s' is too long", (int)bytes, pattern);
  out[used] = '\0';
  return MG_OK;
}

bool mg__load_by_expert(const mg__load_rule *rule) {
  return strstr(rule->from, expert_mark) != NULL;
}
