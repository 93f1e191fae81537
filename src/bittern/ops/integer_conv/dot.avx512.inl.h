// SPDX-License-Identifier: Apache-2.0

// Products of four bytes, sixteen at a time (VPDPBUSD), which takes one side unsigned: 128 is added to the
// numbers of an image. Sums wrap, so that only the last one must fit. Included inside namespace avx512.

namespace {

constexpr int kPixels = 12, kMostVectors = 2, kHalfVectors = 1;
constexpr bool kFinishesTiles = true;  // from registers, not from memory

struct Dot {
  using Number = u8;  // of an image
  using Weight = i8;
  using Sum = __m512i;
  static constexpr int kPack = 4;
  static constexpr i64 kLanes = 16;
  static i32 centre(i64) { return 128; }  // what is added to each number of an image
  static Sum zero() { return _mm512_setzero_si512(); }
  static Sum load(const i32* p) { return _mm512_loadu_si512(p); }
  static __m512i weights(const Weight* p) { return _mm512_loadu_si512(p); }
  static __m512i spread(const Number* p) {
    i32 four;
    std::memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Sum step(Sum sum, __m512i w, __m512i x) { return _mm512_dpbusd_epi32(sum, x, w); }
  static void store(i32* to, Sum sum) { _mm512_storeu_si512(to, sum); }
};

}  // namespace

#include "tile_zmm.inl.h"
