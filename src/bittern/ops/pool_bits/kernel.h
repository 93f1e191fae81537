// SPDX-License-Identifier: Apache-2.0

// pool_bits: maxima of signs over windows of packed images, which are ORs of their words.
#pragma once

#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them. Rows and images lie a given number of words apart.
struct PoolBits {
  i64 batch, height, width, words, out_height, out_width;  // words of a pixel
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
  const u64* x;
  i64 x_row, x_image;
  const u64* flip;  // null, or [words]: where it is 1 the minimum is taken, an AND
  u64* out;
  i64 out_row, out_image;
};

void pool_bits(const PoolBits& p, int threads);

}  // namespace bittern
