/* What the experts specialise in, from the routing of an evaluation: repetition, co-activation, domains, vocabulary, and
 * saturation over training. core/moe/README.md has each definition. */
#include "moe/specialisation.h"

#include <math.h>

#include "train/run.h"

enum { LEAST_WORDS = 10 }; /* appearances of a token id that counts (Muennighoff et al. 2024) */

/* ---- repetition --------------------------------------------------------------------------------------------- */

/* Over the sequences of one domain, or of all when domain is -1. Sequences are equally long, so the mean of their shares
 * is the share of all their pairs. */
static mg_repetition repetition_of(const mg__routing *routing, int64_t layer, int32_t domain) {
  const mg_choices all = mg__routing_choices(routing, layer);
  const int64_t length = routing->sequence_tokens;
  mg_repetition sum = {0, 0};
  double count = 0;
  for (int64_t t = 0; t < all.tokens; t += length) {
    if (domain >= 0 && routing->domains.items[t] != domain) continue;
    const mg_choices one = {all.ids + t * all.choices, length, all.choices, all.experts, 0};
    const mg_repetition found = mg_consecutive_repetition(one, length);
    sum.first += found.first;
    sum.any += found.any;
    count++;
  }
  return (mg_repetition){sum.first / count, sum.any / count};
}

static json_t *repetition_rows(const mg__run *run, const mg__routing *routing, int64_t layer) {
  json_t *rows = json_array();
  for (int32_t d = 0; d < (int32_t)mg_dataset_domains(run->data); d++) {
    const mg_repetition found = repetition_of(routing, layer, d);
    json_array_append_new(rows, json_pack("[o, o]", mg__number(found.first), mg__number(found.any)));
  }
  return rows;
}

/* ---- matrices ----------------------------------------------------------------------------------------------- */

static json_t *list(const double *values, int64_t count) {
  json_t *row = json_array();
  for (int64_t i = 0; i < count; i++) json_array_append_new(row, mg__number(values[i]));
  return row;
}

/* values [rows, columns] as lists; `turned` makes the columns the rows. */
static json_t *matrix(const double *values, int64_t rows, int64_t columns, bool turned) {
  json_t *lists = json_array();
  for (int64_t i = 0; i < (turned ? columns : rows); i++) {
    json_t *row = json_array();
    for (int64_t j = 0; j < (turned ? rows : columns); j++)
      json_array_append_new(row, mg__number(turned ? values[j * columns + i] : values[i * columns + j]));
    json_array_append_new(lists, row);
  }
  return lists;
}

static double largest_beside_diagonal(const double *values, int64_t experts) {
  double most = NAN;
  for (int64_t i = 0; i < experts * experts; i++)
    if (i % (experts + 1) != 0) most = fmax(most, values[i]); /* fmax passes over NaN */
  return most;
}

/* ---- one layer ---------------------------------------------------------------------------------------------- */

enum { INPUT, NEXT, PREDICTED, WORDS };
static const char *const word_names[WORDS] = {"input", "next", "predicted"};

/* What is reported per layer, and the means over layers. */
typedef struct findings {
  json_t *repetition, *coactivation, *domains, *vocabulary, *choices;
  double first, any, chance_first, chance_any, coactivation_largest, domain_largest, words[WORDS];
} findings;

/* What a token chose on average, in whole experts: the K of chance. */
static int64_t usual_choices(const mg__routing *routing, int64_t layer) {
  return (int64_t)fmax(1, round(mg_choices_mean(mg__routing_choices(routing, layer))));
}

static void add_repetition(const mg__run *run, const mg__routing *routing, int64_t layer, findings *out) {
  const mg_repetition found = repetition_of(routing, layer, -1);
  const mg_repetition chance = mg_consecutive_chance(routing->experts[layer], usual_choices(routing, layer));
  const double share = 1.0 / (double)routing->layers;
  out->first += share * found.first;
  out->any += share * found.any;
  out->chance_first += share * chance.first;
  out->chance_any += share * chance.any;
  json_array_append_new(out->repetition, repetition_rows(run, routing, layer));
}

