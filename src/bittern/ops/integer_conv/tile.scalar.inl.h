// SPDX-License-Identifier: Apache-2.0

// How much of a tile of sums stays in registers. Included inside the namespace of the instruction set.

namespace {

constexpr int kPixels = 2, kMostVectors = 16, kHalfVectors = 16;
constexpr bool kFinishesTiles = false;  // from registers, not from memory
constexpr bool kReadsNibbles = false;   // weights of 4 bits, in tiles

}  // namespace
