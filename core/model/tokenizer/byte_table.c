/* The 256 characters by which byte-level vocabularies spell bytes (Radford et al. 2019, GPT-2): printable ones of
 * Latin-1 stand for themselves, the others, in order, for U+0100 onwards. */
#include <string.h>

#include "model/tokenizer/pipeline.h"

void mg__byte_table_fill(mg__byte_table *table) {
  int other = 256;
  memset(table->byte_of, 0xff, sizeof table->byte_of);
  for (int byte = 0; byte < 256; byte++) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    const int code = printable ? byte : other++;
    table->byte_of[code] = (int16_t)byte;
    table->bytes[byte] = code < 0x80 ? 1 : 2;
    table->text[byte][0] = (char)(code < 0x80 ? code : 0xc0 | (code >> 6));
    table->text[byte][1] = (char)(0x80 | (code & 0x3f));
  }
}
