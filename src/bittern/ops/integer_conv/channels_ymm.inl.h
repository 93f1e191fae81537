// SPDX-License-Identifier: Apache-2.0

// Sums over taps of 16 channels at once, two taps to a multiplication. Included inside namespace
// avx2.

namespace {

struct Channels {
  static constexpr i64 kTaps = 2;  // to a multiple of which their weights are filled up
  // Of a pair of taps the channels 0 - 3 and 8 - 11, then the others, as unpacking leaves them.
  static i64 place(i64 tap, i64 channel) {
    const i64 half = channel / 4 % 2, lane = channel % 4 + channel / 8 * 4;
    return tap / 2 * 32 + half * 16 + lane * 2 + tap % 2;
  }
  static inline void sum(const i16* x, const i64* offsets, i64 taps, const i16* w, i32* sums) {
    __m256i low = _mm256_setzero_si256(), high = low;
    for (i64 t = 0; t < taps; t += 2, w += 32) {
      const __m256i a = load_8_words(x + offsets[t]), b = load_8_words(x + offsets[t + 1]);
      low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), load_8_words(w)));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), load_8_words(w + 16)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + 8), _mm256_permute2x128_si256(low, high, 0x31));
  }
};

}  // namespace