static mg_status add_matrices(const mg__run *run, const mg__routing *routing, int64_t layer, findings *out) {
  const mg_choices chosen = mg__routing_choices(routing, layer);
  const int64_t experts = chosen.experts, domains = mg_dataset_domains(run->data);
  const int64_t columns = experts > domains ? experts : domains;
  const size_t bytes = (size_t)((columns > chosen.choices ? columns : chosen.choices + 1) * experts) * sizeof(double);
  double *values = mg_alloc(run->context, bytes);
  if (!values) return MG_MEMORY;
  const double share = 1.0 / (double)routing->layers;
  mg_coactivation(chosen, values);
  out->coactivation_largest += share * largest_beside_diagonal(values, experts);
  json_array_append_new(out->coactivation, matrix(values, experts, experts, false));
  mg_domain_specialisation(chosen, routing->domains.items, domains, values);
  out->domain_largest += share * mg_domain_largest(values, experts, domains);
  json_array_append_new(out->domains, matrix(values, experts, domains, true));
  mg_free(run->context, values, bytes);
  return MG_OK;
}

static mg_status add_choices(const mg__run *run, const mg__routing *routing, int64_t layer, findings *out) {
  const mg_choices chosen = mg__routing_choices(routing, layer);
  const size_t bytes = (size_t)(chosen.choices + 1) * sizeof(double);
  double *values = mg_alloc(run->context, bytes);
  if (!values) return MG_MEMORY;
  mg_choices_per_token(chosen, values);
  json_array_append_new(out->choices, list(values, chosen.choices + 1));
  mg_free(run->context, values, bytes);
  return MG_OK;
}

/* Of first choices alone, as in the paper's main text. */
static mg_status add_vocabulary(const mg__run *run, const mg__routing *routing, int64_t layer, findings *out) {
  const mg_choices first = mg_first_choices(mg__routing_choices(routing, layer));
  const int64_t vocabulary = mg_dataset_vocabulary(run->data);
  const int32_t *const words[WORDS] = {routing->inputs.items, routing->targets.items, routing->guesses.items};
  const size_t bytes = (size_t)(vocabulary * (first.experts + 1)) * sizeof(int64_t);
  int64_t *scratch = mg_alloc(run->context, bytes), counted;
  if (!scratch) return MG_MEMORY;
  double found[WORDS];
  for (int i = 0; i < WORDS; i++) {
    found[i] = mg_vocabulary_specialisation(first, words[i], vocabulary, LEAST_WORDS, scratch, &counted);
    out->words[i] += found[i] / (double)routing->layers;
  }
  json_array_append_new(out->vocabulary, list(found, WORDS));
  mg_free(run->context, scratch, bytes);
  return MG_OK;
}

/* ---- all layers --------------------------------------------------------------------------------------------- */

static void put_metrics(const findings *f, const char *prefix, json_t *metrics) {
  const struct {
    const char *name;
    double value;
  } rows[] = {{"repetition_first", f->first},
              {"repetition_any", f->any},
              {"repetition_chance_first", f->chance_first},
              {"repetition_chance_any", f->chance_any},
              {"coactivation_largest", f->coactivation_largest},
              {"domain_largest", f->domain_largest},
              {"vocabulary_input", f->words[INPUT]},
              {"vocabulary_next", f->words[NEXT]},
              {"vocabulary_predicted", f->words[PREDICTED]}};
  for (size_t i = 0; i < MG_COUNT(rows); i++) mg__put_named(metrics, prefix, rows[i].name, mg__number(rows[i].value));
}

static json_t *table(const mg__run *run, const char *second, const char *third, json_t *values) {
  return json_pack("{s:[s, s, s*], s:o, s:o}", "axes", "layer", second, third, "layers", mg__layer_blocks(run),
                   "values", values);
}

static void put_tables(const mg__run *run, const findings *f, const char *prefix) {
  json_t *repetition = table(run, "domain", "kind", f->repetition),
         *domains = table(run, "domain", "expert", f->domains);
  json_t *vocabulary = table(run, "word", NULL, f->vocabulary), *words = json_array();
  for (int i = 0; i < WORDS; i++) json_array_append_new(words, json_string(word_names[i]));
  json_object_set_new(repetition, "domains", mg__domain_names(run));
  json_object_set_new(repetition, "kinds", json_pack("[s, s]", "first", "any"));
  json_object_set_new(domains, "domains", mg__domain_names(run));
  json_object_set_new(vocabulary, "words", words);
  mg__put_named(run->tables, prefix, "repetition", repetition);
  mg__put_named(run->tables, prefix, "domain_specialisation", domains);
  mg__put_named(run->tables, prefix, "vocabulary_specialisation", vocabulary);
  mg__put_named(run->tables, prefix, "coactivation", table(run, "expert", "expert", f->coactivation));
  mg__put_named(run->tables, prefix, "choices_per_token", table(run, "choices", NULL, f->choices));
}

