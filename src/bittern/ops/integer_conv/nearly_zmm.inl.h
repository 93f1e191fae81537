// SPDX-License-Identifier: Apache-2.0

// Products of float32 in place of exact fixed-point factors, and whether they round alike for certain.
// Included inside namespace avx512, after its fixed-point numbers.
//
// A product has 16 bits behind the point, and half of one added: the whole number is the upper half of it as
// an int32. Where the lower half is nearer to the next whole number than the error, the exact factors decide:
// one of some thousand numbers. What lies beyond the limits of int8 may be more wrong than that, and still
// lies beyond them.

namespace {

// What becomes of sums, nearly.
struct NearlyEnding {
  __m512 addend;    // zero point, half, and the error, so that what is uncertain is small
  __m512i nearest;  // the least lower halves
};

// error: at most, of a product with its zero point, in 2^-16.
inline NearlyEnding nearly_ending(i64 zero, i32 error) {
  constexpr float kOne = 1 << 16;
  const float addend = static_cast<float>(zero) * kOne + kOne / 2 + static_cast<float>(error);
  return {_mm512_set1_ps(addend), _mm512_set1_epi8(-1)};
}

inline Lanes times_nearly(Lanes sum, __m512 factor, const NearlyEnding& ending) {
  return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, ending.addend));
}

// The whole numbers of a and b as int16, in the order of `upper`.
inline __m512i whole_words(Lanes a, Lanes b, __m512i upper, NearlyEnding& ending) {
  const __m512i lower = _mm512_sub_epi16(upper, _mm512_set1_epi16(1));
  ending.nearest = _mm512_min_epu16(ending.nearest, _mm512_permutex2var_epi16(a, lower, b));
  return _mm512_permutex2var_epi16(a, upper, b);
}

inline bool are_certain(const NearlyEnding& ending, i32 error) {
  return _mm512_cmplt_epu16_mask(ending.nearest, _mm512_set1_epi16(static_cast<i16>(2 * error))) == 0;
}

// Upper words of a, then of b.
inline __m512i upper_words() {
  return _mm512_setr_epi32(0x30001, 0x70005, 0xb0009, 0xf000d, 0x130011, 0x170015, 0x1b0019, 0x1f001d,
                           0x230021, 0x270025, 0x2b0029, 0x2f002d, 0x330031, 0x370035, 0x3b0039, 0x3f003d);
}

inline __m512i between_limits(__m512i bytes, const Limits& l) {
  return _mm512_min_epi8(_mm512_max_epi8(bytes, l.low), l.high);
}

// All of a, then of b, c and d.
inline __m512i bytes_nearly(Lanes a, Lanes b, Lanes c, Lanes d, const Limits& l, NearlyEnding& ending) {
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), upper = upper_words();
  const __m512i bytes =
      _mm512_packs_epi16(whole_words(a, b, upper, ending), whole_words(c, d, upper, ending));
  return between_limits(_mm512_permutexvar_epi64(order, bytes), l);
}

}  // namespace
