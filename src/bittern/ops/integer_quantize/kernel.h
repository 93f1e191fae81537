// SPDX-License-Identifier: Apache-2.0

// integer_quantize: float32 images as they lie to int8 images with channels last: x / scale to the nearest,
// halves away from zero, plus a zero point.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them.
struct IntegerQuantize {
  i64 batch, height, width, channels;
  i64 zero;
  const float* x;
  i64 x_image, x_row, x_pixel, x_channel;  // numbers from one to the next
  const float* scale;                      // one
  std::int8_t* out;                        // [batch, height, width, channels]
};

struct IntegerQuantizeKernels {
  void (*quantize)(const IntegerQuantize& quantize, int threads);
};

BITTERN_DISPATCH(integer_quantize, IntegerQuantizeKernels)

}  // namespace bittern
