// SPDX-License-Identifier: Apache-2.0

// Pairs of nibbles in 128-bit registers, for the kernels that look them up. Included inside the namespace of
// one instruction set, after ymm.inl.h.

// 16 bytes.
using Half = __m128i;

static inline Half load_half(const u64* p) {
  return load_8_halves(p);
}
static inline Half load_quarter(const u64* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
static inline void store_half(u16* p, Half x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x);
}

// 16 * (nibble of a byte of a) + 256 * (nibble of the same byte of b), for the low and the high nibbles of
// the first and of the last eight bytes.
struct NibblePairs {
  Half low[2], high[2];
};

static inline NibblePairs pair_nibbles(Half a, Half b) {
  const Half low = _mm_set1_epi8(0x0f), high = _mm_set1_epi8(static_cast<char>(0xf0));
  const Half a_low = _mm_slli_epi16(_mm_and_si128(a, low), 4), b_low = _mm_and_si128(b, low);
  const Half a_high = _mm_and_si128(a, high), b_high = _mm_and_si128(_mm_srli_epi16(b, 4), low);
  return {{_mm_unpacklo_epi8(a_low, b_low), _mm_unpackhi_epi8(a_low, b_low)},
          {_mm_unpacklo_epi8(a_high, b_high), _mm_unpackhi_epi8(a_high, b_high)}};
}
