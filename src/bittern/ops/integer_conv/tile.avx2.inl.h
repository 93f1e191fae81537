// SPDX-License-Identifier: Apache-2.0

// How much of a tile of sums stays in registers. Included inside namespace avx2.

namespace {

constexpr int kPixels = 6, kMostVectors = 2, kHalfVectors = 1;
constexpr bool kFinishesTiles = false;  // from registers, not from memory
constexpr bool kReadsNibbles = false;   // weights of 4 bits, in tiles

}  // namespace
