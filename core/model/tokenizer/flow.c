/* Lists of pieces that stages read and write. */
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

mg_status mg__text_reserve(mg_context *context, mg_text *text, size_t count) {
  size_t wanted;
  if (__builtin_add_overflow(text->count, count, &wanted))
    return mg_fail(context, MG_MEMORY, "%zu more bytes of text do not fit in memory", count);
  return MG_VECTOR_RESERVE(context, text->bytes, text->room, wanted);
}

size_t mg__flow_begin(const mg__flow *flow) {
  return flow->out.text.count;
}

mg_status mg__flow_end(mg__flow *flow, size_t start, size_t head) {
  mg__piece_list *out = &flow->out;
  const size_t bytes = out->text.count - start;
  if (bytes == 0 && !flow->keep_empty) return MG_OK;
  MG_TRY(MG_VECTOR_RESERVE(flow->context, out->pieces, out->room, out->count + 1));
  out->pieces[out->count++] = (mg__piece){start, bytes, head < bytes ? head : bytes, MG__PIECE_TEXT};
  return MG_OK;
}

mg_status mg__flow_emit(mg__flow *flow, const char *bytes, size_t count, size_t head, int32_t id) {
  mg__piece_list *out = &flow->out;
  if (count == 0 && id < 0 && !flow->keep_empty) return MG_OK;
  const size_t start = out->text.count;
  MG_TRY(mg__text_add(flow->context, &out->text, bytes, count));
  MG_TRY(MG_VECTOR_RESERVE(flow->context, out->pieces, out->room, out->count + 1));
  out->pieces[out->count++] = (mg__piece){start, count, head < count ? head : count, id};
  return MG_OK;
}

const char *mg__piece_text(const mg__flow *flow, const mg__piece *piece) {
  return flow->in.text.bytes ? flow->in.text.bytes + piece->start : "";
}

mg_status mg__flow_check(const mg__flow *flow) {
  if (flow->out.text.count <= flow->bytes_most) return MG_OK;
  return mg_fail(flow->context, MG_FILE,
                 "the tokenizer's stages make a text longer than the %zu bytes that are allowed", flow->bytes_most);
}

void mg__flow_turn(mg__flow *flow) {
  const mg__piece_list used = flow->in;
  flow->in = flow->out;
  flow->out = used;
  flow->out.count = flow->out.text.count = 0;
}

void mg__flow_release(mg__flow *flow) {
  mg__piece_list *lists[] = {&flow->in, &flow->out};
  for (size_t i = 0; i < 2; i++) {
    mg_text_free(flow->context, &lists[i]->text);
    MG_VECTOR_FREE(flow->context, lists[i]->pieces, lists[i]->room);
  }
  MG_VECTOR_FREE(flow->context, flow->segments, flow->segments_room);
  mg_text_free(flow->context, &flow->scratch);
}
