/* Indexing, dispatch and combine. Rows are moved, or summed with weights, by a team each; sums of rows that share an id
 * run over the ids sorted, so that they have an order and need no atomic addition. */
#include "rows.h"
#include "sort.h"

namespace {

/* ---- rows by id ------------------------------------------------------------------------------------------------- */

/* out[row] = from[ids[row] / divisor], zero where the id is -1 or the row lies beyond *used. W is what is moved at once:
 * the bits of some elements. */
template <typename W> struct gather_row {
  const W *from;
  gpu_ids ids;
  const int32_t *used; /* NULL: all */
  int64_t divisor, width;
  W *out;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const int64_t id = used && row >= *used ? -1 : ids[row];
    const W *source = from + (id < 0 ? 0 : gpu_place_of(id, divisor).row * width);
    for (int64_t c = team.member(); c < width; c += team.size) out[row * width + c] = id >= 0 ? source[c] : W{};
  }
};

template <typename W>
void gather_by(const mg_backend *backend, const mg_tensor *from, gpu_ids ids, const int32_t *used, int64_t divisor,
               const mg_tensor *out) {
  const int64_t bytes = mg_tensor_columns(out) * static_cast<int64_t>(mg_dtype_bytes(out->dtype));
  const int64_t width = bytes / static_cast<int64_t>(sizeof(W));
  gpu_rows(backend, mg_tensor_rows(out), width,
           gather_row<W>{gpu_data<const W>(from), ids, used, divisor, width, gpu_data<W>(out)});
}

/* As gather_row, in the widest words that fit. */
void gather(const mg_backend *backend, const mg_tensor *from, gpu_ids ids, const int32_t *used, int64_t divisor,
            const mg_tensor *out) {
  if (mg_tensor_count(out) == 0) return;
  const int64_t bytes = mg_tensor_columns(out) * static_cast<int64_t>(mg_dtype_bytes(out->dtype));
  if (gpu_packs_fit<uint8_t>(bytes, from->data, out->data))
    gather_by<gpu_pack<uint32_t, 4>>(backend, from, ids, used, divisor, out);
  else if (mg_dtype_bytes(out->dtype) == sizeof(uint32_t))
    gather_by<uint32_t>(backend, from, ids, used, divisor, out);
  else
    gather_by<uint16_t>(backend, from, ids, used, divisor, out);
}

/* ---- sums of rows by id ----------------------------------------------------------------------------------------- */

/* out[row] = the sum over its ids, in their order, of weight * table[id]; an id of -1 adds nothing, and without weights
 * each is 1. */
template <typename T, int N> struct gather_sum_row {
  const gpu_pack<T, N> *table;
  const T *weights;
  gpu_ids ids;
  int64_t choices, width; /* packs of a row */
  gpu_pack<T, N> *out;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    for (int64_t c = team.member(); c < width; c += team.size) {
      float sum[N] = {};
      for (int64_t slot = row * choices; slot < (row + 1) * choices; slot++) {
        const int32_t id = ids[slot];
        if (id < 0) continue;
        const float weight = weights ? gpu_read(weights, slot) : 1.0f;
        const gpu_pack<T, N> values = table[id * width + c];
        for (int k = 0; k < N; k++) sum[k] += weight * gpu_read(values.at, k);
      }
      gpu_pack<T, N> result;
      for (int k = 0; k < N; k++) gpu_write(result.at, k, sum[k]);
      out[row * width + c] = result;
    }
  }
};

template <typename T, int N>
void gather_sum_by(const mg_backend *backend, const mg_tensor *table, const mg_tensor *weights, gpu_ids ids,
                   int64_t choices, const mg_tensor *out) {
  typedef gpu_pack<T, N> pack;
  const int64_t width = mg_tensor_columns(out) / N;
  gpu_rows(backend, mg_tensor_rows(out), width,
           gather_sum_row<T, N>{gpu_data<const pack>(table), gpu_data<const T>(weights), ids, choices, width,
                                gpu_data<pack>(out)});
}

void gather_sum(const mg_backend *backend, const mg_tensor *table, const mg_tensor *weights, gpu_ids ids,
                int64_t choices, const mg_tensor *out) {
  gpu_with_real(out->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    if (gpu_packs_fit<T>(mg_tensor_columns(out), table->data, out->data))
      gather_sum_by<T, gpu_pack_most<T>()>(backend, table, weights, ids, choices, out);
    else
      gather_sum_by<T, 1>(backend, table, weights, ids, choices, out);
  });
}

/* The other way: out[id] = the sum over the slots that hold this id, in ascending order, of weight * x[slot / choices]. */
template <typename T> struct scatter_sum_row {
  const T *x, *weights;
  const int32_t *slots, *offsets; /* sorted by id; the first of each id */
  int64_t choices, columns;
  T *out;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    for (int64_t c = team.member(); c < columns; c += team.size) {
      float sum = 0.0f;
      for (int32_t i = offsets[row]; i < offsets[row + 1]; i++) {
        const float weight = weights ? gpu_read(weights, slots[i]) : 1.0f;
        sum += weight * gpu_read(x, slots[i] / choices * columns + c);
      }
      gpu_write(out, row * columns + c, sum);
    }
  }
};

