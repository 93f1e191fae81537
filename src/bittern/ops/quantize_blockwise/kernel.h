// SPDX-License-Identifier: Apache-2.0

// Block-wise quantization and its inverse, for bytes and for nibbles.
#pragma once

#include "codec.h"
#include "dispatch.h"

namespace bittern {

// A table of codes. `tree` says which state table it is; -1: another one.
struct CodeTable {
  int entries;
  int tree;
  bool keep_nonzero;
  alignas(64) float values[256];   // ascending; 0 behind the last entry
  alignas(64) float borders[256];  // the code of y is the number of borders [1 ..] that y reaches; NaN, which
                                   // none reaches, behind
  NibbleTables nibble;             // the first 16 entries
  TreeTables bytes;                // value_bytes alone, of a table that is no tree
};

// `entries` floats that do not decrease, 2 to 256.
void prepare_table(CodeTable& table, const float* entries, int count, bool keep_nonzero);

struct QuantizeCall {
  const void* x;  // n elements of `type`: f32, bf16 or f16
  DType type;
  i64 n, block_size;
  bool nibbles;
  bool stochastic;
  u64 seed;
  u8* codes;
  float* absmax;
};

struct DequantizeCall {
  const u8* codes;
  const float* absmax;
  i64 n, block_size;
  bool nibbles;
  DType type;
  void* out;
};

struct QuantizeBlockwiseKernels {
  void (*quantize)(const QuantizeCall& call, const CodeTable& table, int threads);
  void (*dequantize)(const DequantizeCall& call, const CodeTable& table, int threads);
};

BITTERN_DISPATCH(quantize_blockwise, QuantizeBlockwiseKernels)

}  // namespace bittern
