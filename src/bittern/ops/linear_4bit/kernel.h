// SPDX-License-Identifier: Apache-2.0

// Products with a weight that stays in 4 bits: y = x W^T + bias, and the gradient g W of its input.
#pragma once

#include "../quantize_blockwise/codec.h"
#include "dispatch.h"

namespace bittern {

// W [n, k], row by row: two codes per byte, the first in the high nibble; one absmax per `block` elements.
struct Weight4bit {
  const u8* packed;
  const float* absmax;
  NibbleTables table;
  i64 n, k, block;
  DType type;  // that its numbers are rounded to
};

// The absmax of element i of a weight. A block is a power of two: a division would take longer than the
// numbers of a whole vector.
static inline const float* absmax_of(const Weight4bit& w, i64 i) {
  return w.absmax + (i >> __builtin_ctzll(static_cast<u64>(w.block)));
}

struct Linear4bitCall {
  const void* x;     // [m, k] of `type`: f32, bf16 or f16; backward: [m, n]
  const void* bias;  // [n] of `type`, or null; backward: null
  void* out;         // [m, n] of `type`; backward: [m, k]
  DType type;
  i64 m;
};

struct Linear4bitKernels {
  void (*forward)(const Linear4bitCall& call, const Weight4bit& weight, int threads);
  void (*backward)(const Linear4bitCall& call, const Weight4bit& weight, int threads);
};

BITTERN_DISPATCH(linear_4bit, Linear4bitKernels)

}  // namespace bittern
