/* The command line, read by the command's option table. */
#include "cli/parse.h"

#include <stdio.h>
#include <string.h>

#include "base/options.h"

enum { OPTIONS_MAX = 64 };

typedef struct cursor {
  mg_context *context;
  const mg_command *command;
  char *const *arguments;
  int count, next;
  const char **words, **repeated;
  mg_parsed *out;
} cursor;

static void exchange(const char *from, char *text, size_t bytes, char old, char new) {
  size_t i = 0;
  for (; from[i] && i + 1 < bytes; i++) text[i] = from[i] == old ? new : from[i];
  text[i] = '\0';
}

const char *mg__flag_name(const char *option, char text[MG_FLAG_BYTES]) {
  exchange(option, text, MG_FLAG_BYTES, '_', '-');
  return text;
}

static const mg_option *find(const mg_option *table, const char *name) {
  for (const mg_option *o = table; o && o->type != MG_OPTION_TYPE_END; o++)
    if (strcmp(o->name, name) == 0) return o;
  return NULL;
}

static mg_status refuse_option(const cursor *at, const char *typed) {
  const char *names[OPTIONS_MAX], *command = at->command->name;
  size_t count = 0;
  for (const mg_option *o = at->command->options; o && o->type != MG_OPTION_TYPE_END && count < OPTIONS_MAX; o++)
    names[count++] = o->name;
  char name[MG_FLAG_BYTES], flag[MG_FLAG_BYTES];
  exchange(typed + strspn(typed, "-"), name, sizeof name, '-', '_');
  name[strcspn(name, "=")] = '\0';
  const char *nearest = mg_nearest_name(name, names, count);
  const int length = (int)strcspn(typed, "=");
  if (nearest)
    return mg_fail(at->context, MG_USAGE, "%s: unknown option '%.*s'; did you mean '--%s'?", command, length, typed,
                   mg__flag_name(nearest, flag));
  return mg_fail(at->context, MG_USAGE, "%s: unknown option '%.*s'; 'moegauge help %s' shows the known ones", command,
                 length, typed, command);
}

static mg_status need_value(const cursor *at, const mg_option *option) {
  char allowed[512], flag[MG_FLAG_BYTES];
  mg_option_allowed(option, allowed, sizeof allowed);
  return mg_fail(at->context, MG_USAGE, "%s: --%s needs %s after it", at->command->name,
                 mg__flag_name(option->name, flag), allowed);
}

static mg_status read_option(cursor *at, const char *typed) {
  char name[MG_FLAG_BYTES];
  const char *equals = strchr(typed, '=');
  exchange(typed + 2, name, sizeof name, '-', '_');
  name[strcspn(name, "=")] = '\0';
  const mg_option *option = find(at->command->options, name);
  if (!option) return refuse_option(at, typed);
  const char *value = equals ? equals + 1 : NULL;
  if (!value && option->type == MG_OPTION_TYPE_BOOL) value = "true";
  if (!value && at->next < at->count) value = at->arguments[at->next++];
  if (!value) return need_value(at, option);
  if (at->command->repeats && strcmp(at->command->repeats, name) == 0)
    at->repeated[at->out->words.repeated_count++] = value;
  return mg_options_from_text(at->context, at->command->options, name, value, at->command->name, at->out->options);
}

static mg_status check_words(const cursor *at) {
  const mg_cli_words *words = &at->out->words;
  if (words->count < at->command->words_least)
    return mg_fail(at->context, MG_USAGE, "%s: an argument is missing; usage: moegauge %s %s", at->command->name,
                   at->command->name, at->command->words);
  if (words->count > at->command->words_most)
    return mg_fail(at->context, MG_USAGE, "%s: '%s' is one argument too many; usage: moegauge %s %s", at->command->name,
                   at->words[at->command->words_most], at->command->name, at->command->words);
  return MG_OK;
}

static mg_status read_all(cursor *at) {
  bool only_words = false;
  while (at->next < at->count) {
    const char *typed = at->arguments[at->next++];
    if (only_words || typed[0] != '-' || !typed[1]) {
      at->words[at->out->words.count++] = typed;
    } else if (strcmp(typed, "--") == 0) {
      only_words = true;
    } else if (strcmp(typed, "-h") == 0 || strcmp(typed, "--help") == 0) {
      at->out->help = true;
      return MG_OK;
    } else {
      MG_TRY(typed[1] == '-' ? read_option(at, typed) : refuse_option(at, typed));
    }
  }
  return check_words(at);
}

mg_status mg__parse(mg_context *context, const mg_command *command, int count, char *const *arguments, mg_parsed *out) {
  *out = (mg_parsed){.storage_count = 2 * (size_t)count + 1};
  if (command->options_size > 0 && !(out->options = mg_alloc(context, command->options_size))) return MG_MEMORY;
  mg_options_defaults(command->options, out->options);
  if (!(out->storage = mg_alloc(context, out->storage_count * sizeof *out->storage))) return MG_MEMORY;
  cursor at = {.context = context, .command = command, .arguments = arguments, .count = count, .out = out};
  at.words = out->storage;
  at.repeated = out->storage + count;
  out->words.word = at.words;
  out->words.repeated = at.repeated;
  return read_all(&at);
}

void mg__parsed_free(mg_context *context, const mg_command *command, mg_parsed *parsed) {
  mg_free(context, parsed->options, parsed->options ? command->options_size : 0);
  mg_free(context, parsed->storage, parsed->storage ? parsed->storage_count * sizeof *parsed->storage : 0);
  *parsed = (mg_parsed){0};
}
