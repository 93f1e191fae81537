// SPDX-License-Identifier: Apache-2.0

// pack_signs: one bit per element, 1 where x >= threshold.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct PackSignsKernels {
  // x [rows, cols] of `type` -> words [rows, ceil(cols / 64)], column c in bit c % 64 of word c / 64, surplus
  // bits 0. threshold: null for 0, else one number per column: double for f64, int32 for i32, float for all
  // others.
  void (*pack)(const void* x, DType type, i64 rows, i64 cols, const void* threshold, u64* words, int threads);
  // Bit planes, `plane_words` apart, of round(clip(x, 0, 1) * (2^planes - 1)), ties to even; planes <= 8.
  void (*pack_levels)(const float* x, i64 rows, i64 cols, i64 planes, u64* words, i64 plane_words,
                      int threads);
};

BITTERN_DISPATCH(pack_signs, PackSignsKernels)

}  // namespace bittern
