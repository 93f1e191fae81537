// SPDX-License-Identifier: Apache-2.0

// `scaled` of small enough numbers by factors below 1, sixteen side by side; and int8 out of them. Included
// inside namespace avx512.

namespace {

constexpr i64 kFixedLanes = 16;
using Lanes = __m512i;
struct Factors {
  __m512i multiplier, odd;       // odd: of the odd lanes, in the even ones
  __m512i right, round, passes;  // round: a half; passes: -1 where anything is shifted out
};

inline Factors made_factors(__m512i multiplier, __m512i shift) {
  const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
  const __m512i right = _mm512_max_epi32(_mm512_sub_epi32(zero, shift), zero);
  // A shift by -1 is one by more than 31, which gives 0.
  const __m512i round = _mm512_sllv_epi32(one, _mm512_sub_epi32(right, one));
  return {multiplier, _mm512_srli_epi64(multiplier, 32), right, round,
          _mm512_srai_epi32(_mm512_sub_epi32(zero, right), 31)};
}
inline Factors factors(const i32* multiplier, const i32* shift) {
  return made_factors(_mm512_loadu_si512(multiplier), _mm512_loadu_si512(shift));
}
inline Factors same_factors(i64 multiplier, i64 shift) {
  return made_factors(_mm512_set1_epi32(static_cast<i32>(multiplier)),
                      _mm512_set1_epi32(static_cast<i32>(shift)));
}
inline Lanes load_lanes(const i32* p) {
  return _mm512_loadu_si512(p);
}
inline Lanes add_lanes(Lanes a, Lanes b) {
  return _mm512_add_epi32(a, b);
}
// x / 2^right, to the nearest: a half upward of x - 1 is a half away from zero of x < 0. Numbers are so small
// that nothing overflows.
inline Lanes shifted(Lanes high, const Factors& f) {
  const __m512i below = _mm512_and_si512(_mm512_srai_epi32(high, 31), f.passes);
  return _mm512_srav_epi32(_mm512_add_epi32(_mm512_add_epi32(high, below), f.round), f.right);
}
inline Lanes times(Lanes x, const Factors& f) {
  const __m512i half = _mm512_set1_epi64(i64{1} << 30);
  const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, f.multiplier), half);
  const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), f.odd), half);
  return shifted(_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 31), _mm512_slli_epi64(odd, 1)), f);
}

struct OnceFactors {
  __m512i multiplier, odd;  // odd: of the odd lanes, in the even ones
  __m512i even_half, odd_half, even_right, odd_right;
};
inline OnceFactors once_factors(const i32* multiplier, const i32* shift) {
  const __m512i m = _mm512_loadu_si512(multiplier), one = _mm512_set1_epi64(1);
  const __m512i right = _mm512_sub_epi32(_mm512_set1_epi32(31), _mm512_loadu_si512(shift));
  const __m512i even = _mm512_and_si512(right, _mm512_set1_epi64(0xffffffff)),
                odd = _mm512_srli_epi64(right, 32);
  return {m,
          _mm512_srli_epi64(m, 32),
          _mm512_sllv_epi64(one, _mm512_sub_epi64(even, one)),
          _mm512_sllv_epi64(one, _mm512_sub_epi64(odd, one)),
          even,
          odd};
}
// `scaled_once`, where the result fits int32.
inline Lanes times_once(Lanes x, const OnceFactors& f) {
  const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, f.multiplier), f.even_half);
  const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), f.odd), f.odd_half);
  return _mm512_mask_blend_epi32(0xaaaa, _mm512_srav_epi64(even, f.even_right),
                                 _mm512_slli_epi64(_mm512_srav_epi64(odd, f.odd_right), 32));
}
// x 2^shift, held to int32, where that is more than x.
inline Lanes raised(Lanes x, const i32* shift) {
  const __m512i left = _mm512_max_epi32(_mm512_loadu_si512(shift), _mm512_setzero_si512());
  const __m512i y = _mm512_sllv_epi32(x, left);
  const __m512i end = _mm512_xor_si512(_mm512_srai_epi32(x, 31), _mm512_set1_epi32(0x7fffffff));
  return _mm512_mask_blend_epi32(_mm512_cmpeq_epi32_mask(_mm512_srav_epi32(y, left), x), end, y);
}

// (x - zero) 2^bits times a factor, of one number for each lane. What is rounded first is
// (x - zero) m 2^(bits - 31), and of m 2^kLow + l it is (x - zero) m, which is whole, and (x - zero) l /
// 2^kLow.
template <int bits>
inline Lanes raised_times(const i8* x, i64 zero, const Factors& f) {
  constexpr int kLow = 31 - bits;
  const __m512i words = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  const __m512i centred = _mm512_sub_epi32(words, _mm512_set1_epi32(static_cast<i32>(zero)));
  const __m512i low =
      _mm512_madd_epi16(centred, _mm512_and_si512(f.multiplier, _mm512_set1_epi32((1 << kLow) - 1)));
  const __m512i part = _mm512_srai_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(1 << (kLow - 1))), kLow);
  return shifted(_mm512_add_epi32(_mm512_mullo_epi32(centred, _mm512_srli_epi32(f.multiplier, kLow)), part),
                 f);
}

struct Limits {
  __m512i zero, low, high;
};
inline Limits limits_of(i64 zero, i64 low, i64 high) {
  return {_mm512_set1_epi16(static_cast<i16>(zero)), _mm512_set1_epi8(static_cast<char>(low)),
          _mm512_set1_epi8(static_cast<char>(high))};
}
// The numbers of a, b, c and d plus the zero point, between the limits: of each 128 bits four of a, of b, of
// c and of d. What 16 bits, or 8, cannot hold lies beyond the limits, and saturates on its side of them.
inline __m512i limited_fours(Lanes a, Lanes b, Lanes c, Lanes d, const Limits& l) {
  const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32(a, b), l.zero);
  const __m512i last = _mm512_adds_epi16(_mm512_packs_epi32(c, d), l.zero);
  return _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(first, last), l.low), l.high);
}
// The same in order: all of a, then of b, c and d.
inline __m512i limited_bytes(Lanes a, Lanes b, Lanes c, Lanes d, const Limits& l) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, limited_fours(a, b, c, d, l));
}
// 16 numbers plus the zero point, between the limits, at `to`; and 16 others at `also`.
inline void store_limited(i8* to, i8* also, const Lanes (&x)[1], const Lanes (&y)[1], const Limits& l) {
  const __m256i both = _mm512_castsi512_si256(limited_bytes(x[0], y[0], x[0], y[0], l));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(both));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(also), _mm256_extracti128_si256(both, 1));
}

}  // namespace
