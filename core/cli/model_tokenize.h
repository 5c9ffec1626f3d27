/* moegauge model tokenize: the ids of a text in a model's vocabulary; and the text that an action is given. */
#ifndef MG_CLI_MODEL_TOKENIZE_H
#define MG_CLI_MODEL_TOKENIZE_H

#include "cli/cli.h"
#include "model/tokenizer.h"

typedef struct mg__tokenize_request {
  const char *path; /* of the model, its folder, or its tokenizer.json */
  const char *text; /* "-" = standard input; NULL = the file */
  const char *file; /* "" = none */
  bool plain;       /* without the tokens that the model puts around a text */
  bool json;
} mg__tokenize_request;

/* Prints them in one line, or {"ids", "tokens", "bytes"}. */
mg_status mg__model_tokenize(mg_cli *cli, const mg__tokenize_request *request);

/* The text of an action: `word` itself, standard input for "-", or the file's. Free it in any case. MG_USAGE if there is no
 * text or two. */
mg_status mg__model_text(mg_context *context, const char *action, const char *word, const char *file, mg_text *text);

#endif
