/* A dataset's specification made strict: every key known, every stage in its place, every option checked. */
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "train/data_stage.h"

const mg__stage *const mg__stages[] = {&mg__stage_folder,    &mg__stage_manpages, &mg__stage_synthetic,
                                       &mg__stage_normalise, &mg__stage_filter,   &mg__stage_script,
                                       &mg__stage_limit,     &mg__stage_split,    &mg__stage_tokenize,
                                       &mg__stage_encode,    &mg__stage_pack,     NULL};

static const char *const plain_keys[] = {"corpus", "tokenizer", "vocabulary", "seed", "domain_bytes", "stages"};
enum { PLAIN_KEYS = MG_COUNT(plain_keys), NAMES_MAX = 32, MANPAGES_DOMAIN_BYTES = 4000000 };

static const char *corpus_kind(const char *corpus) {
  if (strcmp(corpus, "manpages") == 0 || strcmp(corpus, "synthetic") == 0) return corpus;
  return "folder";
}

/* The stage of a name that suits the corpus; NULL if there is none. */
static const mg__stage *find_stage(const char *name, const char *corpus) {
  for (const mg__stage *const *stage = mg__stages; *stage; stage++)
    if (strcmp((*stage)->name, name) == 0 && (!(*stage)->corpus || strcmp((*stage)->corpus, corpus_kind(corpus)) == 0))
      return *stage;
  return NULL;
}

/* Names of all stages, each once. */
static size_t stage_names(const char *names[NAMES_MAX]) {
  size_t count = 0;
  for (const mg__stage *const *stage = mg__stages; *stage; stage++)
    if (count == 0 || strcmp(names[count - 1], (*stage)->name) != 0) names[count++] = (*stage)->name;
  return count;
}

static mg_status refuse_name(mg_context *context, const char *what, const char *name, const char *const *names,
                             size_t count) {
  const char *nearest = mg_nearest_name(name, names, count);
  if (nearest) return mg_fail(context, MG_USAGE, "data: unknown %s '%s'; did you mean '%s'?", what, name, nearest);
  char known[512] = "";
  for (size_t i = 0, used = 0; i < count && used < sizeof known; i++)
    used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", names[i]);
  return mg_fail(context, MG_USAGE, "data: unknown %s '%s'; known: %s", what, name, known);
}

static mg_status check_keys(mg_context *context, const json_t *spec) {
  if (!json_is_object(spec)) return mg_fail(context, MG_USAGE, "data: a table of named options was expected");
  const char *names[NAMES_MAX + PLAIN_KEYS];
  memcpy(names, plain_keys, sizeof plain_keys);
  const size_t count = PLAIN_KEYS + stage_names(names + PLAIN_KEYS);
  const char *key;
  const json_t *value;
  json_object_foreach((json_t *)(uintptr_t)spec, key, value) {
    bool known = false;
    for (size_t i = 0; i < count; i++) known = known || strcmp(names[i], key) == 0;
    if (!known) return refuse_name(context, "key", key, names, count);
  }
  return MG_OK;
}

static mg_status read_corpus(mg_context *context, const json_t *spec, mg__recipe *recipe) {
  const json_t *corpus = json_object_get(spec, "corpus");
  if (!json_is_string(corpus) || json_string_length(corpus) == 0 || json_string_length(corpus) >= PATH_MAX)
    return mg_fail(context, MG_USAGE, "data: 'corpus' must be \"manpages\", \"synthetic\" or the path of a folder");
  snprintf(recipe->corpus, sizeof recipe->corpus, "%s", json_string_value(corpus));
  const json_t *seed = json_object_get(spec, "seed");
  const double number = seed ? json_number_value(seed) : 1.0;
  if ((seed && !json_is_number(seed)) || !(number >= 0 && number <= 9007199254740992.0))
    return mg_fail(context, MG_USAGE, "data: 'seed' must be an integer from 0 to 2^53");
  recipe->seed = (uint64_t)number;
  return MG_OK;
}

/* The default list: all stages for text; chains are tokens already. */
static json_t *default_stages(const char *corpus, bool filtered) {
  if (strcmp(corpus, "synthetic") == 0) return json_pack("[s, s]", "split", "pack");
  json_t *list = json_pack("[s, s]", "normalise", "filter");
  if (filtered) json_array_append_new(list, json_string("script"));
  static const char *const rest[] = {"limit", "split", "tokenize", "encode", "pack"};
  for (size_t i = 0; i < MG_COUNT(rest); i++) json_array_append_new(list, json_string(rest[i]));
  return list;
}

