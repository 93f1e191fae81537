// SPDX-License-Identifier: Apache-2.0

// Both gradients of y * factor, where all rows of y share the factor.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct ScaledGradientKernels {
  // grad, y, to_y: [rows, n]; factor, to_factor: [n]. to_y = grad * factor; to_factor = the sum over rows of
  // grad * y, by fused products in the order of the rows.
  void (*gradient)(const float* grad, const float* y, const float* factor, i64 rows, i64 n, float* to_y,
                   float* to_factor, int threads);
  // The same of y = lifted - 32768.
  void (*gradient_of_whole)(const float* grad, const u16* lifted, const float* factor, i64 rows, i64 n,
                            float* to_y, float* to_factor, int threads);
  // out = y * factor and lifted = y + 32768; false where y holds a number that is not whole, or beyond 32767.
  bool (*scale_whole)(const float* y, const float* factor, i64 rows, i64 n, float* out, u16* lifted,
                      int threads);
};

BITTERN_DISPATCH(scaled_gradient, ScaledGradientKernels)

}  // namespace bittern
