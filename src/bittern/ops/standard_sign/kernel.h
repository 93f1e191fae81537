// SPDX-License-Identifier: Apache-2.0

// The sign of standardized samples and its gradient: samples of n float32 numbers each, one after another.
// With the mean and the unbiased variance of a sample, inv = 1 / sqrt(variance + epsilon); a sample has two
// statistics, mean and inv. The same bits on every instruction set and with any number of threads.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct StandardSignKernels {
  // out = +1 where x >= 0, else -1; statistics [samples, 2].
  void (*sign)(const float* x, i64 samples, i64 n, double epsilon, float* out, float* statistics,
               int threads);
  // With y = x * inv and d = grad * max(0, 2 - 2|y|): out = d * inv - (x - mean) * sum(d * x) * inv^3 / (n -
  // 1).
  void (*gradient)(const float* grad, const float* x, const float* statistics, i64 samples, i64 n, float* out,
                   int threads);
};

BITTERN_DISPATCH(standard_sign, StandardSignKernels)

}  // namespace bittern
