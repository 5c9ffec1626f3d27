/* The definition of a router written in Lua, as options, parameters and promises of a plugin. */
#include "lua/router_definition.h"

#include <stddef.h>
#include <string.h>

#include "base/options.h"

static const double number_limit = 9007199254740992.0; /* 2^53: whole floats are exact below it */

/* ---- options from the definition ----------------------------------------------------------------------------- */

static mg_status refuse(const mg__lua_router *r, const char *part, const char *name, const char *why) {
  return mg_fail(r->engine->context, MG_USAGE, "mg.router.define: %s.%s: %s", part, name, why);
}

static size_t size_of(mg_option_type type) {
  switch (type) {
  case MG_OPTION_TYPE_STRING: return MG_OPTION_STRING_MAX;
  case MG_OPTION_TYPE_INTS: return sizeof(mg_option_ints);
  default: return 8;
  }
}

static mg_status read_choices(mg__lua_router *r, mg_option *option, size_t index, const json_t *choices,
                              const char *wanted) {
  size_t i;
  json_t *word;
  option->type = MG_OPTION_TYPE_CHOICE;
  option->choices = r->words[index];
  if (!json_is_array(choices) || json_array_size(choices) > MG__LUA_CHOICES_MAX)
    return refuse(r, "options", option->name, "'choices' must be a list of texts");
  json_array_foreach(choices, i, word) {
    if (!json_is_string(word)) return refuse(r, "options", option->name, "'choices' must be a list of texts");
    r->words[index][i] = json_string_value(word);
    if (strcmp(json_string_value(word), wanted) == 0) option->value = (double)i;
  }
  return MG_OK;
}

static double bound(const json_t *entry, const char *key, double otherwise) {
  const json_t *value = json_object_get(entry, key);
  return json_is_number(value) ? json_number_value(value) : otherwise;
}

/* `entry` is { default =, min =, max =, choices =, help = } or just the default. */
static mg_status read_option(mg__lua_router *r, size_t index, const char *name, const json_t *entry, size_t *offset) {
  const json_t *standard = json_is_object(entry) ? json_object_get(entry, "default") : entry;
  const char *help = json_string_value(json_object_get(entry, "help"));
  mg_option *option = &r->options[index];
  *option = (mg_option){.name = name, .offset = *offset, .help = help ? help : "set by the script"};
  option->minimum = bound(entry, "min", -number_limit);
  option->maximum = bound(entry, "max", number_limit);
  option->value = json_is_boolean(standard) ? json_is_true(standard) : json_number_value(standard);
  mg_status status = MG_OK;
  if (json_is_boolean(standard))
    option->type = MG_OPTION_TYPE_BOOL;
  else if (json_is_integer(standard))
    option->type = json_object_get(entry, "float") ? MG_OPTION_TYPE_FLOAT : MG_OPTION_TYPE_INT;
  else if (json_is_real(standard))
    option->type = MG_OPTION_TYPE_FLOAT;
  else if (json_is_string(standard) && json_object_get(entry, "choices"))
    status = read_choices(r, option, index, json_object_get(entry, "choices"), json_string_value(standard));
  else if (json_is_string(standard))
    *option =
        (mg_option){name, MG_OPTION_TYPE_STRING, *offset, 0, json_string_value(standard), 0, 0, NULL, option->help};
  else
    status = refuse(r, "options", name, "a default (number, boolean or text) is needed");
  *offset += size_of(option->type);
  return status;
}

static mg_status read_options(mg__lua_router *r) {
  size_t count = 0, offset = 0;
  const char *name;
  json_t *entry;
  json_object_foreach(json_object_get(r->definition, "options"), name, entry) {
    if (count == MG__LUA_OPTIONS_MAX) return refuse(r, "options", name, "there are too many");
    MG_TRY(read_option(r, count++, name, entry, &offset));
  }
  r->plugin.options = count ? r->options : NULL;
  r->plugin.options_size = offset;
  return MG_OK;
}

/* ---- parameters ------------------------------------------------------------------------------------------------ */

static bool is_option(const mg__lua_router *r, const char *name) {
  return json_object_get(json_object_get(r->definition, "options"), name) != NULL;
}

static int64_t dimension_from(const mg__lua_router *r, const json_t *word) {
  static const struct {
    const char *word;
    int64_t dimension;
  } names[] = {{"width", MG_DIM_WIDTH}, {"experts", MG_DIM_EXPERTS}, {"vocabulary", MG_DIM_VOCABULARY}};
  if (json_is_integer(word) && json_integer_value(word) > 0) return json_integer_value(word);
  for (size_t i = 0; i < MG_COUNT(names) && json_is_string(word); i++)
    if (strcmp(json_string_value(word), names[i].word) == 0) return names[i].dimension;
  return json_is_string(word) && is_option(r, json_string_value(word)) ? MG_DIM_CUSTOM : MG_DIM_NONE;
}

