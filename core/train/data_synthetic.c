/* Stage "collect" for `synthetic`: documents drawn from Markov chains, one per domain, whose entropy is known exactly.
 *
 * A chain of order o over V tokens has V^o states. The next token's distribution in a state is (1 - smoothing) times a
 * draw from Dirichlet(concentration, ..., concentration) plus smoothing / V, so every chain is ergodic. With the
 * stationary distribution s (power iteration) the entropy rate is h = -sum_state s sum_next p log p nats.
 * A document starts from s, and its first token is never a target. For order 2 its second token is predicted from one
 * token only, at H(pair) - H(single) nats. So a document of n tokens costs the best predictor that knows the domain
 *   (n - 1) h  (order 1),   H(pair) - H(single) + (n - 2) h  (order 2). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/vector.h"
#include "moegauge/rng.h"
#include "train/data_stage.h"

typedef struct synthetic_options {
  int64_t domains, vocabulary, order, documents, document_tokens;
  double concentration, smoothing;
} synthetic_options;

static const mg_option options_table[] = {
    MG_OPTION_INT(synthetic_options, domains, 4, 1, 256, "Markov chains"),
    MG_OPTION_INT(synthetic_options, vocabulary, 64, 2, 4096, "tokens that all chains share"),
    MG_OPTION_INT(synthetic_options, order, 1, 1, 2, "earlier tokens that the next one depends on"),
    MG_OPTION_INT(synthetic_options, documents, 512, 2, 1e6, "documents of each domain"),
    MG_OPTION_INT(synthetic_options, document_tokens, 1024, 3, 1e6, "tokens of each document"),
    MG_OPTION_FLOAT(synthetic_options, concentration, 0.05, 1e-3, 1e3, "of the Dirichlet rows; smaller is sharper"),
    MG_OPTION_FLOAT(synthetic_options, smoothing, 0.01, 1e-3, 1.0, "share of the uniform distribution in every row"),
    MG_OPTION_END};

enum { ITERATIONS_MOST = 100000 };
static const size_t table_most = (size_t)1 << 24; /* probabilities of one chain */
static const double converged = 1e-13;

typedef struct chain {
  size_t vocabulary, states;
  double *next;       /* [states, vocabulary] probabilities, then running sums while drawing */
  double *stationary; /* [states]; a state of order 2 is earlier * vocabulary + later */
  double *scratch;    /* [states] */
} chain;

/* Gamma(shape, 1) by Marsaglia and Tsang (2000); shapes below 1 through Gamma(shape + 1) u^(1 / shape), kept as a
 * logarithm since it may underflow. `draw` numbers the draw; each has 2^16 positions of its own. */
static double log_gamma_draw(mg_stream stream, uint64_t draw, double shape) {
  const double raised = shape < 1.0 ? shape + 1.0 : shape, d = raised - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
  const uint64_t base = draw << 16;
  double result = log(d);
  for (uint64_t i = 0; i < 16000; i++) {
    const double x = mg_random_normal(stream, base / 2 + i), v = pow(1.0 + c * x, 3.0);
    const double u = mg_random_uniform(stream, base + 40000 + i);
    if (v > 0.0 && log(u) < 0.5 * x * x + d - d * v + d * log(v)) {
      result = log(d * v);
      break;
    }
  }
  return shape < 1.0 ? result + log(mg_random_uniform(stream, base + 60000)) / shape : result;
}

static void draw_row(double *row, size_t count, mg_stream stream, uint64_t state, const synthetic_options *options) {
  double most = -INFINITY, sum = 0.0;
  for (size_t i = 0; i < count; i++) {
    row[i] = log_gamma_draw(stream, state * count + i, options->concentration);
    most = fmax(most, row[i]);
  }
  for (size_t i = 0; i < count; i++) sum += row[i] = exp(row[i] - most);
  for (size_t i = 0; i < count; i++)
    row[i] = (1.0 - options->smoothing) * row[i] / sum + options->smoothing / (double)count;
}

