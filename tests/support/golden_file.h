/* Reading the compressed golden files of tests/golden. */
#ifndef MG_TESTS_SUPPORT_GOLDEN_FILE_H
#define MG_TESTS_SUPPORT_GOLDEN_FILE_H

#include "model/tokenizer.h"

typedef struct mg_golden_file {
  unsigned char *data;
  size_t bytes, at;
} mg_golden_file;

/* Reads tests/golden/NAME, a gzip file, whole; fails the test if it is not there. */
mg_golden_file mg_golden_file_open(const char *name);
void mg_golden_file_close(mg_golden_file *golden);
/* The next little-endian numbers, and the next bytes where they lie. Fail the test at the end of the file. */
uint32_t mg_golden_file_u32(mg_golden_file *golden);
uint16_t mg_golden_file_u16(mg_golden_file *golden);
const unsigned char *mg_golden_file_bytes(mg_golden_file *golden, size_t bytes);

/* The tokenizer.json of a kind of tests/golden/tokenizers, to be released with json_decref, and the tokenizer. */
json_t *mg_golden_tokenizer_json(const char *kind);
mg_tokenizer *mg_golden_tokenizer(mg_context *context, const char *kind);
/* Encodes and decodes; fails the test if an id is out of range, or if `exact` and the text does not come back. */
void mg_golden_round_trip(mg_context *context, mg_tokenizer *tokenizer, const char *text, size_t bytes, bool exact);

#endif
