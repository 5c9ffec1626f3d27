/* Operands of stored dtypes for the suite: drawn as bytes, with the factors of their blocks set to sensible numbers. */
#include <string.h>

#include "measure/op_suite_internal.h"

/* What stands where in a block: f16 factors at `half`, then 8-bit floats from `floats` on (-1 = none). */
typedef struct layout {
  mg_dtype dtype;
  int halves, half[2];
  int floats;
} layout;

static const layout layouts[] = {
    {MG_F16, 1, {0}, -1},    {MG_F8_E4M3, 0, {0}, 0}, {MG_F8_E5M2, 0, {0}, 0},  {MG_F8_BLOCKS, 0, {0}, 4},
    {MG_Q8_0, 1, {0}, -1},   {MG_Q4_0, 1, {0}, -1},   {MG_Q4_K, 2, {0, 2}, -1}, {MG_Q5_K, 2, {0, 2}, -1},
    {MG_Q6_K, 1, {208}, -1}, {MG_MXFP4, 0, {0}, -1},
};

/* An f16 of 2^-3 to 2^2, either sign; one in eight is 0 or has no leading one. */
static uint16_t half_of(uint32_t bits) {
  const uint32_t exponent = (bits >> 16) % 8 == 0 ? 0 : 12 + (bits >> 20) % 5;
  return (uint16_t)((bits & 0x83ffu) | exponent << 10);
}

/* Neither NaN nor infinite in e4m3 and e5m2. */
static unsigned char float_of(unsigned char bits) {
  return (bits & 0x7cu) == 0x7cu ? bits & 0xbfu : bits;
}

static void mend_block(const layout *l, unsigned char *block, size_t bytes, uint32_t bits) {
  for (int i = 0; i < l->halves; i++) {
    const uint16_t half = half_of(bits * (2 * (uint32_t)i + 1));
    memcpy(block + l->half[i], &half, sizeof half);
  }
  if (l->dtype == MG_F8_BLOCKS) {
    const float factor = 0.25F + (float)(bits & 1023) / 512.0F;
    memcpy(block, &factor, sizeof factor);
  }
  if (l->dtype == MG_MXFP4) block[0] = (unsigned char)(122 + bits % 10);
  for (size_t i = (size_t)l->floats; l->floats >= 0 && i < bytes; i++) block[i] = float_of(block[i]);
}

void mg__suite_fill_stored(const mg_tensor *x, mg_stream stream) {
  const int64_t blocks = mg_tensor_count(x) / mg_dtype_block(x->dtype);
  const size_t each = mg_dtype_run_bytes(x->dtype, mg_dtype_block(x->dtype));
  unsigned char *block = x->data;
  const layout *l = layouts;
  while (l->dtype != x->dtype) l++; /* the table has every stored dtype */
  uint64_t draw = 0;
  for (int64_t i = 0; i < blocks; i++, block += each) {
    for (size_t b = 0; b < each; b++) block[b] = (unsigned char)mg_random_bits(stream, draw++);
    mend_block(l, block, each, mg_random_bits(stream, draw++));
  }
}

double mg__suite_stored_at(const mg_tensor *x, int64_t i) {
  const int64_t block = mg_dtype_block(x->dtype);
  float values[MG_STORED_BLOCK_MAX];
  mg_stored_decode(x->dtype, (const char *)x->data + mg_dtype_run_bytes(x->dtype, i / block * block), block, values);
  return values[i % block];
}

mg_status mg__suite_decode(mg_context *context, mg_tensor *x) {
  mg_tensor wide = *x;
  wide.dtype = MG_F32;
  wide.data = mg_alloc(context, mg_tensor_bytes(&wide));
  if (!wide.data) return MG_MEMORY;
  mg_stored_decode(x->dtype, x->data, mg_tensor_count(x), wide.data);
  mg_free(context, x->data, mg_tensor_bytes(x));
  *x = wide;
  return MG_OK;
}
