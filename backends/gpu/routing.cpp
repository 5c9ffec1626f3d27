/* Choosing and grouping: top_k, histogram, and assign, whose rules are in backends/reference/assign.c.
 *
 * Everything that needs an order is a stable sort (sort.h): by priority and then by expert, or of the slots that were kept
 * by expert again, which leaves those of an expert in ascending order. */
#include "choose.h"
#include "sort.h"

namespace {

/* ---- top_k ------------------------------------------------------------------------------------------------------ */

/* A row that a warp holds. */
template <typename T, int PER> struct top_k_held {
  const T *x;
  T *values;
  int32_t *ids;
  int64_t columns;
  int choices;
  bool packs;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team) const {
    typedef gpu_held_row<T, PER> held;
    GPU_SHARED(gpu_candidate, candidates, GPU_BLOCK);
    held x_row;
    x_row.read(x + row * columns, columns, packs);
    uint32_t key[PER];
    x_row.keys(columns, key);
    const gpu_choice mine = gpu_choose<held>(key, choices, candidates + gpu_thread() / GPU_WARP * GPU_WARP);
    if (mine.rank >= choices) return;
    gpu_write(values, row * choices + mine.rank, gpu_value_of_key(mine.best.key));
    ids[row * choices + mine.rank] = mine.best.column;
  }
};

/* A longer row, which is walked through for each choice. */
template <typename T> struct top_k_walked {
  const T *x;
  T *values;
  int32_t *ids;
  int64_t columns, choices;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    gpu_candidate last = {UINT32_MAX, -1};
    for (int64_t s = 0; s < choices; s++) {
      gpu_candidate best = gpu_no_candidate();
      for (int64_t c = team.member(); c < columns; c += team.size) {
        const gpu_candidate here = {gpu_rising_key(gpu_read(x, row * columns + c)), static_cast<int32_t>(c)};
        if (last.before(here) && here.before(best)) best = here;
      }
      last = gpu_best_of_warp(best);
      if (team.member() != 0) continue;
      gpu_write(values, row * choices + s, gpu_value_of_key(last.key));
      ids[row * choices + s] = last.column;
    }
  }
};

template <typename T> struct key_by_value {
  const T *x;
  uint32_t *key;
  int32_t *item;
  GPU_DEVICE void operator()(int64_t i) const {
    key[i] = ~gpu_rising_key(gpu_read(x, i));
    item[i] = static_cast<int32_t>(i);
  }
};

struct key_by_row {
  const int32_t *item;
  int32_t columns;
  uint32_t *key;
  GPU_DEVICE void operator()(int64_t i) const {
    key[i] = static_cast<uint32_t>(item[i] / columns);
  }
};

/* The first of each row of the sorted elements. */
template <typename T> struct take_first {
  const T *x;
  const int32_t *item;
  int64_t columns, choices;
  T *values;
  int32_t *ids;
  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place at = gpu_place_of(i, choices);
    const int64_t from = item[at.row * columns + at.column];
    const float value = gpu_read(x, from);
    gpu_write(values, i, gpu_is_nan(value) ? -INFINITY : value);
    ids[i] = static_cast<int32_t>(from - at.row * columns);
  }
};

template <typename T> mg_status top_k_sorted(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0];
  const int64_t count = mg_tensor_count(x), columns = mg_tensor_columns(x);
  void *memory = mg__gpu_scratch(backend, gpu_sort_bytes(count));
  if (!memory) return MG_DEVICE;
  gpu_sort sort = gpu_sort_create(memory, count);
  gpu_each(backend, count, key_by_value<T>{gpu_data<const T>(x), sort.key[0], sort.item[0]});
  gpu_sort_run(backend, &sort, 32);
  gpu_each(backend, count, key_by_row{sort.item[sort.now], static_cast<int32_t>(columns), sort.key[sort.now]});
  gpu_sort_run(backend, &sort, gpu_bits_for(mg_tensor_rows(x)));
  gpu_each(backend, mg_tensor_count(call->out[1]),
           take_first<T>{gpu_data<const T>(x), sort.item[sort.now], columns, mg_tensor_columns(call->out[1]),
                         gpu_data<T>(call->out[0]), gpu_data<int32_t>(call->out[1])});
  return MG_OK;
}

