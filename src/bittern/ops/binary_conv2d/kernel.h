// SPDX-License-Identifier: Apache-2.0

// Binary convolution: sums of products of signs, from packed bits. Matrix multiplication is its 1x1 case.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct WeightShape {
  i64 out_channels, taps, channels, groups;  // channels: of all groups together
};

// Each reads up to three rows of parameters per channel; rounding as in docs/numerics.md.
enum class Activation : i64 {
  none,
  relu,
  hardtanh,  // rows least, most
  prelu,     // row slope
  rprelu,    // rows before, slope, after
  count
};

// Rows of the parameters of a tail. The first four are those of an epilogue.
enum TailRow : i64 {
  kOffset,
  kScale,
  kAlpha,
  kBeta,
  kFirst,
  kSecond,
  kThird,
  kThreshold,
  kResidualAlpha,
  kResidualBeta,
  kTailRows
};

// Channels that are finished together: 16 bits of the next layer's input.
constexpr i64 kTailUnit = 16;

// What becomes of the real result y of a convolution before it is written: y += residual and y =
// activation(y), then y itself, or the bits of y >= threshold, or both. All fields are 64 bits wide, because
// Python fills them.
struct Tail {
  i64 activation;         // an Activation
  i64 residual_last;      // 1: the residual is added behind the activation
  const float* rows;      // [kTailRows, pitch]
  i64 pitch;              // at least round_up(out_channels, kTailUnit)
  const float* residual;  // null, or [batch, residual_height, residual_width, residual_channels]
  i64 residual_height, residual_width, residual_channels;
  i64 residual_pool;         // output pixel (y, x) takes the mean of the pool x pool pixels at pool * (y, x)
  i64 residual_shift;        // output channel c takes residual channel c - shift,
  i64 residual_repeats;      // 1: modulo residual_channels; 0: and 0 where there is none
  i64 residual_affine;       // 1: then r becomes r * alpha + beta, rounded once
  const float* input_scale;  // null, or [batch, out_height, out_width]: what y is multiplied by behind scale
  const float* factor;  // null, or [out_height, out_width, factor_pitch]: what y is multiplied by between
                        // that and alpha
  i64 factor_row, factor_pitch;  // floats from row to row and from pixel to pixel: whole units
  float* real;                   // null, or [batch, out_height, out_width, out_channels]
  u64* bits;  // null, or pixel (0, 0); ceil(out_channels / 64) words a pixel, surplus bits are not written
  i64 bits_row, bits_image;  // words from row to row and from image to image
};

// All fields are 64 bits wide, because Python fills them.
struct Conv2d {
  i64 batch, height, width, channels, out_channels;
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
  i64 pad_value;          // -1, 0 or +1: what a tap outside the image multiplies
  const u64* input;       // [batch, height, width, ceil(channels / 64)]
  const u8* weights;      // as prepare_weights left them
  const float* epilogue;  // null, or [4, out_channels]: offset, scale, alpha, beta
  void* output;           // [batch, out_height, out_width, out_channels]: int32, or float32 with an epilogue
  // Words from row to row and from image to image of the input; 0 where there are no gaps.
  i64 input_row = 0, input_image = 0;
  // So many pixels around every image lie in the gaps, and hold the bits of pad_value (those of -1 for 0).
  i64 input_border = 0;
  const Tail* tail = nullptr;  // in place of epilogue and output
};

// Accumulators [batch, height, width, out_channels] that end in a tail.
struct Accumulators {
  i64 batch, height, width, out_channels;
  const i32* values;
  const Tail* tail;
};

// The dimension that a convolution sums over.
struct Depth {
  i64 taps;
  i64 channels;  // of one group
  i64 words;     // that hold them, per tap
};

// Rows or columns of the output.
static inline i64 out_extent(i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
  const i64 travel = size + 2 * pad - dilation * (kernel - 1) - 1;
  return travel < 0 ? 0 : travel / stride + 1;
}

struct BinaryConv2dKernels {
  // Size of the weights in the layout that this instruction set reads.
  i64 (*prepared_bytes)(const WeightShape& shape);
  // canonical: [out_channels, taps, ceil(channels / groups / 64)], each group's channels from bit 0 of its
  // words.
  void (*prepare_weights)(const WeightShape& shape, const u64* canonical, u8* prepared);
  void (*conv2d)(const Conv2d& conv, int threads);
  void (*finish)(const Accumulators& accumulators, int threads);
  // Does `repeats` times the counting of these kernels and nothing else; returns how many products that were.
  i64 (*count_in_cache)(i64 repeats);
};

BITTERN_DISPATCH(binary_conv2d, BinaryConv2dKernels)

#if defined(BITTERN_EMULATE_AMX)
namespace amx {
i64 emulated_products();  // of tiles, so far in this process
}
#endif

}  // namespace bittern
