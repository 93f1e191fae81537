// SPDX-License-Identifier: Apache-2.0

// sign: +1 where x >= 0, else -1, in the type of x. sign(-0.0) = +1, sign(NaN) = -1.
#pragma once

#include "isa.h"
#include "types.h"

namespace bittern {

struct SignKernels {
  // x and out hold n elements of `type`.
  void (*sign)(const void* x, DType type, i64 n, void* out, int threads);
};

namespace scalar {
extern const SignKernels sign_kernels;
}
#if defined(BITTERN_X86)
namespace avx2 {
extern const SignKernels sign_kernels;
}
namespace avx512 {
extern const SignKernels sign_kernels;
}
#endif
#if defined(BITTERN_ARM)
namespace neon {
extern const SignKernels sign_kernels;
}
#endif

static inline const SignKernels& sign_kernels(Isa isa) {
#if defined(BITTERN_X86)
  if (common_isa(isa) == Isa::avx2) return avx2::sign_kernels;
  if (common_isa(isa) == Isa::avx512) return avx512::sign_kernels;
#endif
#if defined(BITTERN_ARM)
  if (isa == Isa::neon) return neon::sign_kernels;
#endif
  (void)isa;
  return scalar::sign_kernels;
}

}  // namespace bittern
