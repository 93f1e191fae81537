// SPDX-License-Identifier: Apache-2.0

// Sums of 64 pairs of numbers: a alpha + b beta + gamma in float32, and by the exact factors where that could
// round otherwise. Included inside namespace avx512, after exact.inl.h.
//
// In units of 2^-16: factors of at most 4 are rounded by 2 each, gamma by 4.5, a alpha + gamma by 6.5, the
// sum, where it is below 2^8, by 1.5, and its whole number by 0.5. In fixed point both sides are rounded by
// 1 before the factor of the sum, which is below 2^-17, and the sum by half of a step of its shift by 16 or
// more: 1.5 in all.

#include "../integer_conv/nearly_zmm.inl.h"

namespace {

constexpr i64 kTogether = 64;
constexpr i32 kNearlyError = 20;

struct Sum {
  ExactSum exact;
  __m512 alpha, beta;
  NearlyEnding ending;  // its addend is gamma
  bool nearly;
};

inline double real_of(i64 multiplier, i64 shift) {
  return static_cast<double>(multiplier) * (1.0 / static_cast<double>(i64{1} << (31 - shift)));
}

inline Sum sum_of(const IntegerAdd& s) {
  constexpr double kOne = 1 << 16;
  const double own = real_of(s.multiplier, s.shift), raised = own * (1 << kRaised),
               alpha = raised * real_of(s.a_multiplier, s.a_shift),
               beta = raised * real_of(s.b_multiplier, s.b_shift),
               gamma = static_cast<double>(s.out_zero) + 0.5 - alpha * static_cast<double>(s.zero_a) -
                       beta * static_cast<double>(s.zero_b);
  const float addend = static_cast<float>(gamma * kOne + kNearlyError);
  return {exact_sum(s),
          _mm512_set1_ps(static_cast<float>(alpha * kOne)),
          _mm512_set1_ps(static_cast<float>(beta * kOne)),
          {_mm512_set1_ps(addend), _mm512_set1_epi8(-1)},
          alpha <= 4.0 && beta <= 4.0 && s.shift <= -16 && own < 1.0 / (1 << 17)};
}

inline __m512 reals(const i8* x) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))));
}

void sum_some(const IntegerAdd& s, const Sum& sum, const i8* a, const i8* b, i8* out) {
  if (sum.nearly) {
    NearlyEnding ending = sum.ending;
    Lanes y[4];
    BITTERN_UNROLL
    for (int i = 0; i < 4; ++i) {
      const __m512 part = _mm512_fmadd_ps(reals(a + 16 * i), sum.alpha, ending.addend);
      y[i] = _mm512_cvtps_epi32(_mm512_fmadd_ps(reals(b + 16 * i), sum.beta, part));
    }
    const __m512i found = bytes_nearly(y[0], y[1], y[2], y[3], sum.exact.limits, ending);
    if (are_certain(ending, kNearlyError)) return _mm512_storeu_si512(out, found);
  }
  sum_32(s, sum.exact, a, b, out);
  sum_32(s, sum.exact, a + 32, b + 32, out + 32);
}

}  // namespace
