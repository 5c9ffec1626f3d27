/* Help pages for a terminal. */
#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "cli/parse.h"

enum { COLUMNS = 80, LEFT = 28, MEANING_BYTES = 1536 };

void mg_cli_print_wrapped(FILE *out, const char *text, int indent, int column) {
  while (*text) {
    const int length = (int)strcspn(text, " ");
    if (column > indent && column + 1 + length > COLUMNS) {
      fprintf(out, "\n%*s", indent, "");
      column = indent;
    } else if (column > indent) {
      fputc(' ', out);
      column++;
    }
    fprintf(out, "%.*s", length, text);
    column += length;
    text += length;
    text += strspn(text, " ");
  }
  fputc('\n', out);
}

void mg__help_heading(const mg_cli *cli, const char *text) {
  printf(cli->colour ? "\n\033[1m%s\033[0m\n" : "\n%s\n", text);
}

void mg__option_usage(const mg_option *option, const char *prefix, char *text, size_t bytes) {
  static const char *const value[] = {"", "", " N", " X", " WORD", " TEXT", " N,N"};
  char flag[MG_FLAG_BYTES];
  const bool command_line = *prefix != '\0';
  snprintf(text, bytes, "%s%s%s", prefix, command_line ? mg__flag_name(option->name, flag) : option->name,
           command_line ? value[option->type] : "");
}

void mg__option_meaning(const mg_option *option, const char *repeats, char *text, size_t bytes) {
  char allowed[512], standard[MG_OPTION_STRING_MAX];
  mg_option_allowed(option, allowed, sizeof allowed);
  mg_option_default_text(option, standard, sizeof standard);
  const bool again = repeats && strcmp(repeats, option->name) == 0;
  if (option->type == MG_OPTION_TYPE_BOOL && option->value == 0.0)
    snprintf(text, bytes, "%s", option->help);
  else if (option->type == MG_OPTION_TYPE_STRING && !*standard)
    snprintf(text, bytes, "%s%s", option->help, again ? " (may be given several times)" : "");
  else
    snprintf(text, bytes, "%s (%s%s%s)", option->help, option->type == MG_OPTION_TYPE_STRING ? "a text" : allowed,
             *standard ? "; default " : "", standard);
}

static void print_pair(const char *left, const char *right) {
  const int width = (int)strlen(left);
  printf("  %s", left);
  if (width + 3 > LEFT)
    printf("\n%*s", LEFT, "");
  else
    printf("%*s", LEFT - 2 - width, "");
  mg_cli_print_wrapped(stdout, right, LEFT, LEFT);
}

void mg__help_options(const mg_cli *cli, const mg_option *options, const char *prefix, const char *repeats) {
  (void)cli;
  for (const mg_option *o = options; o && o->type != MG_OPTION_TYPE_END; o++) {
    char usage[MG_FLAG_BYTES + 16], meaning[MEANING_BYTES];
    mg__option_usage(o, prefix, usage, sizeof usage);
    mg__option_meaning(o, repeats, meaning, sizeof meaning);
    print_pair(usage, meaning);
  }
}

void mg__help_command(const mg_cli *cli, const mg_command *command) {
  printf("%s: %s\n", command->name, command->summary);
  mg__help_heading(cli, "Usage");
  printf("  moegauge %s%s%s%s\n", command->name, *command->words ? " " : "", command->words,
         command->options ? " [options]" : "");
  if (command->details) {
    putchar('\n');
    mg_cli_print_wrapped(stdout, command->details, 0, 0);
  }
  mg__help_heading(cli, "Options");
  mg__help_options(cli, command->options, "--", command->repeats);
  print_pair("--help, -h", "show this page");
  mg__help_heading(cli, "Examples");
  for (const mg_example *e = command->examples; e->line; e++) printf("  %s\n      %s\n", e->line, e->meaning);
}

void mg__each_exit_code(void (*visit)(void *user, int code, const char *meaning), void *user) {
  for (int first = 0; first < MG_STATUS_COUNT; first++) {
    const int code = mg_status_exit_code((mg_status)first);
    char meaning[256] = "";
    bool seen = false;
    for (int i = 0; i < MG_STATUS_COUNT; i++) {
      if (mg_status_exit_code((mg_status)i) != code) continue;
      if (i < first) seen = true;
      const size_t used = strlen(meaning);
      snprintf(meaning + used, sizeof meaning - used, "%s%s", used ? "; or " : "", mg_status_meaning((mg_status)i));
    }
    if (!seen) visit(user, code, meaning);
  }
}

static void print_exit_code(void *user, int code, const char *meaning) {
  (void)user;
  char left[16];
  snprintf(left, sizeof left, "%d", code);
  print_pair(left, meaning);
}

void mg__help_overview(const mg_cli *cli) {
  printf("moegauge %s: a laboratory for Mixture-of-Experts routing\n", MG_VERSION);
  mg__help_heading(cli, "Usage");
  printf("  moegauge COMMAND [arguments] [options]\n");
  mg__help_heading(cli, "Commands");
  for (const mg_command *const *c = mg__commands; *c; c++)
    if (!(*c)->hidden) print_pair((*c)->name, (*c)->summary);
  mg__help_heading(cli, "More");
  print_pair("moegauge help COMMAND", "options and examples of a command");
  print_pair("moegauge help router NAME", "options of a router, as Lua and JSON take them");
  print_pair("moegauge --version", "version and commit");
  mg__help_heading(cli, "Environment");
  print_pair("MOEGAUGE_PLUGIN_PATH", "absolute folders with plugins of your own, colon-separated");
  print_pair("OMP_NUM_THREADS", "threads of the cpu backend");
  print_pair("NO_COLOR", "when set, nothing is coloured");
  mg__help_heading(cli, "Exit codes");
  mg__each_exit_code(print_exit_code, NULL);
}
