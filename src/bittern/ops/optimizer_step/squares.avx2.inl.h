// SPDX-License-Identifier: Apache-2.0

namespace {

// sum + x * x in float64, rounded once, since the product of two float32 is exact there.
BITTERN_INLINE F64 add_square(F64 sum, F32 x) {
  const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
  const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
  return {_mm256_fmadd_pd(low, low, sum.low), _mm256_fmadd_pd(high, high, sum.high)};
}

inline void store_sums(double* p, F64 x) {
  _mm256_storeu_pd(p, x.low);
  _mm256_storeu_pd(p + 4, x.high);
}

}  // namespace
