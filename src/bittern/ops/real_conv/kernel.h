// SPDX-License-Identifier: Apache-2.0

// real_conv: convolution of real images with channels last, summed in an order that the caller chooses.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// Output channels whose weights lie side by side.
constexpr i64 kRealUnit = 16;

// The weights of a group are padded to a multiple of so many units.
constexpr i64 kUnitsTogether = 2;

constexpr i64 padded_outputs(i64 out_channels) {
  return (out_channels + kUnitsTogether * kRealUnit - 1) / (kUnitsTogether * kRealUnit) *
         (kUnitsTogether * kRealUnit);
}

// Floats of each row of an affine map: what the last tile of the last group reads is there, wherever it
// begins.
constexpr i64 affine_row(i64 out_channels) {
  return padded_outputs(out_channels) + kUnitsTogether * kRealUnit;
}

// All fields are 64 bits wide, because Python fills them.
struct RealConv {
  i64 batch, height, width, channels, out_height, out_width, out_channels;
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  i64 groups;          // that split channels and out_channels
  i64 channels_first;  // 1: the products of a channel follow each other; 0: those of a kernel position
  i64 chain;    // so many products are added one by one; the sums of such chains are then added in order
  i64 in_turn;  // see SumOrder
  const float* x;
  i64 x_image, x_row, x_pixel, x_channel;  // floats from one to the next
  const float* weights;  // [groups, units of a group, products, kRealUnit], products in their order
  float* out;            // [batch, out_height, out_width, out_channels]
  const float* affine;   // null, or [2, affine_row(out_channels)]: y * alpha + beta, rounded once
  const float* limits;   // null, or [2]: the least and the most that follows; NaN stays
};

struct RealConvKernels {
  void (*conv)(const RealConv& conv, int threads);
  // The same convolution of images that are padded and have channels last, in this thread's memory if need
  // be.
  RealConv (*lay_out)(const RealConv& conv, int threads);
};

BITTERN_DISPATCH(real_conv, RealConvKernels)

}  // namespace bittern
