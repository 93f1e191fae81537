// SPDX-License-Identifier: Apache-2.0

// Products of four bytes, sixteen at a time (VPDPBUSD), which takes one side unsigned: 128 is added to the
// numbers of an image. Sums wrap, so that only the last one must fit. Included inside namespace avx512.

namespace {

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
  static __m512i weights(const Nibbles* p) {
    const __m256i low = load_8_words(&p->both), high = _mm256_srli_epi16(low, 4);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    const __m512i values =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
    return _mm512_shuffle_epi8(values, _mm512_and_si512(both, _mm512_set1_epi8(15)));
  }
  static __m512i spread(const Number* p) {
    i32 four;
    std::memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Sum step(Sum sum, __m512i w, __m512i x) { return _mm512_dpbusd_epi32(sum, x, w); }
  static void store(i32* to, Sum sum) { _mm512_storeu_si512(to, sum); }
};

}  // namespace
