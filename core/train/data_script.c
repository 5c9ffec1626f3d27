/* Stage "script": a filter of the caller's own decides about each document, and may give it another text. */
#include "train/data_stage.h"

static const mg_option options_table[] = {MG_OPTION_END};

static mg_status run(mg__pipeline *pipeline, const void *options) {
  (void)options;
  const mg_document_filter *filter = pipeline->filter;
  for (size_t i = 0; i < pipeline->count; i++) {
    mg__document *document = &pipeline->documents[i];
    mg_document_verdict verdict = {.keep = true};
    MG_TRY(filter->decide(filter->user, document->text, document->bytes, mg__domain_name(pipeline, document->domain),
                          &verdict));
    if (!verdict.keep)
      MG_TRY(mg__document_drop(pipeline, document, verdict.reason ? verdict.reason : "script"));
    else if (verdict.text && verdict.bytes == 0)
      MG_TRY(mg__document_drop(pipeline, document, "empty"));
    else if (verdict.text)
      MG_TRY(mg__document_replace(pipeline, document, verdict.text, verdict.bytes));
  }
  return MG_OK;
}

const mg__stage mg__stage_script = {.name = "script",
                                    .summary = "a filter function of the experiment keeps, drops or rewrites documents",
                                    .kind = MG__TEXT,
                                    .version = 2,
                                    .options = options_table,
                                    .options_size = 0,
                                    .run = run};
