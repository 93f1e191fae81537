// SPDX-License-Identifier: Apache-2.0

// Products with a weight that stays in 4 bits: y = x W^T + bias, and the gradient g W of its input.
#pragma once

#include "../quantize_blockwise/codec.h"
#include "dispatch.h"

namespace bittern {

// One scale per block, of which there is one of three kinds:
// float32 as they are; or bytes, which mean table[code] * outer[block / kNestedBlock] + offset, at least 0,
// where there is a table, and powers of two, 2^(e - 127), where there is none (255: NaN).
constexpr i64 kNestedBlock = 256;
struct BlockScales {
  const float* absmax;  // null: bytes
  const u8* codes;
  const float* table;  // [256]
  const float* outer;
  float offset;
};

// W [n, k], row by row: two codes per byte, the first in the high nibble; one scale per `block` elements, a
// power of two.
struct Weight4bit {
  const u8* packed;
  BlockScales scales;
  NibbleTables table;
  i64 n, k, block;
  DType type;  // that its numbers are rounded to
};

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
