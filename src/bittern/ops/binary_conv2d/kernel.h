// Binary convolution: sums of products of signs, from packed bits. Matrix multiplication is its 1x1 case.
#pragma once

#include "isa.h"
#include "types.h"

namespace bittern {

struct WeightShape {
  i64 out_channels, taps, channels, groups;  // channels: of all groups together
};

struct Conv2d {
  i64 batch, height, width, channels, out_channels;
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
  i64 pad_value;          // -1, 0 or +1: what a tap outside the image multiplies
  const u64* input;       // [batch, height, width, ceil(channels / 64)]
  const u8* weights;      // as prepare_weights left them
  const float* epilogue;  // null, or [4, out_channels]: offset, scale, alpha, beta
  void* output;           // [batch, out_height, out_width, out_channels]: int32, or float32 with an epilogue
};

// The dimension that a convolution sums over.
struct Depth {
  i64 taps;
  i64 channels;  // of one group
  i64 words;     // that hold them, per tap
};

struct BinaryConv2dKernels {
  // Size of the weights in the layout that this instruction set reads.
  i64 (*prepared_bytes)(const WeightShape& shape);
  // canonical: [out_channels, taps, ceil(channels / groups / 64)], each group's channels from bit 0 of its
  // words.
  void (*prepare_weights)(const WeightShape& shape, const u64* canonical, u8* prepared);
  void (*conv2d)(const Conv2d& conv, int threads);
};

namespace scalar {
extern const BinaryConv2dKernels binary_conv2d_kernels;
}
#if defined(BITTERN_X86)
namespace avx2 {
extern const BinaryConv2dKernels binary_conv2d_kernels;
}
namespace avx512 {
extern const BinaryConv2dKernels binary_conv2d_kernels;
}
#endif

static inline const BinaryConv2dKernels& binary_conv2d_kernels(Isa isa) {
#if defined(BITTERN_X86)
  if (isa == Isa::avx2) return avx2::binary_conv2d_kernels;
  if (isa == Isa::avx512) return avx512::binary_conv2d_kernels;
#endif
  (void)isa;
  return scalar::binary_conv2d_kernels;
}

}  // namespace bittern
