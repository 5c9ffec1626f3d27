/* moegauge completion: scripts that let a shell complete commands, options, and the names of plugins. */
#include <stdio.h>
#include <string.h>

#include "cli/help.h"
#include "cli/parse.h"

static const char *const shells[] = {"bash", "zsh", "fish", NULL};

static const mg_example examples[] = {
    {"moegauge completion bash > ~/.local/share/bash-completion/completions/moegauge", "for bash"},
    {"moegauge completion fish > ~/.config/fish/completions/moegauge.fish", "for fish"},
    MG_EXAMPLE_END};

/* "--json --names" of a command. */
static void put_flags(const mg_command *command) {
  char flag[MG_FLAG_BYTES];
  for (const mg_option *o = command->options; o && o->type != MG_OPTION_TYPE_END; o++)
    printf("--%s ", mg__flag_name(o->name, flag));
  fputs("--help", stdout);
}

static void put_commands(void) {
  for (const mg_command *const *c = mg__commands; *c; c++)
    if (!(*c)->hidden) printf("%s ", (*c)->name);
}

static void put_first_words(const mg_command *command) {
  for (const char *const *word = command->first_words; word && *word; word++) printf("%s ", *word);
  if (strcmp(command->name, "help") == 0) put_commands();
}

/* bash, and zsh through its emulation of bash's completion. */
static void put_bash(void) {
  puts("# Completion of moegauge for bash, written by `moegauge completion bash`.\n"
       "_moegauge() {\n"
       "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=\"\"\n"
       "  COMPREPLY=()\n"
       "  if [ \"$COMP_CWORD\" -eq 1 ]; then");
  fputs("    COMPREPLY=($(compgen -W \"", stdout);
  put_commands();
  puts("--help --version\" -- \"$word\"))\n    return\n  fi\n"
       "  case $before in\n"
       "    router) words=$(moegauge list routers --names 2>/dev/null) ;;\n"
       "    backend) words=$(moegauge list backends --names 2>/dev/null) ;;\n"
       "  esac\n"
       "  if [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$word\")); return; fi\n"
       "  case ${COMP_WORDS[1]} in");
  for (const mg_command *const *c = mg__commands; *c; c++) {
    if ((*c)->hidden) continue;
    printf("    %s) case $word in -*) words=\"", (*c)->name);
    put_flags(*c);
    fputs("\" ;; *) words=\"", stdout);
    put_first_words(*c);
    puts("\" ;; esac ;;");
  }
  puts("  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -F _moegauge moegauge");
}

static void put_zsh(void) {
  puts("#compdef moegauge\nautoload -U +X bashcompinit && bashcompinit");
  put_bash();
}

static void put_quoted(const char *text) {
  putchar('\'');
  for (; *text; text++) {
    if (*text == '\'' || *text == '\\') putchar('\\');
    putchar(*text);
  }
  putchar('\'');
}

static void put_fish_command(const mg_command *command) {
  char flag[MG_FLAG_BYTES];
  printf("complete -c moegauge -n __fish_use_subcommand -a %s -d ", command->name);
  put_quoted(command->summary);
  putchar('\n');
  for (const mg_option *o = command->options; o && o->type != MG_OPTION_TYPE_END; o++) {
    printf("complete -c moegauge -n '__fish_seen_subcommand_from %s' -l %s%s -d ", command->name,
           mg__flag_name(o->name, flag), o->type == MG_OPTION_TYPE_BOOL ? "" : " -r");
    put_quoted(o->help);
    putchar('\n');
  }
  for (const char *const *word = command->first_words; word && *word; word++)
    printf("complete -c moegauge -n '__fish_seen_subcommand_from %s' -a %s\n", command->name, *word);
}

static void put_fish(void) {
  puts("# Completion of moegauge for fish, written by `moegauge completion fish`.");
  for (const mg_command *const *c = mg__commands; *c; c++)
    if (!(*c)->hidden) put_fish_command(*c);
  puts("complete -c moegauge -n '__fish_seen_subcommand_from router' -a '(moegauge list routers --names)'\n"
       "complete -c moegauge -n '__fish_seen_subcommand_from backend' -a '(moegauge list backends --names)'");
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  static void (*const put[])(void) = {put_bash, put_zsh, put_fish};
  (void)option_values;
  for (size_t i = 0; shells[i]; i++)
    if (strcmp(words->word[0], shells[i]) == 0) {
      put[i]();
      return MG_OK;
    }
  return mg_cli_refuse_word(cli, "completion for", words->word[0], shells);
}

const mg_command mg__command_completion = {.name = "completion",
                                           .words = "bash|zsh|fish",
                                           .summary = "print a completion script for a shell",
                                           .words_least = 1,
                                           .words_most = 1,
                                           .first_words = shells,
                                           .examples = examples,
                                           .run = run};
