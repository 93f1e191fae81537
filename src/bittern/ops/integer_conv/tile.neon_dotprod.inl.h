// SPDX-License-Identifier: Apache-2.0

// How much of a tile of sums stays in registers. Included inside namespace neon_dotprod.

namespace {

constexpr int kPixels = 4, kMostVectors = 4, kHalfVectors = 2;
constexpr bool kFinishesTiles = false;  // from registers, not from memory
constexpr bool kReadsNibbles = false;   // weights of 4 bits, in tiles

}  // namespace
