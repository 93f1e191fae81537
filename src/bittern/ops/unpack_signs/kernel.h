// SPDX-License-Identifier: Apache-2.0

// unpack_signs: bit 1 becomes +1, bit 0 becomes -1, in a float type.
#pragma once

#include "isa.h"
#include "types.h"

namespace bittern {

struct UnpackSignsKernels {
  // words [rows, ceil(cols / 64)] -> out [rows, cols]; `type` is a float type.
  void (*unpack)(const u64* words, i64 rows, i64 cols, DType type, void* out, int threads);
};

namespace scalar {
extern const UnpackSignsKernels unpack_signs_kernels;
}
#if defined(BITTERN_X86)
namespace avx2 {
extern const UnpackSignsKernels unpack_signs_kernels;
}
namespace avx512 {
extern const UnpackSignsKernels unpack_signs_kernels;
}
#endif
#if defined(BITTERN_ARM)
namespace neon {
extern const UnpackSignsKernels unpack_signs_kernels;
}
#endif

static inline const UnpackSignsKernels& unpack_signs_kernels(Isa isa) {
#if defined(BITTERN_X86)
  if (common_isa(isa) == Isa::avx2) return avx2::unpack_signs_kernels;
  if (common_isa(isa) == Isa::avx512) return avx512::unpack_signs_kernels;
#endif
#if defined(BITTERN_ARM)
  if (isa == Isa::neon) return neon::unpack_signs_kernels;
#endif
  (void)isa;
  return scalar::unpack_signs_kernels;
}

}  // namespace bittern
