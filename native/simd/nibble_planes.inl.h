// SPDX-License-Identifier: Apache-2.0

// Words of bits turned into planes of nibbles, in 128-bit registers. Included inside the namespace of one
// instruction set, after ymm.inl.h.

constexpr i64 kPlaneWords = 8;  // that are turned together

// pairs: byte 2 * i of eight words, then byte 2 * i + 1. Their nibbles go to four planes.
static inline void store_nibbles(__m128i pairs, i64 pitch, u8* out) {
  const __m128i four = _mm_set1_epi8(15);
  const __m128i low = _mm_and_si128(pairs, four), high = _mm_and_si128(_mm_srli_epi16(pairs, 4), four);
  const auto store = [](u8* to, __m128i x) { _mm_storel_epi64(reinterpret_cast<__m128i*>(to), x); };
  store(out, low);
  store(out + pitch, high);
  store(out + 2 * pitch, _mm_unpackhi_epi64(low, low));
  store(out + 3 * pitch, _mm_unpackhi_epi64(high, high));
}

// Nibble k of the i-th of eight words, `step` apart, becomes byte i of plane k, at out + k * pitch; for the
// first 2 * bytes nibbles. bytes: 2, 4 or 8.
template <int bytes>
static inline void turn_nibbles(const u64* words, i64 step, i64 pitch, u8* out) {
  __m128i two[4];  // a byte of two words, side by side
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const auto word = [&](int n) {
      return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(words + n * step));
    };
    two[i] = _mm_unpacklo_epi8(word(2 * i), word(2 * i + 1));
  }
  const __m128i first = _mm_unpacklo_epi16(two[0], two[1]), second = _mm_unpacklo_epi16(two[2], two[3]);
  store_nibbles(_mm_unpacklo_epi32(first, second), pitch, out);
  if (bytes > 2) store_nibbles(_mm_unpackhi_epi32(first, second), pitch, out + 4 * pitch);
  if (bytes > 4) {
    const __m128i third = _mm_unpackhi_epi16(two[0], two[1]), fourth = _mm_unpackhi_epi16(two[2], two[3]);
    store_nibbles(_mm_unpacklo_epi32(third, fourth), pitch, out + 8 * pitch);
    store_nibbles(_mm_unpackhi_epi32(third, fourth), pitch, out + 12 * pitch);
  }
}
