// SPDX-License-Identifier: Apache-2.0

// What the tests of int8 kernels share: fixed-point numbers written out, and random int8.
#pragma once

#include <algorithm>

#include "harness.h"

namespace bittern::test {

using i8 = std::int8_t;

// x m 2^(shift - 31): rounded as gemmlowp does, with the sign of the product, then halves away from zero.
inline i64 scaled(i64 x, i64 multiplier, i64 shift) {
  const i64 most = (i64{1} << 31) - 1;
  const i64 raised = std::min(std::max(x * (i64{1} << std::max<i64>(shift, 0)), -most - 1), most);
  const i64 product = raised * multiplier,
            high = (product + (product >= 0 ? i64{1} << 30 : 1 - (i64{1} << 30))) / (i64{1} << 31);
  const i64 bits = std::max<i64>(-shift, 0), half = bits == 0 ? 0 : i64{1} << (bits - 1);
  return high >= 0 ? (high + half) >> bits : -((-high + half) >> bits);
}

inline i64 scaled_once(i64 x, i64 multiplier, i64 shift) {
  return (x * multiplier + (i64{1} << (30 - shift))) >> (31 - shift);
}

inline i8 any_int8(Random& random) {
  return static_cast<i8>(random.below(8) == 0 ? random.pick({-128, 127}) : random.below(256) - 128);
}

inline std::vector<i8> draw(Random& random, i64 count) {
  std::vector<i8> found(static_cast<std::size_t>(count));
  for (i8& number : found) number = any_int8(random);
  return found;
}

void test_recurrent(Isa isa, Results& results);

}  // namespace bittern::test
