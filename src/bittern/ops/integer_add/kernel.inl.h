// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its fixed-point numbers.

namespace {

// Bits by which both sides go up before their factors, which are at most 1, so that those cost no precision.
constexpr int kRaised = 20;
constexpr i64 kTogether = 32;
constexpr int kVectors = static_cast<int>(16 / kFixedLanes);
constexpr i64 kTaskNumbers = i64{1} << 14;

i8 sum_any(const IntegerAdd& s, i64 a, i64 b) {
  const i64 first = scaled((a - s.zero_a) * (1 << kRaised), s.a_multiplier, s.a_shift);
  const i64 second = scaled((b - s.zero_b) * (1 << kRaised), s.b_multiplier, s.b_shift);
  return static_cast<i8>(clamped(scaled(first + second, s.multiplier, s.shift) + s.out_zero, s.low, s.high));
}

struct Sum {
  Factors a, b, own;
  Limits limits;
};

// Of 16 numbers. Factors below 1: both sides stay below 2^28.
void sum_16(const IntegerAdd& s, const Sum& sum, const i8* a, const i8* b, Lanes (&y)[kVectors]) {
  for (int v = 0; v < kVectors; ++v) {
    const Lanes first = raised_times<kRaised>(a + v * kFixedLanes, s.zero_a, sum.a);
    const Lanes second = raised_times<kRaised>(b + v * kFixedLanes, s.zero_b, sum.b);
    y[v] = times(add_lanes(first, second), sum.own);
  }
}

void sum_32(const IntegerAdd& s, const Sum& sum, const i8* a, const i8* b, i8* out) {
  Lanes y[kVectors], z[kVectors];
  sum_16(s, sum, a, b, y);
  sum_16(s, sum, a + 16, b + 16, z);
  store_limited(out, out + 16, y, z, sum.limits);
}

void add_task(void* context, i64 index) {
  const IntegerAdd& s = *static_cast<const IntegerAdd*>(context);
  i64 at = index * kTaskNumbers;
  const i64 end = smaller(s.count, at + kTaskNumbers);
  if (s.a_shift > 0 || s.b_shift > 0 || s.shift > 0) {
    for (; at < end; ++at) s.out[at] = sum_any(s, s.x[at], s.residual[at]);
    return;
  }
  const Sum sum{same_factors(s.a_multiplier, s.a_shift), same_factors(s.b_multiplier, s.b_shift),
                same_factors(s.multiplier, s.shift), limits_of(s.out_zero, s.low, s.high)};
  for (; at + kTogether <= end; at += kTogether) sum_32(s, sum, s.x + at, s.residual + at, s.out + at);
  if (at == end) return;
  i8 a[kTogether] = {}, b[kTogether] = {}, y[kTogether];
  std::memcpy(a, s.x + at, static_cast<std::size_t>(end - at));
  std::memcpy(b, s.residual + at, static_cast<std::size_t>(end - at));
  sum_32(s, sum, a, b, y);
  std::memcpy(s.out + at, y, static_cast<std::size_t>(end - at));
}

void integer_add(const IntegerAdd& add, int threads) {
  parallel_for(ceil_div(add.count, kTaskNumbers), threads, add_task, const_cast<IntegerAdd*>(&add));
}

}  // namespace

const IntegerAddKernels integer_add_kernels = {integer_add};
