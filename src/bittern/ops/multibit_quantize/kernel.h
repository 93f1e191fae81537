// SPDX-License-Identifier: Apache-2.0

// multibit_quantize: rows of numbers as sums of scaled signs, scales and signs found in turn. The same bits
// on every instruction set, with any number of threads.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

constexpr int kMostMultibitPlanes = 8;

struct MultibitRows {
  const float* x;  // [rows, n]
  i64 rows, n;
  int planes;
  i64 cycles;
  bool refined;
  u64* words;    // [planes, rows, ceil(n / 64)]
  float* scale;  // [rows, planes]
};

struct MultibitQuantizeKernels {
  void (*quantize)(const MultibitRows& job, int threads);
};

BITTERN_DISPATCH(multibit_quantize, MultibitQuantizeKernels)

}  // namespace bittern
