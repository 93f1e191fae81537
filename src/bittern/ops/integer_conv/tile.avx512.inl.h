// SPDX-License-Identifier: Apache-2.0

// How much of a tile of sums stays in registers. Included inside namespace avx512.

namespace {

constexpr int kPixels = 12, kMostVectors = 2, kHalfVectors = 1;
constexpr bool kFinishesTiles = true;  // from registers, not from memory
constexpr bool kReadsNibbles = true;   // weights of 4 bits, in tiles

}  // namespace

#include "tile_zmm.inl.h"
