/* Renewal arrivals in operational time, and recorded ones. */
#include "cluster/arrivals.h"

#include <math.h>
#include <string.h>

#include "base/options.h"
#include "cluster/draws.h"
#include "cluster/recorded.h"

enum { CURVE_MAX = 1440 };
static const double day_seconds = 86400.0;

static const char *const shapes[] = {"lognormal", "gamma", NULL};
enum { LOGNORMAL, GAMMA };

typedef struct settings {
  double requests_per_second, cv;
  double prompt_tokens, prompt_cv, output_tokens, output_cv, cached_share;
  int64_t prompt_most, output_most, lengths;
  char replay[MG_OPTION_STRING_MAX];
} settings;

static const mg_option options[] = {
    MG_OPTION_FLOAT(settings, requests_per_second, 1, 1e-9, 1e9, "mean rate over a day"),
    MG_OPTION_FLOAT(settings, cv, 1, 0, 100,
                    "coefficient of variation of the gaps: 1 = Poisson, more = bursts, 0 = a clock"),
    MG_OPTION_FLOAT(settings, prompt_tokens, 1000, 1, 1e8, "mean prompt tokens of a request"),
    MG_OPTION_FLOAT(settings, prompt_cv, 0, 0, 10, "coefficient of variation of prompt tokens; 0 = all equal"),
    MG_OPTION_INT(settings, prompt_most, 0, 0, 1e8, "longer prompts are cut to this; 0 = no limit"),
    MG_OPTION_FLOAT(settings, output_tokens, 200, 1, 1e8, "mean output tokens of a request"),
    MG_OPTION_FLOAT(settings, output_cv, 0, 0, 10, "coefficient of variation of output tokens; 0 = all equal"),
    MG_OPTION_INT(settings, output_most, 0, 0, 1e8, "longer outputs are cut to this; 0 = no limit"),
    MG_OPTION_CHOICE(settings, lengths, LOGNORMAL, shapes,
                     "distribution of lengths; gamma with a coefficient of 1 is exponential"),
    MG_OPTION_FLOAT(settings, cached_share, 0, 0, 1, "share of each prompt that is cached"),
    MG_OPTION_STRING(settings, replay, "",
                     "a file of recorded requests instead: seconds,prompt_tokens,output_tokens[,cached_tokens]"),
    MG_OPTION_END};

struct mg_arrivals {
  mg_context *context;
  settings set;
  double *curve;      /* [points + 1] rates in requests per second, the last equal to the first; NULL: recorded */
  double *cumulative; /* [points + 1] requests from midnight to a point */
  int64_t points;
  mg__draws gaps, lengths;
  double group;
  double operational; /* time at the last group, in requests */
  mg__recorded *recorded;
};

const mg_option *mg_arrivals_options(void) {
  return options;
}

/* ---- making one --------------------------------------------------------------------------------------------- */

static mg_status read_curve(mg_arrivals *a, const json_t *json) {
  const int64_t points = json ? (int64_t)json_array_size(json) : 1;
  if (json && (!json_is_array(json) || points < 1 || points > CURVE_MAX))
    return mg_fail(a->context, MG_USAGE, "arrivals: 'curve' must be a list of 1 to %d factors over the day", CURVE_MAX);
  a->curve = mg_alloc(a->context, (size_t)(points + 1) * sizeof *a->curve);
  a->cumulative = mg_alloc(a->context, (size_t)(points + 1) * sizeof *a->cumulative);
  a->points = points;
  if (!a->curve || !a->cumulative) return MG_MEMORY;
  double sum = 0;
  for (int64_t i = 0; i < points; i++) {
    const json_t *value = json ? json_array_get(json, (size_t)i) : NULL;
    a->curve[i] = value ? json_number_value(value) : 1.0;
    if ((value && !json_is_number(value)) || !(a->curve[i] >= 0 && a->curve[i] <= 1e9))
      return mg_fail(a->context, MG_USAGE, "arrivals: entry %lld of 'curve' must be a number from 0 to 1e9",
                     (long long)i + 1);
    sum += a->curve[i];
  }
  if (!(sum > 0)) return mg_fail(a->context, MG_USAGE, "arrivals: 'curve' is 0 all day; nobody would ever come");
  for (int64_t i = 0; i < points; i++) a->curve[i] *= a->set.requests_per_second * (double)points / sum;
  a->curve[points] = a->curve[0];
  for (int64_t i = 0; i < points; i++)
    a->cumulative[i + 1] = a->cumulative[i] + 0.5 * (a->curve[i] + a->curve[i + 1]) * day_seconds / (double)points;
  return MG_OK;
}

static mg_status open_recorded(mg_arrivals *a, const json_t *curve, double group) {
  if (curve) return mg_fail(a->context, MG_USAGE, "arrivals: 'replay' has its own times; leave 'curve' out");
  if (group != 1)
    return mg_fail(a->context, MG_USAGE, "arrivals: recorded requests are taken one by one; set group = 1");
  return mg__recorded_open(a->context, a->set.replay, &a->recorded);
}

