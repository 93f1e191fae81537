// SPDX-License-Identifier: Apache-2.0

// integer_pool: means, rounded halves away from zero, or maxima over windows of int8 images with channels
// last. What lies outside an image does not count.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them.
struct IntegerPool {
  i64 batch, height, width, channels, out_height, out_width;
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
  i64 average;  // 1: means, 0: maxima
  i64 low, high;
  const std::int8_t* x;  // [batch, height, width, channels]
  std::int8_t* out;      // [batch, out_height, out_width, channels]
};

struct IntegerPoolKernels {
  void (*pool)(const IntegerPool& pool, int threads);
};

BITTERN_DISPATCH(integer_pool, IntegerPoolKernels)

}  // namespace bittern