/* The state after `state` when `token` follows. */
static size_t following(const chain *self, size_t state, size_t token) {
  return self->states == self->vocabulary ? token : state % self->vocabulary * self->vocabulary + token;
}

static mg_status find_stationary(mg_context *context, chain *self) {
  double *now = self->stationary, *next = self->scratch, change = INFINITY;
  for (size_t s = 0; s < self->states; s++) now[s] = 1.0 / (double)self->states;
  for (int i = 0; i < ITERATIONS_MOST && change > converged; i++) {
    memset(next, 0, self->states * sizeof *next);
    for (size_t s = 0; s < self->states; s++)
      for (size_t t = 0; t < self->vocabulary; t++)
        next[following(self, s, t)] += now[s] * self->next[s * self->vocabulary + t];
    change = 0.0;
    for (size_t s = 0; s < self->states; s++) change += fabs(next[s] - now[s]);
    memcpy(now, next, self->states * sizeof *now);
  }
  return change <= converged ? MG_OK
                             : mg_fail(context, MG_NUMERIC,
                                       "synthetic: the stationary distribution did not converge (last change %g); "
                                       "raise 'smoothing' or 'concentration'",
                                       change);
}

static double surprise(double p) {
  return p > 0.0 ? -p * log(p) : 0.0;
}

static double entropy_rate(const chain *self) {
  double rate = 0.0;
  for (size_t s = 0; s < self->states; s++) {
    double row = 0.0;
    for (size_t t = 0; t < self->vocabulary; t++) row += surprise(self->next[s * self->vocabulary + t]);
    rate += self->stationary[s] * row;
  }
  return rate;
}

/* Mean nats per target of a document of `tokens` tokens. */
static double entropy_per_target(const chain *self, int64_t tokens) {
  const double rate = entropy_rate(self);
  if (self->states == self->vocabulary) return rate;
  double pair = 0.0, single = 0.0;
  for (size_t t = 0; t < self->vocabulary; t++) {
    double p = 0.0;
    for (size_t later = 0; later < self->vocabulary; later++) p += self->stationary[t * self->vocabulary + later];
    single += surprise(p);
  }
  for (size_t s = 0; s < self->states; s++) pair += surprise(self->stationary[s]);
  return (pair - single + (double)(tokens - 2) * rate) / (double)(tokens - 1);
}

