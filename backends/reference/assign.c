/* assign: turns the choices ids [T,S] into a list of assignments sorted by expert, keeping at most `capacity` per
 * expert.
 *
 * Slot t S + s is choice s of token t. demand[e] counts the slots that ask for expert e. Of these the expert keeps the
 * first `capacity` (all when 0) in the order
 *   position: all first choices in token order, then all second choices, and so on;
 *   priority: the highest priority first (NaN counts as -inf); equal ones in slot order.
 * Whatever the order, the kept slots of an expert are listed by ascending slot: slots[a], with offsets[e] the first a
 * of expert e. position[slot] is that a, or -1. slots[a] is -1 from offsets[E] on. */
#include "reference.h"

static double priority_of(const mg_tensor *priority, int64_t slot) {
  const double value = at(priority, slot);
  return isnan(value) ? -INFINITY : value;
}

/* True if the expert of both prefers slot i to slot j. */
static bool preferred(const mg_op_call *call, int64_t i, int64_t j) {
  const int64_t S = mg_tensor_columns(call->in[0]);
  if (call->attributes.assign.order == MG_ORDER_POSITION) return i % S != j % S ? i % S < j % S : i < j;
  const double at_i = priority_of(call->in[1], i), at_j = priority_of(call->in[1], j);
  return at_i != at_j ? at_i > at_j : i < j;
}

static bool kept(const mg_op_call *call, int64_t slot) {
  const mg_tensor *ids = call->in[0];
  const int64_t capacity = call->attributes.assign.capacity;
  if (capacity == 0) return true;
  int64_t ahead = 0;
  for (int64_t other = 0; other < mg_tensor_count(ids) && ahead < capacity; other++)
    ahead += id_at(ids, other) == id_at(ids, slot) && preferred(call, other, slot);
  return ahead < capacity;
}

mg_status mg__reference_assign(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *ids = call->in[0];
  const mg_tensor *offsets = call->out[0], *slots = call->out[1], *position = call->out[2], *demand = call->out[3];
  const int64_t count = mg_tensor_count(ids), experts = mg_tensor_count(demand);
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, experts));
  for (int64_t slot = 0; slot < count; slot++) put_id(position, slot, -1);
  int64_t a = 0;
  for (int64_t e = 0; e < experts; e++) {
    int64_t asked = 0;
    put_id(offsets, e, a);
    for (int64_t slot = 0; slot < count; slot++) {
      if (id_at(ids, slot) != e) continue;
      asked++;
      if (!kept(call, slot)) continue;
      put_id(position, slot, a);
      put_id(slots, a++, slot);
    }
    put_id(demand, e, asked);
  }
  put_id(offsets, experts, a);
  while (a < count) put_id(slots, a++, -1);
  return MG_OK;
}