/* The key of a slot without an id is the bound: behind all others. */
struct key_by_id {
  gpu_ids ids;
  uint32_t *key;
  int32_t *item;
  GPU_DEVICE void operator()(int64_t i) const {
    const int32_t id = ids[i];
    key[i] = static_cast<uint32_t>(id < 0 ? ids.bound : id);
    item[i] = static_cast<int32_t>(i);
  }
};

mg_status scatter_sum(mg_backend *backend, const mg_tensor *x, const mg_tensor *weights, gpu_ids ids, int64_t count,
                      int64_t choices, const mg_tensor *out) {
  const int64_t rows = mg_tensor_rows(out), columns = mg_tensor_columns(out);
  const size_t sort_bytes = gpu_sort_bytes(count);
  char *memory =
      static_cast<char *>(mg__gpu_scratch(backend, sort_bytes + (static_cast<size_t>(rows) + 1) * sizeof(int32_t)));
  if (!memory) return MG_DEVICE;
  int32_t *offsets = reinterpret_cast<int32_t *>(memory + sort_bytes);
  gpu_sort sort = gpu_sort_create(memory, count);
  gpu_each(backend, count, key_by_id{ids, sort.key[0], sort.item[0]});
  gpu_sort_run(backend, &sort, gpu_bits_for(ids.bound));
  gpu_sort_offsets(backend, &sort, rows, offsets);
  gpu_with_real(out->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, rows, columns,
             scatter_sum_row<T>{gpu_data<const T>(x), gpu_data<const T>(weights), sort.item[sort.now], offsets, choices,
                                columns, gpu_data<T>(out)});
  });
  return MG_OK;
}

/* ---- columns by id ---------------------------------------------------------------------------------------------- */

template <typename T> struct gather_columns_step {
  const T *x;
  gpu_ids ids;
  int64_t columns, choices;
  T *out;
  GPU_DEVICE void operator()(int64_t i) const {
    const int32_t id = ids[i];
    gpu_write(out, i, id < 0 ? 0.0f : gpu_read(x, gpu_place_of(i, choices).row * columns + id));
  }
};

template <typename T> struct scatter_columns_step {
  const T *dout;
  gpu_ids ids;
  int64_t columns, choices;
  T *out;
  GPU_DEVICE void operator()(int64_t i) const {
    const gpu_place at = gpu_place_of(i, columns);
    float sum = 0.0f;
    for (int64_t slot = at.row * choices; slot < (at.row + 1) * choices; slot++)
      if (ids[slot] == at.column) sum += gpu_read(dout, slot);
    gpu_write(out, i, sum);
  }
};

/* ---- products of single rows ------------------------------------------------------------------------------------ */

/* A row is one pair (token, choice). */
template <typename T> struct gather_dot_row {
  const T *x, *w;
  gpu_ids ids;
  int64_t choices, columns;
  T *out;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const int32_t id = ids[row];
    float sum = 0.0f;
    for (int64_t c = team.member(); c < columns && id >= 0; c += team.size)
      sum += gpu_read(x, row / choices * columns + c) * gpu_read(w, id * columns + c);
    sum = team.sum(sum);
    if (team.member() == 0) gpu_write(out, row, sum);
  }
};

/* ---- combine backward ------------------------------------------------------------------------------------------- */

template <typename T, int N> struct combine_backward_row {
  const gpu_pack<T, N> *dout, *y;
  const T *weights;
  gpu_ids slots;
  const int32_t *used;
  int64_t choices, width;
  gpu_pack<T, N> *dy;
  T *dweights;
  template <typename Team> GPU_DEVICE void operator()(int64_t row, Team team) const {
    const int64_t slot = row < *used ? slots[row] : -1, token = slot / choices;
    const float weight = weights && slot >= 0 ? gpu_read(weights, slot) : 1.0f;
    float dot = 0.0f;
    for (int64_t c = team.member(); c < width; c += team.size) {
      gpu_pack<T, N> result = {};
      if (slot >= 0) {
        const gpu_pack<T, N> g = dout[token * width + c], values = y[row * width + c];
        for (int k = 0; k < N; k++) {
          gpu_write(result.at, k, weight * gpu_read(g.at, k));
          dot += gpu_read(g.at, k) * gpu_read(values.at, k);
        }
      }
      dy[row * width + c] = result;
    }
    if (!dweights) return;
    dot = team.sum(dot);
    if (team.member() == 0 && slot >= 0) gpu_write(dweights, slot, dot);
  }
};

