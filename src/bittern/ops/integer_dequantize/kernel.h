// SPDX-License-Identifier: Apache-2.0

// integer_dequantize: int8 to float32 by a table of all 256 numbers.
#pragma once

#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them.
struct IntegerDequantize {
  i64 count;  // of numbers
  const std::int8_t* x;
  const float* table;  // [256], entry x + 128
  float* out;
};

void integer_dequantize(const IntegerDequantize& d, int threads);

}  // namespace bittern
