// SPDX-License-Identifier: Apache-2.0

// Numbers of which there are two, 1 and a lower one, as bits without gaps between rows.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct FlatBitsKernels {
  // x [n] -> words [ceil(n / 64)]: bit i % 64 of word i / 64 says whether x[i] is 1, surplus bits 0. False
  // where a number is neither 1 nor low; the words are then not all written.
  bool (*pack)(const float* x, i64 n, float low, u64* words, int threads);
  // The same bits with each row of `columns` in words of its own, surplus bits 0: out [rows, ceil(columns /
  // 64)].
  void (*rows)(const u64* words, i64 rows, i64 columns, u64* out, int threads);
  // The inverse of `pack`.
  void (*unpack)(const u64* words, i64 n, float low, float* out, int threads);
};

BITTERN_DISPATCH(flat_bits, FlatBitsKernels)

}  // namespace bittern
