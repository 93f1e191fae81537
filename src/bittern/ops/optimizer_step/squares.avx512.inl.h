// SPDX-License-Identifier: Apache-2.0

namespace {

// sum + x * x in float64, rounded once, since the product of two float32 is exact there.
BITTERN_INLINE F64 add_square(F64 sum, F32 x) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
  const __m512d high = _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)));
  return {_mm512_fmadd_pd(low, low, sum.low), _mm512_fmadd_pd(high, high, sum.high)};
}

inline void store_sums(double* p, F64 x) {
  _mm512_storeu_pd(p, x.low);
  _mm512_storeu_pd(p + 8, x.high);
}

}  // namespace
