// SPDX-License-Identifier: Apache-2.0

// integer_mean: the sum of each channel of whole int8 images with channels last, times a fixed-point factor
// that divides by their pixels, int8 again.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them.
struct IntegerMean {
  i64 batch, pixels, channels;
  i64 zero, out_zero, low, high;  // zero points, and between which the results lie
  i64 multiplier, shift;
  const std::int8_t* x;  // [batch, pixels, channels]
  std::int8_t* out;      // [batch, channels]
};

struct IntegerMeanKernels {
  void (*mean)(const IntegerMean& mean, int threads);
};

BITTERN_DISPATCH(integer_mean, IntegerMeanKernels)

}  // namespace bittern
