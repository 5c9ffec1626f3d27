/* rope: rotates pairs (x, y) of each head's first `rotary` columns by the angle position * frequency:
 *   (x cos - y sin, x sin + y cos) * scale.   Su et al. 2021, "RoFormer".
 * Pair i is columns (2i, 2i+1) when interleaved, else (i, i + rotary/2). `inverse` rotates by the negative angle, which
 * is the backward rule. Columns from `rotary` on are copied as they are: the scale, like YaRN's, is for rotated ones.
 */
#include "reference.h"

mg_status mg__reference_rope(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *positions = call->in[1], *frequencies = call->in[2], *out = call->out[0];
  const int64_t head = call->attributes.rope.head, rotary = call->attributes.rope.rotary;
  const bool interleaved = call->attributes.rope.interleaved;
  const double scale = call->attributes.rope.scale, direction = call->attributes.rope.inverse ? -1 : 1;
  const int64_t T = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  for (int64_t t = 0; t < T; t++)
    for (int64_t first = t * columns; first < (t + 1) * columns; first += head) {
      for (int64_t i = 0; i < rotary / 2; i++) {
        const int64_t a = first + (interleaved ? 2 * i : i), b = interleaved ? a + 1 : a + rotary / 2;
        const double angle = direction * (double)id_at(positions, t) * at(frequencies, i);
        const double x_a = at(x, a), x_b = at(x, b);
        put(out, a, scale * (x_a * cos(angle) - x_b * sin(angle)));
        put(out, b, scale * (x_a * sin(angle) + x_b * cos(angle)));
      }
      for (int64_t c = rotary; c < head; c++) put(out, first + c, at(x, first + c));
    }
  return MG_OK;
}