template <typename T> mg_status top_k(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *in = call->in[0];
  const T *x = gpu_data<const T>(in);
  T *values = gpu_data<T>(call->out[0]);
  int32_t *ids = gpu_data<int32_t>(call->out[1]);
  const int64_t rows = mg_tensor_rows(in), columns = mg_tensor_columns(in), choices = mg_tensor_columns(call->out[1]);
  if (gpu_choosing_is_held(columns, choices)) {
    gpu_with_held_row<T>(columns, x, x, [&](auto type, bool packs) {
      constexpr int PER = gpu_element<decltype(type)>::COLUMNS;
      gpu_rows_by<false>(backend, rows, top_k_held<T, PER>{x, values, ids, columns, static_cast<int>(choices), packs});
    });
    return MG_OK;
  }
  if (choices > GPU_CHOICES_MAX && mg_tensor_count(in) <= INT32_MAX) return top_k_sorted<T>(backend, call);
  gpu_rows_by<false>(backend, rows, top_k_walked<T>{x, values, ids, columns, choices});
  return MG_OK;
}

/* ---- histogram -------------------------------------------------------------------------------------------------- */

/* Counts as integers, whose additions may come in any order, in the place of the result. */
struct count_step {
  gpu_ids ids;
  int64_t segment; /* ids of one */
  int64_t bins;
  int32_t *counts;
  GPU_DEVICE void operator()(int64_t i) const {
    const int32_t id = ids[i];
    if (id >= 0) (void)gpu_atomic_add(&counts[gpu_place_of(i, segment).row * bins + id], 1);
  }
};

struct count_to_number {
  float *out;
  GPU_DEVICE void operator()(int64_t i) const {
    out[i] = static_cast<float>(static_cast<int32_t>(gpu_bits_of(out[i])));
  }
};

/* ---- assign ----------------------------------------------------------------------------------------------------- */

enum { KEY_SLOTS, KEY_BY_CHOICE };

/* Items in the order in which experts prefer them, before they are sorted by expert: slots in order, or all first choices,
 * then all second ones. The key of a slot without an expert is the bound: behind all others. */
struct key_by_expert {
  gpu_ids ids;
  int64_t tokens, choices;
  int order;
  uint32_t *key;
  int32_t *item;
  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place at = gpu_place_of(i, tokens); /* by choice: of a table with the choices as rows */
    const int64_t slot = order == KEY_BY_CHOICE ? at.column * choices + at.row : i;
    const int32_t id = ids[slot];
    key[i] = static_cast<uint32_t>(id < 0 ? ids.bound : id);
    item[i] = static_cast<int32_t>(slot);
  }
};

/* The expert of items that are in order of priority. */
struct key_of_item {
  gpu_ids ids;
  const int32_t *item;
  uint32_t *key;
  GPU_DEVICE void operator()(int64_t i) const {
    const int32_t id = ids[item[i]];
    key[i] = static_cast<uint32_t>(id < 0 ? ids.bound : id);
  }
};

/* position = 0 for a slot that its expert keeps, else -1; `offsets` are those of all who ask. */
struct keep_first {
  const uint32_t *key;
  const int32_t *item, *offsets;
  int64_t experts, capacity;
  int32_t *position;
  GPU_DEVICE void operator()(int64_t i) const {
    const int64_t expert = key[i];
    const bool kept = expert < experts && (capacity == 0 || i - offsets[expert] < capacity);
    position[item[i]] = kept ? 0 : -1;
  }
};

struct key_of_kept {
  gpu_ids ids;
  const int32_t *position;
  uint32_t *key;
  int32_t *item;
  GPU_DEVICE void operator()(int64_t slot) const {
    key[slot] = static_cast<uint32_t>(position[slot] == 0 ? ids.id[slot] : ids.bound);
    item[slot] = static_cast<int32_t>(slot);
  }
};

struct demand_step {
  const int32_t *offsets;
  int32_t *demand;
  GPU_DEVICE void operator()(int64_t expert) const {
    demand[expert] = offsets[expert + 1] - offsets[expert];
  }
};

/* The list of assignments from the kept slots in order. */
struct list_step {
  const uint32_t *key;
  const int32_t *item;
  int64_t experts;
  int32_t *slots, *position;
  GPU_DEVICE void operator()(int64_t a) const {
    const bool kept = key[a] < experts;
    slots[a] = kept ? item[a] : -1;
    if (kept) position[item[a]] = static_cast<int32_t>(a);
  }
};