mg_status mg__specialisation_put(mg__run *run, const mg__evaluation *evaluation, const char *prefix, json_t *metrics) {
  const mg__routing *routing = &evaluation->routing;
  if (!run->settings.specialisation || routing->tokens == 0) return MG_OK;
  findings f = {.repetition = json_array(),
                .coactivation = json_array(),
                .domains = json_array(),
                .vocabulary = json_array(),
                .choices = json_array()};
  mg_status status = MG_OK;
  for (int64_t i = 0; i < routing->layers && status == MG_OK; i++) {
    add_repetition(run, routing, i, &f);
    status = add_matrices(run, routing, i, &f);
    if (status == MG_OK) status = add_choices(run, routing, i, &f);
    if (status == MG_OK) status = add_vocabulary(run, routing, i, &f);
  }
  put_metrics(&f, prefix, metrics);
  put_tables(run, &f, prefix);
  return status;
}

/* ---- saturation --------------------------------------------------------------------------------------------- */

enum { BY_SET, BY_POSITION, FIRST, SATURATIONS };
static const char *const saturation_names[SATURATIONS] = {"set", "position", "first"};

static void saturation_of(const mg__routing *earlier, const mg__routing *final, int64_t layer, double *out) {
  const mg_choices before = mg__routing_choices(earlier, layer), last = mg__routing_choices(final, layer);
  out[BY_SET] = mg_saturation(before, last);
  out[BY_POSITION] = mg_saturation_by_position(before, last);
  out[FIRST] = mg_saturation(mg_first_choices(before), mg_first_choices(last));
}

static json_t *saturation_rows(const mg__run *run, const mg__routing *final, int64_t layer) {
  json_t *rows = json_array();
  for (int64_t i = 0; i < run->snapshots_taken; i++) {
    double found[SATURATIONS];
    saturation_of(&run->snapshots[i], final, layer, found);
    json_array_append_new(rows, list(found, SATURATIONS));
  }
  return rows;
}

/* The mean over layers, as series. */
static mg_status saturation_series(mg__run *run, const mg__routing *final) {
  for (int kind = 0; kind < SATURATIONS; kind++) {
    json_t *points = json_array();
    for (int64_t i = 0; i < run->snapshots_taken; i++) {
      double mean = 0;
      for (int64_t layer = 0; layer < final->layers; layer++) {
        double found[SATURATIONS];
        saturation_of(&run->snapshots[i], final, layer, found);
        mean += found[kind] / (double) final->layers;
      }
      json_array_append_new(points, json_pack("[o, o]", mg__number(run->snapshot_tokens[i]), mg__number(mean)));
    }
    mg__put_named(run->series, "saturation_", saturation_names[kind], points);
  }
  return MG_OK;
}

mg_status mg__saturation_put(mg__run *run, const mg__routing *final, json_t *metrics) {
  if (run->snapshots_taken == 0) return MG_OK;
  json_t *values = json_array(), *tokens = json_array(), *kinds = json_array();
  for (int64_t i = 0; i < final->layers; i++) json_array_append_new(values, saturation_rows(run, final, i));
  for (int64_t i = 0; i < run->snapshots_taken; i++) json_array_append_new(tokens, mg__number(run->snapshot_tokens[i]));
  for (int i = 0; i < SATURATIONS; i++) json_array_append_new(kinds, json_string(saturation_names[i]));
  json_t *made = table(run, "tokens", "kind", values);
  json_object_set_new(made, "tokens", tokens);
  json_object_set_new(made, "kinds", kinds);
  json_object_set_new(run->tables, "saturation", made);
  double chance = 0;
  for (int64_t i = 0; i < final->layers; i++)
    chance += mg_saturation_chance(final->experts[i], usual_choices(final, i)) / (double) final->layers;
  json_object_set_new(metrics, "saturation_chance", mg__number(chance));
  return saturation_series(run, final);
}
