/* A folder of text files that a test writes, opens as a dataset and removes again. */
#ifndef MG_TESTS_SUPPORT_CORPUS_H
#define MG_TESTS_SUPPORT_CORPUS_H

#include "train/data.h"

typedef struct corpus {
  char folder[64]; /* below it: text/ (the corpus) and cache/ */
  mg_context *context;
} corpus;

/* cmocka setup and teardown: *state is a corpus with an empty folder; teardown fails on a leak. */
int corpus_setup(void **state);
int corpus_teardown(void **state);

/* Writes text/NAME ("english/a.txt"), making its folders. */
void corpus_write(const corpus *self, const char *name, const char *text);
void corpus_write_bytes(const corpus *self, const char *name, const void *data, size_t bytes);
/* A document of `bytes` or a little more of made-up words, different for each number. */
void corpus_write_prose(const corpus *self, const char *name, uint64_t number, size_t bytes);

/* Opens the corpus with a spec in JSON in which %s stands for its folder; `cache` below the folder. */
mg_status corpus_open(const corpus *self, const char *spec, mg_dataset **out);
mg_status corpus_open_filtered(const corpus *self, const char *spec, const mg_document_filter *filter,
                               mg_dataset **out);
/* A number from the report: of stage `stage`, following keys separated by dots ("dropped.too_short.documents"); 0 if it
 * is not there. */
int64_t corpus_report(const mg_dataset *dataset, const char *stage, const char *keys);
/* All the text of one side of the split, domain by domain in any order; malloc'ed. */
char *corpus_text(mg_dataset *dataset, mg_split split);

#endif
