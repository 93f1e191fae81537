// SPDX-License-Identifier: Apache-2.0

// Quads of ARM CPUs that have SDOT: four products of signed bytes, summed in 32 bits. A code of 8 bits is no
// signed byte, so that it counts as two of 4. Included inside namespace neon_dotprod.

#include "quad_words.neon.inl.h"

namespace {

constexpr int kMostCode = 127;
constexpr bool kNarrows = false;  // sums of a tile of columns are narrower than those of a group
struct Narrow {
  int32x4_t sums;
};
inline Narrow narrow_zero() {
  return {vdupq_n_s32(0)};
}
inline Narrow step(Narrow sum, Quads w, Quads x) {
  return {vdotq_s32(sum.sums, vreinterpretq_s8_u32(w.bits), vreinterpretq_s8_u32(x.bits))};
}
inline I32 widened(Narrow x) {
  return {x.sums};
}

}  // namespace