/* Sets object[key] to a borrowed value unless it is there or the value is NULL. */
static void set_default(json_t *object, const char *key, json_t *value) {
  if (value && !json_object_get(object, key)) json_object_set(object, key, value);
}

/* A stage's options: its own table first, then the spec's short forms, then what the corpus suggests. New reference. */
static json_t *options_for(const json_t *spec, const json_t *item, const mg__stage *stage, const char *corpus) {
  const json_t *own = json_is_object(item) ? item : json_object_get(spec, stage->name);
  if (own && !json_is_object(own)) return json_incref((json_t *)(uintptr_t)own);
  json_t *options = own ? json_copy((json_t *)(uintptr_t)own) : json_object();
  json_object_del(options, "stage");
  if (stage->kind == MG__TOKENIZE) {
    set_default(options, "kind", json_object_get(spec, "tokenizer"));
    set_default(options, "vocabulary", json_object_get(spec, "vocabulary"));
  }
  if (stage == &mg__stage_synthetic) set_default(options, "vocabulary", json_object_get(spec, "vocabulary"));
  if (stage == &mg__stage_limit) {
    set_default(options, "domain_bytes", json_object_get(spec, "domain_bytes"));
    if (strcmp(corpus, "manpages") == 0 && !json_object_get(options, "domain_bytes"))
      json_object_set_new(options, "domain_bytes", json_integer(MANPAGES_DOMAIN_BYTES));
  }
  return options;
}

static mg_status add_step(mg_context *context, const json_t *spec, const json_t *item, const char *name,
                          mg__recipe *recipe) {
  const mg__stage *stage = find_stage(name, recipe->corpus);
  if (!stage) {
    const char *names[NAMES_MAX];
    return refuse_name(context, "stage", name, names, stage_names(names));
  }
  if (recipe->count == MG__STEPS_MAX)
    return mg_fail(context, MG_USAGE, "data: more than %d stages; leave some out", MG__STEPS_MAX);
  mg__step *step = &recipe->steps[recipe->count];
  step->stage = stage;
  step->options = mg_alloc(context, stage->options_size);
  if (stage->options_size && !step->options) return MG_MEMORY;
  recipe->count++;
  mg_options_defaults(stage->options, step->options);
  json_t *options = options_for(spec, item, stage, recipe->corpus);
  mg_status status = mg_options_from_json(context, stage->options, options, name, step->options);
  json_decref(options);
  if (status == MG_OK && stage->settle) status = stage->settle(context, step->options);
  return status;
}

static mg_status read_stages(mg_context *context, const json_t *spec, const json_t *list, mg__recipe *recipe) {
  if (!json_is_array(list))
    return mg_fail(context, MG_USAGE, "data: 'stages' must be a list of names or of tables with a 'stage'");
  MG_TRY(add_step(context, spec, NULL, "collect", recipe));
  size_t i;
  const json_t *item;
  json_array_foreach(list, i, item) {
    const char *name = json_string_value(json_is_object(item) ? json_object_get(item, "stage") : item);
    if (!name)
      return mg_fail(context, MG_USAGE, "data: stage %zu of 'stages' must be a name or a table with a 'stage'", i + 1);
    if (i == 0 && strcmp(name, "collect") == 0 && !json_is_object(item)) continue; /* it is always there */
    MG_TRY(add_step(context, spec, item, name, recipe));
  }
  return MG_OK;
}

static bool has_stage(const mg__recipe *recipe, const mg__stage *stage) {
  for (size_t i = 0; i < recipe->count; i++)
    if (recipe->steps[i].stage == stage) return true;
  return false;
}

