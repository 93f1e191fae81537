// SPDX-License-Identifier: Apache-2.0

// The codes of optimizer states: 8-bit dynamic trees and their 4-bit companions, block by block.
//
// A tree code is found from a magnitude y = |x| / absmax in two steps. The upper 16 bits of the float32 y
// name a bucket; a bucket is narrower than the distance of two levels, so it holds at most one border between
// them, and a table gives the level at its upper end. If y lies below the lower border of that level, the
// answer is one less. The result is exactly the nearest level, because the borders are exact.
#pragma once

#include <cstring>

#include "types.h"

namespace bittern {

static inline u32 float_bits(float x) {
  u32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// state_tree8 is the unsigned tree for second moments: a y above 0 never takes the code of 0, because a
// second moment that vanishes makes its step explode.
enum class Code : int {
  signed_tree8 = 0,
  unsigned_tree8 = 1,
  state_tree8 = 2,
  signed_tree4 = 3,
  unsigned_linear4 = 4
};

// Buckets start at 2^-31, far below the lowest border (2.75e-7), so that five exponent bits name an octave.
constexpr u32 kFirstBucket = 96u << 7;
constexpr u32 kBuckets = (32u << 7) + 1;

constexpr int kPlaces = 32, kPhase = 256;

struct alignas(64) TreeTables {
  bool is_signed;
  int levels;         // magnitudes above 0: 128 signed (the last one only positive), 255 unsigned
  float values[256];  // of a code
  // Smallest y whose level is p; [0] is 0. One slot more, so that level + 1 can be asked for.
  float borders[258];
  u8 guess[kBuckets + 3];  // level of the upper end of a bucket, at least 1; read four bytes at a time
  // The same level, as 128 lines over groups of kPlaces buckets: base + (slope * (place | kPhase) >> 16),
  // where slope has two bytes, modulo 256. A bucket has a border in it where the lower 16 bits of that
  // product are less than slope. One group, where a decade begins, is bent and cut in two: groups are counted
  // one up from bucket `cut` on.
  alignas(64) u8 base[128], slope_bytes[2][128];
  u16 cut;
  // Byte j of values and of the lower halves of borders, for lookups of bytes. Border 128 of the signed tree
  // stands at 0.
  alignas(64) u8 value_bytes[4][256], border_bytes[2][256];
  // Byte j of the positive values of the signed tree: level p at p, level 128, which is 1, at 0.
  alignas(64) u8 magnitude_bytes[4][128];
};

// The code of y from its upper 16 bits in one lookup. A bucket holds one border at most, so an entry is the
// code of the bucket's first number above 16 bits that overflow where the lower half of y reaches the border:
// code = (entry + lower half of y) >> 16, and entry - lower half where y is negative, in the signed tree.
struct TreeBuckets {
  u32 entry[1 << 16];
};

// The unsigned tree for rounding at random: of a magnitude the entry at or below it, what that stands for,
// and how far the next one is away. As in state_tree8 a y above 0 never has the entry of 0, so that one below
// the smallest other entry has that.
struct EntriesBelow {
  TreeBuckets codes;
  float values[256];  // that of the last code is infinite, for nothing lies above it
  float widths[256];
};

struct NibbleTables {
  float values[16];
  float borders[16];  // code = number of borders [1..15] that y reaches; y is signed
};

// Smallest float32 on the upper side of the float64 midpoint of a <= b, where a tie goes to the one nearer 0.
float border_between(float a, float b);

// code must be a tree.
const TreeTables& tree_tables(Code code);
const TreeBuckets& tree_buckets(Code code);
const EntriesBelow& entries_below();
// code must have 4 bits.
const NibbleTables& nibble_tables(Code code);

static inline bool is_tree8(Code code) {
  return code == Code::signed_tree8 || code == Code::unsigned_tree8 || code == Code::state_tree8;
}
// Bytes that hold the codes of n elements.
static inline i64 code_bytes(Code code, i64 n) {
  return is_tree8(code) ? n : ceil_div(n, 2);
}

// The smallest normal float32. A block whose absmax is smaller is coded as zero, since 1 / absmax overflows.
constexpr float kLeastAbsmax = 1.17549435e-38f;

// A y from here on is the largest of its block: absmax times its reciprocal, which for an absmax above 2^126
// is a subnormal of as few as 22 bits.
constexpr float kLargestFrom = 1.0f - 0x1p-22f;

}  // namespace bittern
