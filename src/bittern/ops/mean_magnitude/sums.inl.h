// SPDX-License-Identifier: Apache-2.0

// The order in which a row is added: number c into sum c modulo kSums, then halves of the sums until one is
// left. Included inside the namespace of one instruction set, after its simd header.

namespace {

constexpr i64 kSums = 16;
constexpr int kParts = static_cast<int>(kSums / kLanes);

// The total of n sums, which it overwrites.
inline float joined(float* sums, i64 n) {
  for (i64 half = n / 2; half > 0; half /= 2) {
    for (i64 k = 0; k < half; ++k) sums[k] += sums[k + half];
  }
  return sums[0];
}

// The total of all sums in vectors, which it overwrites.
inline float joined_vectors(F32 (&part)[kParts]) {
  BITTERN_UNROLL
  for (int half = kParts / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) part[k] = add(part[k], part[k + half]);
  }
  float lanes[kLanes];
  store(lanes, part[0]);
  return joined(lanes, kLanes);
}

}  // namespace
