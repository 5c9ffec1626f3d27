/* From a file's bytes to rows of a wanted dtype: read in chunks by position, decode, scale, convert. */
#include <string.h>

#include "model/checkpoint/internal.h"

/* Values of one step: a multiple of every block. */
enum { CHUNK = 16384, GROUP = 32, GROUP_BYTES = 16, TILE = 128 };

/* One call of reading; the buffers are allocated once for it. */
typedef struct reader {
  const mg_checkpoint *checkpoint;
  const mg_checkpoint_tensor *tensor;
  const mg__file *file;
  const mg_storage_info *about;
  mg_dtype dtype;
  unsigned char *raw;    /* CHUNK * 8 bytes */
  unsigned char *joined; /* CHUNK bytes, for pairs */
  double *values;        /* CHUNK, or as many f32 */
  float *factors;        /* of 128 x 128 tiles, from tile row `first_tile` on */
  size_t factors_bytes;
  int64_t first_tile, tile_columns;
} reader;

static mg_status refuse(const reader *r, const char *rule) {
  return mg__file_refuse(r->checkpoint, r->file, MG__NOWHERE, "tensor", r->tensor->name, "%s", rule);
}

static mg_status fetch(const reader *r, const mg__file *file, void *out, uint64_t bytes, uint64_t at) {
  if (mg__file_read(file, out, bytes, at)) return MG_OK;
  return mg__file_refuse(r->checkpoint, file, at, "tensor", r->tensor->name,
                         "its data cannot be read: the file was cut since it was opened, or its disk fails");
}

/* Bytes of `values` values, a whole number of blocks. */
static uint64_t bytes_of(const reader *r, int64_t values) {
  return (uint64_t)values / r->about->block_values * r->about->block_bits / 8;
}

/* ---- scales ------------------------------------------------------------------------------------------------------ */

/* The row of the scales that belongs to a row of the weight: tiles do not reach over the edge of a matrix. */
static int64_t tile_row(const mg_checkpoint_tensor *tensor, int64_t row) {
  const int64_t height = tensor->shape[tensor->dims - 2], tiles = height / TILE + (height % TILE != 0);
  return row / height * tiles + row % height / TILE;
}

static mg_status fetch_factors(reader *r, int64_t first_row, int64_t rows) {
  mg_checkpoint_tensor scales;
  mg_checkpoint_at(r->checkpoint, r->tensor->scales, &scales);
  r->first_tile = tile_row(r->tensor, first_row);
  r->tile_columns = scales.columns;
  const int64_t tiles = tile_row(r->tensor, first_row + rows - 1) - r->first_tile + 1;
  r->factors_bytes = (size_t)(tiles * scales.columns) * sizeof *r->factors;
  r->factors = mg_alloc(r->checkpoint->context, r->factors_bytes);
  if (!r->factors) return MG_MEMORY;
  return mg_checkpoint_read(r->checkpoint, &scales, r->first_tile, tiles, MG_F32, r->factors);
}

static void apply_factors(const reader *r, int64_t first_value, int64_t count, float *values) {
  const int64_t columns = r->tensor->columns;
  for (int64_t i = 0; i < count;) {
    const int64_t row = (first_value + i) / columns, column = (first_value + i) % columns;
    const int64_t left_in_tile = TILE - column % TILE, left_in_row = columns - column;
    int64_t run = left_in_tile < left_in_row ? left_in_tile : left_in_row;
    if (run > count - i) run = count - i;
    const int64_t tile = (tile_row(r->tensor, row) - r->first_tile) * r->tile_columns + column / TILE;
    for (int64_t j = 0; j < run; j++) values[i + j] *= r->factors[tile];
    i += run;
  }
}

/* ---- stored forms ------------------------------------------------------------------------------------------------ */

/* A pair: 16 bytes hold 32 numbers, the even ones in the low nibbles; one scale for them. As blocks the first half of the
 * numbers is in the low nibbles, behind the scale. */
