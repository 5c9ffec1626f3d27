/* Where tokens stand, for the layers of one pass: rotary tables, the bias by distance of T5 (Raffel et al. 2020, arXiv
 * 1910.10683), and absolute positions, learned or sinusoidal (Vaswani et al. 2017):
 *
 *   bucket(d) of n = buckets (half of them for either sign where both sides are seen), e = n / 2:
 *     d for d < e, else min(n - 1, e + floor(ln(d / e) / ln(distance / e) (n - e)))
 *   position p, column i of the first half: sin(p w^i), of the second: cos(p w^i), w = 10000^(-1 / (D/2 - 1)) */
#include <math.h>

#include "model/block.h"
#include "model/rope.h"

/* Host numbers for an upload, which copies them. */
static void *scratch(mg_model *model, mg_tape *tape, int64_t count, size_t each) {
  void *memory = mg_tape_status(tape) == MG_OK ? mg_alloc(model->context, (size_t)count * each) : NULL;
  if (!memory) mg_tape_fail(tape, MG_MEMORY, "model: no memory for the positions of %lld tokens", (long long)count);
  return memory;
}

static mg_var *upload_places(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t first) {
  int32_t *places = scratch(model, tape, pass->tokens, sizeof *places);
  if (!places) return NULL;
  for (int64_t t = 0; t < pass->tokens; t++) places[t] = (int32_t)(first + pass->past + t % pass->sequence_tokens);
  mg_var *x = mg_tape_upload(tape, MG_I32, 1, &pass->tokens, places);
  mg_free(model->context, places, (size_t)pass->tokens * sizeof *places);
  return x;
}

/* ---- rotary tables ------------------------------------------------------------------------------------------- */

static void upload_table(mg_model *model, mg_tape *tape, const mg__pass *pass, mg__table *table) {
  const int64_t half = table->rope->columns / 2;
  float *frequencies = scratch(model, tape, half, sizeof *frequencies);
  if (!frequencies) return;
  table->scale = mg__rope_table(table->rope, pass->past + pass->sequence_tokens, frequencies);
  table->frequencies = mg_tape_upload(tape, MG_F32, 1, &half, frequencies);
  mg_free(model->context, frequencies, (size_t)half * sizeof *frequencies);
}

/* mg__model_spec_runs saw to it that there are tables enough. */
static void upload_tables(mg_model *model, mg_tape *tape, mg__pass *pass) {
  int64_t count = 0;
  for (int64_t i = 0; i < pass->stack->count; i++) {
    const mg__rope *rope = &pass->stack->layers[i].attention.rope;
    int64_t at = 0;
    while (at < count && !mg__rope_same(pass->tables[at].rope, rope)) at++;
    if (rope->columns == 0 || at < count) continue;
    pass->tables[count].rope = rope;
    upload_table(model, tape, pass, &pass->tables[count++]);
  }
}

/* ---- bias by distance ---------------------------------------------------------------------------------------- */

/* `distance` = key's place - query's place. In f32, as the models with this bias were trained. */
static int32_t bucket_of(const mg__model_settings *s, bool causal, int64_t distance) {
  const int64_t buckets = causal ? s->relative_buckets : s->relative_buckets / 2, exact = buckets / 2;
  const int64_t base = !causal && distance > 0 ? buckets : 0;
  const int64_t far = causal ? (distance < 0 ? -distance : 0) : (distance < 0 ? -distance : distance);
  if (far < exact) return (int32_t)(base + far);
  const float step = logf((float)far / (float)exact) / logf((float)s->relative_distance / (float)exact);
  const int64_t bucket = exact + (int64_t)(step * (float)(buckets - exact));
  return (int32_t)(base + (bucket < buckets - 1 ? bucket : buckets - 1));
}

/* Column c of the bias is the distance c - (Sq - 1) between row numbers; the first query stands at place `past`. */
static mg_var *relative_bias(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t table) {
  const int64_t queries = pass->sequence_tokens, columns = 2 * queries + pass->past - 1;
  int32_t *buckets = scratch(model, tape, columns, sizeof *buckets);
  if (!buckets) return NULL;
  for (int64_t c = 0; c < columns; c++)
    buckets[c] = bucket_of(&model->spec.settings, pass->causal, c - (queries - 1) - pass->past);
  mg_var *ids = mg_tape_upload(tape, MG_I32, 1, &columns, buckets);
  mg_free(model->context, buckets, (size_t)columns * sizeof *buckets);
  return mg_transpose(tape, mg_gather_rows(tape, mg_params_var(model->params, tape, table), ids));
}

mg_status mg__pass_positions(mg_model *model, mg_tape *tape, int64_t relative, mg__pass *pass) {
  pass->positions = upload_places(model, tape, pass, 0);
  upload_tables(model, tape, pass);
  if (relative >= 0) pass->bias = relative_bias(model, tape, pass, relative);
  return mg_tape_status(tape);
}

/* ---- absolute positions -------------------------------------------------------------------------------------- */

static mg_var *sinusoids(mg_model *model, mg_tape *tape, const mg__pass *pass) {
  const mg__model_settings *s = &model->spec.settings;
  const int64_t width = s->width, half = width / 2, count = pass->tokens * width, shape[] = {pass->tokens, width};
  const double step = half > 1 ? log(10000.0) / (double)(half - 1) : 0.0;
  float *table = scratch(model, tape, count, sizeof *table);
  if (!table) return NULL;
  for (int64_t t = 0; t < pass->tokens; t++) {
    const double place = (double)(s->positions_first + pass->past + t % pass->sequence_tokens);
    for (int64_t i = 0; i < half; i++) {
      table[t * width + i] = (float)sin(place * exp(-step * (double)i));
      table[t * width + half + i] = (float)cos(place * exp(-step * (double)i));
    }
    if (width % 2) table[(t + 1) * width - 1] = 0.0f;
  }
  mg_var *x = mg_tape_upload(tape, MG_F32, 2, shape, table);
  mg_free(model->context, table, (size_t)count * sizeof *table);
  return x;
}

mg_var *mg__absolute_positions(mg_model *model, mg_tape *tape, const mg__pass *pass) {
  const mg__model_settings *s = &model->spec.settings;
  const int64_t end = s->positions_first + pass->past + pass->sequence_tokens;
  if (s->positions == MG__POSITIONS_NONE) return NULL;
  if (s->positions == MG__POSITIONS_SINUSOIDAL) return sinusoids(model, tape, pass);
  if (end > s->positions_max)
    return mg_tape_fail(tape, MG_USAGE, "model: %lld positions are learned; a sequence reaches position %lld",
                        (long long)s->positions_max, (long long)end - 1);
  return mg_gather_rows(tape, mg_params_var(model->params, tape, model->positions),
                        upload_places(model, tape, pass, s->positions_first));
}
