// SPDX-License-Identifier: Apache-2.0

// concatenate_bits: packed images side by side along their channels, one part at a time.
#pragma once

#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them. Rows and images lie a given number of words apart.
struct ConcatenateBits {
  i64 batch, height, width, channels;  // of the part
  i64 offset;                          // channels in front of it; those behind it become 0
  const u64* x;
  i64 x_row, x_image;
  i64 out_words;  // of a pixel
  u64* out;
  i64 out_row, out_image;
};

void concatenate_bits(const ConcatenateBits& c, int threads);

}  // namespace bittern
