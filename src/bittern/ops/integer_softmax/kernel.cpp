// SPDX-License-Identifier: Apache-2.0
#include "integer_softmax/kernel.h"

#include "parallel.h"

// The functions of ops/fixed_point.py, with the constants that are explained there.
namespace bittern {
namespace {

constexpr i64 kOneBits = 31, kMost = (i64{1} << kOneBits) - 1, kLeast = -(i64{1} << kOneBits);
constexpr i64 kFortyEight17ths = 1515870810, kThirtyTwo17ths = -1010580540;
i64 high_product(i64 a, i64 b) {
  return smaller((a * b + (i64{1} << 30)) >> 31, kMost);
}

i64 rounded_shift(i64 x, i64 bits) {
  const i64 mask = (i64{1} << bits) - 1;
  return (x >> bits) + ((x & mask) > (mask >> 1) + (x < 0) ? 1 : 0);
}

i64 saturated_shift(i64 x, i64 bits) {
  return smaller(larger(x * (i64{1} << bits), kLeast), kMost);
}

i64 reciprocal_of_one_plus(i64 x) {
  const i64 total = x + kMost, half = (total + (total >= 0 ? 1 : -1)) / 2;
  i64 found = kFortyEight17ths + high_product(half, kThirtyTwo17ths);
  for (int i = 0; i < 3; ++i) {
    const i64 error = (i64{1} << (kOneBits - 2)) - high_product(half, found);
    found += saturated_shift(high_product(found, error), 2);
  }
  return saturated_shift(found, 1);
}

void softmax_row(void* context, i64 index) {
  const IntegerSoftmax& s = *static_cast<const IntegerSoftmax*>(context);
  const std::int8_t* x = s.x + index * s.answers;
  std::int8_t* out = s.out + index * s.answers;
  i64 largest = -128, total = 0;
  for (i64 i = 0; i < s.answers; ++i) largest = larger(largest, x[i]);
  for (i64 i = 0; i < s.answers; ++i) {
    if (x[i] - largest >= s.least) total += rounded_shift(s.exps[largest - x[i]], kSoftmaxSumBits);
  }
  const i64 bits = 64 - __builtin_clzll(static_cast<u64>(total));
  const i64 reciprocal = reciprocal_of_one_plus(total * (i64{1} << (32 - bits)) - (i64{1} << 31));
  const i64 shift = bits - (32 - kSoftmaxSumBits) + 31 - 8;
  for (i64 i = 0; i < s.answers; ++i) {
    const i64 y = rounded_shift(high_product(reciprocal, s.exps[largest - x[i]]), shift) - 128;
    out[i] = static_cast<std::int8_t>(x[i] - largest >= s.least ? smaller(larger(y, -128), 127) : -128);
  }
}

}  // namespace

void integer_softmax(const IntegerSoftmax& s, int threads) {
  if (s.rows == 0 || s.answers == 0) return;
  parallel_for(s.rows, threads, softmax_row, const_cast<IntegerSoftmax*>(&s));
}

}  // namespace bittern
