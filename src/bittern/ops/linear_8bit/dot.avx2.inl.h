// SPDX-License-Identifier: Apache-2.0

// Products of int8, sixteen at a time: widened to 16 bits, where pairs add without overflow.
// Included inside namespace avx2.

namespace {

struct DotI8 {
  using In = std::int8_t;
  using Sum = __m256i;
  static constexpr i64 kStep = 16;
  static constexpr i32 kShift = 0;  // what is added to each number of the weight
  static inline Sum zero() { return _mm256_setzero_si256(); }
  static inline __m256i load_in(const In* p) { return _mm256_cvtepi8_epi16(load_8_halves(p)); }
  static inline Sum step(Sum sum, __m256i w, __m256i x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
  }
  static inline i32 total(Sum sum) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
  }
};

}  // namespace