static mg_status join_pair(const reader *r, int64_t first_value, int64_t count, unsigned char *out) {
  enum { BLOCK_BYTES = GROUP_BYTES + 1 };
  const mg__entry *blocks = &r->checkpoint->entries[r->tensor->index];
  const mg__entry *scales = &r->checkpoint->entries[r->tensor->scales];
  const mg__file *scales_file = mg__file_of(r->checkpoint, (size_t)r->tensor->scales);
  const uint64_t first = (uint64_t)first_value / GROUP, groups = (uint64_t)count / GROUP;
  unsigned char *scale = r->raw + (size_t)groups * GROUP_BYTES;
  MG_TRY(fetch(r, r->file, r->raw, groups * GROUP_BYTES, blocks->begin + first * GROUP_BYTES));
  MG_TRY(fetch(r, scales_file, scale, groups, scales->begin + first));
  for (uint64_t g = 0; g < groups; g++, out += BLOCK_BYTES) {
    const unsigned char *pairs = r->raw + g * GROUP_BYTES;
    out[0] = scale[g];
    for (int i = 0; i < GROUP_BYTES; i++) {
      const unsigned char low = pairs[i / 2], high = pairs[(i + GROUP_BYTES) / 2];
      const int shift = i % 2 * 4;
      out[1 + i] = (unsigned char)((low >> shift & 15) | (high >> shift & 15) << 4);
    }
  }
  return MG_OK;
}

/* Runs of 128 values behind the factor of their tile. */
static mg_status join_factors(const reader *r, int64_t first_value, int64_t count, unsigned char *out) {
  enum { BLOCK_BYTES = TILE + sizeof(float) };
  const int64_t columns = r->tensor->columns;
  const uint64_t begin = r->checkpoint->entries[r->tensor->index].begin;
  MG_TRY(fetch(r, r->file, r->raw, (uint64_t)count, begin + (uint64_t)first_value));
  for (int64_t i = 0; i < count; i += TILE, out += BLOCK_BYTES) {
    const int64_t row = (first_value + i) / columns, column = (first_value + i) % columns;
    const int64_t tile = (tile_row(r->tensor, row) - r->first_tile) * r->tile_columns + column / TILE;
    memcpy(out, &r->factors[tile], sizeof(float));
    memcpy(out + sizeof(float), r->raw + i, TILE);
  }
  return MG_OK;
}

bool mg_checkpoint_stored_dtype(const mg_checkpoint_tensor *tensor, mg_dtype *out) {
  *out = mg_storage_about(tensor->storage)->stored;
  if (tensor->scaling != MG_SCALING_BLOCKS_128) return mg_dtype_is_stored(*out);
  *out = MG_F8_BLOCKS;
  return tensor->storage == MG_STORAGE_F8_E4M3 && tensor->columns % TILE == 0;
}

/* `count` values in the tensor's stored dtype. */
static mg_status read_stored(const reader *r, int64_t first_value, int64_t count, unsigned char *out) {
  if (r->tensor->scaling == MG_SCALING_MXFP4_PAIR) return join_pair(r, first_value, count, out);
  return join_factors(r, first_value, count, out);
}

/* ---- decoding and converting ------------------------------------------------------------------------------------- */

static mg_status decode_real(const reader *r, int64_t first_value, int64_t count, float *out) {
  if (r->tensor->scaling == MG_SCALING_MXFP4_PAIR) {
    MG_TRY(join_pair(r, first_value, count, r->joined));
    mg_stored_decode(MG_MXFP4, r->joined, count, out);
    return MG_OK;
  }
  const uint64_t begin = r->checkpoint->entries[r->tensor->index].begin + bytes_of(r, first_value);
  MG_TRY(fetch(r, r->file, r->raw, bytes_of(r, count), begin));
  mg_storage_decode(r->tensor->storage, r->raw, count, out);
  if (r->factors) apply_factors(r, first_value, count, out);
  return MG_OK;
}

/* mg_bf16_from_f32 where the compiler sees it, so that it converts several at once. */
static void round_to_bf16(const float *values, int64_t count, uint16_t *out) {
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, &values[i], sizeof bits);
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16, quiet = bits >> 16 | 0x40u;
    out[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  }
}

static mg_status convert_real(const reader *r, int64_t first_value, int64_t count, void *out) {
  if (r->dtype == MG_F32) return decode_real(r, first_value, count, out);
  float *values = (float *)(void *)r->values;
  MG_TRY(decode_real(r, first_value, count, values));
  if (r->dtype == MG_BF16)
    round_to_bf16(values, count, out);
  else
    for (int64_t i = 0; i < count; i++) ((double *)out)[i] = values[i];
  return MG_OK;
}

static bool store_wide(mg_dtype dtype, double value, int64_t i, void *out) {
  switch (dtype) {
  case MG_F32: ((float *)out)[i] = (float)value; return true;
  case MG_BF16: ((uint16_t *)out)[i] = mg_bf16_from_f32((float)value); return true;
  case MG_F64: ((double *)out)[i] = value; return true;
  case MG_I32:
    if (value < INT32_MIN || value > INT32_MAX) return false;
    ((int32_t *)out)[i] = (int32_t)value;
    return true;
  default: break;
  }
  return false;
}

