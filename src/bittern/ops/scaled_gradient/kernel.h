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
};

BITTERN_DISPATCH(scaled_gradient, ScaledGradientKernels)

}  // namespace bittern
