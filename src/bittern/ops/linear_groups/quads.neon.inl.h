// SPDX-License-Identifier: Apache-2.0

// Quads of every 64-bit ARM: products of two bytes in 16 bits. Included inside namespace neon.

#include "quad_words.neon.inl.h"

namespace {

// Products of bytes, one in each 16 bits (SMLAL), which hold those of a tile of columns where a code is at
// most 15: 8 * 15 * 127 = 15,240.
constexpr int kMostCode = 15;
constexpr bool kNarrows = true;  // sums of a tile of columns are narrower than those of a group
struct Narrow {
  int16x8_t low, high;
};
inline Narrow narrow_zero() {
  return {vdupq_n_s16(0), vdupq_n_s16(0)};
}
inline Narrow step(Narrow sum, Quads w, Quads x) {
  const int8x16_t a = vreinterpretq_s8_u32(w.bits), b = vreinterpretq_s8_u32(x.bits);
  return {vmlal_s8(sum.low, vget_low_s8(a), vget_low_s8(b)), vmlal_high_s8(sum.high, a, b)};
}
inline I32 widened(Narrow x) {
  return {vpaddq_s32(vpaddlq_s16(x.low), vpaddlq_s16(x.high))};
}

}  // namespace
