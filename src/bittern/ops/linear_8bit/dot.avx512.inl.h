// SPDX-License-Identifier: Apache-2.0

// Products of int8, 64 at a time (VPDPBUSD), which takes one side unsigned: 128 is added to the weight, and
// 128 times the sum of the input taken off again at the end. Sums wrap, so that only the last one must fit.
// Included inside namespace avx512.

namespace {

struct DotI8 {
  using In = std::int8_t;
  using Sum = __m512i;
  static constexpr i64 kStep = 64;
  static constexpr i32 kShift = 128;  // what is added to each number of the weight
  static inline Sum zero() { return _mm512_setzero_si512(); }
  static inline __m512i load_in(const In* p) { return _mm512_loadu_si512(p); }
  static inline Sum step(Sum sum, __m512i w, __m512i x) {
    return _mm512_dpbusd_epi32(sum, _mm512_xor_si512(w, _mm512_set1_epi8(-128)), x);
  }
  static inline i32 total(Sum sum) {
    const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
  }
};

}  // namespace
