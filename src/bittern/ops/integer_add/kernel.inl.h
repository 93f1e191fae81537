// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its sums of some numbers.

namespace {

constexpr i64 kTaskNumbers = i64{1} << 14;

i8 sum_any(const IntegerAdd& s, i64 a, i64 b) {
  const i64 first = scaled((a - s.zero_a) * (1 << kRaised), s.a_multiplier, s.a_shift);
  const i64 second = scaled((b - s.zero_b) * (1 << kRaised), s.b_multiplier, s.b_shift);
  return static_cast<i8>(clamped(scaled(first + second, s.multiplier, s.shift) + s.out_zero, s.low, s.high));
}

void add_task(void* context, i64 index) {
  const IntegerAdd& s = *static_cast<const IntegerAdd*>(context);
  i64 at = index * kTaskNumbers;
  const i64 end = smaller(s.count, at + kTaskNumbers);
  if (s.a_shift > 0 || s.b_shift > 0 || s.shift > 0) {
    for (; at < end; ++at) s.out[at] = sum_any(s, s.x[at], s.residual[at]);
    return;
  }
  const Sum sum = sum_of(s);
  for (; at + kTogether <= end; at += kTogether) sum_some(s, sum, s.x + at, s.residual + at, s.out + at);
  if (at == end) return;
  i8 a[kTogether] = {}, b[kTogether] = {}, y[kTogether];
  std::memcpy(a, s.x + at, static_cast<std::size_t>(end - at));
  std::memcpy(b, s.residual + at, static_cast<std::size_t>(end - at));
  sum_some(s, sum, a, b, y);
  std::memcpy(s.out + at, y, static_cast<std::size_t>(end - at));
}

void integer_add(const IntegerAdd& add, int threads) {
  parallel_for(ceil_div(add.count, kTaskNumbers), threads, add_task, const_cast<IntegerAdd*>(&add));
}

}  // namespace

const IntegerAddKernels integer_add_kernels = {integer_add};
