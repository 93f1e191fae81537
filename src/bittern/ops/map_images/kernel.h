// SPDX-License-Identifier: Apache-2.0

// map_images: what happens to each number of real images by itself, one operation after another, while a tile
// of them lies in the cache.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// Of the number y so far; p, q, r, s are what `rows` have for its channel, from the operation's row on, and o
// is the operand. Every operation rounds as torch does, and NaN passes through all.
enum class MapOperation : i64 {
  affine,             // fma(y, p, q)
  relu,               // max(0, y)
  clamp,              // min(max(y, p), q)
  prelu,              // y > 0 ? y : p * y
  rprelu,             // with t = y - p: (t > 0 ? t : q * t) + r
  dprelu,             // with t = y - p: (t >= 0 ? q : r) * t - s
  hard_sigmoid,       // min(max(y + 3, 0), 6) / 6
  add_residual,       // y + o
  add_mapped,         // y + fma(o, p, q), of the residual
  multiply_residual,  // y * o
  add_factor,         // y + o
  multiply_factor,    // y * o
  count
};

struct MapStep {
  i64 operation;
  i64 row;  // the first that it reads
};

// Rows of parameters that an operation reads.
static inline i64 rows_of(MapOperation operation) {
  switch (operation) {
    case MapOperation::affine:
    case MapOperation::clamp:
    case MapOperation::add_mapped:
      return 2;
    case MapOperation::prelu:
      return 1;
    case MapOperation::rprelu:
      return 3;
    case MapOperation::dprelu:
      return 4;
    default:
      return 0;
  }
}

constexpr i64 kMapUnit = 16;  // channels to which rows are filled up

// All fields are 64 bits wide, because Python fills them.
struct MapImages {
  i64 batch, pixels, channels;         // pixels of one image
  i64 residual_pixels, factor_pixels;  // of one image of an operand: as many, or 1 for all
  i64 count, row_count;                // of operations and rows
  const float* x;                      // [batch, pixels, channels]
  const float* residual;               // null, or [batch, residual_pixels, channels]
  const float* factor;                 // null, or [batch, factor_pixels, channels]
  const MapStep* operations;           // [count]
  const float* rows;                   // [row_count, channels filled up to whole units]
  float* out;                          // [batch, pixels, channels]; may be x
};

struct MapImagesKernels {
  void (*map)(const MapImages& p, int threads);
};

BITTERN_DISPATCH(map_images, MapImagesKernels)

}  // namespace bittern
