// SPDX-License-Identifier: Apache-2.0

// `scaled` of small enough numbers by factors below 1, four side by side; and int8 out of them. Included
// inside namespace neon or neon_dotprod.

namespace {

constexpr i64 kFixedLanes = 4;
using Lanes = int32x4_t;
struct Factors {
  int32x4_t multiplier, shift, passes;  // shift: at most 0; passes: -1 where anything is shifted out
};

inline Factors made_factors(int32x4_t multiplier, int32x4_t shift) {
  return {multiplier, shift, vreinterpretq_s32_u32(vcltq_s32(shift, vdupq_n_s32(0)))};
}
inline Factors factors(const i32* multiplier, const i32* shift) {
  return made_factors(vld1q_s32(multiplier), vminq_s32(vld1q_s32(shift), vdupq_n_s32(0)));
}
inline Factors same_factors(i64 multiplier, i64 shift) {
  return made_factors(vdupq_n_s32(static_cast<i32>(multiplier)), vdupq_n_s32(static_cast<i32>(shift)));
}
inline Lanes load_lanes(const i32* p) {
  return vld1q_s32(p);
}
inline Lanes add_lanes(Lanes a, Lanes b) {
  return vaddq_s32(a, b);
}
// SRSHL rounds halves upward: of x - 1 that is away from zero of x < 0.
inline Lanes times(Lanes x, const Factors& f) {
  const int32x4_t high = vqrdmulhq_s32(x, f.multiplier);
  return vrshlq_s32(vaddq_s32(high, vandq_s32(vshrq_n_s32(high, 31), f.passes)), f.shift);
}
struct OnceFactors {
  int32x2_t low, high;              // multipliers
  int64x2_t low_shift, high_shift;  // of the products: below 0
};
inline OnceFactors once_factors(const i32* multiplier, const i32* shift) {
  const int32x4_t m = vld1q_s32(multiplier), down = vsubq_s32(vld1q_s32(shift), vdupq_n_s32(31));
  return {vget_low_s32(m), vget_high_s32(m), vmovl_s32(vget_low_s32(down)), vmovl_s32(vget_high_s32(down))};
}
// `scaled_once`, held to int32: SRSHL rounds halves upward.
inline Lanes times_once(Lanes x, const OnceFactors& f) {
  const int64x2_t low = vrshlq_s64(vmull_s32(vget_low_s32(x), f.low), f.low_shift);
  const int64x2_t high = vrshlq_s64(vmull_s32(vget_high_s32(x), f.high), f.high_shift);
  return vcombine_s32(vqmovn_s64(low), vqmovn_s64(high));
}
// x 2^shift, held to int32, where that is more than x.
inline Lanes raised(Lanes x, const i32* shift) {
  return vqshlq_s32(x, vmaxq_s32(vld1q_s32(shift), vdupq_n_s32(0)));
}
// (x - zero) 2^bits times a factor, of one number for each lane.
template <int bits>
inline Lanes raised_times(const i8* x, i64 zero, const Factors& f) {
  const int32x4_t words = {x[0], x[1], x[2], x[3]};
  return times(vshlq_n_s32(vsubq_s32(words, vdupq_n_s32(static_cast<i32>(zero))), bits), f);
}

struct Limits {
  int16x8_t zero;
  int8x16_t low, high;
};
inline Limits limits_of(i64 zero, i64 low, i64 high) {
  return {vdupq_n_s16(static_cast<i16>(zero)), vdupq_n_s8(static_cast<i8>(low)),
          vdupq_n_s8(static_cast<i8>(high))};
}
// What 16 bits, or 8, cannot hold lies beyond the limits, and saturates on its side of them.
inline void store_one(i8* to, const Lanes (&x)[4], const Limits& l) {
  const int16x8_t first = vqaddq_s16(vcombine_s16(vqmovn_s32(x[0]), vqmovn_s32(x[1])), l.zero);
  const int16x8_t last = vqaddq_s16(vcombine_s16(vqmovn_s32(x[2]), vqmovn_s32(x[3])), l.zero);
  const int8x16_t bytes = vcombine_s8(vqmovn_s16(first), vqmovn_s16(last));
  vst1q_s8(to, vminq_s8(vmaxq_s8(bytes, l.low), l.high));
}

// 16 numbers plus the zero point, between the limits, at `to`; and 16 others at `also`.
inline void store_limited(i8* to, i8* also, const Lanes (&x)[4], const Lanes (&y)[4], const Limits& l) {
  store_one(to, x, l);
  store_one(also, y, l);
}

}  // namespace