static mg_status convert_wide(const reader *r, int64_t first_value, int64_t count, void *out) {
  const uint64_t begin = r->checkpoint->entries[r->tensor->index].begin + bytes_of(r, first_value);
  MG_TRY(fetch(r, r->file, r->raw, bytes_of(r, count), begin));
  r->about->to_f64(r->raw, count, r->values);
  for (int64_t i = 0; i < count; i++)
    if (!store_wide(r->dtype, r->values[i], i, out)) return refuse(r, "an integer that does not fit 32 bits");
  return MG_OK;
}

/* Values [first, first + count) of the tensor into `out`. */
static mg_status read_values(const reader *r, int64_t first, int64_t count, void *out) {
  const bool plain = r->tensor->scaling == MG_SCALING_NONE && mg_storage_of_dtype(r->dtype) == r->tensor->storage;
  const uint64_t begin = r->checkpoint->entries[r->tensor->index].begin;
  if (plain) return fetch(r, r->file, out, bytes_of(r, count), begin + bytes_of(r, first));
  for (int64_t done = 0; done < count; done += CHUNK) {
    const int64_t part = count - done < CHUNK ? count - done : CHUNK;
    char *place = (char *)out + mg_dtype_run_bytes(r->dtype, done);
    if (mg_dtype_is_stored(r->dtype))
      MG_TRY(read_stored(r, first + done, part, (unsigned char *)place));
    else
      MG_TRY(r->about->to_f64 ? convert_wide(r, first + done, part, place)
                              : convert_real(r, first + done, part, place));
  }
  return MG_OK;
}

/* ---- one call ------------------------------------------------------------------------------------------------------ */

static mg_status check_call(const reader *r, int64_t first_row, int64_t rows) {
  const mg_checkpoint_tensor *tensor = r->tensor;
  if (first_row < 0 || rows < 0 || first_row > tensor->rows || rows > tensor->rows - first_row)
    return mg_fail(r->checkpoint->context, MG_USAGE,
                   "%s: tensor %s has %lld rows, but rows %lld to %lld were asked for", r->file->path, tensor->name,
                   (long long)tensor->rows, (long long)first_row, (long long)first_row + rows);
  if (!mg_storage_is_real(tensor->storage) && !r->about->to_f64)
    return mg__file_refuse(r->checkpoint, r->file, MG__NOWHERE, "tensor", tensor->name,
                           "its type is %s, which cannot be decoded", r->about->name);
  if (r->dtype == MG_I32 && !r->about->integer)
    return mg__file_refuse(r->checkpoint, r->file, MG__NOWHERE, "tensor", tensor->name,
                           "integers were wanted, but it is %s", r->about->name);
  mg_dtype stored;
  if (mg_dtype_is_stored(r->dtype) && (!mg_checkpoint_stored_dtype(tensor, &stored) || stored != r->dtype))
    return mg_fail(r->checkpoint->context, MG_BUG, "%s: tensor %s is no %s", r->file->path, tensor->name,
                   mg_dtype_name(r->dtype));
  const char *change = mg__file_change(r->file);
  return change ? refuse(r, change) : MG_OK;
}

static mg_status begin_reading(reader *r, const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *tensor,
                               int64_t first_row, int64_t rows, mg_dtype dtype) {
  *r = (reader){.checkpoint = checkpoint,
                .tensor = tensor,
                .file = mg__file_of(checkpoint, (size_t)tensor->index),
                .about = mg_storage_about(tensor->storage),
                .dtype = dtype};
  MG_TRY(check_call(r, first_row, rows));
  r->raw = mg_alloc(checkpoint->context, (size_t)CHUNK * sizeof(double));
  r->values = mg_alloc(checkpoint->context, (size_t)CHUNK * sizeof(double));
  r->joined = mg_alloc(checkpoint->context, CHUNK);
  if (!r->raw || !r->values || !r->joined) return MG_MEMORY;
  const bool tiled = tensor->scaling == MG_SCALING_BLOCKS_128 && rows > 0 && tensor->columns > 0;
  return tiled ? fetch_factors(r, first_row, rows) : MG_OK;
}

