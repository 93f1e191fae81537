// SPDX-License-Identifier: Apache-2.0

// A number times a fixed-point factor, one at a time and of any size: `scaled` and `scaled_once` of
// ops/fixed_point.py. Included inside the namespace of one instruction set.

namespace {

using i8 = std::int8_t;
using i16 = std::int16_t;

constexpr i64 kMost = (i64{1} << 31) - 1, kLeast = -(i64{1} << 31);

inline i64 clamped(i64 x, i64 low, i64 high) {
  return smaller(larger(x, low), high);
}

// x / 2^31, to the nearest, halves upward. Adding half with the sign of x and dropping the rest toward zero,
// as gemmlowp does, is the same.
inline i64 high_part(i64 x) {
  return (x + (i64{1} << 30)) >> 31;
}

// x / 2^bits, to the nearest, halves away from zero.
inline i64 rounded_shift(i64 x, i64 bits) {
  const i64 mask = (i64{1} << bits) - 1;
  return (x >> bits) + ((x & mask) > (mask >> 1) + (x < 0) ? 1 : 0);
}

inline i64 scaled(i64 x, i64 multiplier, i64 shift) {
  const i64 raised = clamped(x * (i64{1} << larger(shift, 0)), kLeast, kMost);
  return rounded_shift(high_part(raised * multiplier), larger(-shift, 0));
}

inline i64 scaled_once(i64 x, i64 multiplier, i64 shift) {
  const i64 bits = 31 - shift;
  return (x * multiplier + (i64{1} << (bits - 1))) >> bits;
}

}  // namespace
