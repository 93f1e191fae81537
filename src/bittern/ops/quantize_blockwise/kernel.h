// SPDX-License-Identifier: Apache-2.0

// Block-wise quantization and its inverse, for bytes and for nibbles.
#pragma once

#include "codec.h"
#include "isa.h"

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

struct BlockwiseKernels {
  void (*quantize)(const QuantizeCall& call, const CodeTable& table, int threads);
  void (*dequantize)(const DequantizeCall& call, const CodeTable& table, int threads);
};

namespace scalar {
extern const BlockwiseKernels blockwise_kernels;
}
#if defined(BITTERN_X86)
namespace avx2 {
extern const BlockwiseKernels blockwise_kernels;
}
namespace avx512 {
extern const BlockwiseKernels blockwise_kernels;
}
#endif
#if defined(BITTERN_ARM)
namespace neon {
extern const BlockwiseKernels blockwise_kernels;
}
#endif

static inline const BlockwiseKernels& blockwise_kernels(Isa isa) {
#if defined(BITTERN_X86)
  if (common_isa(isa) == Isa::avx2) return avx2::blockwise_kernels;
  if (common_isa(isa) == Isa::avx512) return avx512::blockwise_kernels;
#endif
#if defined(BITTERN_ARM)
  if (isa == Isa::neon) return neon::blockwise_kernels;
#endif
  (void)isa;
  return scalar::blockwise_kernels;
}

}  // namespace bittern
