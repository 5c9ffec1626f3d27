/* mg_main: sets up one run of the program, finds the command, runs it, and turns its status into messages and an exit
 * code. */
#include "cli/program.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/options.h"
#include "cli/help.h"
#include "cli/parse.h"
#include "measure/provenance.h"

/* The one mutable global: a signal handler has no other way to tell that Ctrl-C was pressed. Commands see it through
 * mg_cli.interrupts. */
static volatile sig_atomic_t interrupts_seen = 0;

/* The first press asks; the second ends a program that does not answer, such as one inside a long search of a script's
 * text. While cases run neither comes here: the runner takes signals itself. */
static void count_interrupt(int number) {
  (void)number;
  if (interrupts_seen > 0) _exit(mg_status_exit_code(MG_INTERRUPTED));
  interrupts_seen = 1;
}

static int interrupts(void) {
  return (int)interrupts_seen;
}

static void watch_interrupts(void) {
  struct sigaction action = {.sa_handler = count_interrupt}; /* no SA_RESTART: a waiting call returns and looks */
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
}

static bool wants_colour(int descriptor) {
  const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");
  return isatty(descriptor) && !(none && *none) && !(terminal && strcmp(terminal, "dumb") == 0);
}

static void print_log_line(void *user, mg_log_level level, const char *line) {
  static const char *const word[] = {"error", "warning", "note", "debug"};
  (void)user;
  fprintf(stderr, "%s: %s\n", word[level], line);
}

mg_status mg_cli_registry(mg_cli *cli, mg_registry **out) {
  if (!cli->registry) MG_TRY(mg_registry_create(cli->context, &cli->registry));
  *out = cli->registry;
  return MG_OK;
}

mg_status mg_cli_print_json(mg_cli *cli, json_t *json) {
  if (!json) return mg_fail(cli->context, MG_MEMORY, "out of host memory while building JSON");
  const int failed = json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
  json_decref(json);
  putchar('\n');
  return failed ? mg_fail(cli->context, MG_WRITE, "standard output could not be written") : MG_OK;
}

mg_status mg_cli_refuse_word(mg_cli *cli, const char *what, const char *word, const char *const *known) {
  size_t count = 0, used = 0;
  char list[512] = "";
  for (; known[count]; count++)
    if (used < sizeof list)
      used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", known[count]);
  const char *nearest = mg_nearest_name(word, known, count);
  if (nearest) return mg_fail(cli->context, MG_USAGE, "there is no %s '%s'; did you mean '%s'?", what, word, nearest);
  return mg_fail(cli->context, MG_USAGE, "there is no %s '%s'; known: %s", what, word, list);
}

static mg_status run_command(mg_cli *cli, const mg_command *command, int count, char *const *arguments) {
  mg_parsed parsed;
  mg_status status = mg__parse(cli->context, command, count, arguments, &parsed);
  if (status == MG_OK && parsed.help) {
    mg__help_command(cli, command);
  } else if (status == MG_OK) {
    if (command->counts_interrupts) watch_interrupts();
    status = command->run(cli, parsed.options, &parsed.words);
  }
  mg__parsed_free(cli->context, command, &parsed);
  return status;
}

static mg_status dispatch(mg_cli *cli, int argc, char **argv) {
  const char *first = argc > 1 ? argv[1] : "--help";
  if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
    printf("moegauge %s (%s)\n", MG_VERSION, mg_provenance_commit());
    return MG_OK;
  }
  if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) {
    if (argc > 2) return run_command(cli, &mg__command_help, argc - 2, argv + 2);
    mg__help_overview(cli);
    return MG_OK;
  }
  const mg_command *command = mg__command_find(first);
  if (!command) return mg__command_refuse(cli, first);
  return run_command(cli, command, argc - 2, argv + 2);
}

static void print_failure(const mg_cli *cli, mg_status status) {
  const char *message = mg_context_message(cli->context);
  const char *on = cli->colour_errors ? "\033[1;31m" : "", *off = cli->colour_errors ? "\033[0m" : "";
  fprintf(stderr, "%serror:%s %s\n", on, off, *message ? message : mg_status_meaning(status));
}

/* A result that did not reach standard output (a full disk) is a failure, however well it was computed. */
static mg_status flush_output(mg_cli *cli, mg_status status) {
  const bool lost = fflush(stdout) != 0 || ferror(stdout);
  if (lost && status == MG_OK) return mg_fail(cli->context, MG_WRITE, "standard output could not be written");
  return status;
}

int mg_main(int argc, char **argv) {
  char program[PATH_MAX] = "";
  mg_cli cli = {.program = program,
                .colour = wants_colour(STDOUT_FILENO),
                .colour_errors = wants_colour(STDERR_FILENO),
                .interrupts = interrupts};
  if (readlink("/proc/self/exe", program, sizeof program - 1) < 0 && argc > 0)
    snprintf(program, sizeof program, "%s", argv[0]);
  if (mg_context_create(NULL, &cli.context) != MG_OK) {
    fputs("error: out of host memory\n", stderr);
    return mg_status_exit_code(MG_MEMORY);
  }
  mg_context_set_log(cli.context, print_log_line, NULL, MG_LOG_WARNING);
  const mg_status status = flush_output(&cli, dispatch(&cli, argc, argv));
  if (status != MG_OK) print_failure(&cli, status);
  mg_registry_destroy(cli.registry);
  mg_context_destroy(cli.context);
  return mg_status_exit_code(status);
}
