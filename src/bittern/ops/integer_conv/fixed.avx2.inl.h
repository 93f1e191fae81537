// SPDX-License-Identifier: Apache-2.0

// `scaled` of small enough numbers by factors below 1, eight side by side; and int8 out of them. Included
// inside namespace avx2.

namespace {

constexpr i64 kFixedLanes = 8;
using Lanes = __m256i;
struct Factors {
  __m256i multiplier, odd;       // odd: of the odd lanes, in the even ones
  __m256i right, round, passes;  // round: a half; passes: -1 where anything is shifted out
};

inline Factors made_factors(__m256i multiplier, __m256i shift) {
  const __m256i one = _mm256_set1_epi32(1), zero = _mm256_setzero_si256();
  const __m256i right = _mm256_max_epi32(_mm256_sub_epi32(zero, shift), zero);
  // A shift by -1 is one by more than 31, which gives 0.
  const __m256i round = _mm256_sllv_epi32(one, _mm256_sub_epi32(right, one));
  return {multiplier, _mm256_srli_epi64(multiplier, 32), right, round, _mm256_cmpgt_epi32(right, zero)};
}
inline Factors factors(const i32* multiplier, const i32* shift) {
  return made_factors(load_8_words(multiplier), load_8_words(shift));
}
inline Factors same_factors(i64 multiplier, i64 shift) {
  return made_factors(_mm256_set1_epi32(static_cast<i32>(multiplier)),
                      _mm256_set1_epi32(static_cast<i32>(shift)));
}
inline Lanes load_lanes(const i32* p) {
  return load_8_words(p);
}
inline Lanes add_lanes(Lanes a, Lanes b) {
  return _mm256_add_epi32(a, b);
}
// x / 2^right, to the nearest: a half upward of x - 1 is a half away from zero of x < 0. Numbers are so small
// that nothing overflows.
inline Lanes shifted(Lanes high, const Factors& f) {
  const __m256i below = _mm256_and_si256(_mm256_srai_epi32(high, 31), f.passes);
  return _mm256_srav_epi32(_mm256_add_epi32(_mm256_add_epi32(high, below), f.round), f.right);
}
inline Lanes times(Lanes x, const Factors& f) {
  const __m256i half = _mm256_set1_epi64x(i64{1} << 30);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, f.multiplier), half);
  const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), f.odd), half);
  return shifted(_mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xaa), f);
}
struct OnceFactors {
  __m256i multiplier, odd;      // odd: of the odd lanes, in the even ones
  __m256i even_half, odd_half;  // half of a step, and 2^62, which lets a shift of unsigned numbers do
  __m256i even_right, odd_right, lowered;  // lowered: what has become of 2^62
};
inline OnceFactors once_factors(const i32* multiplier, const i32* shift) {
  const __m256i m = load_8_words(multiplier), one = _mm256_set1_epi64x(1),
                raise = _mm256_set1_epi64x(i64{1} << 62);
  const __m256i right = _mm256_sub_epi32(_mm256_set1_epi32(31), load_8_words(shift));
  const __m256i even = _mm256_and_si256(right, _mm256_set1_epi64x(0xffffffff)),
                odd = _mm256_srli_epi64(right, 32);
  const __m256i lowered = _mm256_blend_epi32(_mm256_srlv_epi64(raise, even),
                                             _mm256_slli_epi64(_mm256_srlv_epi64(raise, odd), 32), 0xaa);
  return {m,
          _mm256_srli_epi64(m, 32),
          _mm256_add_epi64(raise, _mm256_sllv_epi64(one, _mm256_sub_epi64(even, one))),
          _mm256_add_epi64(raise, _mm256_sllv_epi64(one, _mm256_sub_epi64(odd, one))),
          even,
          odd,
          lowered};
}
// `scaled_once`, where the result fits int32: x m is at least -2^62.
inline Lanes times_once(Lanes x, const OnceFactors& f) {
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, f.multiplier), f.even_half);
  const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), f.odd), f.odd_half);
  const __m256i y = _mm256_blend_epi32(_mm256_srlv_epi64(even, f.even_right),
                                       _mm256_slli_epi64(_mm256_srlv_epi64(odd, f.odd_right), 32), 0xaa);
  return _mm256_sub_epi32(y, f.lowered);
}
// x 2^shift, held to int32, where that is more than x.
inline Lanes raised(Lanes x, const i32* shift) {
  const __m256i left = _mm256_max_epi32(load_8_words(shift), _mm256_setzero_si256());
  const __m256i y = _mm256_sllv_epi32(x, left), fits = _mm256_cmpeq_epi32(_mm256_srav_epi32(y, left), x);
  const __m256i end = _mm256_xor_si256(_mm256_srai_epi32(x, 31), _mm256_set1_epi32(0x7fffffff));
  return _mm256_blendv_epi8(end, y, fits);
}
// (x - zero) 2^bits times a factor, of one number for each lane. What is rounded first is
// (x - zero) m 2^(bits - 31), and of m 2^kLow + l it is (x - zero) m, which is whole, and (x - zero) l /
// 2^kLow.
template <int bits>
inline Lanes raised_times(const i8* x, i64 zero, const Factors& f) {
  constexpr int kLow = 31 - bits;
  const __m256i words = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x)));
  const __m256i centred = _mm256_sub_epi32(words, _mm256_set1_epi32(static_cast<i32>(zero)));
  const __m256i low =
      _mm256_madd_epi16(centred, _mm256_and_si256(f.multiplier, _mm256_set1_epi32((1 << kLow) - 1)));
  const __m256i part = _mm256_srai_epi32(_mm256_add_epi32(low, _mm256_set1_epi32(1 << (kLow - 1))), kLow);
  return shifted(_mm256_add_epi32(_mm256_mullo_epi32(centred, _mm256_srli_epi32(f.multiplier, kLow)), part),
                 f);
}

struct Limits {
  __m256i zero, low, high;
};
inline Limits limits_of(i64 zero, i64 low, i64 high) {
  return {_mm256_set1_epi16(static_cast<i16>(zero)), _mm256_set1_epi8(static_cast<char>(low)),
          _mm256_set1_epi8(static_cast<char>(high))};
}
// 16 numbers plus the zero point, between the limits, at `to`; and 16 others at `also`. What 16 bits, or 8,
// cannot hold lies beyond the limits, and saturates on its side of them.
inline void store_limited(i8* to, i8* also, const Lanes (&x)[2], const Lanes (&y)[2], const Limits& l) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing leaves fours of both in turn
  const __m256i first = _mm256_adds_epi16(_mm256_packs_epi32(x[0], x[1]), l.zero);
  const __m256i second = _mm256_adds_epi16(_mm256_packs_epi32(y[0], y[1]), l.zero);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), order);
  const __m256i found = _mm256_min_epi8(_mm256_max_epi8(bytes, l.low), l.high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(found));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(also), _mm256_extracti128_si256(found, 1));
}

}  // namespace
