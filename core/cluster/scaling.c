/* The policies. */
#include "cluster/scaling.h"

#include <math.h>

#include "base/options.h"

static const char *const policies[] = {"fixed", "target", "threshold", "scheduled", "predictive", "custom", NULL};

static const mg_option options[] = {
    MG_OPTION_CHOICE(mg_scaling, policy, MG_SCALING_FIXED, policies, "how many instances are wanted"),
    MG_OPTION_INT(mg_scaling, instances, 1, 1, 100000, "instances at the start, and always if fixed"),
    MG_OPTION_INT(mg_scaling, least, 1, 1, 100000, "never fewer instances"),
    MG_OPTION_INT(mg_scaling, most, 100000, 1, 100000, "never more instances"),
    MG_OPTION_FLOAT(mg_scaling, target, 0.7, 0.01, 1, "utilisation aimed at"),
    MG_OPTION_FLOAT(mg_scaling, high, 0.8, 0, 1, "threshold: more instances above this utilisation"),
    MG_OPTION_FLOAT(mg_scaling, low, 0.5, 0, 1, "threshold: fewer instances below this utilisation"),
    MG_OPTION_INT(mg_scaling, by, 1, 1, 100000, "threshold: how many more or fewer"),
    MG_OPTION_FLOAT(mg_scaling, interval_seconds, 60, 0.001, 1e6, "time between decisions"),
    MG_OPTION_FLOAT(mg_scaling, calm_seconds, 300, 0, 1e6,
                    "how long fewer must have been enough before any is given back"),
    MG_OPTION_FLOAT(mg_scaling, lead_seconds, 0, 0, 1e6, "predictive: how far ahead to look"),
    MG_OPTION_FLOAT(mg_scaling, tokens_per_second, 0, 0, 1e12, "predictive: what one instance can do; needed"),
    MG_OPTION_END};

const mg_option *mg_scaling_options(void) {
  return options;
}

static mg_status read_schedule(mg_context *context, const char *where, const json_t *list, mg_scaling *out) {
  out->schedule_count = (int64_t)json_array_size(list);
  if (!json_is_array(list) || out->schedule_count < 1 || out->schedule_count > MG_SCALING_SCHEDULE_MAX)
    return mg_fail(context, MG_USAGE, "%s: 'schedule' must be a list of 1 to %d pairs {hour, instances}", where,
                   MG_SCALING_SCHEDULE_MAX);
  for (int64_t i = 0; i < out->schedule_count; i++) {
    const json_t *pair = json_array_get(list, (size_t)i), *hour = json_array_get(pair, 0),
                 *instances = json_array_get(pair, 1);
    out->schedule[i].hour = json_is_number(hour) ? json_number_value(hour) : -1;
    out->schedule[i].instances = json_integer_value(instances);
    const bool after = i == 0 || out->schedule[i].hour > out->schedule[i - 1].hour;
    if (json_array_size(pair) != 2 || !after || !(out->schedule[i].hour >= 0 && out->schedule[i].hour < 24) ||
        out->schedule[i].instances < 1 || out->schedule[i].instances > out->most)
      return mg_fail(context, MG_USAGE,
                     "%s: entry %lld of 'schedule' must be {hour, instances}: hours ascend from 0 to below 24, and "
                     "instances are whole numbers from 1 to 'most'",
                     where, (long long)i + 1);
  }
  return MG_OK;
}

static mg_status check(mg_context *context, const char *where, const mg_scaling *s) {
  if (s->least > s->most)
    return mg_fail(context, MG_USAGE, "%s: least = %lld is more than most = %lld", where, (long long)s->least,
                   (long long)s->most);
  if (s->instances < s->least || s->instances > s->most)
    return mg_fail(context, MG_USAGE, "%s: instances = %lld is not within least = %lld and most = %lld", where,
                   (long long)s->instances, (long long)s->least, (long long)s->most);
  if (s->policy == MG_SCALING_THRESHOLD && s->low >= s->high)
    return mg_fail(context, MG_USAGE, "%s: low = %g must be below high = %g", where, s->low, s->high);
  if (s->policy == MG_SCALING_PREDICTIVE && !(s->tokens_per_second > 0))
    return mg_fail(context, MG_USAGE, "%s: a predictive policy needs 'tokens_per_second', what one instance can do",
                   where);
  if (s->policy == MG_SCALING_SCHEDULED && s->schedule_count == 0)
    return mg_fail(context, MG_USAGE, "%s: a scheduled policy needs 'schedule', a list of {hour, instances}", where);
  return MG_OK;
}

mg_status mg_scaling_from_json(mg_context *context, const char *where, const json_t *json, mg_scaling *out) {
  *out = (mg_scaling){0};
  mg_options_defaults(options, out);
  if (!json) return MG_OK;
  json_t *flat = json_copy((json_t *)(uintptr_t)json);
  json_object_del(flat, "schedule");
  const mg_status status = mg_options_from_json(context, options, flat, where, out);
  json_decref(flat);
  MG_TRY(status);
  const json_t *schedule = json_object_get(json, "schedule");
  if (schedule) MG_TRY(read_schedule(context, where, schedule, out));
  return check(context, where, out);
}

/* ---- decisions ---------------------------------------------------------------------------------------------- */

/* The entry in force; before the first of a day, the last of the day before. */
static double scheduled(const mg_scaling *s, double seconds) {
  const double hour = fmod(seconds, 86400.0) / 3600.0;
  int64_t found = s->schedule_count - 1;
  for (int64_t i = 0; i < s->schedule_count; i++)
    if (s->schedule[i].hour <= hour) found = i;
  return (double)s->schedule[found].instances;
}

static double stepped(const mg_scaling *s, const mg_scaling_state *state) {
  if (state->utilisation > s->high) return (double)(state->instances + s->by);
  if (state->utilisation < s->low) return (double)(state->instances - s->by);
  return (double)state->instances;
}

static double asked(const mg_scaling *s, const mg_scaling_state *state, double custom) {
  switch ((mg_scaling_kind)s->policy) {
  case MG_SCALING_FIXED: return (double)s->instances;
  case MG_SCALING_TARGET: return state->utilisation * (double)(state->instances - state->starting) / s->target;
  case MG_SCALING_THRESHOLD: return stepped(s, state);
  case MG_SCALING_SCHEDULED: return scheduled(s, state->seconds);
  case MG_SCALING_PREDICTIVE: return state->forecast_tokens_per_second / (s->tokens_per_second * s->target);
  case MG_SCALING_CUSTOM: return custom;
  }
  return (double)state->instances;
}

int64_t mg_scaling_wanted(mg_scaling *s, const mg_scaling_state *state, double custom) {
  static const double rounding = 1e-9; /* 0.7 * 10 / 0.7 instances are 10, not 11 */
  const double number = ceil(asked(s, state, custom) * (1 - rounding));
  const double held = fmin(fmax(number, (double)s->least), (double)s->most);
  const int64_t wanted = (int64_t)held;
  if (wanted >= state->instances) s->last_needed_seconds = state->seconds;
  if (wanted < state->instances && state->seconds - s->last_needed_seconds < s->calm_seconds) return state->instances;
  return wanted;
}
