// SPDX-License-Identifier: Apache-2.0

// integer_add: the sum of int8 values of two scales, in that of a third.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them.
struct IntegerAdd {
  i64 count;  // of numbers
  i64 zero_a, zero_b, out_zero, low, high;
  i64 a_multiplier, a_shift, b_multiplier, b_shift, multiplier, shift;
  const std::int8_t *x, *residual;
  std::int8_t* out;
};

struct IntegerAddKernels {
  void (*add)(const IntegerAdd& add, int threads);
};

BITTERN_DISPATCH(integer_add, IntegerAddKernels)

}  // namespace bittern
