// SPDX-License-Identifier: Apache-2.0

// Signs and levels of float32 numbers with the mask of a clipped straight-through estimator, and the gradient
// under that mask. A mask has ceil(n / 8) bytes; bit i % 8 of byte i / 8 belongs to element i, surplus bits
// are 0.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct ClippedSignKernels {
  // out = +1 where x >= 0, else -1; inside: |x| <= limit.
  void (*sign)(const float* x, i64 n, float limit, float* out, u8* mask, int threads);
  // out = round_half_even(clip(x, 0, 1) * top), top < 2^22, 0 for NaN; inside: 0 <= x <= 1.
  void (*levels)(const float* x, i64 n, float top, float* out, u8* mask, int threads);
  // out = grad * (factor inside, else 0).
  void (*gradient)(const float* grad, const u8* mask, i64 n, float factor, float* out, int threads);
};

BITTERN_DISPATCH(clipped_sign, ClippedSignKernels)

}  // namespace bittern
