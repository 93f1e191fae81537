// SPDX-License-Identifier: Apache-2.0

namespace {

// sum + x * x in float64, rounded once, since the product of two float32 is exact there.
BITTERN_INLINE F64 add_square(F64 sum, F32 x) {
  const float64x2_t low = vcvt_f64_f32(vget_low_f32(x)), high = vcvt_high_f64_f32(x);
  return {vfmaq_f64(sum.low, low, low), vfmaq_f64(sum.high, high, high)};
}

inline void store_sums(double* p, F64 x) {
  vst1q_f64(p, x.low);
  vst1q_f64(p + 2, x.high);
}

}  // namespace