static mg_status read_init(const mg__lua_router *r, mg_param_spec *param, const json_t *entry) {
  static const struct {
    const char *word;
    mg_init init;
  } names[] = {{"zero", MG_INIT_ZERO},
               {"one", MG_INIT_ONE},
               {"normal", MG_INIT_NORMAL},
               {"truncated_fan_in", MG_INIT_TRUNCATED_FAN_IN}};
  const char *word = json_string_value(json_object_get(entry, "init"));
  if (!word) word = "normal";
  for (size_t i = 0; i < MG_COUNT(names); i++)
    if (strcmp(word, names[i].word) == 0) {
      param->init = names[i].init;
      return MG_OK;
    }
  return refuse(r, "params", param->name, "'init' must be one of zero, one, normal, truncated_fan_in");
}

static mg_status read_param(const mg__lua_router *r, mg_param_spec *param, const char *name, const json_t *entry) {
  const json_t *shape = json_object_get(entry, "shape");
  *param = (mg_param_spec){.name = name, .scale = bound(entry, "scale", 0.02)};
  param->fixed = json_is_true(json_object_get(entry, "fixed"));
  if (!json_is_array(shape) || json_array_size(shape) < 1 || json_array_size(shape) > MG_DIMS_MAX)
    return refuse(r, "params", name, "'shape' is needed, for example { \"experts\", \"width\" }");
  for (size_t d = 0; d < json_array_size(shape); d++) {
    param->shape[d] = dimension_from(r, json_array_get(shape, d));
    if (param->shape[d] == MG_DIM_NONE)
      return refuse(
          r, "params", name,
          "a dimension of 'shape' is a positive number, \"width\", \"experts\", \"vocabulary\" or the name of an "
          "option");
  }
  return read_init(r, param, entry);
}

static mg_status read_params(mg__lua_router *r) {
  size_t count = 0;
  const char *name;
  json_t *entry;
  json_object_foreach(json_object_get(r->definition, "params"), name, entry) {
    if (count == MG__LUA_PARAMS_MAX) return refuse(r, "params", name, "there are too many");
    MG_TRY(read_param(r, &r->params[count++], name, entry));
  }
  r->plugin.params = count ? r->params : NULL;
  return MG_OK;
}

static mg_status read_promises(mg__lua_router *r) {
  static const struct {
    const char *word;
    uint32_t flag;
  } names[] = {{"weights_sum_to_one", MG_ROUTER_WEIGHTS_SUM_TO_ONE},
               {"weights_nonnegative", MG_ROUTER_WEIGHTS_NONNEGATIVE},
               {"causal", MG_ROUTER_CAUSAL},
               {"per_token", MG_ROUTER_PER_TOKEN},
               {"experts_exchangeable", MG_ROUTER_EXPERTS_EXCHANGEABLE},
               {"gives_probs", MG_ROUTER_GIVES_PROBS},
               {"gives_logits", MG_ROUTER_GIVES_LOGITS},
               {"gives_load", MG_ROUTER_GIVES_LOAD},
               {"gives_loss", MG_ROUTER_GIVES_LOSS},
               {"straight_through", MG_ROUTER_STRAIGHT_THROUGH},
               {"one_by_one", MG_ROUTER_ONE_BY_ONE}};
  size_t index;
  json_t *word;
  json_array_foreach(json_object_get(r->definition, "promises"), index, word) {
    const char *text = json_is_string(word) ? json_string_value(word) : "?";
    size_t i = 0;
    while (i < MG_COUNT(names) && strcmp(text, names[i].word) != 0) i++;
    if (i == MG_COUNT(names))
      return refuse(r, "promises", text,
                    "is none of weights_sum_to_one, weights_nonnegative, causal, per_token, experts_exchangeable, "
                    "gives_probs, gives_logits, gives_load, gives_loss, straight_through, one_by_one");
    r->promises |= names[i].flag;
  }
  return MG_OK;
}

/* Parts that are a number, or name an option or the experts. */
static mg_status read_numbers(const mg__lua_router *r) {
  static const char *const parts[] = {"choices", "mean_choices", "slots", "selection"};
  for (size_t i = 0; i < MG_COUNT(parts); i++) {
    const json_t *value = json_object_get(r->definition, parts[i]);
    const char *name = json_string_value(value);
    if (!value || json_is_number(value) || (name && (strcmp(name, "experts") == 0 || is_option(r, name)))) continue;
    return mg_fail(r->engine->context, MG_USAGE,
                   "mg.router.define: %s must be a number, the name of a number option, or \"experts\"", parts[i]);
  }
  return MG_OK;
}

mg_status mg__lua_router_read(mg__lua_router *r) {
  MG_TRY(read_options(r));
  MG_TRY(read_params(r));
  MG_TRY(read_promises(r));
  return read_numbers(r);
}
