// SPDX-License-Identifier: Apache-2.0

// Products of inputs, quantized to int8 by rows, with an int8 weight; exact in int32.
#pragma once

#include "isa.h"
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

namespace scalar {
extern const Linear8bitKernels linear_8bit_kernels;
}
#if defined(BITTERN_X86)
namespace avx2 {
extern const Linear8bitKernels linear_8bit_kernels;
}
namespace avx512 {
extern const Linear8bitKernels linear_8bit_kernels;
}
#endif
#if defined(BITTERN_ARM)
namespace neon {
extern const Linear8bitKernels linear_8bit_kernels;
}
namespace neon_dotprod {
extern const Linear8bitKernels linear_8bit_kernels;
}
#endif

static inline const Linear8bitKernels& linear_8bit_kernels(Isa isa) {
#if defined(BITTERN_X86)
  if (common_isa(isa) == Isa::avx2) return avx2::linear_8bit_kernels;
  if (common_isa(isa) == Isa::avx512) return avx512::linear_8bit_kernels;
#endif
#if defined(BITTERN_ARM)
  if (isa == Isa::neon) {
    return has_neon_dotprod() ? neon_dotprod::linear_8bit_kernels : neon::linear_8bit_kernels;
  }
#endif
  (void)isa;
  return scalar::linear_8bit_kernels;
}

}  // namespace bittern