/* The first index whose running sum exceeds u. */
static size_t pick(const double *sums, size_t count, double u) {
  size_t low = 0, high = count - 1;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (u < sums[middle])
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

static void to_running_sums(double *values, size_t count) {
  for (size_t i = 1; i < count; i++) values[i] += values[i - 1];
  for (size_t i = 0; i < count; i++) values[i] /= values[count - 1];
}

static void draw_document(const chain *self, mg_stream stream, int32_t *tokens, size_t count) {
  size_t state = pick(self->stationary, self->states, mg_random_uniform(stream, 0)), at = 0;
  size_t last = state;
  if (self->states > self->vocabulary) { /* a state of order 2 is a pair of tokens */
    tokens[at++] = (int32_t)(state / self->vocabulary);
    last = state % self->vocabulary;
  }
  tokens[at++] = (int32_t)last;
  for (; at < count; at++) {
    const size_t token = pick(self->next + state * self->vocabulary, self->vocabulary, mg_random_uniform(stream, at));
    tokens[at] = (int32_t)token;
    state = following(self, state, token);
  }
}

static mg_status draw_documents(mg__pipeline *pipeline, chain *self, const synthetic_options *options, int32_t domain) {
  to_running_sums(self->stationary, self->states);
  for (size_t s = 0; s < self->states; s++) to_running_sums(self->next + s * self->vocabulary, self->vocabulary);
  const size_t count = (size_t)options->document_tokens;
  mg_token_list *list = &pipeline->tokens;
  for (int64_t i = 0; i < options->documents; i++) {
    const mg_stream stream = mg_stream_named(pipeline->seed, "synthetic document", (uint64_t)domain, (uint64_t)i);
    MG_TRY(MG_VECTOR_RESERVE(pipeline->context, list->ids, list->room, list->count + count));
    draw_document(self, stream, list->ids + list->count, count);
    MG_TRY(mg__document_add(pipeline, NULL, 0, domain));
    mg__document *document = &pipeline->documents[pipeline->count - 1];
    document->bytes = count;
    document->token_start = list->count;
    document->token_count = count;
    document->hash = document->cluster = mg_hash64(list->ids + list->count, count * sizeof *list->ids, 0);
    list->count += count;
  }
  return MG_OK;
}

static mg_status fill_domain(mg__pipeline *pipeline, chain *self, const synthetic_options *options, int32_t domain,
                             double *entropy) {
  const mg_stream stream = mg_stream_named(pipeline->seed, "synthetic chain", (uint64_t)domain, 0);
  for (size_t s = 0; s < self->states; s++)
    draw_row(self->next + s * self->vocabulary, self->vocabulary, stream, s, options);
  MG_TRY(find_stationary(pipeline->context, self));
  *entropy = entropy_per_target(self, options->document_tokens);
  return draw_documents(pipeline, self, options, domain);
}

static mg_status all_domains(mg__pipeline *pipeline, chain *self, const synthetic_options *options) {
  json_t *each = json_object();
  json_object_set_new(pipeline->facts, "entropy", each);
  double sum = 0.0;
  for (int64_t i = 0; i < options->domains; i++) {
    char name[32];
    double entropy;
    snprintf(name, sizeof name, "chain%lld", (long long)i);
    const int32_t domain = mg__domain_index(pipeline, name);
    if (domain < 0) return MG_MEMORY;
    MG_TRY(fill_domain(pipeline, self, options, domain, &entropy));
    json_object_set_new(each, name, json_real(entropy));
    sum += entropy;
  }
  pipeline->entropy = sum / (double)options->domains;
  pipeline->vocabulary = options->vocabulary;
  return MG_OK;
}

static mg_status run(mg__pipeline *pipeline, const void *chosen) {
  const synthetic_options *options = chosen;
  chain self = {.vocabulary = (size_t)options->vocabulary};
  self.states = options->order == 2 ? self.vocabulary * self.vocabulary : self.vocabulary;
  const size_t cells = self.states * self.vocabulary;
  if (cells > table_most)
    return mg_fail(pipeline->context, MG_USAGE,
                   "synthetic: order 2 over %zu tokens needs a table of %zu numbers, more than %zu; lower 'vocabulary'",
                   self.vocabulary, cells, table_most);
  self.next = mg_alloc(pipeline->context, cells * sizeof(double));
  self.stationary = mg_alloc(pipeline->context, self.states * sizeof(double));
  self.scratch = mg_alloc(pipeline->context, self.states * sizeof(double));
  const mg_status status =
      self.next && self.stationary && self.scratch ? all_domains(pipeline, &self, options) : MG_MEMORY;
  mg_free(pipeline->context, self.next, cells * sizeof(double));
  mg_free(pipeline->context, self.stationary, self.states * sizeof(double));
  mg_free(pipeline->context, self.scratch, self.states * sizeof(double));
  return status;
}

static mg_status identity(mg__pipeline *pipeline, const void *options, char text[MG_HASH_TEXT_BYTES]) {
  (void)options; /* the options and the seed are part of the key anyway */
  mg_hash_bytes(&pipeline->seed, sizeof pipeline->seed, text);
  return MG_OK;
}

const mg__stage mg__stage_synthetic = {.name = "collect",
                                       .summary = "draws documents from Markov chains of known entropy",
                                       .corpus = "synthetic",
                                       .kind = MG__COLLECT,
                                       .version = 1,
                                       .options = options_table,
                                       .options_size = sizeof(synthetic_options),
                                       .identity = identity,
                                       .run = run};
