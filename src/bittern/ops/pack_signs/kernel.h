// pack_signs: one bit per element, 1 where x >= threshold.
#pragma once

#include "isa.h"
#include "types.h"

namespace bittern {

struct PackSignsKernels {
  // x [rows, cols] of `type` -> words [rows, ceil(cols / 64)], column c in bit c % 64 of word c / 64, surplus
  // bits 0. threshold: null for 0, else one number per column: double for f64, int32 for i32, float for all
  // others.
  void (*pack)(const void* x, DType type, i64 rows, i64 cols, const void* threshold, u64* words, int threads);
};

namespace scalar {
extern const PackSignsKernels pack_signs_kernels;
}
#if defined(BITTERN_X86)
namespace avx2 {
extern const PackSignsKernels pack_signs_kernels;
}
namespace avx512 {
extern const PackSignsKernels pack_signs_kernels;
}
#endif

static inline const PackSignsKernels& pack_signs_kernels(Isa isa) {
#if defined(BITTERN_X86)
  if (isa == Isa::avx2) return avx2::pack_signs_kernels;
  if (isa == Isa::avx512) return avx512::pack_signs_kernels;
#endif
  (void)isa;
  return scalar::pack_signs_kernels;
}

}  // namespace bittern
