// SPDX-License-Identifier: Apache-2.0

// Products of inputs, quantized to int8 by rows, with an int8 weight; exact in int32.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct Linear8bitCall {
  const void* x;  // [m, k] of `type`: f32, bf16 or f16
  DType type;
  i64 m, n, k;
  const std::int8_t* weight;  // [n, k]
  const float* scale;         // [n]: the absmax of each row
  const void* bias;           // [n] of `type`, or null
  const float* extra;         // [m, n], added before the bias, or null
  void* out;                  // [m, n] of `type`
};

struct Linear8bitKernels {
  void (*forward)(const Linear8bitCall& call, int threads);
};

BITTERN_DISPATCH(linear_8bit, Linear8bitKernels)

}  // namespace bittern
