// SPDX-License-Identifier: Apache-2.0

// pool_images: maxima or means over windows of real images with channels last, behind an affine map; and
// means of whole images in the order in which torch adds a row of numbers.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

constexpr i64 kMostMeanLanes = 16;  // of the vectors with which torch sums a row

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

BITTERN_DISPATCH(pool_images, PoolImagesKernels)

}  // namespace bittern