template <typename T, int N>
void combine_backward_by(const mg_backend *backend, const mg_op_call *call, gpu_ids slots, const int32_t *used) {
  typedef gpu_pack<T, N> pack;
  const mg_tensor *dy = call->out[0];
  const int64_t width = mg_tensor_columns(dy) / N;
  gpu_rows(backend, mg_tensor_rows(dy), width,
           combine_backward_row<T, N>{gpu_data<const pack>(call->in[0]), gpu_data<const pack>(call->in[1]),
                                      gpu_data<const T>(call->in[2]), slots, used, call->attributes.dispatch.choices,
                                      width, gpu_data<pack>(dy), gpu_data<T>(call->out[1])});
}

/* Where the device keeps how many rows belong to an expert. */
const int32_t *used_rows(const mg_tensor *offsets) {
  return gpu_data<const int32_t>(offsets) + mg_tensor_count(offsets) - 1;
}

} // namespace

/* ---- primitives ------------------------------------------------------------------------------------------------- */

mg_status mg__gpu_gather_rows(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *table = call->in[0];
  gather(backend, table, gpu_ids_of(backend, call, call->in[1], mg_tensor_rows(table)), nullptr, 1, call->out[0]);
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_scatter_add_rows(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *ids = call->in[1], *out = call->out[0];
  MG_TRY(scatter_sum(backend, call->in[0], nullptr, gpu_ids_of(backend, call, ids, mg_tensor_rows(out)),
                     mg_tensor_count(ids), 1, out));
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_gather_columns(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t columns = mg_tensor_columns(x);
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(out),
             gather_columns_step<T>{gpu_data<const T>(x), gpu_ids_of(backend, call, call->in[1], columns), columns,
                                    mg_tensor_columns(out), gpu_data<T>(out)});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_scatter_columns(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *out = call->out[0];
  const int64_t columns = mg_tensor_columns(out);
  gpu_with_real(dout->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_each(backend, mg_tensor_count(out),
             scatter_columns_step<T>{gpu_data<const T>(dout), gpu_ids_of(backend, call, call->in[1], columns), columns,
                                     mg_tensor_columns(dout), gpu_data<T>(out)});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_gather_dot(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *w = call->in[1], *out = call->out[0];
  gpu_with_real(x->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    gpu_rows(backend, mg_tensor_count(out), mg_tensor_columns(x),
             gather_dot_row<T>{gpu_data<const T>(x), gpu_data<const T>(w),
                               gpu_ids_of(backend, call, call->in[2], mg_tensor_rows(w)), mg_tensor_columns(out),
                               mg_tensor_columns(x), gpu_data<T>(out)});
  });
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_gather_dot_backward_x(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *w = call->in[1], *ids = call->in[2];
  gather_sum(backend, w, call->in[0], gpu_ids_of(backend, call, ids, mg_tensor_rows(w)), mg_tensor_columns(ids),
             call->out[0]);
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_gather_dot_backward_w(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *ids = call->in[2], *dw = call->out[0];
  MG_TRY(scatter_sum(backend, call->in[1], call->in[0], gpu_ids_of(backend, call, ids, mg_tensor_rows(dw)),
                     mg_tensor_count(ids), mg_tensor_columns(ids), dw));
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_dispatch(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0];
  const int64_t choices = call->attributes.dispatch.choices;
  gather(backend, x, gpu_ids_of(backend, call, call->in[1], mg_tensor_rows(x) * choices), used_rows(call->in[2]),
         choices, call->out[0]);
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_combine(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *y = call->in[0], *position = call->in[2];
  gather_sum(backend, y, call->in[1], gpu_ids_of(backend, call, position, mg_tensor_rows(y)),
             mg_tensor_columns(position), call->out[0]);
  return mg__gpu_launched(backend, call);
}

mg_status mg__gpu_combine_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *y = call->in[1], *dy = call->out[0], *dweights = call->out[1];
  const int64_t columns = mg_tensor_columns(dy);
  const gpu_ids slots =
      gpu_ids_of(backend, call, call->in[3], mg_tensor_rows(dout) * call->attributes.dispatch.choices);
  if (dweights && mg_tensor_count(dweights) > 0)
    MG_TRY(mg__gpu_check(backend, gpu_set(dweights->data, 0, mg_tensor_bytes(dweights), gpu_state_of(backend)->stream),
                         "clearing memory"));
  gpu_with_real(dy->dtype, [&](auto type) {
    typedef gpu_element<decltype(type)> T;
    if (gpu_packs_fit<T>(columns, dout->data, y->data) && gpu_packs_fit<T>(columns, dy->data, dy->data))
      combine_backward_by<T, gpu_pack_most<T>()>(backend, call, slots, used_rows(call->in[4]));
    else
      combine_backward_by<T, 1>(backend, call, slots, used_rows(call->in[4]));
  });
  return mg__gpu_launched(backend, call);
}
