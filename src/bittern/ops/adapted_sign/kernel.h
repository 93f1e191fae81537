// SPDX-License-Identifier: Apache-2.0

// The sign of rows with a noise that a small network learns from each row, and its gradients:
//     out = sign(x) + (alpha * hidden * up^T + wave * sin(x)), hidden = max(0, x * down^T)
// Sums are in the order of the lanes of an instruction set, the same with any number of threads.
#pragma once

#include "dispatch.h"
#include "sign_slopes/kernel.h"
#include "types.h"

namespace bittern {

constexpr i64 kMostHidden = 16;

struct AdaptedRows {
  const float* x;  // [rows, columns]
  i64 rows, columns;
  const float* down;  // [hidden, columns]
  const float* up;    // [columns, hidden]
  i64 hidden;         // at most kMostHidden
  float alpha, wave;
  float* turned;  // [hidden, columns], working memory
};

struct AdaptedGradient {
  const float* grad;   // [rows, columns]
  FourierSlope slope;  // of the sign; its wave is that of the noise
  i64 parts;           // of the rows, each with sums of its own
  float* sums;         // [parts, 2, hidden, columns], working memory
  float* to_x;         // [rows, columns]
  float* to_down;      // [hidden, columns]
  float* to_up;        // [columns, hidden]
};

struct AdaptedSignKernels {
  void (*sign)(const AdaptedRows& rows, float* out, int threads);
  void (*gradient)(const AdaptedRows& rows, const AdaptedGradient& gradient, int threads);
};

BITTERN_DISPATCH(adapted_sign, AdaptedSignKernels)

}  // namespace bittern
