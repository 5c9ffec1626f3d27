/* top_k: the k largest of each row in descending order, with their ids. Equal values: the lowest id first. A NaN counts
 * as -inf, and is given out as -inf. */
#include "reference.h"

static double key(const mg_tensor *x, int64_t i) {
  const double value = at(x, i);
  return isnan(value) ? -INFINITY : value;
}

/* True if column a of the row comes before column b. */
static bool before(const mg_tensor *x, int64_t row, int64_t a, int64_t b) {
  return key(x, row + a) > key(x, row + b) || (key(x, row + a) == key(x, row + b) && a < b);
}

mg_status mg__reference_top_k(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *values = call->out[0], *ids = call->out[1];
  const int64_t T = mg_tensor_rows(x), C = mg_tensor_columns(x), k = mg_tensor_columns(ids);
  for (int64_t t = 0; t < T; t++) {
    int64_t last = -1; /* the column chosen before */
    for (int64_t s = 0; s < k; s++) {
      int64_t best = -1;
      for (int64_t c = 0; c < C; c++)
        if ((last < 0 || before(x, t * C, last, c)) && (best < 0 || before(x, t * C, c, best))) best = c;
      put_id(ids, t * k + s, best);
      put(values, t * k + s, key(x, t * C + best));
      last = best;
    }
  }
  return MG_OK;
}
