// SPDX-License-Identifier: Apache-2.0

// `scaled` of small enough numbers by factors below 1, several side by side; and int8 out of them. Included
// inside the namespace of the instruction set, after fixed.inl.h. This is the meaning of the vectors.

namespace {

constexpr i64 kFixedLanes = 1;
using Lanes = i32;
struct Factors {
  i32 multiplier, right;
};

inline Factors factors(const i32* multiplier, const i32* shift) {
  return {*multiplier, static_cast<i32>(larger(-*shift, 0))};
}
inline Factors same_factors(i64 multiplier, i64 shift) {
  return {static_cast<i32>(multiplier), static_cast<i32>(-shift)};
}
inline Lanes load_lanes(const i32* p) {
  return *p;
}
inline Lanes add_lanes(Lanes a, Lanes b) {
  return static_cast<i32>(static_cast<u32>(a) + static_cast<u32>(b));
}
inline Lanes times(Lanes x, const Factors& f) {
  return static_cast<i32>(rounded_shift(high_part(i64{x} * f.multiplier), f.right));
}
struct OnceFactors {
  i32 multiplier, shift;
};
inline OnceFactors once_factors(const i32* multiplier, const i32* shift) {
  return {*multiplier, *shift};
}
// `scaled_once`, where the result fits int32.
inline Lanes times_once(Lanes x, const OnceFactors& f) {
  return static_cast<i32>(scaled_once(x, f.multiplier, f.shift));
}
// x 2^shift, held to int32, where that is more than x.
inline Lanes raised(Lanes x, const i32* shift) {
  return static_cast<i32>(clamped(i64{x} * (i64{1} << larger(*shift, 0)), kLeast, kMost));
}
// (x - zero) 2^bits times a factor, of one number for each lane.
template <int bits>
inline Lanes raised_times(const i8* x, i64 zero, const Factors& f) {
  return times(static_cast<i32>((*x - zero) * (1 << bits)), f);
}

struct Limits {
  i64 zero, low, high;
};
inline Limits limits_of(i64 zero, i64 low, i64 high) {
  return {zero, low, high};
}
// 16 numbers plus the zero point, between the limits, at `to`; and 16 others at `also`.
inline void store_limited(i8* to, i8* also, const Lanes (&x)[16], const Lanes (&y)[16], const Limits& l) {
  for (int i = 0; i < 16; ++i) to[i] = static_cast<i8>(clamped(x[i] + l.zero, l.low, l.high));
  for (int i = 0; i < 16; ++i) also[i] = static_cast<i8>(clamped(y[i] + l.zero, l.low, l.high));
}

}  // namespace
