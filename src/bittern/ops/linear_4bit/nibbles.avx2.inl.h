// SPDX-License-Identifier: Apache-2.0

// Numbers of packed nibbles, eight at a time. Included inside namespace avx2.

namespace {

// A table of sixteen is two of eight; bit 3 of a code says which.
struct Table16 {
  __m256 low, high;
};
inline Table16 load_table(const float* values) {
  return {_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)};
}

// Eight words of eight codes.
struct Codes {
  __m256i bits;
};
inline Codes load_codes(const u8* p) {
  return {load_8_words(p)};
}

// The numbers of code j of each word. vpermps reads three bits of an index, the blend the sign bit.
inline F32 numbers(Table16 table, Codes codes, int j) {
  const __m256i index = _mm256_srli_epi32(codes.bits, 4 * j);
  const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(codes.bits, 28 - 4 * j));
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, index),
                          _mm256_permutevar8x32_ps(table.high, index), upper);
}

// p[0 .. count) spread evenly over the lanes; count is 1 or 2.
struct Spread {
  explicit Spread(i64 count) : second(count - 1) {}
  F32 operator()(const float* p) const {
    return _mm256_set_m128(_mm_broadcast_ss(p + second), _mm_broadcast_ss(p));
  }
  i64 second;
};

// Rounded to nearest even: half of the last place that stays, less one bit where that place is even. NaN
// stays NaN, quiet.
inline F32 through_bf16(F32 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 kept = _mm256_blendv_ps(_mm256_castsi256_ps(sum), _mm256_castsi256_ps(quiet),
                                       _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_and_ps(kept, _mm256_castsi256_ps(_mm256_set1_epi32(-0x10000)));
}
inline F32 through_f16(F32 x) {
  return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

inline float sum_of_lanes(F32 x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
