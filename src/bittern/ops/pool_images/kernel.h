// SPDX-License-Identifier: Apache-2.0

// pool_images: maxima or means over windows of real images with channels last, behind an affine map; and
// means of whole images in the order in which torch adds a row of numbers.
#pragma once

#include "isa.h"
#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them.
struct PoolImages {
  i64 batch, height, width, channels, out_height, out_width;
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
  i64 average;          // 1: means, 0: maxima
  i64 count_padding;    // means divide by the window's size with the padding in it
  i64 lanes;            // 0, or: means of whole images, added as torch does with vectors of so many numbers
  const float* x;       // [batch, height, width, channels]
  const float* affine;  // null, or [2, channels]: x * alpha + beta comes first, rounded once
  float* out;           // [batch, out_height, out_width, channels]
};

struct PoolImagesKernels {
  void (*pool)(const PoolImages& p, int threads);
};

namespace scalar {
extern const PoolImagesKernels pool_images_kernels;
}
#if defined(BITTERN_X86)
namespace avx2 {
extern const PoolImagesKernels pool_images_kernels;
}
namespace avx512 {
extern const PoolImagesKernels pool_images_kernels;
}
#endif
#if defined(BITTERN_ARM)
namespace neon {
extern const PoolImagesKernels pool_images_kernels;
}
#endif

static inline const PoolImagesKernels& pool_images_kernels(Isa isa) {
#if defined(BITTERN_X86)
  if (common_isa(isa) == Isa::avx2) return avx2::pool_images_kernels;
  if (common_isa(isa) == Isa::avx512) return avx512::pool_images_kernels;
#endif
#if defined(BITTERN_ARM)
  if (isa == Isa::neon) return neon::pool_images_kernels;
#endif
  (void)isa;
  return scalar::pool_images_kernels;
}

}  // namespace bittern
