// SPDX-License-Identifier: Apache-2.0

// integer_table: int8 to int8 by a table of all 256 numbers.
#pragma once

#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them.
struct IntegerTable {
  i64 count;                     // of numbers
  const std::int8_t *x, *table;  // table: [256], entry x + 128
  std::int8_t* out;
};

void integer_table(const IntegerTable& t, int threads);

}  // namespace bittern