static mg_status fill(mg_arrivals *a, const json_t *json) {
  json_t *flat = json_copy((json_t *)(uintptr_t)json);
  if (!flat) return mg_fail(a->context, MG_USAGE, "arrivals: a table of named options was expected");
  json_object_del(flat, "curve");
  const mg_status status = mg_options_from_json(a->context, options, flat, "arrivals", &a->set);
  json_decref(flat);
  MG_TRY(status);
  const json_t *curve = json_object_get(json, "curve");
  return a->set.replay[0] ? open_recorded(a, curve, a->group) : read_curve(a, curve);
}

mg_status mg_arrivals_create(mg_context *context, const json_t *json, uint64_t seed, int64_t group, mg_arrivals **out) {
  *out = NULL;
  mg_arrivals *a = mg_alloc(context, sizeof *a);
  if (!a) return MG_MEMORY;
  a->context = context;
  a->group = (double)group;
  a->gaps.stream = mg_stream_named(seed, "request arrivals", 0, 0);
  a->lengths.stream = mg_stream_named(seed, "request lengths", 0, 0);
  mg_options_defaults(options, &a->set);
  const mg_status status = fill(a, json);
  if (status == MG_OK)
    *out = a;
  else
    mg_arrivals_destroy(a);
  return status;
}

void mg_arrivals_destroy(mg_arrivals *a) {
  if (!a) return;
  const size_t bytes = (size_t)(a->points + 1) * sizeof(double);
  mg_free(a->context, a->curve, a->curve ? bytes : 0);
  mg_free(a->context, a->cumulative, a->cumulative ? bytes : 0);
  mg__recorded_close(a->recorded);
  mg_free(a->context, a, sizeof *a);
}

/* ---- times -------------------------------------------------------------------------------------------------- */

double mg_arrivals_rate(const mg_arrivals *a, double seconds) {
  if (a->recorded) return NAN;
  const double at = fmod(seconds, day_seconds) / day_seconds * (double)a->points;
  const int64_t point = at < (double)a->points ? (int64_t)at : a->points - 1;
  return a->curve[point] + (at - (double)point) * (a->curve[point + 1] - a->curve[point]);
}

/* When the integral of the rate reaches `requests`: whole days, then the piece of the curve, then the root of
 * r0 x + (r1 - r0) x^2 / (2 width) = rest, in the form that stays exact for r1 = r0. */
static double time_of(const mg_arrivals *a, double requests) {
  const double of_day = a->cumulative[a->points], days = floor(requests / of_day);
  const double rest = requests - days * of_day, width = day_seconds / (double)a->points;
  int64_t low = 0, high = a->points;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (a->cumulative[middle] <= rest)
      low = middle;
    else
      high = middle;
  }
  const double from = a->curve[low], slope = (a->curve[low + 1] - from) / width, due = rest - a->cumulative[low];
  const double root = sqrt(fmax(from * from + 2 * slope * due, 0));
  const double inside = due > 0 ? 2 * due / (from + root) : 0;
  return days * day_seconds + (double)low * width + fmin(inside, width);
}

static double gap(mg_arrivals *a) {
  const double variance = a->set.cv * a->set.cv;
  return variance > 0 ? variance * mg__draw_gamma(&a->gaps, a->group / variance) : a->group;
}

/* ---- lengths ------------------------------------------------------------------------------------------------ */

static int32_t draw_length(mg_arrivals *a, double mean, double cv, int64_t most) {
  double tokens = mean;
  if (cv > 0 && a->set.lengths == GAMMA) tokens = mean * cv * cv * mg__draw_gamma(&a->lengths, 1 / (cv * cv));
  if (cv > 0 && a->set.lengths == LOGNORMAL) {
    const double variance = log1p(cv * cv);
    tokens = mean * exp(sqrt(variance) * mg__draw_normal(&a->lengths) - 0.5 * variance);
  }
  const double limit = most > 0 ? (double)most : 1e8;
  return (int32_t)lround(fmin(fmax(tokens, 1), limit));
}

bool mg_arrivals_next(mg_arrivals *a, mg_request *out) {
  if (a->recorded) return mg__recorded_next(a->recorded, out);
  a->operational += gap(a);
  out->seconds = time_of(a, a->operational);
  out->prompt_tokens = draw_length(a, a->set.prompt_tokens, a->set.prompt_cv, a->set.prompt_most);
  out->output_tokens = draw_length(a, a->set.output_tokens, a->set.output_cv, a->set.output_most);
  const long cached = lround(a->set.cached_share * out->prompt_tokens);
  out->cached_tokens = cached < out->prompt_tokens ? (int32_t)cached : out->prompt_tokens - 1;
  return true;
}

double mg_arrivals_mean_prefill(const mg_arrivals *a) {
  return a->recorded ? NAN : a->set.prompt_tokens * (1 - a->set.cached_share);
}

double mg_arrivals_mean_output(const mg_arrivals *a) {
  return a->recorded ? NAN : a->set.output_tokens;
}