/* Holds the order: collect, text stages, split, tokenize, encode, pack; chains have no text. */
static mg_status check_order(mg_context *context, const mg__recipe *recipe) {
  const bool synthetic = strcmp(recipe->corpus, "synthetic") == 0;
  for (size_t i = 1; i < recipe->count; i++) {
    const mg__stage *before = recipe->steps[i - 1].stage, *here = recipe->steps[i].stage;
    if (here->kind < before->kind || (here->kind == before->kind && here->kind != MG__TEXT))
      return mg_fail(context, MG_USAGE,
                     "data: stage '%s' cannot follow '%s'; the order is collect, then normalise, filter, script and "
                     "limit as you like, then split, tokenize, encode, pack",
                     here->name, before->name);
    if (synthetic && here->kind != MG__SPLIT && here->kind != MG__PACK)
      return mg_fail(context, MG_USAGE, "data: the corpus 'synthetic' is tokens already; leave out the stage '%s'",
                     here->name);
  }
  const mg__stage *const needed[] = {&mg__stage_split, &mg__stage_tokenize, &mg__stage_encode, &mg__stage_pack};
  for (size_t i = 0; i < MG_COUNT(needed); i++)
    if (!has_stage(recipe, needed[i]) && !(synthetic && (i == 1 || i == 2)))
      return mg_fail(context, MG_USAGE, "data: 'stages' lacks '%s'; add it to the list", needed[i]->name);
  return MG_OK;
}

/* A key for a stage that does not run, or a filter without its stage, would silently do nothing. */
static mg_status check_use(mg_context *context, const json_t *spec, bool filtered, const mg__recipe *recipe) {
  const char *names[NAMES_MAX];
  const size_t count = stage_names(names);
  for (size_t i = 0; i < count; i++)
    if (json_object_get(spec, names[i])) {
      const mg__stage *stage = find_stage(names[i], recipe->corpus);
      if (!has_stage(recipe, stage))
        return mg_fail(context, MG_USAGE, "data: options for '%s' were given, but it is not among the stages",
                       names[i]);
    }
  const bool script = has_stage(recipe, &mg__stage_script);
  if (script && !filtered)
    return mg_fail(context, MG_USAGE, "data: 'stages' names 'script', but no filter function was given");
  if (filtered && !script)
    return mg_fail(context, MG_USAGE,
                   "data: a filter function was given; name 'script' among the stages where it runs");
  const bool tokenizes = has_stage(recipe, &mg__stage_tokenize), limits = has_stage(recipe, &mg__stage_limit);
  if (!tokenizes && json_object_get(spec, "tokenizer"))
    return mg_fail(context, MG_USAGE, "data: the corpus 'synthetic' needs no 'tokenizer'; leave it out");
  if (!limits && json_object_get(spec, "domain_bytes"))
    return mg_fail(context, MG_USAGE, "data: 'domain_bytes' needs the stage 'limit'");
  return MG_OK;
}

mg_status mg__recipe_read(mg_context *context, const json_t *spec, bool filtered, mg__recipe *recipe) {
  *recipe = (mg__recipe){.count = 0};
  MG_TRY(check_keys(context, spec));
  MG_TRY(read_corpus(context, spec, recipe));
  json_t *list = json_object_get(spec, "stages");
  list = list ? json_incref(list) : default_stages(recipe->corpus, filtered);
  mg_status status = list ? read_stages(context, spec, list, recipe) : MG_MEMORY;
  json_decref(list);
  if (status == MG_OK) status = check_order(context, recipe);
  if (status == MG_OK) status = check_use(context, spec, filtered, recipe);
  if (status != MG_OK) mg__recipe_release(context, recipe);
  return status;
}

void mg__recipe_release(mg_context *context, mg__recipe *recipe) {
  for (size_t i = 0; i < recipe->count; i++)
    mg_free(context, recipe->steps[i].options, recipe->steps[i].stage->options_size);
  recipe->count = 0;
}

mg_status mg_dataset_check(mg_context *context, const json_t *spec, bool filtered) {
  mg__recipe recipe;
  MG_TRY(mg__recipe_read(context, spec, filtered, &recipe));
  const bool folder = recipe.steps[0].stage == &mg__stage_folder;
  const mg_status status = folder ? mg__folder_check(context, recipe.corpus) : MG_OK;
  mg__recipe_release(context, &recipe);
  return status;
}

json_t *mg_dataset_stages(void) {
  json_t *array = json_array();
  for (const mg__stage *const *stage = mg__stages; array && *stage; stage++)
    json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:o}", "stage", (*stage)->name, "corpus",
                                           (*stage)->corpus ? (*stage)->corpus : "any", "summary", (*stage)->summary,
                                           "options", mg_options_describe((*stage)->options)));
  return array;
}