/* What the steps of one assign share. */
struct assignment {
  mg_backend *backend;
  const mg_op_call *call;
  gpu_ids ids;
  int64_t tokens, choices, count, experts, capacity;
  int32_t *offsets, *slots, *position, *demand;
  gpu_sort sort;
};

/* Sorts all slots by expert, those of an expert in the order of its preference. */
void sort_by_preference(assignment *a) {
  const mg_tensor *priority = a->call->in[1];
  gpu_sort *sort = &a->sort;
  sort->now = 0;
  if (a->capacity > 0 && a->call->attributes.assign.order == MG_ORDER_PRIORITY) {
    gpu_with_real(priority->dtype, [&](auto type) {
      typedef gpu_element<decltype(type)> T;
      gpu_each(a->backend, a->count, key_by_value<T>{gpu_data<const T>(priority), sort->key[0], sort->item[0]});
    });
    gpu_sort_run(a->backend, sort, 32);
    gpu_each(a->backend, a->count, key_of_item{a->ids, sort->item[sort->now], sort->key[sort->now]});
  } else {
    const int order = a->capacity > 0 ? KEY_BY_CHOICE : KEY_SLOTS;
    gpu_each(a->backend, a->count, key_by_expert{a->ids, a->tokens, a->choices, order, sort->key[0], sort->item[0]});
  }
  gpu_sort_run(a->backend, sort, gpu_bits_for(a->experts));
}

/* Sorts the kept slots by expert and slot; the others come last. */
void sort_kept(assignment *a) {
  gpu_sort *sort = &a->sort;
  sort->now = 0;
  gpu_each(a->backend, a->count, key_of_kept{a->ids, a->position, sort->key[0], sort->item[0]});
  gpu_sort_run(a->backend, sort, gpu_bits_for(a->experts));
}

void run_assign(assignment *a) {
  sort_by_preference(a);
  gpu_sort_offsets(a->backend, &a->sort, a->experts, a->offsets);
  gpu_each(a->backend, a->experts, demand_step{a->offsets, a->demand});
  gpu_each(a->backend, a->count,
           keep_first{a->sort.key[a->sort.now], a->sort.item[a->sort.now], a->offsets, a->experts, a->capacity,
                      a->position});
  if (a->capacity > 0) {
    sort_kept(a);
    gpu_sort_offsets(a->backend, &a->sort, a->experts, a->offsets);
  }
  gpu_each(a->backend, a->count,
           list_step{a->sort.key[a->sort.now], a->sort.item[a->sort.now], a->experts, a->slots, a->position});
}

} // namespace

/* ---- primitives ------------------------------------------------------------------------------------------------- */

mg_status mg__gpu_top_k(mg_backend *backend, const mg_op_call *call) {
  if (mg_tensor_count(call->out[1]) == 0) return MG_OK;
  MG_TRY(call->in[0]->dtype == MG_BF16 ? top_k<gpu_bf16>(backend, call) : top_k<float>(backend, call));
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_histogram(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *ids = call->in[0], *out = call->out[0];
  const int64_t segments = call->attributes.histogram.segments, count = mg_tensor_count(ids);
  if (mg_tensor_count(out) == 0) return MG_OK;
  MG_TRY(mg__gpu_check(backend, gpu_set(out->data, 0, mg_tensor_bytes(out), gpu_state_of(backend)->stream),
                       "clearing memory"));
  gpu_each(backend, count,
           count_step{gpu_ids_of(backend, call, ids, mg_tensor_columns(out)), count / segments, mg_tensor_columns(out),
                      gpu_data<int32_t>(out)});
  gpu_each(backend, mg_tensor_count(out), count_to_number{gpu_data<float>(out)});
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_assign(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *ids = call->in[0];
  const int64_t count = mg_tensor_count(ids), experts = mg_tensor_count(call->out[3]);
  void *memory = mg__gpu_scratch(backend, gpu_sort_bytes(count));
  if (!memory) return MG_DEVICE;
  assignment a = {backend,
                  call,
                  gpu_ids_of(backend, call, ids, experts),
                  mg_tensor_rows(ids),
                  mg_tensor_columns(ids),
                  count,
                  experts,
                  call->attributes.assign.capacity,
                  gpu_data<int32_t>(call->out[0]),
                  gpu_data<int32_t>(call->out[1]),
                  gpu_data<int32_t>(call->out[2]),
                  gpu_data<int32_t>(call->out[3]),
                  gpu_sort_create(memory, count)};
  run_assign(&a);
  return mg__gpu_launched(backend, call);
}
