// SPDX-License-Identifier: Apache-2.0

// Sums of 32 pairs of numbers by fixed-point factors. Included inside the namespace of one instruction set,
// after its fixed-point numbers.

namespace {

// Bits by which both sides go up before their factors, which are at most 1, so that those cost no precision.
constexpr int kRaised = 20;
constexpr int kVectors = static_cast<int>(16 / kFixedLanes);

struct ExactSum {
  Factors a, b, own;
  Limits limits;
};

// Of 16 numbers. Factors below 1: both sides stay below 2^28.
void sum_16(const IntegerAdd& s, const ExactSum& sum, const i8* a, const i8* b, Lanes (&y)[kVectors]) {
  for (int v = 0; v < kVectors; ++v) {
    const Lanes first = raised_times<kRaised>(a + v * kFixedLanes, s.zero_a, sum.a);
    const Lanes second = raised_times<kRaised>(b + v * kFixedLanes, s.zero_b, sum.b);
    y[v] = times(add_lanes(first, second), sum.own);
  }
}

void sum_32(const IntegerAdd& s, const ExactSum& sum, const i8* a, const i8* b, i8* out) {
  Lanes y[kVectors], z[kVectors];
  sum_16(s, sum, a, b, y);
  sum_16(s, sum, a + 16, b + 16, z);
  store_limited(out, out + 16, y, z, sum.limits);
}

inline ExactSum exact_sum(const IntegerAdd& s) {
  return {same_factors(s.a_multiplier, s.a_shift), same_factors(s.b_multiplier, s.b_shift),
          same_factors(s.multiplier, s.shift), limits_of(s.out_zero, s.low, s.high)};
}

}  // namespace
