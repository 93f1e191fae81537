// SPDX-License-Identifier: Apache-2.0

// integer_softmax: softmax of rows from int8 to int8 without a float, as LiteRT has it.
#pragma once

#include "types.h"

namespace bittern {

// Bits in front of the point of the sum of exponentials: rows of at most 4,095 answers.
constexpr i64 kSoftmaxSumBits = 12;

// All fields are 64 bits wide, because Python fills them.
struct IntegerSoftmax {
  i64 rows, answers;
  i64 least;             // differences to the largest below this count as 0
  const i32* exps;       // [256]: exp(-scale * i) with 31 bits behind the point
  const std::int8_t* x;  // [rows, answers]
  std::int8_t* out;      // the same; scale 1/256 about -128
};

void integer_softmax(const IntegerSoftmax& s, int threads);

}  // namespace bittern
