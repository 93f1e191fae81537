// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set. Plain loops over channels, of which the compiler
// makes vectors: int16 holds the sum of 256 pixels.

namespace {

constexpr i64 kTogether = 64;  // channels
constexpr i64 kPart = 256;     // pixels

void mean_of(const IntegerMean& m, const i8* x, i64 count, i8* out) {
  i32 sums[kTogether] = {};
  for (i64 first = 0; first < m.pixels; first += kPart) {
    i16 part[kTogether] = {};
    for (i64 p = first; p < smaller(first + kPart, m.pixels); ++p) {
      const i8* from = x + p * m.channels;
      if (count == kTogether) {
        for (i64 i = 0; i < kTogether; ++i) part[i] = static_cast<i16>(part[i] + from[i]);
      } else {
        for (i64 i = 0; i < count; ++i) part[i] = static_cast<i16>(part[i] + from[i]);
      }
    }
    for (i64 i = 0; i < count; ++i) sums[i] += part[i];
  }
  for (i64 i = 0; i < count; ++i) {
    const i64 y = scaled(sums[i] - m.zero * m.pixels, m.multiplier, m.shift) + m.out_zero;
    out[i] = static_cast<i8>(clamped(y, m.low, m.high));
  }
}

void mean_task(void* context, i64 index) {
  const IntegerMean& m = *static_cast<const IntegerMean*>(context);
  const i64 blocks = ceil_div(m.channels, kTogether), image = index / blocks,
            channel = index % blocks * kTogether;
  mean_of(m, m.x + image * m.pixels * m.channels + channel, smaller(kTogether, m.channels - channel),
          m.out + image * m.channels + channel);
}

void integer_mean(const IntegerMean& m, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 20;  // numbers
  if (m.batch * m.pixels * m.channels < kWorthThreads) threads = 1;
  parallel_for(m.batch * ceil_div(m.channels, kTogether), threads, mean_task, const_cast<IntegerMean*>(&m));
}

}  // namespace

const IntegerMeanKernels integer_mean_kernels = {integer_mean};
