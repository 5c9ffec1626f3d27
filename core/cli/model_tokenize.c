/* moegauge model tokenize: prints the ids of a text; and the text that this or another action was given. */
#include "cli/model_tokenize.h"

#include <string.h>

#include "base/file.h"
#include "base/vector.h"
#include "model/checkpoint_vocabulary.h"

enum { TEXT_BYTES_MOST = 1 << 30, READ_BYTES = 1 << 16 };

static mg_status read_input(mg_context *context, mg_text *text) {
  for (;;) {
    MG_TRY(MG_VECTOR_RESERVE(context, text->bytes, text->room, text->count + READ_BYTES));
    const size_t read = fread(text->bytes + text->count, 1, READ_BYTES, stdin);
    text->count += read;
    if (ferror(stdin)) return mg_fail(context, MG_FILE, "standard input: cannot be read");
    if (read == 0) return MG_OK;
    if (text->count > TEXT_BYTES_MOST)
      return mg_fail(context, MG_FILE, "standard input: more than the %d bytes that a text may have", TEXT_BYTES_MOST);
  }
}

mg_status mg__model_text(mg_context *context, const char *action, const char *word, const char *file, mg_text *text) {
  if (word && *file) return mg_fail(context, MG_USAGE, "model %s: give TEXT or --text FILE, not both", action);
  if (!word && !*file)
    return mg_fail(context, MG_USAGE,
                   "model %s: TEXT is missing: the text itself, - for standard input, or --text FILE", action);
  if (word && strcmp(word, "-") == 0) return read_input(context, text);
  if (!word) {
    MG_TRY(mg_file_read(context, file, TEXT_BYTES_MOST, &text->bytes, &text->count));
    text->room = text->count + 1;
    return MG_OK;
  }
  const size_t bytes = strlen(word);
  MG_TRY(MG_VECTOR_RESERVE(context, text->bytes, text->room, bytes + 1));
  memcpy(text->bytes, word, bytes);
  text->count = bytes;
  return MG_OK;
}

/* A token as its file spells it; null where that is no text. */
static json_t *spelt(const mg_tokenizer *tokenizer, int32_t id) {
  const mg_token_text token = mg_tokenizer_token(tokenizer, id);
  json_t *text = token.count ? json_stringn(token.bytes, token.count) : NULL;
  return text ? text : json_null();
}

static mg_status print(mg_cli *cli, const mg_tokenizer *tokenizer, const mg_token_list *list, size_t bytes, bool json) {
  if (!json) {
    for (size_t i = 0; i < list->count; i++) printf("%s%d", i ? " " : "", list->ids[i]);
    putchar('\n');
    return MG_OK;
  }
  json_t *ids = json_array(), *tokens = json_array();
  for (size_t i = 0; i < list->count; i++) {
    json_array_append_new(ids, json_integer(list->ids[i]));
    json_array_append_new(tokens, spelt(tokenizer, list->ids[i]));
  }
  return mg_cli_print_json(cli, json_pack("{s:o, s:o, s:I}", "ids", ids, "tokens", tokens, "bytes", (json_int_t)bytes));
}

mg_status mg__model_tokenize(mg_cli *cli, const mg__tokenize_request *request) {
  mg_context *context = cli->context;
  mg_tokenizer *tokenizer = NULL;
  mg_token_list list = {0};
  mg_text text = {0};
  mg_status status = mg__model_text(context, "tokenize", request->text, request->file, &text);
  if (status == MG_OK) status = mg_model_tokenizer(context, request->path, &tokenizer);
  if (status == MG_OK)
    status = mg_tokenizer_encode(tokenizer, text.count ? text.bytes : "", text.count,
                                 request->plain ? 0 : MG_ENCODE_ADD_SPECIAL, &list);
  if (status == MG_OK) status = print(cli, tokenizer, &list, text.count, request->json);
  mg_token_list_free(context, &list);
  mg_text_free(context, &text);
  mg_tokenizer_destroy(tokenizer);
  return status;
}
