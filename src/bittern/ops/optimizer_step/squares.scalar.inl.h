// SPDX-License-Identifier: Apache-2.0

namespace {

// sum + x * x in float64, rounded once, since the product of two float32 is exact there.
BITTERN_INLINE F64 add_square(F64 sum, F32 x) {
  const double wide = static_cast<double>(x);
  return sum + wide * wide;
}

inline void store_sums(double* p, F64 x) {
  *p = x;
}

}  // namespace
