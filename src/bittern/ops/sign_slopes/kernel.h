// SPDX-License-Identifier: Apache-2.0

// Gradients of a sign, by estimators whose slope depends on the number: out = grad * slope(x), n float32
// numbers each, and the noise that one method adds to its signs. The same bits on every instruction set.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// slope(x) = (4 omega / pi) * sum_{i < terms} cos((2i + 1) omega x) + wave * cos(x), the sum 0 where |x| >
// limit.
struct FourierSlope {
  double omega;
  i64 terms;
  float limit;  // the largest float: wherever x is finite
  bool rising;  // the sum is 0 where it is negative
  float wave;   // 0: without it
};

struct SignSlopesKernels {
  // slope(x) = max(0, 2 - 2|x|), NaN where x is.
  void (*approx)(const float* grad, const float* x, i64 n, float* out, int threads);
  // slope(x) = k t (1 - tanh(t x)^2).
  void (*error_decay)(const float* grad, const float* x, i64 n, float t, float k, float* out, int threads);
  void (*fourier)(const float* grad, const float* x, i64 n, const FourierSlope& slope, float* out,
                  int threads);
  // out = sign(x) + (noise + wave * sin(x)).
  void (*noisy_sign)(const float* x, const float* noise, i64 n, float wave, float* out, int threads);
};

BITTERN_DISPATCH(sign_slopes, SignSlopesKernels)

}  // namespace bittern
