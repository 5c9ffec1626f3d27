/* Man pages (roff), from the same rows as the help pages. */
#include <ctype.h>
#include <stdio.h>

#include "cli/help.h"

enum { MEANING_BYTES = 1536 };

/* Text with the characters that roff would take for its own. */
static void put(const char *text) {
  if (*text == '.' || *text == '\'') fputs("\\&", stdout);
  for (; *text; text++) {
    if (*text == '\\')
      fputs("\\e", stdout);
    else if (*text == '-')
      fputs("\\-", stdout);
    else
      putchar(*text);
  }
}

static void put_item(const char *term, const char *text) {
  fputs(".TP\n.B ", stdout);
  put(term);
  putchar('\n');
  put(text);
  putchar('\n');
}

static void put_upper(const char *text) {
  for (; *text; text++) putchar(toupper((unsigned char)*text));
}

static void put_options(const mg_command *command) {
  puts(".SH OPTIONS");
  for (const mg_option *o = command->options; o && o->type != MG_OPTION_TYPE_END; o++) {
    char usage[96], meaning[MEANING_BYTES];
    mg__option_usage(o, "--", usage, sizeof usage);
    mg__option_meaning(o, command->repeats, meaning, sizeof meaning);
    put_item(usage, meaning);
  }
  put_item("--help, -h", "show the help page");
}

static void put_exit_code(void *user, int code, const char *meaning) {
  (void)user;
  char number[16];
  snprintf(number, sizeof number, "%d", code);
  put_item(number, meaning);
}

static void put_command(const mg_command *command) {
  fputs(".TH MOEGAUGE-", stdout);
  put_upper(command->name);
  printf(" 1 \"\" \"moegauge %s\"\n.SH NAME\nmoegauge\\-%s \\- ", MG_VERSION, command->name);
  put(command->summary);
  printf("\n.SH SYNOPSIS\n.B moegauge %s\n", command->name);
  put(command->words);
  if (command->options) fputs(" [options]", stdout);
  puts("\n.SH DESCRIPTION");
  put(command->details ? command->details : command->summary);
  putchar('\n');
  put_options(command);
  puts(".SH EXAMPLES");
  for (const mg_example *e = command->examples; e->line; e++) put_item(e->line, e->meaning);
  puts(".SH SEE ALSO\n.BR moegauge (1)");
}

static void put_program(void) {
  printf(".TH MOEGAUGE 1 \"\" \"moegauge %s\"\n.SH NAME\n", MG_VERSION);
  puts("moegauge \\- a laboratory for Mixture\\-of\\-Experts routing\n.SH SYNOPSIS\n.B moegauge\nCOMMAND [arguments] "
       "[options]\n.SH COMMANDS");
  for (const mg_command *const *c = mg__commands; *c; c++)
    if (!(*c)->hidden) put_item((*c)->name, (*c)->summary);
  puts(".SH ENVIRONMENT");
  put_item("MOEGAUGE_PLUGIN_PATH", "absolute folders with plugins of your own, colon-separated");
  put_item("OMP_NUM_THREADS", "threads of the cpu backend");
  put_item("NO_COLOR", "when set, nothing is coloured");
  puts(".SH EXIT STATUS");
  mg__each_exit_code(put_exit_code, NULL);
}

void mg__man_page(const mg_command *command) {
  if (command)
    put_command(command);
  else
    put_program();
}