static void end_reading(const reader *r) {
  mg_context *context = r->checkpoint->context;
  mg_free(context, r->raw, (size_t)CHUNK * sizeof(double));
  mg_free(context, r->values, (size_t)CHUNK * sizeof(double));
  mg_free(context, r->joined, CHUNK);
  mg_free(context, r->factors, r->factors_bytes);
}

mg_status mg_checkpoint_read(const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *tensor, int64_t first_row,
                             int64_t rows, mg_dtype dtype, void *out) {
  reader r;
  mg_status status = begin_reading(&r, checkpoint, tensor, first_row, rows, dtype);
  if (status == MG_OK) status = read_values(&r, first_row * tensor->columns, rows * tensor->columns, out);
  end_reading(&r);
  return status;
}

/* ---- into a backend ------------------------------------------------------------------------------------------------ */

/* Through one block of host memory, for devices that the host cannot write to. */
static mg_status upload_values(const reader *r, mg_backend *backend, int64_t first, int64_t count,
                               const mg_tensor *out) {
  enum { STAGED = 16 * CHUNK };
  mg_context *context = r->checkpoint->context;
  const size_t bytes = mg_dtype_run_bytes(r->dtype, STAGED);
  void *block = mg_alloc(context, bytes);
  mg_status status = block ? MG_OK : MG_MEMORY;
  for (int64_t done = 0; done < count && status == MG_OK; done += STAGED) {
    const int64_t part = count - done < STAGED ? count - done : STAGED;
    status = read_values(r, first + done, part, block);
    if (status == MG_OK)
      status = backend->plugin->upload(backend, (char *)out->data + mg_dtype_run_bytes(r->dtype, done), block,
                                       mg_dtype_run_bytes(r->dtype, part));
  }
  mg_free(context, block, bytes);
  return status;
}

mg_status mg_checkpoint_load_rows(const mg_checkpoint *checkpoint, mg_backend *backend,
                                  const mg_checkpoint_tensor *tensor, int64_t first_row, const mg_tensor *out) {
  const int64_t rows = mg_tensor_rows(out), count = mg_tensor_count(out), first = first_row * tensor->columns;
  char text[MG_SHAPE_TEXT_BYTES];
  reader r;
  if (mg_tensor_columns(out) != tensor->columns)
    return mg_fail(checkpoint->context, MG_FILE, "%s: tensor %s has rows of %lld, but %s was expected",
                   mg__file_of(checkpoint, (size_t)tensor->index)->path, tensor->name, (long long)tensor->columns,
                   mg_shape_text(out, text));
  mg_status status = begin_reading(&r, checkpoint, tensor, first_row, rows, out->dtype);
  if (status == MG_OK && backend->plugin->host_memory) {
    status = backend->plugin->synchronize(backend);
    if (status == MG_OK) status = read_values(&r, first, count, out->data);
  } else if (status == MG_OK) {
    status = upload_values(&r, backend, first, count, out);
  }
  end_reading(&r);
  return status;
}

static bool same_shape(const mg_checkpoint_tensor *tensor, const mg_tensor *wanted) {
  if (tensor->dims == 0) return wanted->dims == 1 && wanted->shape[0] == 1;
  bool same = tensor->dims == wanted->dims;
  for (int32_t i = 0; same && i < wanted->dims; i++) same = tensor->shape[i] == wanted->shape[i];
  return same;
}

static const char *shape_text(const mg_checkpoint_tensor *tensor, char text[MG_SHAPE_TEXT_BYTES]) {
  mg_tensor shown = {.dims = tensor->dims < MG_DIMS_MAX ? tensor->dims : MG_DIMS_MAX};
  memcpy(shown.shape, tensor->shape, sizeof shown.shape);
  return mg_shape_text(&shown, text);
}

mg_status mg_checkpoint_load(const mg_checkpoint *checkpoint, mg_backend *backend, const char *name,
                             const mg_tensor *out) {
  mg_checkpoint_tensor tensor;
  char came[MG_SHAPE_TEXT_BYTES], wanted[MG_SHAPE_TEXT_BYTES];
  MG_TRY(mg_checkpoint_get(checkpoint, name, &tensor));
  if (same_shape(&tensor, out)) return mg_checkpoint_load_rows(checkpoint, backend, &tensor, 0, out);
  return mg_fail(checkpoint->context, MG_FILE, "%s: tensor %s is %s %s, but %s %s was expected",
                 mg__file_of(checkpoint, (size_t)tensor.index)->path, name, mg_storage_about(tensor.storage)->name,
                 shape_text(&tensor, came), mg_dtype_name(out->dtype), mg_shape_text(out, wanted));
}
